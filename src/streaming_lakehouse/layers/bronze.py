"""Bronze: every record, unmodified, whatever it contains."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.sinks import QueryConfig, delta
from streaming_lakehouse.sources.envelope import BRONZE


def start(records: DataFrame, table: Table, query: QueryConfig, check_source: Callable[[], None]) -> StreamingQuery:
    """Appends a source's records; `ingested_at` is the start of the micro-batch, the same when it is replayed.

    `check_source` is called before each batch is written. It raises LakehouseError if the source is no longer that of
    the checkpoint's offsets.
    """
    arrived = records.withColumn("ingested_at", F.current_timestamp()).select(*BRONZE.names)
    checkpoint = str(query.checkpoint)
    writer = delta.BatchWriter(checkpoint, metadata.uncommitted_batch(checkpoint))

    def write(batch: DataFrame, batch_id: int) -> None:
        check_source()
        writer.write(batch, table, batch_id)

    return delta.for_each_batch(arrived, write, query)
