"""Starts a pipeline's steps as streaming queries, once it is sure that each may."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse import ages, checkpoints, sinks, sources
from streaming_lakehouse.checks import Wanted
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers import bronze, gold, hot, silver
from streaming_lakehouse.local.lock import checkpoint_lock
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.progress import Board
from streaming_lakehouse.session import check_place, compute, get_session, is_local
from streaming_lakehouse.settings import Settings, Table
from streaming_lakehouse.sinks import Outlet, Query, Sink, delta
from streaming_lakehouse.sources import delta as upstream, envelope
from streaming_lakehouse.sources.secrets import refuse_in_clear
from streaming_lakehouse.supervisor import Supervisor, tell_dropped
from streaming_lakehouse.triggers import Trigger

_LAYERS = ("bronze", "silver")  # Delta tables always; what comes after them goes to the sink

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What to run: a pipeline's steps, from a source, when, and where to.

    `sink`, `mode` and `sink_options` are of the gold tables and the hot path; the other layers are Delta tables always.
    """

    pipeline: Pipeline
    settings: Settings
    source: str
    options: Mapping[str, str]
    trigger: Trigger
    steps: tuple[str, ...] = ()
    sink: str = sinks.DEFAULT
    mode: str | None = None
    sink_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def chosen_steps(self) -> tuple[str, ...]:
        return self._wanted.chosen_steps

    def start(self, board: Board) -> bool:
        """Runs until all there was is in gold (available-now), or until a signal.

        True where every step did all of its work; False where a signal ended it at a batch boundary before that.
        Raises LakehouseError with the step's name where a step failed, after all others were stopped.
        """
        source, sink = self._checked()
        steps = self.chosen_steps
        stop = threading.Event()
        with _signals(stop):  # a signal that comes while Spark starts waits until it can be stopped in order
            spark = get_session()
        with ExitStack() as held, _signals(stop):  # again, since pyspark takes Ctrl-C for itself
            for step in steps:
                if checkpoint := self.checkpoint(step):
                    held.enter_context(self._locked(spark, step, checkpoint))
                    checkpoints.sweep(checkpoint)
                    self._refuse_half_a_step(spark, step, checkpoint)
                    self._tell_partitions(spark, step, checkpoint)
                    self._claim(spark, step, checkpoint, source, sink)
                    self._fit_columns(spark, step)
            is_done = self._run(Starter(self, spark, source, sink), board, stop)
            self._note_new_ids(spark, sink)
        return is_done

    def _run(self, starter: Starter, board: Board, stop: threading.Event) -> bool:
        for group in self._groups(self.chosen_steps):
            if not Supervisor(group, starter.start, self.checkpoint, self.trigger, board).run(stop):
                return not self.trigger.is_available_now
        return True

    @property
    def _wanted(self) -> Wanted:
        return Wanted(self.pipeline, self.source, self.trigger, self.sink, self.mode, self.steps, compute())

    def _checked(self) -> tuple[sources.Source, Sink]:
        """Everything that can be told before Spark starts."""
        check_place(self.settings, is_run=True)
        source, sink = sources.find_source(self.source), sinks.find_sink(self.sink)
        self._refuse_idle_options(source, sink)
        source.check(self.options)
        sink.options.check(self.sink_options)
        refuse_in_clear(self.sink_options)
        self._wanted.check()
        silver.check(self.pipeline.silver)
        for step in self.chosen_steps:
            if step in ("bronze", "hot"):
                source.place(self.request)
                self._refuse_to_go_on(source, self.checkpoint(step))
            if step not in _LAYERS:
                sink.check(self.outlet(step))
                sink.place(self.outlet(step))
        return source, sink

    def _refuse_idle_options(self, source: sources.Source, sink: Sink) -> None:
        """An option of what plays no part in the run would be passed over in silence."""
        reads = any(step in ("bronze", "hot") for step in self.chosen_steps)
        writes = any(step not in _LAYERS for step in self.chosen_steps)
        if self.options and not reads:
            name, value = next(iter(self.options.items()))
            if writes and not source.options.has(name):
                sink.options.check({name: value})  # raises: it can only have been meant for the sink
            told = f"; for the sink write sink.{name}" if writes and sink.options.has(name) else ""
            raise LakehouseError(
                f"--option {name}: source {source.name!r} plays no part in this run, which has neither the step bronze "
                f"nor the hot path{told}"
            )
        if self.sink_options and not writes:
            raise LakehouseError(
                f"--option {next(iter(self.sink_options))}: sink {sink.name!r} plays no part in this run, which has "
                "neither a gold table nor the hot path"
            )

    def _refuse_to_go_on(self, source: sources.Source, checkpoint: str | None) -> None:
        """What a source does not keep is gone with the run that did not read it; a new root hides nothing."""
        if checkpoint and not source.is_kept and checkpoints.has_begun(checkpoint):
            raise LakehouseError(
                f"source {source.name!r} keeps nothing that a run could go on from, but {checkpoint} has begun; "
                "use another --root"
            )

    def _groups(self, steps: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Steps that run side by side: layer after layer when all there is shall be in gold, else all at once.

        The gold tables know nothing of each other; together they take three quarters of their time one by one.
        """
        if not self.trigger.is_available_now:
            return [steps]
        golds = tuple(step for step in steps if step not in (*_LAYERS, "hot"))
        return [*((step,) for step in steps if step not in golds), *((golds,) if golds else ())]

    @contextmanager
    def _locked(self, spark: SparkSession, step: str, checkpoint: str) -> Iterator[None]:
        if self.settings.root is None or not is_local(spark):
            yield  # in a workspace the job's max_concurrent_runs of 1 keeps a second run away
            return
        with checkpoint_lock(spark, Path(checkpoint), f"step {step!r} of pipeline {self.pipeline.name!r}"):
            yield

    def _tell_partitions(self, spark: SparkSession, step: str, checkpoint: str) -> None:
        """State is cut into as many pieces as there were partitions when it was begun, on whatever machine."""
        kept, wanted = checkpoints.shuffle_partitions(checkpoint), spark.conf.get("spark.sql.shuffle.partitions")
        if self._wanted.query(step).aggregates and kept not in (None, wanted):
            log.warning(
                "step %r goes on with the %s shuffle partitions that its checkpoint began with; the %s of this session "
                "count for new checkpoints only", step, kept, wanted,
            )  # fmt: skip

    def _claim(self, spark: SparkSession, step: str, checkpoint: str, source: sources.Source, sink: Sink) -> None:
        """A checkpoint belongs to what it has begun with: what it counts is there and nowhere else."""
        if step in ("bronze", "hot"):
            place = {"source": source.name, **source.place(self.request)}
            checkpoints.claim_source(checkpoint, place, source.ids(spark, self.request))
        if step not in _LAYERS:
            self._claim_sink(step, checkpoint, sink, sink.ids(spark, self.outlet(step)))

    def _claim_sink(self, step: str, checkpoint: str, sink: Sink, ids: Mapping[str, str]) -> None:
        outlet = self.outlet(step)
        checkpoints.claim_sink(checkpoint, {"sink": sink.name, "mode": outlet.query.mode, **sink.place(outlet)}, ids)

    def _note_new_ids(self, spark: SparkSession, sink: Sink) -> None:
        """What a sink made for the run's first row, as a broker makes a topic, has an id only now."""
        for step in self.chosen_steps:
            if step not in _LAYERS and (checkpoint := self.checkpoint(step)):
                try:
                    ids = sink.ids(spark, self.outlet(step))
                except LakehouseError as error:  # the rows are written: that the broker has gone since is no failure
                    log.warning("step %r: what was new to its sink is noted by the next run: %s", step, error)
                    continue
                if ids:
                    self._claim_sink(step, checkpoint, sink, ids)

    def _refuse_half_a_step(self, spark: SparkSession, step: str, checkpoint: str) -> None:
        """A step's tables and its checkpoint belong together: what one of them has lost, the other cannot tell.

        Only where rows have keys a new checkpoint can go on over a table's: each takes the place of the one with its.
        """
        tables = self.tables(step)
        checkpoints.check(checkpoint)
        if dropped := checkpoints.dropped(checkpoint):
            raise LakehouseError(tell_dropped(step, dropped, checkpoint))
        there = [table for table in tables if delta.exists(spark, table)]
        gone = [table for table in tables if table not in there]
        filled = [] if checkpoints.has_begun(checkpoint) else [t for t in there if not delta.read(spark, t).isEmpty()]
        rebuild = f"bring it back, or {self._rebuild(step)}"
        if filled and step not in _LAYERS and self.sink == sinks.DEFAULT:
            checkpoints.note_rows(checkpoint)
            log.warning(
                "%s has rows, and the checkpoint of step %r is new: a row takes the place of the one with its key",
                filled[0], step,
            )  # fmt: skip
        elif filled:
            names = " and ".join(map(str, filled))
            raise LakehouseError(
                f"the checkpoint of step {step!r} is gone, but {names} has rows; they would be written twice: {rebuild}"
            )
        if gone and checkpoints.newest_ended(checkpoint) is not None:
            names = " and ".join(map(str, gone))
            raise LakehouseError(
                f"{names} is gone, but the checkpoint of step {step!r} has its rows as written; {rebuild}"
            )
        for table in there:
            ages.refuse_another_age(step, checkpoint, table, rebuild)

    def _rebuild(self, step: str) -> str:
        tables = " and ".join(table.place for table in self.tables(step))
        return (
            f"rebuild: move away {self.checkpoint(step)} and {tables}, as far as they are there, and those of the "
            "steps after it"
        )

    def _fit_columns(self, spark: SparkSession, step: str) -> None:
        """The pipeline may have changed since its tables were made; a stream over one ends when its columns change."""
        for table in self.tables(step):
            if table.layer == "silver" and delta.exists(spark, table):
                self._widen_silver(spark, table)
            if table.layer == "gold" and step != "hot" and delta.exists(spark, table):
                self._refuse_new_columns(spark, step, table)

    def _widen_silver(self, spark: SparkSession, table: Table) -> None:
        declared, rebuild = self.pipeline.silver, self._rebuild("silver")
        schema = silver.schema(declared)
        delta.refuse_other_types(spark, table, schema, f"give it back its type, or {rebuild}")
        new = delta.lacking(spark, table, schema)
        for column in new:
            if column.name in (declared.key, declared.event_time):  # by these it tells repeats and late rows
                raise LakehouseError(f"{table} has no column {column.name}; {rebuild}")
        if new:
            delta.widen(spark, table, new)

    def _refuse_new_columns(self, spark: SparkSession, step: str, table: Table) -> None:
        """A merge would leave them out without a word, and old rows have nothing to put there."""
        events = spark.createDataFrame([], silver.schema(self.pipeline.silver))
        new = delta.lacking(spark, table, self.pipeline.gold_table(step).transform(events).schema)
        if new:
            names = ", ".join(column.name for column in new)
            raise LakehouseError(f"{table} lacks what its transform gives now: {names}; {self._rebuild(step)}")

    def tables(self, step: str) -> tuple[Table, ...]:
        """The tables that a step writes."""
        if step == "bronze":
            return (self.settings.table("bronze", self.pipeline.bronze.table),)
        if step == "silver":
            events = self.pipeline.silver.table
            return (self.settings.table("silver", events), self.settings.table("quarantine", events))
        return (self.outlet(step).table,) if sinks.find_sink(self.sink).keeps_table else ()

    def checkpoint(self, step: str) -> str | None:
        """The folder of the step's checkpoint, and none where a sink begins anew each time.

        One for the table, whichever sink keeps it, since two would each add the same rows; one for each other sink.
        """
        sink = sinks.find_sink(self.sink)
        if step in _LAYERS or sink.keeps_table:
            return self.settings.checkpoint(self.pipeline.name, step)
        return self.settings.checkpoint(self.pipeline.name, f"{step}.{self.sink}") if sink.goes_on else None

    def query(self, step: str) -> Query:
        mode = self._wanted.query(step).mode
        return Query(f"{self.pipeline.name}.{step}", self.checkpoint(step), self.trigger, mode)

    def outlet(self, step: str) -> Outlet:
        """What the sink is asked to take of a gold table, or of the hot path."""
        if step == "hot":
            assert self.pipeline.hot is not None
            title, key = self.pipeline.hot.title, self.pipeline.hot.key
        else:
            title, key = step, self.pipeline.gold_table(step).key
        return Outlet(self.settings.table("gold", title), key, self.query(step), self.sink_options)

    @property
    def request(self) -> sources.Request:
        return sources.Request(self.pipeline, self.options, self.trigger)


@dataclass(frozen=True)
class Starter:
    """Starts one step of a run."""

    run: Run
    spark: SparkSession
    source: sources.Source
    sink: Sink

    def start(self, step: str) -> StreamingQuery:
        if step == "bronze":
            records = self.source.read(self.spark, self.run.request)
            return bronze.start(records, self.run.tables("bronze")[0], self.run.query(step))
        if step == "silver":
            return self._start_silver(self.run.query(step))
        return self._start_hot() if step == "hot" else self._start_gold(step)

    def _start_silver(self, query: Query) -> StreamingQuery:
        pipeline = self.run.pipeline
        bronze_table, tables = self.run.tables("bronze")[0], silver.Tables(*self.run.tables("silver"))
        delta.ensure(self.spark, bronze_table, envelope.BRONZE)
        records = upstream.stream(self.spark, bronze_table)
        return silver.start(records, pipeline.silver, tables, query)

    def _start_gold(self, step: str) -> StreamingQuery:
        pipeline, silver_table = self.run.pipeline, self.run.tables("silver")[0]
        delta.ensure(self.spark, silver_table, silver.schema(pipeline.silver))
        events = upstream.stream(self.spark, silver_table)
        return gold.start(events, pipeline.silver, pipeline.gold_table(step), self.sink, self.run.outlet(step))

    def _start_hot(self) -> StreamingQuery:
        pipeline, records = self.run.pipeline, self.source.read(self.spark, self.run.request)
        assert pipeline.hot is not None
        return hot.start(records, pipeline.silver, pipeline.hot, self.sink, self.run.outlet("hot"))


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C set `stop`; the second of them ends the process as usual."""
    wanted = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield  # a notebook's cell: signals belong to the main thread
        return
    before = {number: signal.getsignal(number) for number in wanted}

    def set_stop(number: int, frame: FrameType | None) -> None:
        stop.set()
        for each in wanted:
            signal.signal(each, signal.SIG_DFL if each is signal.SIGTERM else signal.default_int_handler)

    for number in wanted:
        signal.signal(number, set_stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
