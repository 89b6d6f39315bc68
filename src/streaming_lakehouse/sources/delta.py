"""A Delta table as a source: how a layer reads the one before."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.settings import Table

# Delta counts files, or their bytes, and not commits. Rows of one commit may be of any times, as those of a folder are:
# cut in two, its first half would make rows of the second late to silver, or to gold rows that silver let in. What does
# not fit into memory goes to the disk.
_WHOLE_COMMITS = {"maxFilesPerTrigger": str(2**31 - 1)}


def stream(spark: SparkSession, table: Table) -> DataFrame:
    """The table's commits, each whole in one batch, and as many as there are."""
    reader = spark.readStream.format("delta").options(**_WHOLE_COMMITS)
    return reader.load(table.path) if table.path else reader.table(str(table.name))
