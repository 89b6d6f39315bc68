"""Gold: what a pipeline tells from its silver rows."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse import checkpoints
from streaming_lakehouse.pipeline import Gold, Silver
from streaming_lakehouse.sinks import Outlet, Sink


def start(events: DataFrame, silver: Silver, gold: Gold, sink: Sink, outlet: Outlet) -> StreamingQuery:
    """Sends out what `gold.transform` makes of silver's stream; in append mode a window comes once, when it has closed.

    The watermark is silver's own. Silver lets no row pass that is behind it, and gold reads silver's commits whole,
    so that no row is late here.
    """
    if sink.repeats and outlet.query.checkpoint:
        outlet = replace(outlet, again=checkpoints.reopen_last_batch(outlet.query.checkpoint))
    watermarked = events.withWatermark(silver.event_time, silver.watermark_delay)
    return sink.start(gold.transform(watermarked), outlet)
