"""Where rows go: the only place with `writeStream`; one module a sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.options import Options
from streaming_lakehouse.settings import Table
from streaming_lakehouse.triggers import Trigger

DEFAULT = "foreachBatch"
MODES = ("append", "update", "complete")


@dataclass(frozen=True)
class Query:
    """What every streaming query needs beside its rows: its name, its checkpoint, its trigger, its output mode.

    Without a checkpoint it begins anew each time: so do queries whose output does not outlive the process.
    """

    name: str
    checkpoint: str | None
    trigger: Trigger
    mode: str = "append"

    def writer(self, rows: DataFrame) -> DataStreamWriter:
        writer = rows.writeStream.queryName(self.name).outputMode(self.mode)
        if self.checkpoint:
            writer = writer.option("checkpointLocation", self.checkpoint)
        return writer.trigger(**self.trigger.arguments) if self.trigger.arguments else writer


@dataclass(frozen=True)
class Outlet:
    """What goes out: a table's rows, named by the columns `key`, and the sink's options as the user gave them.

    `again` is the batch that an earlier run has begun, where there is one.
    """

    table: Table
    key: tuple[str, ...]
    query: Query
    options: Mapping[str, str] = field(default_factory=dict)
    again: int | None = None


def anything(outlet: Outlet) -> None:
    """Takes what the options say, as they were looked at one by one."""


def nowhere(outlet: Outlet) -> dict[str, str]:
    """The place of a table, which is where its checkpoint belongs, and of what does not outlive the process."""
    return {}


def _no_ids(spark: SparkSession, outlet: Outlet) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Sink:
    """`start` sends a stream's rows out. `place` tells where to, as a checkpoint must know it: rows that it counts as
    written are there and nowhere else. `ids` tell that place from another which may have come to its names since, as
    far as they can be known here.

    `guarantee` is what holds of its rows after a crash and a repeat: `exactly once`, `at least once`, or `none` where
    they do not outlive the process. `keeps_table` is true where it writes the Delta table itself, `goes_on` where a run
    takes up where the last one ended, `repeats` where a batch that is done again is computed and written again.

    `check` raises LakehouseError for what is wrong and can be told without Spark and the network, so that the layers do
    not work for nothing.
    """

    name: str
    options: Options
    guarantee: str
    start: Callable[[DataFrame, Outlet], StreamingQuery]
    place: Callable[[Outlet], dict[str, str]] = nowhere
    ids: Callable[[SparkSession, Outlet], dict[str, str]] = _no_ids
    keeps_table: bool = False
    goes_on: bool = True
    repeats: bool = False
    check: Callable[[Outlet], None] = anything


def find_sink(name: str) -> Sink:
    """The sink of that name. Raises LakehouseError where there is none."""
    # Here, since they import this module's types.
    from streaming_lakehouse.sinks import console, delta, eventhubs, files, foreach, foreach_batch, kafka, memory

    known = (foreach_batch, delta, kafka, eventhubs, files, foreach, console, memory)
    sinks: dict[str, Sink] = {module.SINK.name: module.SINK for module in known}
    if name not in sinks:
        raise LakehouseError(f"there is no sink {name!r}{did_you_mean(name, sinks)}")
    return sinks[name]
