"""Bronze: every record, unmodified, whatever it contains."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import consistency, metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.sinks import QueryConfig, delta
from streaming_lakehouse.sources.envelope import BRONZE


def start(records: DataFrame, table: Table, query: QueryConfig) -> StreamingQuery:
    """Appends a source's records; `ingested_at` is the start of the micro-batch, the same when it is replayed."""
    arrived = records.withColumn("ingested_at", F.current_timestamp()).select(*BRONZE.names)
    checkpoint = str(query.checkpoint)
    return delta.for_each_batch(arrived, BronzeWriter(table, checkpoint, metadata.uncommitted_batch(checkpoint)), query)


@dataclass
class BronzeWriter:
    """Appends each micro-batch once; `replayed_batch`, if any, is the one that Spark runs again after a restart."""

    table: Table
    checkpoint: str
    replayed_batch: int | None
    query_id: str = ""

    def __call__(self, records: DataFrame, batch_id: int) -> None:
        self.query_id = self.query_id or metadata.query_id(self.checkpoint)
        batch = delta.Batch(self.query_id, batch_id, is_replayed=batch_id == self.replayed_batch)
        delta.write_batch(records, self.table, batch)
        consistency.record_batch(self.checkpoint, self.table, self.query_id, batch_id)
