"""Runs a backfill: history from a second source, and what silver has refused, into tables that are in use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from pyspark.sql import SparkSession, functions as F

from streaming_lakehouse.checkpointing import backfill_journal, metadata
from streaming_lakehouse.checkpointing.lock import steps_locked
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError, counted, did_you_mean
from streaming_lakehouse.execution import rebuild, runner
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.execution.reset import IN_A_CATALOG, plan_reset
from streaming_lakehouse.layers.acceptance import FIRST_DELIVERY, ON_TIME
from streaming_lakehouse.layers.backfill import Admission, GoldBackfill, SilverBackfill, Span
from streaming_lakehouse.layers.silver import SilverTables
from streaming_lakehouse.pipeline import Bronze, Gold, Pipeline, Silver
from streaming_lakehouse.pipeline.declaration import LAYERS
from streaming_lakehouse.pipeline.steps import Step
from streaming_lakehouse.session import get_session
from streaming_lakehouse.sinks import delta

_MICROSECOND, _MILLISECOND_US = timedelta(microseconds=1), 1_000

Progress = Callable[[list[str]], ProgressReporter]


@dataclass(frozen=True)
class Backfill:
    """What to backfill: with a source, its records first; then quarantine's records with one of these reasons.

    `tables` are the bronze tables whose history the source has; all where none is named. Raises LakehouseError for
    one that the pipeline does not have, and for duplicates, which are in silver already.
    """

    pipeline: Pipeline
    storage: Storage
    source_name: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = (ON_TIME,)
    tables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if FIRST_DELIVERY in self.reasons:
            raise LakehouseError(f"--reason {FIRST_DELIVERY}: a duplicate is in silver already")
        _ = self.history

    @cached_property
    def history(self) -> RunPlan | None:
        """The run of bronze that reads the source."""
        if self.source_name is None:
            return None
        names = [bronze.table for bronze in self.pipeline.bronze]
        for table in self.tables:
            if table not in names:
                raise LakehouseError(
                    f"pipeline {self.pipeline.name!r} has no bronze table {table!r}{did_you_mean(table, names)}"
                )
        steps = tuple(f"bronze.{table}" for table in self.tables or names)
        now = parse_trigger("available-now")
        return RunPlan(self.pipeline, self.storage, self.source_name, self.options, now, steps, is_history=True)

    def checkpoint(self, table: Bronze | Silver | Gold) -> str:
        return self.storage.checkpoint(self.pipeline.name, Step(table).name)

    def has_started(self, table: Bronze | Silver | Gold) -> bool:
        return metadata.has_started(self.checkpoint(table))

    def of_silver(self, silver: Silver, backfilled_at_us: int) -> SilverBackfill:
        table = self.storage.table
        tables = SilverTables(table("silver", silver.table), table("quarantine", silver.source.table))
        return SilverBackfill(silver, self.pipeline.silver_of(silver.source), tables, backfilled_at_us)

    def is_updated_in_place(self, gold: Gold) -> bool:
        """False where the table has to be rebuilt: without a reach, and in mode complete, whose state never ends."""
        return gold.reach is not None and metadata.recorded_sink(self.checkpoint(gold))[1] != "complete"


def run(requested: Backfill, progress: Progress, say: Callable[[str], None]) -> None:
    """Reads the source, lets the layers catch up, admits what is due, and brings gold to the same.

    `say` is called with a line for each result. Raises LakehouseError where a step fails, is stopped, or runs in
    another process; the same command then resumes.
    """
    _check_has_started(requested)
    _check_history(requested)
    spark = get_session()
    _check_reasons(requested, spark)
    # Two processes must not append to one table in a local folder, hence bronze; the others are locked by their runs.
    alone = ["backfill", *(Step(each).name for each in requested.pipeline.bronze)]
    with steps_locked(spark, requested.storage, requested.pipeline.name, alone):
        BackfillRun(requested, spark, progress, say).run()


@dataclass(frozen=True)
class BackfillRun:
    """A backfill in a session; `progress` shows the steps that it runs."""

    requested: Backfill
    spark: SparkSession
    progress: Progress
    say: Callable[[str], None]

    def run(self) -> None:
        pipeline, storage = self.requested.pipeline, self.requested.storage
        if rebuild.unfinished(pipeline, storage):
            rebuild.finish(pipeline, storage)
        if self.requested.history:
            self._run(self.requested.history)
        for plan in self._catch_up():
            self._run(plan)
        with steps_locked(self.spark, storage, pipeline.name, [step.name for step in self._downstream]):
            self._check_nothing_to_replay()
            to_rebuild: list[Gold] = []
            for earlier in backfill_journal.unfinished(storage, pipeline.name):
                self.say(
                    f"finishing a backfill that was interrupted: {counted(self._added(earlier), 'record')} admitted"
                )
                to_rebuild += self._update_gold(earlier)
            backfilled_at_us = time.time_ns() // 1000
            if any([self._admit(silver, backfilled_at_us) for silver in pipeline.silver]):
                to_rebuild += self._update_gold(backfilled_at_us)
        self._rebuild(list(dict.fromkeys(to_rebuild)))
        backfill_journal.end(storage, pipeline.name)

    @property
    def _downstream(self) -> list[Step]:
        """Silver's steps, and those of the gold tables that have started: another reads all of silver when it does."""
        gold = [Step(gold) for gold in self.requested.pipeline.gold if self.requested.has_started(gold)]
        return [*map(Step, self.requested.pipeline.silver), *gold]

    def _catch_up(self) -> Iterable[RunPlan]:
        """Silver, then the gold tables that have started, each with the sink and mode that it was written with."""
        sources = [metadata.recorded_source(self.requested.checkpoint(each)) for each in self.requested.pipeline.bronze]
        source = next((found["source"] for found in sources if found), "generator")
        storage = self.requested.storage
        return rebuild.downstream_plans(
            self.requested.pipeline, self._downstream, recorded_in=storage, run_in=storage, source=source
        )

    def _run(self, plan: RunPlan) -> None:
        with self.progress([step.name for step in plan.steps]) as reporter:
            if not runner.run(plan, reporter):
                raise LakehouseError("stopped at a batch boundary; give the same command again to resume from there")

    def _check_nothing_to_replay(self) -> None:
        """A run may have come and died since the layers caught up: half a batch would be taken for a whole one."""
        for step in self._downstream:
            checkpoint = self.requested.storage.checkpoint(self.requested.pipeline.name, step.name)
            if metadata.uncommitted_batch(checkpoint) is not None or metadata.has_unwritten_windows(checkpoint):
                raise LakehouseError(f"a run of step {step.name!r} was interrupted meanwhile; give the command again")

    def _admit(self, silver: Silver, backfilled_at_us: int) -> bool:
        """Moves what is due from quarantine to silver; True where there was something."""
        of_silver = self.requested.of_silver(silver, backfilled_at_us)
        if not all(delta.exists(self.spark, table) for table in (of_silver.tables.silver, of_silver.tables.quarantine)):
            return False
        newest_us = metadata.max_event_time(self.requested.checkpoint(silver)) or 0
        before_us = self._open_since(silver, newest_us)
        with of_silver.judge(self.spark, self.requested.reasons, before_us) as admission:
            of_silver.update_reasons(admission)
            if admission.valid:
                backfill_journal.begin(self.requested.storage, self.requested.pipeline.name, backfilled_at_us)
                of_silver.append(admission)
            self.say(_admission_line(silver, admission, behind_us=newest_us - before_us))
        return bool(admission.valid)

    def _added(self, backfilled_at_us: int) -> int:
        tables = [self.requested.of_silver(silver, backfilled_at_us) for silver in self.requested.pipeline.silver]
        return sum(each.added(self.spark).count() for each in tables if delta.exists(self.spark, each.tables.silver))

    def _open_since(self, silver: Silver, newest_us: int) -> int:
        """From this event time on, an event is not late, or changes rows that are still in the state of a query.

        Without a reach state is rebuilt. But gold's watermark would be ahead of silver's, if silver's did not count.
        """
        since = [newest_us - silver.watermark // _MICROSECOND]
        for gold in self._gold_in_use():
            if silver in gold.streams and gold.reach is not None and self.requested.is_updated_in_place(gold):
                watermark_us = metadata.watermark_us(self.requested.checkpoint(gold)) or 0
                # An outer join has a row a millisecond longer.
                since.append(watermark_us - gold.reach // _MICROSECOND - _MILLISECOND_US)
        return min(since)

    def _gold_in_use(self) -> list[Gold]:
        return [
            gold
            for gold in self.requested.pipeline.gold
            if self.requested.has_started(gold)
            and delta.exists(self.spark, self.requested.storage.table("gold", gold.table))
        ]

    def _update_gold(self, backfilled_at_us: int) -> list[Gold]:
        """What follows once silver has the rows: idempotent, so that the next command can do it again.

        Gives the tables that must be rebuilt. One that was started, or rebuilt, since then has read the rows.
        """
        changed = {silver: self._move(silver, backfilled_at_us) for silver in self.requested.pipeline.silver}
        affected = [
            gold
            for gold in self._gold_in_use()
            if any(changed[silver] for silver in gold.streams)
            and metadata.backfills_read_until(self.requested.checkpoint(gold)) < backfilled_at_us
        ]
        for gold in filter(self.requested.is_updated_in_place, affected):
            spans = [span for silver in gold.streams for span in changed[silver]]
            self.say(f"gold.{gold.table}: {counted(self._update(gold, spans, backfilled_at_us), 'row')} changed")
        return [gold for gold in affected if not self.requested.is_updated_in_place(gold)]

    def _move(self, silver: Silver, backfilled_at_us: int) -> list[Span]:
        """Removes from quarantine what silver has; gives the spans of these events."""
        of_silver = self.requested.of_silver(silver, backfilled_at_us)
        if not delta.exists(self.spark, of_silver.tables.silver):
            return []
        of_silver.remove_admitted(self.spark)
        return of_silver.changed(self.spark)

    def _update(self, gold: Gold, changed: Sequence[Span], backfilled_at_us: int) -> int:
        """Merges the rows that differ into the table; gives their number."""
        table = self.requested.storage.table
        mode = metadata.recorded_sink(self.requested.checkpoint(gold))[1] or gold.output_modes[0]
        inputs = tuple(delta.read(self.spark, table(LAYERS[type(each)], each.table)) for each in gold.inputs)
        of_gold = GoldBackfill(gold, inputs, changed, mode, backfilled_at_us)
        with delta.persisted(of_gold.differences()) as differences:
            if rows := differences.count():
                of_gold.apply(differences, table("gold", gold.table))
        return rows

    def _rebuild(self, tables: list[Gold]) -> None:
        """Other sinks keep their checkpoints: nothing is sent to them again."""
        if not tables:
            return
        names = [Step(gold).name for gold in tables]
        if self.requested.storage.root is None:
            self.say(f"{', '.join(names)}: without these rows until rebuilt: {IN_A_CATALOG}")
            return
        planned = plan_reset(self.requested.pipeline, self.requested.storage, names, is_with_other_sinks=False)
        rebuild.run(planned, self.progress)
        self.say(f"{', '.join(names)}: rebuilt; the old tables and checkpoints are in {planned.folder}")


def _check_has_started(requested: Backfill) -> None:
    """A new lake needs no backfill: there is no watermark yet that history would be behind."""
    steps = requested.history.steps if requested.history else [Step(each) for each in requested.pipeline.bronze]
    storage, name = requested.storage, requested.pipeline.name
    missing = [step for step in steps if not metadata.has_started(storage.checkpoint(name, step.name))]
    if missing and (requested.history or len(missing) == len(steps)):
        raise LakehouseError(
            f"no run has written {missing[0]} in {storage.root or storage.catalog}; run pipeline {name!r} from its own "
            "source first: until then nothing is late"
        )


def _check_history(requested: Backfill) -> None:
    """Raises LakehouseError where the source is the pipeline's own, whose records are in bronze already."""
    plan = requested.history
    for step in plan.steps if plan else ():
        assert plan
        own = metadata.recorded_source(requested.storage.checkpoint(requested.pipeline.name, step.name))
        address = plan.source_address(step)
        if own == address or _overlap(own, address):
            shown = ", ".join(f"{name} {value}" for name, value in address.items())
            raise LakehouseError(
                f"{step} reads {shown} itself, so that its records would be in bronze twice; without --source a "
                "backfill admits those that came late, and --table names the tables whose history is elsewhere"
            )


def _overlap(own: Mapping[str, str], address: Mapping[str, str]) -> bool:
    """Whether one of two folders of files is in the other."""
    if own.get("source") != "files" or address.get("source") != "files":
        return False
    one, other = Path(own["path"]), Path(address["path"])
    return one in other.parents or other in one.parents


def _check_reasons(requested: Backfill, spark: SparkSession) -> None:
    """Raises LakehouseError for a reason that no expectation has, nor any record: the parser has names of its own."""
    known = {ON_TIME, *(each.name for silver in requested.pipeline.silver for each in silver.all_expectations)}
    if known.issuperset(requested.reasons):
        return
    for bronze in requested.pipeline.bronze:
        quarantine = requested.storage.table("quarantine", bronze.table)
        if delta.exists(spark, quarantine):
            found = delta.read(spark, quarantine).select(F.explode("failed_expectations").alias("reason")).distinct()
            known |= {row["reason"] for row in found.collect()}
    for reason in requested.reasons:
        if reason not in known:
            raise LakehouseError(f"no record is in quarantine for {reason!r}{did_you_mean(reason, sorted(known))}")


def _admission_line(silver: Silver, admission: Admission, *, behind_us: int) -> str:
    """`behind_us` is how far behind silver's newest event a record must be."""
    line = f"silver.{silver.table}: {counted(admission.valid, 'record')} admitted"
    if admission.duplicates or admission.quarantined:
        line += f", {counted(admission.duplicates, 'duplicate')} and {admission.quarantined:,} quarantined stay out"
    if admission.waiting:
        assert admission.newest_us is not None
        after = datetime.fromtimestamp((admission.newest_us + behind_us) / 1e6, UTC)
        line += (
            f"; {counted(admission.waiting, 'record')} too new: give the command again when a run has read an event "
            f"after {after:%Y-%m-%d %H:%M:%S} UTC"
        )
    return line
