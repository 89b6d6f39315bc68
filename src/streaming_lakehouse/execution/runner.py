"""Runs a plan: starts its steps as streaming queries, once it is certain that each may run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.checkpointing.lock import step_lock
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import changes, mistakes, preflight
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.execution.signals import interrupt, stop_on_signals
from streaming_lakehouse.execution.source_watch import SourceWatch
from streaming_lakehouse.execution.supervisor import Supervisor
from streaming_lakehouse.execution.upstream import UpstreamChanges
from streaming_lakehouse.layers import bronze, gold, hot, reference, silver, validation
from streaming_lakehouse.layers.silver import SilverTables
from streaming_lakehouse.pipeline import Bronze, Gold, HotPath, Reference, Silver
from streaming_lakehouse.pipeline.steps import Step
from streaming_lakehouse.session import get_session, is_connect
from streaming_lakehouse.sinks import WriteRequest, delta
from streaming_lakehouse.sources import OffsetRange, delta as upstream, envelope


def run(plan: RunPlan, progress: ProgressReporter, end: Callable[[], None] = interrupt) -> bool:
    """Runs until all available data is in gold (available-now), or until a signal; a second Ctrl-C calls `end`.

    True where every step finished its work; False where a signal stopped it at a batch boundary before that.
    Raises LakehouseError with the step's name where a step failed, after all others were stopped.
    """
    preflight.check_static(plan)
    stop, announce = threading.Event(), partial(progress.stopping, after_batch=plan.trigger.is_micro_batch)
    catch_signals = partial(stop_on_signals, stop, announce, end)
    with catch_signals():  # one that arrives while Spark starts is handled once queries can be stopped
        spark = get_session()
    with ExitStack() as locks, catch_signals():  # again, since pyspark installs its own handler for Ctrl-C
        upstream_changes = _prepare(plan, spark, locks)
        if not plan.trigger.is_available_now:  # which has its end soon
            preflight.warn_changed_records(plan)
        watch = locks.enter_context(closing(SourceWatch(plan, spark)))
        progress.read_lag = watch.lag
        starter = QueryStarter(plan, spark, watch, progress)
        is_done = _run_stages(plan, starter, stop, upstream_changes)
        preflight.record_created_topic_ids(plan, spark)
        preflight.warn_changed_records(plan)
    if is_done and plan.trigger.is_available_now:
        _check_all_read(plan)
    return is_done


def _prepare(plan: RunPlan, spark: SparkSession, locks: ExitStack) -> UpstreamChanges:
    """Locks each step's checkpoint and checks, before a record is read, that all steps may run."""
    rows = mistakes.check(plan, spark)
    preflight.check_inputs(plan, spark)
    checkpoints = [(step, checkpoint) for step in plan.steps if (checkpoint := plan.checkpoint(step))]
    for step, checkpoint in checkpoints:
        locks.enter_context(step_lock(spark, plan.storage, plan.pipeline.name, step.name, checkpoint))
    definitions = changes.check(plan, spark, rows)
    for step, checkpoint in checkpoints:
        preflight.check_step(plan, spark, step, checkpoint, rows.get(step.name))
    for checkpoint, definition in definitions.items():
        metadata.record_definition(checkpoint, definition)
    upstream_changes = UpstreamChanges(plan, spark)
    for step in plan.steps:
        upstream_changes.check(step)
    return upstream_changes


def _check_all_read(plan: RunPlan) -> None:
    """Raises LakehouseError, now that all else is in the tables, if a source holds records that Spark passes over."""
    for step in plan.steps:
        if step.reads_source and (passed_over := plan.source.unread(plan.read_request(step))):
            raise LakehouseError(f"step {step.name!r}: {passed_over}")


def _run_stages(plan: RunPlan, starter: QueryStarter, stop: threading.Event, upstream_changes: UpstreamChanges) -> bool:
    for stage in plan.stages:
        supervisor = Supervisor(
            tuple(step.name for step in stage),
            lambda name: starter.start(plan.step(name)),
            lambda name: plan.checkpoint(plan.step(name)),
            plan.trigger,
            starter.progress,
            after_batch=lambda name: upstream_changes.check(plan.step(name)),
            check_source=starter.watch.check,
            rebuild_hint=lambda name: preflight.rebuild_hint(plan, plan.step(name)),
        )
        if not supervisor.run(stop):
            return not plan.trigger.is_available_now
    return True


@dataclass(frozen=True)
class QueryStarter:
    """Starts the streaming query of a step: reads its inputs, and hands them to its layer."""

    plan: RunPlan
    spark: SparkSession
    watch: SourceWatch
    progress: ProgressReporter

    def start(self, step: Step) -> StreamingQuery:
        match step.makes:
            case Bronze():
                query, table = self.plan.query_config(step), self.plan.tables(step)[0]
                hooks = bronze.SourceHooks(
                    check=partial(self._check_source, step),
                    reread=partial(self._reread, step),
                    count=partial(self.progress.count_batch, step.name),
                )
                return bronze.start(self._records(step), table, query, hooks)
            case Silver():
                return self._start_silver(step, step.makes)
            case Gold():
                return self._start_gold(step, step.makes)
            case HotPath():
                routes = self.plan.pipeline.silver_of(step.makes.input.source)
                request = self.plan.write_request(step)
                if not self.plan.trigger.is_micro_batch:
                    self.progress.count_by_sink(step.name, partial(self.plan.sink.count, self.spark, request))
                return hot.start(self._records(step), step.makes, routes, self.plan.sink, request)

    def _records(self, step: Step) -> DataFrame:
        return self.plan.source.read(self.spark, self.plan.read_request(step))

    def _check_source(self, step: Step, batch: int) -> None:
        self.watch.check(step.name)
        self.plan.source.check_batch(str(self.plan.checkpoint(step)), batch)

    def _reread(self, step: Step, batch: int, failure: str) -> DataFrame | None:
        def offsets() -> OffsetRange:
            checkpoint = str(self.plan.checkpoint(step))
            return OffsetRange(metadata.offsets_before(checkpoint, batch), metadata.batch_offsets(checkpoint, batch))

        return self.plan.source.reread(self.spark, self.plan.read_request(step), failure, offsets)

    def _start_silver(self, step: Step, makes: Silver) -> StreamingQuery:
        bronze_table = self.plan.storage.table("bronze", makes.source.table)
        delta.create_if_missing(self.spark, bronze_table, envelope.BRONZE)
        tables, routes = SilverTables(*self.plan.tables(step)), self.plan.pipeline.silver_of(makes.source)
        if len(routes) > 1:  # two first batches would create the same table at once
            delta.create_if_missing(self.spark, tables.quarantine, envelope.QUARANTINE)
        records = upstream.read_stream(self.spark, bronze_table)
        # Over Connect, also that of serverless compute, batches are written by another process.
        on_batch = None if is_connect(self.spark) else partial(self.progress.judged, step.name)
        return silver.start(records, makes, routes, tables, self.plan.query_config(step), on_batch)

    def _start_gold(self, step: Step, makes: Gold) -> StreamingQuery:
        request = gold.with_replayed_batch(self.plan.sink, self.plan.write_request(step))
        inputs = [self._input(each, request) for each in makes.inputs]
        return gold.start(inputs, makes, self.plan.sink, request)

    def _input(self, table: Silver | Reference, request: WriteRequest) -> DataFrame:
        if isinstance(table, Reference):
            stored = self.plan.storage.table("reference", table.table)
            reference.create_if_missing(self.spark, table, stored)
            return reference.read(self.spark, stored, request)
        stored = self.plan.storage.table("silver", table.table)
        delta.create_if_missing(self.spark, stored, validation.schema(table))
        return gold.streamed(upstream.read_stream(self.spark, stored), request.query.checkpoint)
