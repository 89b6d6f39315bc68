"""Delta's streaming sink: append and complete, without an upsert."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.config.options import OptionSpec
from streaming_lakehouse.sinks import Sink, WriteRequest


def _start(rows: DataFrame, request: WriteRequest) -> StreamingQuery:
    """A batch that the table has already is skipped without being computed."""
    writer, table = request.query.writer(rows).format("delta"), request.table
    return writer.start(table.path) if table.path else writer.toTable(str(table.catalog_name))


SINK = Sink(
    "delta-native",
    OptionSpec("sink 'delta-native'"),
    guarantee="exactly once",
    start=_start,
    writes_table=True,
)
