"""Delta tables by `foreachBatch`: append, upsert or overwrite, each micro-batch exactly once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse import ages, checkpoints
from streaming_lakehouse.options import Options
from streaming_lakehouse.settings import Table
from streaming_lakehouse.sinks import Outlet, Sink, delta


def start(rows: DataFrame, outlet: Outlet) -> StreamingQuery:
    """Keeps the table as the output mode says.

    append: each row is added once. update: a row takes the place of the one with its key (MERGE). complete: the rows
    of a batch take the place of all. A new checkpoint over a table that has rows appends as update does.
    """
    checkpoint = str(outlet.query.checkpoint)
    return delta.for_each_batch(rows, DeltaBatches(outlet, checkpoint), outlet.query)


@dataclass
class DeltaBatches:
    """Writes one micro-batch after the other, each once, however often it is repeated: `foreachBatch` calls it."""

    outlet: Outlet
    checkpoint: str
    transaction_id: str = ""

    def __call__(self, rows: DataFrame, batch_id: int) -> None:
        mode = self.outlet.query.mode
        if mode == "update" or (mode == "append" and checkpoints.is_over_rows(self.checkpoint)):
            self._merge(rows)
        else:
            self._write(rows, batch_id)

    def _merge(self, rows: DataFrame) -> None:
        # A hot path may tell an event twice, and a merge takes one row for each of the table's.
        with delta.kept(rows.dropDuplicates(list(self.outlet.key))) as batch:
            # Counted, so that Spark has seen all rows: a merge of none would not ask for them.
            if batch.count():
                delta.merge_batch(batch, self._table, self.outlet.key)
                ages.note_version(self.checkpoint, self._table)
            else:
                delta.ensure(batch.sparkSession, self._table, batch.schema)

    def _write(self, rows: DataFrame, batch_id: int) -> None:
        # Bound to this checkpoint: a new one has another identity, and numbers its batches from 0 again.
        self.transaction_id = self.transaction_id or checkpoints.identity(self.checkpoint)
        mode = "overwrite" if self.outlet.query.mode == "complete" else "append"
        with ExitStack() as held:
            if batch_id == self.outlet.again:
                held.enter_context(delta.kept(rows))
                # Delta skips a write it has made before without asking for its rows, and Spark tells the watermark
                # from the rows that were asked for.
                rows.write.format("noop").mode("overwrite").save()
            delta.write_batch(rows, self._table, mode=mode, transaction_id=self.transaction_id, batch_id=batch_id)

    @property
    def _table(self) -> Table:
        return self.outlet.table


SINK = Sink(
    "foreachBatch",
    Options("sink 'foreachBatch'"),
    guarantee="exactly once",
    start=start,
    keeps_table=True,
    repeats=True,
)
