"""Rebuilds steps from the tables before them, and archives the old tables and checkpoints once the new ones stand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from streaming_lakehouse.checkpointing import archive, metadata
from streaming_lakehouse.checkpointing.lock import checkpoint_lock
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import runner
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.pipeline import Gold, Pipeline, Silver
from streaming_lakehouse.pipeline.declaration import LAYERS
from streaming_lakehouse.pipeline.steps import Step, pipeline_steps, select_steps
from streaming_lakehouse.session import get_session
from streaming_lakehouse.sinks import DEFAULT_SINK


@dataclass(frozen=True)
class Reset:
    """What a reset does: the steps that are rebuilt, and the folders that are archived, with where they go."""

    pipeline: Pipeline
    storage: Storage
    steps: tuple[Step, ...]
    folder: Path
    archived: tuple[archive.Move, ...]

    @property
    def root(self) -> Path:
        assert self.storage.root
        return self.storage.root

    @property
    def rebuilt(self) -> tuple[Step, ...]:
        """The steps that have a table to rebuild."""
        return tuple(
            step for step in self.steps if step.layer != "hot" and _is_table_there(self.pipeline, self.storage, step)
        )


def plan_reset(pipeline: Pipeline, storage: Storage, selectors: Iterable[str]) -> Reset:
    """What a reset of the selected steps would do; nothing is changed.

    Raises LakehouseError for bronze, which has nothing that it could be rebuilt from, and for tables in a catalog.
    """
    if storage.root is None:
        raise LakehouseError(
            "reset moves folders, so it works with --root only; in a catalog rename the step's tables (ALTER TABLE … "
            "RENAME TO …) and its folder in the volume ops.checkpoints, and those of the steps after it, and run again"
        )
    chosen = select_steps(pipeline, selectors)
    if bronze := [step for step in chosen if step.layer == "bronze"]:
        raise LakehouseError(
            f"{bronze[0]} has every record as it was received, and is read from the source alone: to read that again, "
            "use another --root"
        )
    steps = tuple(_with_dependents(pipeline, chosen))
    folder = storage.root / "_archive" / pipeline.name / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    found = [path for step in steps for path in _folders(pipeline, storage, step) if path.exists()]
    moves = tuple((path, folder / path.relative_to(storage.root)) for path in dict.fromkeys(found))
    return Reset(pipeline, storage, steps, folder, moves)


def describe(reset: Reset) -> Iterator[str]:
    """A line for each step that is rebuilt, and each folder that is archived, with where it goes."""
    if not reset.archived:
        yield f"nothing to reset: {', '.join(step.name for step in reset.steps)} have neither tables nor checkpoints"
    for step in reset.rebuilt:
        yield f"rebuild {step}"
    for source, target in reset.archived:
        yield f"archive {source} as {target}"
    for step in reset.steps:
        if step not in reset.rebuilt and _folders(reset.pipeline, reset.storage, step)[0].exists():
            yield f"{step} starts at the beginning of its source with the next run"


def _with_dependents(pipeline: Pipeline, chosen: Iterable[Step]) -> Iterator[Step]:
    """The steps with all that read their tables; silver tables of one bronze table share a quarantine."""
    chosen = list(chosen)
    sources = {id(step.makes.source) for step in chosen if isinstance(step.makes, Silver)}
    silver = {id(table) for table in pipeline.silver if id(table.source) in sources}
    for step in pipeline_steps(pipeline):
        reads = step.makes.inputs if isinstance(step.makes, Gold) else ()
        if step in chosen or id(step.makes) in silver or any(id(each) in silver for each in reads):
            yield step


def _folders(pipeline: Pipeline, storage: Storage, step: Step) -> list[Path]:
    """The step's checkpoint and tables, then the checkpoints of sinks that are no table."""
    checkpoint = Path(storage.checkpoint(pipeline.name, step.name))
    tables = [Path(str(storage.table(layer, name).path)) for layer, name in step.outputs]
    return [checkpoint, *tables, *sorted(checkpoint.parent.glob(f"{step.name}.*"))]


def _is_table_there(pipeline: Pipeline, storage: Storage, step: Step) -> bool:
    return any(folder.exists() for folder in _folders(pipeline, storage, step)[: 1 + len(step.outputs)])


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
    with ExitStack() as locks:
        for step in reset.steps:
            what = f"step {step.name!r} of pipeline {pipeline.name!r}"
            locks.enter_context(checkpoint_lock(spark, Path(storage.checkpoint(pipeline.name, step.name)), what))
        shutil.rmtree(str(staging.root), ignore_errors=True)
        _link_inputs(reset, staging)
        for plan in _plans(reset, staging):
            with progress([step.name for step in plan.steps]) as reporter:
                if not runner.run(plan, reporter):
                    raise LakehouseError("stopped before the new tables were complete; nothing was changed")
        archive.begin(archive.journal(reset.root, pipeline.name), [*reset.archived, *_placed(reset, staging)])
        finish(pipeline, storage)
        _forget_tables(spark, reset)


def _staging(pipeline: Pipeline, storage: Storage) -> Path:
    assert storage.root
    return storage.root / "_reset" / pipeline.name


def _link_inputs(reset: Reset, staging: Storage) -> None:
    """Makes the tables that are read, and not rebuilt, tables of the staging folder too."""
    rebuilt = {output for step in reset.rebuilt for output in step.outputs}
    tables = [(LAYERS[type(table)], table.table) for table in reset.pipeline.tables]
    for layer, name in tables:
        original = Path(str(reset.storage.table(layer, name).path))
        if (layer, name) not in rebuilt and layer != "gold" and original.exists():
            link = Path(str(staging.table(layer, name).path))
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(original, target_is_directory=True)


def _plans(reset: Reset, staging: Storage) -> Iterator[RunPlan]:
    """A run of silver, then one for each sink and output mode that the gold tables were written with."""
    silver = tuple(step.name for step in reset.rebuilt if step.layer == "silver")
    groups: dict[tuple[str, str | None], list[str]] = {}
    for step in reset.rebuilt:
        if isinstance(step.makes, Gold):
            sink, mode = metadata.recorded_sink(reset.storage.checkpoint(reset.pipeline.name, step.name))
            known = mode if mode in step.makes.output_modes else None
            groups.setdefault((sink or DEFAULT_SINK, known), []).append(step.name)
    for (sink, mode), names in [*([((DEFAULT_SINK, None), silver)] if silver else []), *groups.items()]:
        yield RunPlan(
            reset.pipeline, staging, "generator", {}, parse_trigger("available-now"), tuple(names), sink, mode
        )


def _placed(reset: Reset, staging: Storage) -> Iterator[archive.Move]:
    """The moves of what was built to where it is read."""
    for step in reset.rebuilt:
        old = _folders(reset.pipeline, reset.storage, step)
        for source, target in zip(_folders(reset.pipeline, staging, step), old[: 1 + len(step.outputs)], strict=False):
            metadata.relocate(str(source), str(target))
            yield source, target


def _forget_tables(spark: SparkSession, reset: Reset) -> None:
    """Delta holds the logs of tables that it has read, by their paths."""
    jvm: Any = spark._jvm
    for step in reset.rebuilt:
        for layer, name in step.outputs:
            path = jvm.org.apache.hadoop.fs.Path(reset.storage.table(layer, name).path)
            jvm.org.apache.spark.sql.delta.DeltaLog.invalidateCache(spark._jsparkSession, path)
