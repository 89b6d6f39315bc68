"""The console as a sink, to watch rows; they are not stored."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.config.options import OptionSpec
from streaming_lakehouse.sinks import Sink, WriteRequest


def start(rows: DataFrame, request: WriteRequest) -> StreamingQuery:
    """Prints `numRows` rows of each batch (20), with 20 characters per cell unless `truncate` is false."""
    return request.query.writer(rows).format("console").options(**request.options).start()


SINK = Sink(
    "console",
    OptionSpec("sink 'console'", ("numRows", "truncate"), {"numRows": 1}, ("truncate",)),
    guarantee="none",
    start=start,
    is_resumable=False,
)
