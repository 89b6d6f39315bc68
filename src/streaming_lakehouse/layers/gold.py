"""Gold: what a pipeline tells from its silver rows."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse import checkpoints
from streaming_lakehouse.pipeline import Gold, Silver
from streaming_lakehouse.settings import Table
from streaming_lakehouse.sinks import delta


def start(events: DataFrame, silver: Silver, gold: Gold, table: Table, query: delta.Query) -> StreamingQuery:
    """Appends what `gold.transform` makes of silver's stream; a window is written once, when it has closed.

    The watermark is silver's own. Silver lets no row pass that is behind it, and gold reads silver's commits whole,
    so that no row is late here.
    """
    watermarked = events.withWatermark(silver.event_time, silver.watermark_delay)
    again = checkpoints.reopen_last_batch(query.checkpoint)
    return delta.for_each_batch(gold.transform(watermarked), GoldBatches(table, query.checkpoint, again), query)


@dataclass
class GoldBatches:
    """Appends one micro-batch after the other, each once, however often it is repeated: `foreachBatch` calls it."""

    table: Table
    checkpoint: str
    again: int | None  # the batch that an earlier run has begun
    transaction_id: str = ""

    def __call__(self, rows: DataFrame, batch_id: int) -> None:
        if not self.transaction_id:
            self.transaction_id = checkpoints.identity(self.checkpoint)
        with ExitStack() as held:
            if batch_id == self.again:
                held.enter_context(delta.kept(rows))
                # Delta skips a write it has made before without asking for its rows, and Spark tells the watermark
                # from the rows that were asked for.
                rows.write.format("noop").mode("overwrite").save()
            delta.append_batch(rows, self.table, transaction_id=self.transaction_id, batch_id=batch_id)
