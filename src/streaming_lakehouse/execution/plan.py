"""What a run consists of: its steps, and for each its tables, checkpoint and query; pure, without Spark."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from streaming_lakehouse.config.options import options_of, shared_options
from streaming_lakehouse.config.storage import Storage, Table
from streaming_lakehouse.config.triggers import DEFAULT_OF_BRONZE, DEFAULT_WITH_STATE, Trigger
from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.pipeline import Bronze, Gold, HotPath, Pipeline, State
from streaming_lakehouse.pipeline.steps import Step, select_steps
from streaming_lakehouse.sinks import DEFAULT_SINK, OUTPUT_MODES, QueryConfig, Sink, WriteRequest, get_sink
from streaming_lakehouse.sources import ReadRequest, Source, get_source


@dataclass(frozen=True)
class RunPlan:
    """What to run: a pipeline's steps, from a source, when, and where to.

    `sink`, `mode` and `sink_options` apply to gold tables and the hot path; the other layers are always Delta tables.
    `mode` is each table's own where none is given. With `is_history` bronze reads a second source, whose
    checkpoint is its own. Raises LakehouseError for an unknown source, sink, mode or step.
    """

    pipeline: Pipeline
    storage: Storage
    source_name: str
    options: Mapping[str, str]
    trigger: Trigger
    selectors: tuple[str, ...] = ()
    sink_name: str = DEFAULT_SINK
    mode: str | None = None
    sink_options: Mapping[str, str] = field(default_factory=dict)
    is_history: bool = False

    def __post_init__(self) -> None:
        if self.mode not in (None, *OUTPUT_MODES):
            raise LakehouseError(f"there is no output mode {self.mode!r}{did_you_mean(str(self.mode), OUTPUT_MODES)}")
        _ = self.source, self.sink, self.steps
        for step in self.steps:
            if step.reads_source and self.source.is_synthetic:
                _ = self.read_request(step).bronze.event_generator

    @cached_property
    def source(self) -> Source:
        return get_source(self.source_name)

    @cached_property
    def sink(self) -> Sink:
        return get_sink(self.sink_name)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The selected steps. Without selectors all layers, or the hot path where the trigger has no micro-batches."""
        if not self.selectors and not self.trigger.is_micro_batch and self.pipeline.hot:
            return select_steps(self.pipeline, ("hot",))
        return select_steps(self.pipeline, self.selectors)

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    @property
    def stages(self) -> list[tuple[Step, ...]]:
        """Steps that run in parallel: with available-now layer after layer, so that all data reaches gold.

        The tables of one layer do not depend on each other; in parallel they take three quarters of the time.
        """
        if not self.trigger.is_available_now:
            return [self.steps]
        layers = dict.fromkeys(step.layer for step in self.steps)
        return [tuple(step for step in self.steps if step.layer == layer) for layer in layers]

    def tables(self, step: Step) -> tuple[Table, ...]:
        """The Delta tables that a step writes."""
        if step.uses_sink and not self.sink.writes_table:
            return ()
        return tuple(self.storage.table(layer, name) for layer, name in step.outputs)

    def checkpoint(self, step: Step) -> str | None:
        """The folder of the step's checkpoint, or None where the sink starts from scratch each time.

        A table has one, whichever sink writes it, since two would each add the same rows; each other sink has its own.
        """
        if step.layer == "bronze" and self.is_history:
            address = json.dumps(self.source_address(step), sort_keys=True)
            digest = hashlib.sha256(address.encode()).hexdigest()[:12]
            return self.storage.checkpoint(self.pipeline.name, f"{step.name}.backfill-{digest}")
        if not step.uses_sink or self.sink.writes_table:
            return self.storage.checkpoint(self.pipeline.name, step.name)
        if not self.sink.is_resumable:
            return None
        return self.storage.checkpoint(self.pipeline.name, f"{step.name}.{self.sink.name}")

    def source_address(self, step: Step) -> dict[str, str]:
        """What a step reads: the source's name, and what identifies it, such as a topic or a folder."""
        return {"source": self.source.name, **self.source.address(self.read_request(step))}

    def output_mode(self, step: Step) -> str:
        """The output mode of the step's query."""
        if isinstance(step.makes, HotPath):
            return self.mode or ("update" if self.trigger.kind == "real-time" else "append")
        return self.mode or step.makes.output_modes[0] if isinstance(step.makes, Gold) else "append"

    def reset_command(self, steps: Iterable[Step]) -> str:
        """The command that rebuilds these steps, and those after them."""
        chosen = " ".join(f"--step {step.name}" for step in steps)
        return f"lakehouse reset {self.pipeline.name} {chosen} {self.storage.options}"

    def query_config(self, step: Step) -> QueryConfig:
        name = f"{self.pipeline.name}.{step.name}"
        return QueryConfig(name, self.checkpoint(step), self.step_trigger(step), self.output_mode(step))

    def step_trigger(self, step: Step) -> Trigger:
        """The trigger of a step's query: that of the run, but where it is `default` for bronze and for state in gold.

        A batch of a few hundred records takes bronze a third of a second. Without a pause the batches of all steps are
        so many and small that they use the whole CPU, which delays gold more than the pause does. A batch that takes
        longer than the pause is followed by the next one at once.

        With state: when a batch has moved the watermark and no new rows are there, Spark runs a batch without rows, for
        the windows that have closed. Without a pause every second batch was such a one. After a pause there are new
        rows most often. In complete mode Spark runs no such batches.
        """
        if self.trigger.kind != "default":
            return self.trigger
        if step.layer == "bronze":
            return DEFAULT_OF_BRONZE
        runs_without_rows = (
            step.layer == "gold" and step.state is not State.NONE and self.output_mode(step) != "complete"
        )
        return DEFAULT_WITH_STATE if runs_without_rows else self.trigger

    def write_request(self, step: Step) -> WriteRequest:
        """What the sink is asked to write for a gold table, or for the hot path."""
        assert isinstance(step.makes, Gold | HotPath)
        table = self.storage.table("gold", step.table)
        return WriteRequest(table, step.makes.key, self.query_config(step), self.sink_options)

    def read_request(self, step: Step) -> ReadRequest:
        """What the source is asked to read for a bronze table, or for the hot path."""
        bronze = step.makes.input.source if isinstance(step.makes, HotPath) else step.makes
        assert isinstance(bronze, Bronze)
        tables = [each.table for each in self.pipeline.bronze]
        options = options_of(bronze.table, self.options, tables)
        shared = shared_options(bronze.table, self.options, tables)
        return ReadRequest(self.pipeline.name, bronze, options, self.trigger, shared)
