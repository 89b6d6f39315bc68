"""Delta tables: reads, and writes from `foreachBatch`, each micro-batch exactly once."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession, functions as F, types as T
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import consistency, metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.sinks import QueryConfig

log = logging.getLogger(__name__)

_STOPPED = "py4j.protocol.Py4JJavaError: An error occurred while calling foreachBatch: java.lang.InterruptedException"
_INTERRUPTED = re.compile(r"Interrupted(?:IO)?Exception|ClosedByInterruptException|part of cancelled job group")
_MAX_MESSAGE = 200


def for_each_batch(rows: DataFrame, write: Callable[[DataFrame, int], None], query: QueryConfig) -> StreamingQuery:
    """Calls `write` with each micro-batch, at least once: it must be idempotent."""
    return query.writer(rows).foreachBatch(partial(_write_unless_stopped, write)).start()


def _write_unless_stopped(write: Callable[[DataFrame, int], None], batch: DataFrame, batch_id: int) -> None:
    """Shortens the error of a batch that is interrupted, as when its query is stopped.

    Spark recognizes a stop by these words in the error's text. It searches for them with an expression that recurses
    once a character: the whole text, with Java's stack traces, overflows the stack of the query's thread.
    """
    try:
        write(batch, batch_id)
    except LakehouseError:
        raise
    except Exception as error:
        if not _INTERRUPTED.search(str(error)):
            raise
        log.debug("batch %s was interrupted", batch_id, exc_info=True)
        message = str(error)[:_MAX_MESSAGE].partition("\n")[0]
        raise LakehouseError(f"batch {batch_id} was interrupted: {message} ({_STOPPED})") from None


@dataclass(frozen=True)
class Batch:
    """A micro-batch of a query. `is_replayed` where a run that died has started it, and may have written it.

    The query's id belongs to one checkpoint. A new checkpoint numbers its batches from 0 again: with the old id they
    would be skipped as already written.
    """

    query_id: str
    number: int
    is_replayed: bool = False


def write_batch(rows: DataFrame, table: Table, batch: Batch | None, *, mode: str = "append") -> None:
    """Appends a micro-batch, or overwrites the table with it; a replayed batch is written once.

    The commit's userMetadata has the batch's number. Delta would record it with `txnAppId`, but then rebuilds the
    table's snapshot before each write, to look for it there: two thirds of the cost of a small append. Only a replayed
    batch can be in the table already, so only then is it looked for. Without a batch each call writes.
    """
    if batch and batch.is_replayed and _is_written(rows.sparkSession, table, batch):
        return
    writer = rows.write.format("delta").mode(mode)
    if batch:
        writer = writer.option("userMetadata", consistency.commit_metadata(batch.query_id, batch.number))
    if batch and batch.is_replayed:  # batches of version 0.1 are recorded as Delta's transactions
        writer = writer.option("txnAppId", batch.query_id).option("txnVersion", str(batch.number))
    if table.path:
        writer.save(table.path)
    else:
        writer.saveAsTable(str(table.catalog_name))


@dataclass
class BatchWriter:
    """Writes the micro-batches of a checkpoint's query, each once, and records there which batches a table has.

    `replayed_batch` is the one that Spark runs again, since a run that died has started it; None if there is none.
    """

    checkpoint: str
    replayed_batch: int | None
    created: set[Table] = field(default_factory=set)

    @cached_property
    def query_id(self) -> str:
        """Spark writes it into a new checkpoint before the first batch."""
        return metadata.query_id(self.checkpoint)

    def write(self, rows: DataFrame, table: Table, batch_id: int, *, mode: str = "append") -> None:
        if table.catalog_name and table not in self.created:
            # An append by name that creates its table has neither userMetadata nor an Observation's values.
            create_if_missing(rows.sparkSession, table, rows.schema)
            self.created.add(table)
        batch = Batch(self.query_id, batch_id, is_replayed=batch_id == self.replayed_batch)
        write_batch(rows, table, batch, mode=mode)
        self.record(table)

    def record(self, table: Table) -> None:
        consistency.record_last_batch(self.checkpoint, table, self.query_id)


def _is_written(spark: SparkSession, table: Table, batch: Batch) -> bool:
    if not exists(spark, table):
        return False
    if table.path:
        last = consistency.last_committed_batch(Path(table.path), batch.query_id)
    else:
        last = _last_batch_in_history(spark, table, batch.query_id)
    return last is not None and last >= batch.number


def _last_batch_in_history(spark: SparkSession, table: Table, query_id: str) -> int | None:
    history = _delta_table(spark, table).history()
    own = history.where(F.col("userMetadata").contains(query_id)).orderBy(F.desc("version")).first()
    return consistency.batch_of_commit(own["userMetadata"], query_id) if own else None


def merge_batch(rows: DataFrame, table: Table, key: tuple[str, ...]) -> None:
    """Upserts rows by their key. Idempotent, so it needs no transaction id."""
    create_if_missing(rows.sparkSession, table, rows.schema)
    merge_builder(rows, table, key).whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()


def merge_builder(rows: DataFrame, table: Table, key: tuple[str, ...]) -> Any:
    """A MERGE of `source` rows into the `target` table by their key; nulls are equal to each other."""
    has_same_key = " AND ".join(f"target.`{column}` <=> source.`{column}`" for column in key)
    return _delta_table(rows.sparkSession, table).alias("target").merge(rows.alias("source"), has_same_key)


@contextmanager
def persisted(rows: DataFrame) -> Iterator[DataFrame]:
    """Persists rows for several actions; not on serverless, which has no cache and computes them again."""
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


def create_if_missing(spark: SparkSession, table: Table, schema: T.StructType) -> None:
    """Creates an empty table, if there is none, for streams that read it before its first row is written."""
    if exists(spark, table):
        return
    if table.catalog_name:  # by name Delta's builder takes two parts of a name only, outside a workspace
        spark.createDataFrame([], schema).write.format("delta").mode("ignore").saveAsTable(table.catalog_name)
        return
    from delta.tables import DeltaTable

    DeltaTable.createIfNotExists(spark).addColumns(schema).location(str(table.path)).execute()


def missing_columns(spark: SparkSession, table: Table, schema: T.StructType) -> list[T.StructField]:
    """The columns of `schema` that a table lacks, except those of NullType, which Delta does not store."""
    existing = _types(spark, table)
    return [column for column in schema if column.name.lower() not in existing and column.dataType != T.NullType()]


def check_column_types(spark: SparkSession, table: Table, schema: T.StructType, remedy: str) -> None:
    """Raises LakehouseError if the table has a column with another type: Delta would refuse the first batch."""
    existing = _types(spark, table)
    declared = [(column.name, column.dataType.simpleString()) for column in schema if column.name.lower() in existing]
    differing = [
        f"{name} is {existing[name.lower()]} in the table and {declared_type} in the pipeline"
        for name, declared_type in declared
        if declared_type != existing[name.lower()]
    ]
    if differing:
        raise LakehouseError(f"{table} has a column with another type: {', '.join(differing)}; {remedy}")


def _types(spark: SparkSession, table: Table) -> dict[str, str]:
    return {column.name.lower(): column.dataType.simpleString() for column in read(spark, table).schema}


def add_columns(spark: SparkSession, table: Table, columns: list[T.StructField]) -> None:
    """Adds columns to a table, with nulls in its existing rows."""
    added = ", ".join(f"`{column.name}` {column.dataType.simpleString()}" for column in columns)
    spark.sql(f"ALTER TABLE {table.sql_identifier} ADD COLUMNS ({added})")
    log.warning("%s: added columns that are new in the pipeline: %s", table, ", ".join(c.name for c in columns))


def exists(spark: SparkSession, table: Table) -> bool:
    """True if the table exists, with or without rows."""
    if table.path:
        return any((Path(table.path) / "_delta_log").glob("[0-9]*"))  # an empty folder is no table
    return bool(spark.catalog.tableExists(str(table.catalog_name)))


def read(spark: SparkSession, table: Table, *, version: int | None = None) -> DataFrame:
    """The table as a batch, at its latest version or the given one."""
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(table.path) if table.path else reader.table(str(table.catalog_name))


def latest_version(spark: SparkSession, table: Table) -> int:
    return int(_delta_table(spark, table).history(1).collect()[0]["version"])


def table_id(spark: SparkSession, table: Table) -> str:
    """The id of the table, which another one at its location or of its name does not have."""
    return str(_delta_table(spark, table).detail().collect()[0]["id"])


def _delta_table(spark: SparkSession, table: Table) -> Any:
    from delta.tables import DeltaTable

    return DeltaTable.forPath(spark, table.path) if table.path else DeltaTable.forName(spark, str(table.catalog_name))


def create(rows: DataFrame, table: Table) -> None:
    """Creates a table with these rows, in one commit. Fails with Spark's error if it exists."""
    writer = rows.write.format("delta").mode("errorifexists")
    if table.path:
        writer.save(table.path)
    else:
        writer.saveAsTable(str(table.catalog_name))
