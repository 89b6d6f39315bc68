"""A table in the driver's memory as a sink, for notebooks and tests: it is gone with the process."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.options import Options
from streaming_lakehouse.sinks import Outlet, Sink


def start(rows: DataFrame, outlet: Outlet) -> StreamingQuery:
    """Keeps the rows as a table of the session, named like the gold table: `spark.table("weather_alerts")`."""
    return outlet.query.writer(rows).format("memory").queryName(outlet.table.title).start()


SINK = Sink(
    "memory",
    Options("sink 'memory'"),
    guarantee="none",
    start=start,
    goes_on=False,
)
