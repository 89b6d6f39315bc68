"""What a reset of steps would rebuild and archive: they, those after them, and those that share a table with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from streaming_lakehouse.checkpointing import archive
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline import Gold, Pipeline, Silver
from streaming_lakehouse.pipeline.steps import Step, pipeline_steps, select_steps

IN_A_CATALOG = (
    "rename the step's tables (ALTER TABLE … RENAME TO …) and its folder in the volume ops.checkpoints, and those of "
    "the steps after it, and run again"
)


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
        """The steps whose tables are built: a gold table that no run has made so far is left to the next run."""
        return tuple(
            step
            for step in self.steps
            if step.layer == "silver" or (step.layer == "gold" and is_table_there(self.pipeline, self.storage, step))
        )


def plan_reset(
    pipeline: Pipeline, storage: Storage, selectors: Iterable[str], *, is_with_other_sinks: bool = True
) -> Reset:
    """What a reset of the selected steps would do; nothing is changed.

    Without other sinks their checkpoints stay, so that no row is sent to them again.
    Raises LakehouseError for bronze, which has nothing that it could be rebuilt from, and for tables in a catalog.
    """
    if storage.root is None:
        raise LakehouseError(f"reset moves folders, so it works with --root only; in a catalog {IN_A_CATALOG}")
    chosen = select_steps(pipeline, selectors)
    if bronze := [step for step in chosen if step.layer == "bronze"]:
        raise LakehouseError(
            f"{bronze[0]} has every record as it was received, and is read from the source alone: to read that again, "
            "use another --root"
        )
    steps = tuple(_with_dependents(pipeline, chosen))
    folder = storage.root / "_archive" / pipeline.name / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    archived = folders if is_with_other_sinks else own_folders
    found = [path for step in steps for path in archived(pipeline, storage, step) if path.exists()]
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
        checkpoint, *others = folders(reset.pipeline, reset.storage, step)
        if step.layer == "hot" and checkpoint.exists():
            yield f"{step} starts at the beginning of its source with the next run"
        for other in others[len(step.outputs) :]:
            yield f"the next run to the sink of {other.name} sends all rows again"


def _with_dependents(pipeline: Pipeline, chosen: Iterable[Step]) -> Iterator[Step]:
    """The steps with all that read their tables; silver tables of one bronze table share a quarantine."""
    chosen = list(chosen)
    sources = {id(step.makes.source) for step in chosen if isinstance(step.makes, Silver)}
    silver = {id(table) for table in pipeline.silver if id(table.source) in sources}
    for step in pipeline_steps(pipeline):
        reads = step.makes.inputs if isinstance(step.makes, Gold) else ()
        if step in chosen or id(step.makes) in silver or any(id(each) in silver for each in reads):
            yield step


def folders(pipeline: Pipeline, storage: Storage, step: Step) -> list[Path]:
    """The step's checkpoint and tables, then the checkpoints of sinks that are no table."""
    checkpoint, *tables = own_folders(pipeline, storage, step)
    return [checkpoint, *tables, *sorted(checkpoint.parent.glob(f"{step.name}.*"))]


def own_folders(pipeline: Pipeline, storage: Storage, step: Step) -> list[Path]:
    """The step's checkpoint and tables."""
    tables = [Path(str(storage.table(layer, name).path)) for layer, name in step.outputs]
    return [Path(storage.checkpoint(pipeline.name, step.name)), *tables]


def is_table_there(pipeline: Pipeline, storage: Storage, step: Step) -> bool:
    return any(folder.exists() for folder in own_folders(pipeline, storage, step))
