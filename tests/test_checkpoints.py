"""What is noted beside a checkpoint, and what is told of one that is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streaming_lakehouse import checkpoints
from streaming_lakehouse.errors import LakehouseError

PLACE = {"source": "kafka", "subscribe": "readings"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """One that has begun a batch."""
    (tmp_path / "offsets").mkdir()
    (tmp_path / "offsets" / "0").write_text('v1\n{"batchWatermarkMs":0}\n{}')
    return tmp_path


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({"cluster": "a"}, {"cluster": "b"}, "cluster a, now b"),
        ({"cluster": "a", "topic readings": "x"}, {"cluster": "a", "topic readings": "y"}, "topic readings x, now y"),
        ({"cluster": "a"}, {"cluster": "a", "topic readings": "x"}, None),
        ({"cluster": "a"}, {}, None),
        (None, {"cluster": "a"}, None),
    ],
)
def test_a_source_is_known_by_the_ids_that_both_runs_could_tell(
    checkpoint: Path, before: dict[str, str] | None, now: dict[str, str], told: str | None
) -> None:
    """A note of a run that knew none is one too; what is once known stays on record."""
    note = checkpoint / "source.json"
    note.write_text(json.dumps(PLACE if before is None else {**PLACE, "ids": before}))
    if told:
        with pytest.raises(LakehouseError, match=rf"subscribe readings, which is another .*{told}.*remove {note}"):
            checkpoints.claim(str(checkpoint), PLACE, now)
    else:
        checkpoints.claim(str(checkpoint), PLACE, now)
        assert json.loads(note.read_text()) == {**PLACE, "ids": {**(before or {}), **now}}


def test_another_place_is_another_source_whatever_its_ids(checkpoint: Path) -> None:
    """By the option that names it, too."""
    checkpoints.claim(str(checkpoint), PLACE, {"cluster": "a"})
    with pytest.raises(LakehouseError, match="subscribe readings; it cannot go on with source kafka, assign readings"):
        checkpoints.claim(str(checkpoint), {"source": "kafka", "assign": "readings"}, {"cluster": "a"})
