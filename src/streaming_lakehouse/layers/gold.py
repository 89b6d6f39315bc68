"""Gold: what a pipeline computes from its silver rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from pyspark.sql import DataFrame, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.layers.validation import BACKFILLED_AT
from streaming_lakehouse.pipeline import Gold, Silver, State
from streaming_lakehouse.sinks import Sink, WriteRequest

# transformWithState runs on RocksDB only. For windows the default store is faster: 4 to 5 times for a single put.
# A checkpoint records its provider, so that a query resumes with its own whatever the session has.
_ROCKSDB = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    "spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows": "false",
}


def streamed(rows: DataFrame, checkpoint: str | None) -> DataFrame:
    """The rows of a silver table that a gold query reads: not what a backfill has added since its checkpoint began.

    Such rows are behind the watermark, so that Spark would drop them; the backfill brings them into gold itself. No
    transform sees `backfilled_at`.
    """
    if BACKFILLED_AT not in rows.columns:  # a table that no silver step has extended so far
        return rows
    if checkpoint is not None:
        until_us = metadata.backfills_read_until(checkpoint)
        rows = rows.where(F.col(BACKFILLED_AT).isNull() | (F.unix_micros(BACKFILLED_AT) <= until_us))
    return rows.drop(BACKFILLED_AT)


def start(inputs: Sequence[DataFrame], gold: Gold, sink: Sink, request: WriteRequest) -> StreamingQuery:
    """Writes what `gold.transform` makes of its inputs; in append mode a window is written once, when it has closed.

    Each stream has the watermark of its silver table. Silver lets no row pass that is behind it, gold reads silver's
    commits whole, and of several watermarks Spark takes the smallest: so no row is late here.
    """
    watermarked = [
        rows.withWatermark(each.event_time, _delay(each, gold)) if isinstance(each, Silver) else rows
        for rows, each in zip(inputs, gold.inputs, strict=True)
    ]
    rows = transform(watermarked, gold, request.query.mode)
    # Spark copies the session's settings when a query starts.
    with applied(rows.sparkSession, _ROCKSDB if gold.state is State.CUSTOM else {}):
        return sink.start(rows, request)


def _delay(silver: Silver, gold: Gold) -> str:
    """Silver's delay. Custom state gets a millisecond more: Spark drops a row exactly at the watermark before it."""
    if gold.state is State.CUSTOM:
        return replace(silver, watermark=silver.watermark + timedelta(milliseconds=1)).watermark_delay
    return silver.watermark_delay


def transform(inputs: Sequence[DataFrame], gold: Gold, output_mode: str) -> DataFrame:
    """The table's rows from those of its inputs, of a stream or of a batch."""
    if gold.state is State.CUSTOM:
        return gold.transform(*inputs, output_mode=output_mode)
    return gold.transform(*inputs)


def with_replayed_batch(sink: Sink, request: WriteRequest) -> WriteRequest:
    """The request with the batch that this run replays. One whose windows were not written yet is uncommitted."""
    if not request.query.checkpoint:
        return request
    if sink.recomputes_on_replay:
        return replace(request, replayed_batch=metadata.uncommit_last_batch(request.query.checkpoint))
    return replace(request, replayed_batch=metadata.uncommitted_batch(request.query.checkpoint))
