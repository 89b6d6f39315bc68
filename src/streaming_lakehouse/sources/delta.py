"""A Delta table as a source: how a layer reads its upstream table."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.config.storage import Table

# Delta's read limits count files or bytes, not commits. The rows of one commit may have any event times, as those of a
# folder: if a commit were split, its first half could make rows of the second late for silver, or make gold drop rows
# that silver accepted. What does not fit into memory is spilled to disk.
_NO_SPLIT_COMMITS = {"maxFilesPerTrigger": str(2**31 - 1)}


def read_stream(spark: SparkSession, table: Table) -> DataFrame:
    """Streams the table; a batch has all available commits, and never splits one."""
    reader = spark.readStream.format("delta").options(**_NO_SPLIT_COMMITS)
    return reader.load(table.path) if table.path else reader.table(str(table.catalog_name))
