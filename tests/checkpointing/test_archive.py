"""The moves of a reset: all are made, also by the process after one that died among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming_lakehouse.checkpointing import archive
from streaming_lakehouse.errors import LakehouseError


@pytest.mark.parametrize("made", range(5))
def test_moves_are_finished_wherever_the_process_died(tmp_path: Path, made: int) -> None:
    """The old folders are in the archive, the new ones where the old ones were."""
    moves = []
    for name in ("table", "checkpoint"):
        for folder in (name, f"new/{name}"):
            (tmp_path / folder).mkdir(parents=True)
            (tmp_path / folder / "content").write_text(folder)
        moves.append((tmp_path / name, tmp_path / "archive" / name))
    moves += [(tmp_path / "new" / name, tmp_path / name) for name in ("table", "checkpoint")]
    journal = archive.journal(tmp_path, "p")
    archive.begin(journal, moves)
    for source, target in moves[:made]:
        target.parent.mkdir(exist_ok=True)
        source.rename(target)
    assert archive.finish(journal) == moves
    found = {name: (tmp_path / name / "content").read_text() for name in ("table", "checkpoint", "archive/table")}
    assert found == {"table": "new/table", "checkpoint": "new/checkpoint", "archive/table": "table"}
    assert not journal.exists()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    """Nothing is moved by it."""
    journal = archive.journal(tmp_path, "p")
    archive.begin(journal, [(tmp_path / "a", tmp_path / "b")])
    journal.write_text(journal.read_text()[:-3])
    with pytest.raises(LakehouseError, match=rf"{journal}, which lists the moves of a reset, cannot be read"):
        archive.finish(journal)
