"""Bronze: every record, unmodified, whatever it contains."""

from __future__ import annotations

from pyspark.sql import DataFrame, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.sinks import QueryConfig, delta
from streaming_lakehouse.sources.envelope import BRONZE


def start(records: DataFrame, table: Table, query: QueryConfig) -> StreamingQuery:
    """Appends a source's records; `ingested_at` is the start of the micro-batch, the same when it is replayed."""
    arrived = records.withColumn("ingested_at", F.current_timestamp()).select(*BRONZE.names)
    checkpoint = str(query.checkpoint)
    writer = delta.BatchWriter(checkpoint, metadata.uncommitted_batch(checkpoint))
    return delta.for_each_batch(arrived, lambda batch, batch_id: writer.write(batch, table, batch_id), query)
