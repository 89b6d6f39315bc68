"""The sinks that rows are written to, one module each: the only package with `writeStream`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from streaming_lakehouse.config import registry
from streaming_lakehouse.config.options import OptionSpec
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.config.triggers import Trigger

DEFAULT_SINK = "delta"
OUTPUT_MODES = ("append", "update", "complete")
# Spark's own formats cut timestamps to milliseconds: other values than in the table, and for two rows the same key.
TEXT_FORMATS = {
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}


@dataclass(frozen=True)
class QueryConfig:
    """The configuration of a streaming query: its name, its checkpoint, its trigger, its output mode.

    Without a checkpoint it starts from scratch each time; this is for sinks whose output does not outlive the process.
    """

    name: str
    checkpoint: str | None
    trigger: Trigger
    mode: str = "append"

    def writer(self, rows: DataFrame) -> DataStreamWriter:
        writer = rows.writeStream.queryName(self.name).outputMode(self.mode)
        if self.checkpoint:
            writer = writer.option("checkpointLocation", self.checkpoint)
        return writer.trigger(**self.trigger.writer_options) if self.trigger.writer_options else writer


@dataclass(frozen=True)
class WriteRequest:
    """One table's rows to write: the table, its key columns, the query's configuration and the sink's options.

    `replayed_batch` is the batch that Spark will run again after a restart, or None.
    """

    table: Table
    key: tuple[str, ...]
    query: QueryConfig
    options: Mapping[str, str] = field(default_factory=dict)
    replayed_batch: int | None = None


def accept_any(request: WriteRequest) -> None:
    """Accepts any combination of valid options."""


def no_address(request: WriteRequest) -> dict[str, str]:
    """No address to verify: a Delta table is already tied to its checkpoint, and console and memory store nothing."""
    return {}


def _no_fingerprint(spark: SparkSession, request: WriteRequest) -> dict[str, str]:
    return {}


def _no_count(spark: SparkSession, request: WriteRequest) -> None:
    return None


@dataclass(frozen=True)
class Sink:
    """`start` writes a stream's rows. `address` identifies the destination of the checkpoint's batches: another one
    would lack them. `fingerprint` holds the known ids that distinguish it from another one of the same name.

    `guarantee` applies after a crash and a replayed batch: `exactly once`, `at least once`, or `none` if rows do not
    outlive the process. `writes_table` is true if the sink writes the Delta table itself, `is_resumable` if a run
    resumes where the last one ended, `recomputes_on_replay` if a replayed batch is computed and written again.

    `count` returns how many rows the destination has received so far, from whomever; None where that is unknown.

    `check` raises LakehouseError for errors that can be found without Spark and network, before any layer runs.
    """

    name: str
    options: OptionSpec
    guarantee: str
    start: Callable[[DataFrame, WriteRequest], StreamingQuery]
    address: Callable[[WriteRequest], dict[str, str]] = no_address
    fingerprint: Callable[[SparkSession, WriteRequest], dict[str, str]] = _no_fingerprint
    writes_table: bool = False
    is_resumable: bool = True
    recomputes_on_replay: bool = False
    check: Callable[[WriteRequest], None] = accept_any
    count: Callable[[SparkSession, WriteRequest], int | None] = _no_count


def get_sink(name: str) -> Sink:
    """The sink of that name. Raises LakehouseError if there is none."""
    sink: Sink = registry.load("sink", __name__, registry.SINKS, name)
    return sink
