"""Bronze: every record, unmodified, whatever it contains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.sinks import QueryConfig, delta
from streaming_lakehouse.sources.envelope import BRONZE


@dataclass(frozen=True)
class SourceHooks:
    """What bronze asks of its source while it writes.

    `check` is called before each batch is written. It raises LakehouseError if the source is no longer that of the
    checkpoint's offsets. `reread` reads the batch of that number, which has failed in Spark with this text, in
    another way; None if there is none. `count` is then called with the batch and its rows, which Spark has not counted.
    """

    check: Callable[[], None]
    reread: Callable[[int, str], DataFrame | None]
    count: Callable[[int, int], None]


def start(records: DataFrame, table: Table, query: QueryConfig, source: SourceHooks) -> StreamingQuery:
    """Appends a source's records; `ingested_at` is the start of the micro-batch, the same when it is replayed."""
    checkpoint = str(query.checkpoint)
    writer = delta.BatchWriter(checkpoint, metadata.uncommitted_batch(checkpoint))

    def write(batch: DataFrame, batch_id: int) -> None:
        source.check()
        try:
            writer.write(batch, table, batch_id)
        except Exception as error:
            again = source.reread(batch_id, str(error))
            if again is None:
                raise
            at = F.timestamp_millis(F.lit(metadata.batch_started_at(checkpoint, batch_id)))
            writer.write(_arrived(again, at), table, batch_id)
            source.count(batch_id, delta.read(batch.sparkSession, table).where(F.col("ingested_at") == at).count())

    return delta.for_each_batch(_arrived(records, F.current_timestamp()), write, query)


def _arrived(records: DataFrame, at: Column) -> DataFrame:
    return records.withColumn("ingested_at", at).select(*BRONZE.names)
