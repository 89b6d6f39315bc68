"""The hot path: from a record at the source to a row outside, in milliseconds and past all tables."""

from __future__ import annotations

from pyspark.sql import DataFrame, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.layers import silver
from streaming_lakehouse.pipeline import Hot, Silver
from streaming_lakehouse.sinks import Outlet, Sink


def start(records: DataFrame, rules: Silver, hot: Hot, sink: Sink, outlet: Outlet) -> StreamingQuery:
    """Sends out what `hot.transform` makes of the source's valid events.

    Records are judged as silver judges them. Of those that are not valid the layers tell, which see every record. It
    knows neither repeats nor late events.
    """
    # When the source got it is all that a query without micro-batches knows of the time.
    arrived = records.withColumn("ingested_at", F.col("source_timestamp"))
    events = silver.read(arrived, rules).where(silver.is_valid())
    return sink.start(hot.transform(events), outlet)
