"""Delta tables: Spark's own stream into one, and what foreachBatch does with them, each batch exactly once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, types as T
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.options import Options
from streaming_lakehouse.settings import Table
from streaming_lakehouse.sinks import Outlet, Query, Sink

log = logging.getLogger(__name__)


def append_stream(rows: DataFrame, table: Table, query: Query) -> StreamingQuery:
    """Writes a stream to a table. Delta's own sink skips a batch that it has already committed: exactly once."""
    writer = query.writer(rows).format("delta")
    return writer.start(table.path) if table.path else writer.toTable(str(table.name))


def for_each_batch(rows: DataFrame, write: Callable[[DataFrame, int], None], query: Query) -> StreamingQuery:
    """Hands each micro-batch to `write`, at least once: what it writes must bear a repeat."""
    return query.writer(rows).foreachBatch(write).start()


def write_batch(rows: DataFrame, table: Table, *, mode: str, transaction_id: str | None, batch_id: int) -> None:
    """Appends a micro-batch, or overwrites the table with it, once, however often it is called for the same batch.

    `transaction_id` belongs to one checkpoint: a new checkpoint numbers its batches from 0 again, and under the old
    id Delta would take its first batches for repeats and skip them without a word. Without one it is written each time.
    """
    writer = rows.write.format("delta").mode(mode)
    if transaction_id is not None:
        writer = writer.option("txnAppId", transaction_id).option("txnVersion", str(batch_id))
    if table.path:
        writer.save(table.path)
    else:
        writer.saveAsTable(str(table.name))


def merge_batch(rows: DataFrame, table: Table, key: tuple[str, ...]) -> None:
    """Adds the rows whose key the table does not have; the others take the place of theirs.

    Nulls are the same as nulls. A repeat changes nothing, so that it needs no transaction of its own.
    """
    from delta.tables import DeltaTable

    spark = rows.sparkSession
    ensure(spark, table, rows.schema)
    delta = DeltaTable.forPath(spark, table.path) if table.path else DeltaTable.forName(spark, str(table.name))
    is_same = " AND ".join(f"kept.`{column}` <=> new.`{column}`" for column in key)
    merge = delta.alias("kept").merge(rows.alias("new"), is_same)
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()


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


def lacking(spark: SparkSession, table: Table, schema: T.StructType) -> list[T.StructField]:
    """The columns of `schema` that a table does not have; one of nulls alone no table keeps."""
    there = _types(spark, table)
    return [column for column in schema if column.name.lower() not in there and column.dataType != T.NullType()]


def refuse_other_types(spark: SparkSession, table: Table, schema: T.StructType, remedy: str) -> None:
    """Raises LakehouseError where the table has a column of another type: Delta would refuse the first batch."""
    there = _types(spark, table)
    wanted = [(column.name, column.dataType.simpleString()) for column in schema if column.name.lower() in there]
    differing = [
        f"{name} is {there[name.lower()]} there and {wants} in the pipeline"
        for name, wants in wanted
        if wants != there[name.lower()]
    ]
    if differing:
        raise LakehouseError(f"{table} has another type for a column: {', '.join(differing)}; {remedy}")


def _types(spark: SparkSession, table: Table) -> dict[str, str]:
    return {column.name.lower(): column.dataType.simpleString() for column in read(spark, table).schema}


def widen(spark: SparkSession, table: Table, columns: list[T.StructField]) -> None:
    """Adds columns to a table; the rows that it has get nulls there."""
    added = ", ".join(f"`{column.name}` {column.dataType.simpleString()}" for column in columns)
    spark.sql(f"ALTER TABLE {table.sql} ADD COLUMNS ({added})")
    log.warning("%s has got what is new in the pipeline: %s", table, ", ".join(column.name for column in columns))


def exists(spark: SparkSession, table: Table) -> bool:
    """True where the table is there, with or without rows."""
    if table.path:
        return any((Path(table.path) / "_delta_log").glob("[0-9]*"))  # a folder alone is no table
    return bool(spark.catalog.tableExists(str(table.name)))


def read(spark: SparkSession, table: Table) -> DataFrame:
    """The table as a batch."""
    return spark.read.format("delta").load(table.path) if table.path else spark.read.table(str(table.name))


def _start(rows: DataFrame, outlet: Outlet) -> StreamingQuery:
    return append_stream(rows, outlet.table, outlet.query)


SINK = Sink(
    "delta",
    Options("sink 'delta'"),
    guarantee="exactly once",
    start=_start,
    keeps_table=True,
)
