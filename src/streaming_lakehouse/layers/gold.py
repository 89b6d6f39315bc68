"""Gold: what a pipeline tells from its silver rows."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession, types as T
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.pipeline import Gold, Silver
from streaming_lakehouse.settings import Table
from streaming_lakehouse.sinks import delta


def start(events: DataFrame, silver: Silver, gold: Gold, table: Table, query: delta.Query) -> StreamingQuery:
    """Appends what `gold.transform` makes of silver's stream; a window is written once, when it has closed.

    The watermark is silver's own. Silver lets no row pass that is behind it, and gold reads silver's commits whole,
    so that no row is late here.
    """
    watermarked = events.withWatermark(silver.event_time, silver.watermark_delay)
    return delta.append_stream(gold.transform(watermarked), table, query)


def schema(spark: SparkSession, silver_schema: T.StructType, gold: Gold) -> T.StructType:
    """The columns of the table, found without a row."""
    return gold.transform(spark.createDataFrame([], silver_schema)).schema
