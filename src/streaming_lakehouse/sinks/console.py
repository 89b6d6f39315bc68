"""The terminal as a sink, to look at rows as they come: they are kept nowhere."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.options import Options
from streaming_lakehouse.sinks import Outlet, Sink


def start(rows: DataFrame, outlet: Outlet) -> StreamingQuery:
    """Prints each batch: `numRows` of its rows (20), cut to 20 characters a cell unless `truncate` is false."""
    return outlet.query.writer(rows).format("console").options(**outlet.options).start()


SINK = Sink(
    "console",
    Options("sink 'console'", ("numRows", "truncate"), {"numRows": 1}, ("truncate",)),
    guarantee="none",
    start=start,
    goes_on=False,
)
