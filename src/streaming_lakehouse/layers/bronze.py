"""Bronze: every record, unmodified, whatever it contains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import Column, DataFrame, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import delta_log, metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.sinks import QueryConfig, delta
from streaming_lakehouse.sources.envelope import BRONZE

# Some 20,000 records of weather.
SMALL_BYTES = 2**20


@dataclass(frozen=True)
class SourceHooks:
    """What bronze asks of its source while it writes.

    `check` is called with each batch before it is written. It raises LakehouseError if the source is no longer that
    of the checkpoint's offsets, or no longer has the batch's records. `reread` reads the batch of that number,
    which has failed in Spark with this text, in another way; None if there is none. `count` is then called with the
    batch and its rows, which Spark has not counted.
    """

    check: Callable[[int], None]
    reread: Callable[[int, str], DataFrame | None]
    count: Callable[[int, int], None]


@dataclass
class BatchSize:
    """Whether the batch before was small, of a table in a folder: then one task reads and writes the next.

    Spark does not say how many rows a batch has before it is written. For each task Delta sets up statistics and a file
    of its own, which takes longer than a few thousand records. On a cluster, tables by name have optimized writes.
    """

    table: Table
    was_small: bool = False

    def measure(self) -> None:
        """Called after each batch."""
        written = delta_log.added_bytes(Path(self.table.path)) if self.table.path else None
        self.was_small = written is not None and written < SMALL_BYTES


def start(records: DataFrame, table: Table, query: QueryConfig, source: SourceHooks) -> StreamingQuery:
    """Appends a source's records; `ingested_at` is the start of the micro-batch, the same when it is replayed."""
    checkpoint = str(query.checkpoint)
    writer = delta.BatchWriter(checkpoint, metadata.uncommitted_batch(checkpoint))
    size = BatchSize(table)

    def write(batch: DataFrame, batch_id: int) -> None:
        source.check(batch_id)
        try:
            writer.write(batch.coalesce(1) if size.was_small else batch, table, batch_id)
        except Exception as error:
            again = source.reread(batch_id, str(error))
            if again is None:
                raise
            at = F.timestamp_millis(F.lit(metadata.batch_started_at(checkpoint, batch_id)))
            writer.write(_arrived(again, at), table, batch_id)
            source.count(batch_id, delta.read(batch.sparkSession, table).where(F.col("ingested_at") == at).count())
        size.measure()  # not in the try: what fails here comes after the commit, and must not write the batch again

    return delta.for_each_batch(_arrived(records, F.current_timestamp()), write, query)


def _arrived(records: DataFrame, at: Column) -> DataFrame:
    return records.withColumn("ingested_at", at).select(*BRONZE.names)
