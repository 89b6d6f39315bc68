"""Delta tables by `foreachBatch`: append, upsert or overwrite, each micro-batch exactly once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import consistency, metadata
from streaming_lakehouse.config.options import OptionSpec
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.sinks import Sink, WriteRequest, delta


def start(rows: DataFrame, request: WriteRequest) -> StreamingQuery:
    """Writes the table in the output mode.

    append: each row is added once. update: rows are upserted by their key (MERGE). complete: the rows of a batch
    overwrite the table. With a new checkpoint over a table that has rows, append upserts too.
    """
    checkpoint = str(request.query.checkpoint)
    batches = delta.BatchWriter(checkpoint, request.replayed_batch)
    return delta.for_each_batch(rows, DeltaWriter(request, batches), request.query)


@dataclass
class DeltaWriter:
    """The function for `foreachBatch`: writes each micro-batch once, also if it is replayed."""

    request: WriteRequest
    batches: delta.BatchWriter

    def __call__(self, rows: DataFrame, batch_id: int) -> None:
        mode = self.request.query.mode
        if mode == "update" or (mode == "append" and metadata.is_table_prepopulated(self.batches.checkpoint)):
            self._merge(rows)
        else:
            self._write(rows, batch_id)

    def _merge(self, rows: DataFrame) -> None:
        # A hot path may have an event twice, and MERGE accepts one source row per target row.
        with delta.persisted(rows.dropDuplicates(list(self.request.key))) as batch:
            # count() makes Spark read all rows, which advances the watermark; an empty batch is not merged.
            if batch.count():
                delta.merge_batch(batch, self._table, self.request.key)
                consistency.record_table_version(self.batches.checkpoint, self._table)
            else:
                delta.create_if_missing(batch.sparkSession, self._table, batch.schema)

    def _write(self, rows: DataFrame, batch_id: int) -> None:
        mode = "overwrite" if self.request.query.mode == "complete" else "append"
        with ExitStack() as stack:
            if batch_id == self.request.replayed_batch:
                stack.enter_context(delta.persisted(rows))
                # A batch that the table already has is skipped without reading its rows, and Spark computes the
                # watermark from the rows that are read.
                rows.write.format("noop").mode("overwrite").save()
            self.batches.write(rows, self._table, batch_id, mode=mode)

    @property
    def _table(self) -> Table:
        return self.request.table


SINK = Sink(
    "delta",
    OptionSpec("sink 'delta'"),
    guarantee="exactly once",
    start=start,
    writes_table=True,
    recomputes_on_replay=True,
)
