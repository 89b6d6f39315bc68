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
            checkpoints.claim_source(str(checkpoint), PLACE, now)
    else:
        checkpoints.claim_source(str(checkpoint), PLACE, now)
        assert json.loads(note.read_text()) == {**PLACE, "ids": {**(before or {}), **now}}


def test_another_place_is_another_source_whatever_its_ids(checkpoint: Path) -> None:
    """By the option that names it, too."""
    checkpoints.claim_source(str(checkpoint), PLACE, {"cluster": "a"})
    with pytest.raises(LakehouseError, match="subscribe readings; it cannot go on with source kafka, assign readings"):
        checkpoints.claim_source(str(checkpoint), {"source": "kafka", "assign": "readings"}, {"cluster": "a"})


@pytest.mark.parametrize("content", ["", '{"source": "kaf', "[]", "\udcff"])
def test_a_damaged_note_is_named_with_what_to_do(checkpoint: Path, content: str) -> None:
    """It is not taken for one of another source."""
    note = checkpoint / "source.json"
    note.write_text(content, errors="surrogateescape")
    with pytest.raises(LakehouseError, match=rf"{note} .*damaged; remove it"):
        checkpoints.claim_source(str(checkpoint), PLACE, {})


@pytest.mark.parametrize("content", ["", '{"id": "4', "{}"])
def test_a_damaged_identity_is_named_with_what_to_do(checkpoint: Path, content: str) -> None:
    """Without it nobody could tell which batches of the table are the checkpoint's."""
    (checkpoint / "metadata").write_text(content)
    with pytest.raises(LakehouseError, match=rf"{checkpoint}/metadata .*damaged; bring it back"):
        checkpoints.identity(str(checkpoint))


@pytest.mark.parametrize("damaged", ["offsets", "commits"])
@pytest.mark.parametrize("content", ["", "v1", "v1\n", 'v1\n{"batchWater', "v1\n[]", 'v1\n{}\n{"row":'])
def test_a_damaged_entry_of_a_log_is_named_with_what_to_do(checkpoint: Path, damaged: str, content: str) -> None:
    """Before Spark reads it, and before gold asks its last batch for the watermark."""
    for folder in ("commits", "state"):
        (checkpoint / folder).mkdir()
    (checkpoint / "commits" / "0").write_text('v1\n{"nextBatchWatermarkMs":0}')
    checkpoints.check(str(checkpoint))
    (checkpoint / damaged / "0").write_text(content)
    for reads in (checkpoints.check, checkpoints.reopen_last_batch):
        with pytest.raises(LakehouseError, match=rf"{checkpoint}/{damaged}/0 .*damaged; bring it back"):
            reads(str(checkpoint))


@pytest.mark.parametrize("content", ['v1\n{"batchWatermarkMs":0}\n-\n5', 'v1\n\n{"t":{"0":1}}'])
def test_what_spark_leaves_out_is_no_damage(checkpoint: Path, content: str) -> None:
    """A dash stands for the offset of a source that has none yet; a continuous query has no watermark to tell."""
    (checkpoint / "offsets" / "0").write_text(content)
    checkpoints.check(str(checkpoint))
