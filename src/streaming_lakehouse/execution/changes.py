"""Which changes of a pipeline may go into the tables that are there, by the definitions that checkpoints record."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, types as T

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution.definition import Definition, define, digests
from streaming_lakehouse.execution.frames import PlanFrames, input_schemas
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.pipeline import Gold, HotPath, Silver, State
from streaming_lakehouse.pipeline.steps import Step

log = logging.getLogger(__name__)
# Of these Spark drops no row by the watermark.
_WITHOUT_WATERMARK = (State.NONE, State.AGGREGATION)


def check(plan: RunPlan, spark: SparkSession, rows: Mapping[str, DataFrame]) -> dict[str, Definition]:
    """The definition of each step by its checkpoint, to be recorded before it starts; `rows` are those of transforms.

    Raises LakehouseError where a step's new rows would not mean what the existing ones do.
    """
    steps = [step for step in plan.steps if step.layer != "bronze" and plan.checkpoint(step)]
    current = {step: define(plan.pipeline, step, _default_rows(plan, spark, step, rows)) for step in steps}
    refused: dict[Step, str] = {}
    accepted: list[str] = []
    for step, definition in current.items():
        recorded = metadata.recorded_definition(str(plan.checkpoint(step)))
        if recorded is None:
            continue
        comparison = _Comparison(spark, step, recorded, definition)
        found = [*comparison.of_declaration(), *comparison.of_rows()]
        if isinstance(step.makes, HotPath):
            comparison.accepted += found  # its rows were sent: there is no table to be of one kind
        elif found:
            refused[step] = " and ".join(found)
        accepted += [f"step {step.name!r}: {change}" for change in comparison.accepted]
    if refused:
        raise LakehouseError(_refusal(plan, refused))
    for change in accepted:
        log.warning("%s; this applies from the next batch", change)
    return {str(plan.checkpoint(step)): definition for step, definition in current.items()}


def _default_rows(plan: RunPlan, spark: SparkSession, step: Step, rows: Mapping[str, DataFrame]) -> DataFrame | None:
    """The rows in the table's own output mode: a plan of custom state has it, and the run's is recorded by its sink."""
    if step.state is State.CUSTOM and plan.output_mode(step) != default_mode(step):
        return PlanFrames(spark).rows(step, default_mode(step))
    return rows.get(step.name)


def _refusal(plan: RunPlan, refused: Mapping[Step, str]) -> str:
    changed = "; ".join(f"step {step.name!r}: {changes}" for step, changes in refused.items())
    markers = " and ".join(str(metadata.definition_marker(str(plan.checkpoint(step)))) for step in refused)
    return (
        f"{changed}: new rows would not mean what the existing ones do; rebuild with: {plan.reset_command(refused)} "
        f"(or, if they do mean the same, remove {markers})"
    )


@dataclass
class _Comparison:
    spark: SparkSession
    step: Step
    recorded: Definition
    current: Definition

    def __post_init__(self) -> None:
        self.accepted: list[str] = []

    def of_declaration(self) -> Iterator[str]:
        """What was declared otherwise; changes after which rows mean the same are added to `accepted`."""
        for part, name in (("key", "key"), ("event_time", "event time")):
            before, now = self.recorded.get(part), self.current.get(part)
            if before not in (None, now):
                yield f"its {name} was {_listed(before)} and is {_listed(now)}"
        before, now = self.recorded.get("routes"), self.current.get("routes")
        if before not in (None, [""], now):  # a table that took every record has the others in quarantine
            yield "its where=, or that of a table before it, has changed"
        before, now = self.recorded.get("readings", {}), self.current.get("readings", {})
        if changed := [name for name in before if before[name] != now.get(name, before[name])]:
            yield f"the JSON name, time format or zone of {', '.join(changed)} has changed"
        if self.recorded.get("expectations") != self.current.get("expectations"):
            self.accepted.append("its expectations have changed")
        yield from self._of_watermarks()

    def _of_watermarks(self) -> Iterator[str]:
        before = self.recorded.get("watermarks_ms", {})
        for table, now in self.current.get("watermarks_ms", {}).items():
            if before.get(table, now) == now:
                continue
            change = f"the watermark of silver.{table} was {_delay(before[table])} and is {_delay(now)}"
            is_stateful = isinstance(self.step.makes, Gold) and self.step.makes.state not in _WITHOUT_WATERMARK
            if is_stateful and now > before[table]:
                yield f"{change}: Spark would drop rows that silver now admits"
            else:
                self.accepted.append(change)

    def of_rows(self) -> Iterator[str]:
        """What is computed otherwise, for the same inputs and the columns that were there."""
        if self.recorded["digests"] != self.current["digests"]:
            self.accepted.append(f"its transform was recorded with {self.recorded['digests']} and cannot be compared")
            return
        if self.recorded.get("rows") == self.current.get("rows"):
            now = self.current
        elif "rows" not in self.recorded or "rows" not in self.current:
            yield "it has a transform now" if "rows" in self.current else "it has no transform any more"
            return
        else:
            now = self._digests_as_recorded()
            if now.get("rows") != self.recorded["rows"]:
                if now == self._digests_as_recorded():
                    yield "its transform has changed"
                else:
                    self.accepted.append(
                        "its plan has the current time or a random number in it: it cannot be compared"
                    )
                return
        if self.recorded.get("python") != now.get("python"):
            yield "the Python code of its transform has changed"

    def _digests_as_recorded(self) -> Definition:
        """The digests of the recorded columns, from inputs as they were: some may have been added or removed since."""
        inputs = {name: T.StructType.fromJson(schema) for name, schema in self.recorded["inputs"].items()}
        if isinstance(self.step.makes, Silver):  # a column may be added that is made of a field that is new
            for name, schema in input_schemas(self.step).items():
                new = [column for column in schema if column.name not in inputs.get(name, schema).names]
                inputs[name] = T.StructType([*inputs.get(name, schema), *new])
        try:
            rows = PlanFrames(self.spark, inputs).rows(self.step, default_mode(self.step))
            return digests(self.step, rows, self.recorded["columns"]) if rows is not None else {}
        except PySparkException:  # it needs what was not there
            return {}


def default_mode(step: Step) -> str:
    return step.makes.output_modes[0] if isinstance(step.makes, Gold) else "append"


def _listed(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _delay(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=milliseconds)
