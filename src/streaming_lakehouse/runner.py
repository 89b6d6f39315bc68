"""Starts a pipeline's steps as streaming queries, supervises them, and stops them cleanly."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse import ages, checkpoints, sources
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.failures import explained
from streaming_lakehouse.layers import bronze, gold, silver
from streaming_lakehouse.local import jvm
from streaming_lakehouse.local.lock import checkpoint_lock
from streaming_lakehouse.pipeline import Gold, Pipeline
from streaming_lakehouse.progress import Board
from streaming_lakehouse.session import check_place, get_session, is_local
from streaming_lakehouse.settings import Settings, Table
from streaming_lakehouse.sinks import delta
from streaming_lakehouse.sources import delta as upstream, envelope
from streaming_lakehouse.triggers import Trigger

_LOOK_SECONDS = 0.25  # the board is looked after so often
_POLL_SECONDS = 0.05
_CLUSTER_HEAP_MIB = 16 * 1024  # of a workspace's smaller machines
_BYTES_OF_HEAP_PER_BYTE = 16  # silver's batch in memory against its compressed bytes in bronze, with room to spare


@dataclass(frozen=True)
class Run:
    """What to run: a pipeline's steps, from a source, when, and where to."""

    pipeline: Pipeline
    settings: Settings
    source: str
    options: Mapping[str, str]
    trigger: Trigger
    steps: tuple[str, ...] = ()

    def start(self, board: Board) -> bool:
        """Runs until all there was is in gold (available-now), or until a signal.

        True where every step did all of its work; False where a signal ended it at a batch boundary before that.
        Raises LakehouseError with the step's name where a step failed, after all others were stopped.
        """
        source = self._checked()
        steps = self.pipeline.chosen_steps(self.steps)
        stop = threading.Event()
        with _signals(stop):  # a signal that comes while Spark starts waits until it can be stopped in order
            spark = get_session()
        with ExitStack() as held, _signals(stop):  # again, since pyspark takes Ctrl-C for itself
            for step in steps:
                held.enter_context(self._locked(spark, step))
                self._refuse_half_a_step(spark, step)
            if "bronze" in steps:
                place = {"source": source.name, **source.place(self.request)}
                ids = source.ids(spark, self.request)
                checkpoints.claim(self.settings.checkpoint(self.pipeline.name, "bronze"), place, ids)
            starter = Starter(self, spark, source)
            for group in self._groups(steps):
                if not _run_together([(step, starter) for step in group], board, stop):
                    return not self.trigger.is_available_now
        return True

    def _checked(self) -> sources.Source:
        """Everything that can be told before Spark starts."""
        check_place(self.settings, is_run=True)
        source = sources.find_source(self.source)
        source.check(self.options)
        if "bronze" in self.pipeline.chosen_steps(self.steps):
            source.place(self.request)
            self._refuse_no_end(source)
            self._refuse_to_go_on(source)
        if not self.trigger.is_micro_batch:
            raise LakehouseError(
                f"trigger {self.trigger.text!r} cannot write Delta tables, which all layers of {self.pipeline.name!r} "
                'are; use available-now, default, or an interval such as "30 seconds"'
            )
        return source

    def _refuse_no_end(self, source: sources.Source) -> None:
        """Spark would make one batch of whatever is there in the first moment, and say that it was all."""
        if self.trigger.is_available_now and not source.ends:
            raise LakehouseError(
                f"trigger 'available-now' takes all there is, but source {source.name!r} has no end; use --trigger "
                'default, or an interval such as "30 seconds"'
            )

    def _refuse_to_go_on(self, source: sources.Source) -> None:
        """What a source does not keep is gone with the run that did not read it; a new root hides nothing."""
        checkpoint = self.settings.checkpoint(self.pipeline.name, "bronze")
        if not source.is_kept and checkpoints.has_begun(checkpoint):
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
        golds = tuple(step for step in steps if step not in ("bronze", "silver"))
        return [*((step,) for step in steps if step not in golds), *((golds,) if golds else ())]

    @contextmanager
    def _locked(self, spark: SparkSession, step: str) -> Iterator[None]:
        checkpoint = self.settings.checkpoint(self.pipeline.name, step)
        if self.settings.root is None or not is_local(spark):
            yield  # in a workspace the job's max_concurrent_runs of 1 keeps a second run away
            return
        with checkpoint_lock(spark, Path(checkpoint), f"step {step!r} of pipeline {self.pipeline.name!r}"):
            yield

    def _refuse_half_a_step(self, spark: SparkSession, step: str) -> None:
        """A step's tables and its checkpoint belong together: what one of them has lost, the other cannot tell."""
        checkpoint, tables = self.settings.checkpoint(self.pipeline.name, step), self.tables(step)
        checkpoints.check(checkpoint)
        there = [table for table in tables if delta.exists(spark, table)]
        gone = [table for table in tables if table not in there]
        filled = [] if checkpoints.has_begun(checkpoint) else [t for t in there if not delta.read(spark, t).isEmpty()]
        rebuild = (
            f"bring it back, or rebuild: move away {checkpoint} and {' and '.join(table.place for table in tables)}, "
            "as far as they are there, and those of the steps after it"
        )
        if filled:
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

    def tables(self, step: str) -> tuple[Table, ...]:
        """The tables that a step writes."""
        if step == "bronze":
            return (self.settings.table("bronze", self.pipeline.bronze.table),)
        if step == "silver":
            events = self.pipeline.silver.table
            return (self.settings.table("silver", events), self.settings.table("quarantine", events))
        return (self.settings.table("gold", step),)

    @property
    def request(self) -> sources.Request:
        return sources.Request(self.pipeline, self.options, self.trigger)


@dataclass(frozen=True)
class Starter:
    """Starts one step of a run."""

    run: Run
    spark: SparkSession
    source: sources.Source

    def start(self, step: str) -> StreamingQuery:
        run, pipeline = self.run, self.run.pipeline
        query = delta.Query(f"{pipeline.name}.{step}", run.settings.checkpoint(pipeline.name, step), run.trigger)
        if step == "bronze":
            return bronze.start(self.source.read(self.spark, run.request), run.tables("bronze")[0], query)
        if step == "silver":
            return self._start_silver(query)
        return self._start_gold(next(gold for gold in pipeline.gold if gold.table == step), query)

    def _start_silver(self, query: delta.Query) -> StreamingQuery:
        pipeline = self.run.pipeline
        bronze_table, tables = self.run.tables("bronze")[0], silver.Tables(*self.run.tables("silver"))
        delta.ensure(self.spark, bronze_table, envelope.BRONZE)
        records = upstream.stream(self.spark, bronze_table, {"maxBytesPerTrigger": str(self._batch_bytes())})
        return silver.start(records, pipeline.silver, tables, query)

    def _start_gold(self, gold_table: Gold, query: delta.Query) -> StreamingQuery:
        pipeline, silver_table = self.run.pipeline, self.run.tables("silver")[0]
        delta.ensure(self.spark, silver_table, silver.schema(pipeline.silver))
        events = upstream.stream(self.spark, silver_table, upstream.WHOLE_COMMITS)
        return gold.start(events, pipeline.silver, gold_table, self.run.tables(gold_table.table)[0], query)

    def _batch_bytes(self) -> int:
        heap = jvm.heap_mib() if is_local(self.spark) else _CLUSTER_HEAP_MIB
        return heap * 2**20 // _BYTES_OF_HEAP_PER_BYTE


def _run_together(steps: list[tuple[str, Starter]], board: Board, stop: threading.Event) -> bool:
    """Runs the steps side by side until all have ended; False where `stop` was set before."""
    queries: dict[str, StreamingQuery] = {}
    try:
        # Downstream first: it makes the table it reads, where there is none, before upstream writes to it.
        for step, starter in reversed(steps):
            if stop.is_set():
                return False
            with _named(step):
                board.started(step)
                queries[step] = starter.start(step)
        while running := [step for step, query in queries.items() if query.isActive]:
            # Waits in the JVM, so that the end of a query is known at once; a signal is seen when it comes back.
            with _named(running[0]):
                queries[running[0]].awaitTermination(_LOOK_SECONDS)  # type: ignore[arg-type]  # takes fractions
            if stop.is_set():
                _stop_at_batch_boundary(queries, board)
                return False
            _watch(queries, board)
        _watch(queries, board)
    finally:
        for query in queries.values():
            query.stop()
    return True


def _watch(queries: Mapping[str, StreamingQuery], board: Board) -> None:
    for step, query in queries.items():
        _raise_failure(step, query)
        _show(step, query, board)
        if not query.isActive:
            board.ended(step)


def _show(step: str, query: StreamingQuery, board: Board) -> None:
    board.show(step, query)
    if late := board.states[step].late:
        raise LakehouseError(
            f"step {step!r} failed: Spark dropped {late:,} rows behind the watermark, which silver should have kept "
            f"back, so that its table lacks them: move the table and the checkpoint of {step!r} away, to make it anew "
            "from silver"
        )


def _raise_failure(step: str, query: StreamingQuery) -> None:
    with _named(step):
        error = query.exception()
        if error is not None:
            raise error


def _stop_at_batch_boundary(queries: Mapping[str, StreamingQuery], board: Board) -> None:
    """Lets each query finish the batch it is in; a second signal does not wait for it."""
    for step, query in queries.items():
        before = query.lastProgress
        while query.isActive and query.status["isTriggerActive"] and query.lastProgress == before:
            time.sleep(_POLL_SECONDS)
            _show(step, query, board)
        _raise_failure(step, query)  # before our own stop, which may leave an exception of its own
        _show(step, query, board)
        query.stop()
        board.stopped(step)


@contextmanager
def _named(step: str) -> Iterator[None]:
    """Turns what Spark raises into one line with the step's name."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise LakehouseError(f"step {step!r} failed: {explained(error)}") from error
    except LakehouseError as error:
        raise LakehouseError(f"step {step!r}: {error}") from error


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
