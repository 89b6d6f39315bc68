"""Moves that replace folders by new ones and archive the old: a process that dies meanwhile leaves them to the next."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from streaming_lakehouse.checkpointing.files import write_atomically
from streaming_lakehouse.errors import LakehouseError

Move = tuple[Path, Path]


def journal(root: Path, pipeline: str) -> Path:
    """The file that lists the moves of a pipeline's reset; it exists while they are made."""
    return root / "_reset" / f"{pipeline}.moves.json"


def begin(journal: Path, moves: Iterable[Move]) -> None:
    """Records the moves, so that they are finished whatever happens to this process."""
    write_atomically(journal, [[str(source), str(target)] for source, target in moves])


def finish(journal: Path) -> list[Move]:
    """Makes the recorded moves that were not made yet, and removes the record; returns all of them.

    A target that exists was moved before: the folder at its source is a new one.
    """
    moves = _read(journal)
    for source, target in moves:
        if source.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
    journal.unlink()
    return moves


def _read(journal: Path) -> list[Move]:
    try:
        return [(Path(source), Path(target)) for source, target in json.loads(journal.read_text())]
    except (OSError, ValueError) as error:
        raise LakehouseError(f"{journal}, which lists the moves of a reset, cannot be read: {error}") from error
