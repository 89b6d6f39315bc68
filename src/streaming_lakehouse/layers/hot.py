"""The hot path: from a record at the source to a row in a sink, in milliseconds and without a table in between."""

from __future__ import annotations

from pyspark.sql import DataFrame, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.layers.validation import is_valid, validate
from streaming_lakehouse.pipeline import HotPath, Silver
from streaming_lakehouse.sinks import Sink, WriteRequest


def start(
    records: DataFrame, hot: HotPath, routes: tuple[Silver, ...], sink: Sink, request: WriteRequest
) -> StreamingQuery:
    """Writes what `hot.transform` makes of the source's valid events.

    Records are validated as for silver. Those that are not valid are left to the layers, which see every record. It
    finds neither duplicates nor late events.
    """
    # When the source got it is the only time that a query without micro-batches knows of.
    arrived = records.withColumn("ingested_at", F.col("source_timestamp"))
    events = validate(arrived, hot.input, routes).where(is_valid())
    events = hot.input.transform(events) if hot.input.transform else events
    return sink.start(hot.transform(events), request)
