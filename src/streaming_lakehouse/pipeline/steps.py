"""The steps of a pipeline: its streaming queries, each with what it reads and what it writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.pipeline.declaration import LAYERS, Bronze, Gold, HotPath, Pipeline, Silver, State

STEP_LAYERS = ("bronze", "silver", "gold", "hot")


@dataclass(frozen=True)
class Step:
    """One streaming query: the table, or the hot path, that it makes."""

    makes: Bronze | Silver | Gold | HotPath

    @property
    def layer(self) -> str:
        return LAYERS[type(self.makes)]

    @property
    def table(self) -> str:
        return self.makes.name if isinstance(self.makes, HotPath) else self.makes.table

    @property
    def name(self) -> str:
        """`layer.table`, which is also the name of its checkpoint's folder."""
        return f"{self.layer}.{self.table}"

    def __str__(self) -> str:
        return self.name

    @property
    def folder_before_0_2(self) -> str:
        """The name that its checkpoint's folder had when a pipeline had one bronze and one silver table."""
        return self.table if self.layer == "gold" else self.layer

    @property
    def reads_source(self) -> bool:
        return isinstance(self.makes, Bronze | HotPath)

    @property
    def uses_sink(self) -> bool:
        """True where `--sink` decides where the rows go; the other steps write Delta tables."""
        return isinstance(self.makes, Gold | HotPath)

    @property
    def outputs(self) -> tuple[tuple[str, str], ...]:
        """Layer and name of each table that it writes."""
        if isinstance(self.makes, Silver):
            return (("silver", self.table), ("quarantine", self.makes.source.table))
        return (("bronze" if isinstance(self.makes, Bronze) else "gold", self.table),)

    @property
    def state(self) -> State:
        return self.makes.state if isinstance(self.makes, Gold) else State.NONE


def pipeline_steps(pipeline: Pipeline) -> tuple[Step, ...]:
    """All steps in the order the data flows, the hot path last."""
    tables = (*pipeline.bronze, *pipeline.silver, *pipeline.gold)
    return tuple(Step(each) for each in (*tables, *((pipeline.hot,) if pipeline.hot else ())))


def select_steps(pipeline: Pipeline, selectors: Iterable[str]) -> tuple[Step, ...]:
    """The steps that the selectors name, in the order the data flows; all layers where there are none.

    A selector is a layer, a table or a step's name. The hot path runs only where it is named. Raises LakehouseError
    for one that names nothing.
    """
    steps, selectors = pipeline_steps(pipeline), tuple(selectors)
    if not selectors:
        return tuple(step for step in steps if step.layer != "hot")
    known = dict.fromkeys(name for step in steps for name in (step.layer, step.table, step.name))
    for selector in selectors:
        if selector not in known:
            raise LakehouseError(f"pipeline {pipeline.name!r} has no step {selector!r}{did_you_mean(selector, known)}")
    return tuple(step for step in steps if {step.layer, step.table, step.name} & {*selectors})
