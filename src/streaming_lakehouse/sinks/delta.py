"""Delta tables as a sink: a stream appended exactly once, and a batch of foreachBatch written exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, types as T
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.settings import Table
from streaming_lakehouse.triggers import Trigger


@dataclass(frozen=True)
class Query:
    """What every streaming query here needs beside its rows: its name, its checkpoint, its trigger."""

    name: str
    checkpoint: str
    trigger: Trigger


def append_stream(rows: DataFrame, table: Table, query: Query) -> StreamingQuery:
    """Appends a stream to a table. Delta's own sink skips a batch that it has already committed: exactly once."""
    writer = (
        rows.writeStream.format("delta")
        .outputMode("append")
        .queryName(query.name)
        .option("checkpointLocation", query.checkpoint)
    )
    if query.trigger.arguments:
        writer = writer.trigger(**query.trigger.arguments)
    return writer.start(table.path) if table.path else writer.toTable(str(table.name))


def for_each_batch(rows: DataFrame, write: Callable[[DataFrame, int], None], query: Query) -> StreamingQuery:
    """Hands each micro-batch to `write`, at least once: what it writes must bear a repeat."""
    writer = rows.writeStream.foreachBatch(write).queryName(query.name).option("checkpointLocation", query.checkpoint)
    if query.trigger.arguments:
        writer = writer.trigger(**query.trigger.arguments)
    return writer.start()


def append_batch(rows: DataFrame, table: Table, *, transaction_id: str, batch_id: int) -> None:
    """Appends a micro-batch once, however often it is called for the same batch.

    `transaction_id` belongs to one checkpoint: a new checkpoint numbers its batches from 0 again, and under the old
    id Delta would take its first batches for repeats and skip them without a word.
    """
    writer = (
        rows.write.format("delta").mode("append").option("txnAppId", transaction_id).option("txnVersion", str(batch_id))
    )
    if table.path:
        writer.save(table.path)
    else:
        writer.saveAsTable(str(table.name))


@contextmanager
def kept(rows: DataFrame) -> Iterator[DataFrame]:
    """Keeps rows for several actions where the platform can; serverless cannot, and computes them again."""
    try:
        rows.persist()
    except Exception as error:
        if "NOT_SUPPORTED_WITH_SERVERLESS" not in str(error):
            raise
        yield rows
        return
    try:
        yield rows
    finally:
        rows.unpersist()


def ensure(spark: SparkSession, table: Table, schema: T.StructType) -> None:
    """Makes an empty table, where there is none, for those who read it before its first row is there."""
    if exists(spark, table):
        return
    from delta.tables import DeltaTable

    builder = DeltaTable.createIfNotExists(spark).addColumns(schema)
    (builder.location(table.path) if table.path else builder.tableName(str(table.name))).execute()


def exists(spark: SparkSession, table: Table) -> bool:
    """True where the table is there, with or without rows."""
    if table.path:
        return any((Path(table.path) / "_delta_log").glob("[0-9]*"))  # a folder alone is no table
    return bool(spark.catalog.tableExists(str(table.name)))


def read(spark: SparkSession, table: Table) -> DataFrame:
    """The table as a batch."""
    return spark.read.format("delta").load(table.path) if table.path else spark.read.table(str(table.name))
