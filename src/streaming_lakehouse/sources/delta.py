"""A Delta table as a source: how a layer reads the one before."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.settings import Table

# Gold must see a silver commit whole: silver has already told late rows from others batch by batch, and a commit cut
# in two could move gold's watermark past rows of its second half.
WHOLE_COMMITS = {"maxFilesPerTrigger": str(2**31 - 1)}


def stream(spark: SparkSession, table: Table, options: Mapping[str, str]) -> DataFrame:
    reader = spark.readStream.format("delta").options(**options)
    return reader.load(table.path) if table.path else reader.table(str(table.name))
