"""`lakehouse demo`: pipelines on synthetic events, one after the other, and what they computed."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from streaming_lakehouse.cli.report import Report
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import runner
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.pipeline.discovery import load_pipeline


def run_all(names: Iterable[str], storage: Storage, rows: int, console: Console) -> None:
    """Runs each pipeline on `rows` events of each table, and prints its tables.

    One that cannot be loaded does not keep the others from running: raises LakehouseError after them.
    """
    failures = []
    for name in names:
        console.print(f"\n── {name} ──")  # a rule would fill the width, which a pipe does not have
        try:
            pipeline = load_pipeline(name)
        except LakehouseError as error:
            failures.append(str(error))
            continue
        if any(bronze.generator is None for bronze in pipeline.bronze):
            console.print(f"{name} has no generator of synthetic events")
            continue
        _run(pipeline, storage, rows)
        for part in Report(pipeline, storage).render(gold_rows=3):
            console.print(part)
    if failures:
        raise LakehouseError("; and ".join(failures))


def _run(pipeline: Pipeline, storage: Storage, rows: int) -> None:
    plan = RunPlan(pipeline, storage, "generator", {"numRows": str(rows)}, parse_trigger("available-now"))
    with ProgressReporter([each.name for each in plan.steps]) as progress:
        if not runner.run(plan, progress):
            raise LakehouseError("stopped at a batch boundary before all was done; start again to resume from there")
