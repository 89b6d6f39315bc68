"""Rebuilds steps from the tables before them, and archives the old tables and checkpoints once the new ones stand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from streaming_lakehouse.checkpointing import archive, metadata
from streaming_lakehouse.checkpointing.lock import steps_locked
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import runner
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.execution.reset import Reset, own_folders
from streaming_lakehouse.pipeline import Gold, Pipeline, Reference
from streaming_lakehouse.pipeline.declaration import LAYERS
from streaming_lakehouse.pipeline.steps import Step
from streaming_lakehouse.session import get_session
from streaming_lakehouse.sinks import DEFAULT_SINK


def unfinished(pipeline: Pipeline, storage: Storage) -> bool:
    """True where a reset died while it moved folders: `finish` does the rest."""
    return storage.root is not None and archive.journal(storage.root, pipeline.name).exists()


def finish(pipeline: Pipeline, storage: Storage) -> None:
    assert storage.root
    archive.finish(archive.journal(storage.root, pipeline.name))
    shutil.rmtree(_staging(pipeline, storage), ignore_errors=True)


def run(reset: Reset, progress: Callable[[list[str]], ProgressReporter]) -> None:
    """Builds the new tables beside the old ones, with a checkpoint each, then moves all of them.

    A run that dies before the first move has changed nothing; one that dies later has its moves finished by the next.
    Raises LakehouseError where one of the steps runs meanwhile, fails or is stopped.
    """
    pipeline, storage, spark = reset.pipeline, reset.storage, get_session()
    staging = Storage(root=_staging(pipeline, storage))
    with steps_locked(spark, storage, pipeline.name, [step.name for step in reset.steps]):
        shutil.rmtree(str(staging.root), ignore_errors=True)
        _link_inputs(reset, staging)
        for plan in _plans(reset, staging):
            with progress([step.name for step in plan.steps]) as reporter:
                if not runner.run(plan, reporter):
                    raise LakehouseError("stopped before the new tables were complete; the old ones are unchanged")
        archive.begin(archive.journal(reset.root, pipeline.name), [*reset.archived, *_placed(reset, staging)])
        finish(pipeline, storage)
        _forget_tables(spark, reset)


def _staging(pipeline: Pipeline, storage: Storage) -> Path:
    assert storage.root
    return storage.root / "_reset" / pipeline.name


def _link_inputs(reset: Reset, staging: Storage) -> None:
    """Makes the tables that are read, and not rebuilt, tables of the staging folder too.

    Raises LakehouseError where one is missing: it would be taken for an empty one.
    """
    rebuilt = {step.makes for step in reset.rebuilt}
    for table in dict.fromkeys(each for step in reset.rebuilt for each in step.makes.inputs):
        layer = LAYERS[type(table)]
        original = Path(str(reset.storage.table(layer, table.table).path))
        if original.exists() and table not in rebuilt:
            link = Path(str(staging.table(layer, table.table).path))
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(original, target_is_directory=True)
        elif table not in rebuilt and not isinstance(table, Reference):  # its declaration has its first rows
            raise LakehouseError(f"{original}, from which the tables would be rebuilt, is missing; nothing was changed")


def _plans(reset: Reset, staging: Storage) -> Iterator[RunPlan]:
    return downstream_plans(reset.pipeline, reset.rebuilt, recorded_in=reset.storage, run_in=staging)


def downstream_plans(
    pipeline: Pipeline, steps: Sequence[Step], *, recorded_in: Storage, run_in: Storage, source: str = "generator"
) -> Iterator[RunPlan]:
    """A run of the silver steps, then one for each sink and output mode that the gold tables were written with.

    `source` is that of the records in bronze, which these runs do not read.
    """
    silver = [step.name for step in steps if step.layer == "silver"]
    groups: dict[tuple[str, str | None], list[str]] = {}
    for step in steps:
        if isinstance(step.makes, Gold):
            sink, mode = metadata.recorded_sink(recorded_in.checkpoint(pipeline.name, step.name))
            known = mode if mode in step.makes.output_modes else None
            groups.setdefault((sink or DEFAULT_SINK, known), []).append(step.name)
    for (sink, mode), names in [*([((DEFAULT_SINK, None), silver)] if silver else []), *groups.items()]:
        yield RunPlan(pipeline, run_in, source, {}, parse_trigger("available-now"), tuple(names), sink, mode)


def _placed(reset: Reset, staging: Storage) -> Iterator[archive.Move]:
    """The moves of what was built to where it is read."""
    for step in reset.rebuilt:
        built, old = (own_folders(reset.pipeline, storage, step) for storage in (staging, reset.storage))
        for source, target in zip(built, old, strict=True):
            metadata.relocate(str(source), str(target))
            yield source, target


def _forget_tables(spark: SparkSession, reset: Reset) -> None:
    """Delta holds the logs of tables that it has read, by their paths."""
    jvm: Any = spark._jvm
    for step in reset.rebuilt:
        for layer, name in step.outputs:
            path = jvm.org.apache.hadoop.fs.Path(reset.storage.table(layer, name).path)
            jvm.org.apache.spark.sql.delta.DeltaLog.invalidateCache(spark._jsparkSession, path)
