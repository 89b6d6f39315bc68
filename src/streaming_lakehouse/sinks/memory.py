"""A table in the driver's memory as a sink, for notebooks and tests; it is lost when the process ends."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.config.options import OptionSpec
from streaming_lakehouse.sinks import Sink, WriteRequest


def start(rows: DataFrame, request: WriteRequest) -> StreamingQuery:
    """Stores the rows in a temporary view named like the gold table: `spark.table("weather_alerts")`."""
    return request.query.writer(rows).format("memory").queryName(request.table.name).start()


SINK = Sink(
    "memory",
    OptionSpec("sink 'memory'"),
    guarantee="none",
    start=start,
    is_resumable=False,
)
