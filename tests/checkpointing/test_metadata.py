"""Marker files in a checkpoint, and errors about damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.errors import LakehouseError

ADDRESS = {"source": "kafka", "subscribe": "readings"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint with one batch in its offset log."""
    (tmp_path / "offsets").mkdir()
    (tmp_path / "offsets" / "0").write_text('v1\n{"batchWatermarkMs":0}\n{}')
    return tmp_path


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({"cluster": "a"}, {"cluster": "b"}, "cluster a, now b"),
        ({"cluster": "a", "topic readings": "x"}, {"cluster": "a", "topic readings": "y"}, "topic readings x, now y"),
        ({"cluster": "a"}, {"cluster": "a", "topic readings": "x"}, None),
        ({"cluster": "a"}, {}, None),
        (None, {"cluster": "a"}, None),
    ],
)
def test_a_source_is_compared_by_the_ids_that_both_runs_know(
    checkpoint: Path, before: dict[str, str] | None, now: dict[str, str], message: str | None
) -> None:
    """A marker without ids is valid; ids that are once recorded stay."""
    marker = checkpoint / "source.json"
    marker.write_text(json.dumps(ADDRESS if before is None else {**ADDRESS, "ids": before}))
    if message:
        with pytest.raises(
            LakehouseError, match=rf"subscribe readings, which was recreated .*{message}.*remove {marker}"
        ):
            metadata.bind_source(str(checkpoint), ADDRESS, now)
    else:
        metadata.bind_source(str(checkpoint), ADDRESS, now)
        assert json.loads(marker.read_text()) == {**ADDRESS, "ids": {**(before or {}), **now}}


def test_another_address_is_another_source_whatever_its_ids(checkpoint: Path) -> None:
    """The option that names the topics is part of the address."""
    metadata.bind_source(str(checkpoint), ADDRESS, {"cluster": "a"})
    with pytest.raises(LakehouseError, match="subscribe readings; it cannot resume with source kafka, assign readings"):
        metadata.bind_source(str(checkpoint), {"source": "kafka", "assign": "readings"}, {"cluster": "a"})


@pytest.mark.parametrize("content", ["", '{"source": "kaf', "[]", "\udcff"])
def test_a_damaged_marker_is_named_with_a_remedy(checkpoint: Path, content: str) -> None:
    """It is not mistaken for the marker of another source."""
    marker = checkpoint / "source.json"
    marker.write_text(content, errors="surrogateescape")
    with pytest.raises(LakehouseError, match=rf"{marker} .*damaged; remove it"):
        metadata.bind_source(str(checkpoint), ADDRESS, {})


@pytest.mark.parametrize("content", ["", '{"id": "4', "{}"])
def test_a_damaged_query_id_is_named_with_a_remedy(checkpoint: Path, content: str) -> None:
    """Without it the checkpoint's batches cannot be found in Delta's log."""
    (checkpoint / "metadata").write_text(content)
    with pytest.raises(LakehouseError, match=rf"{checkpoint}/metadata .*damaged; restore it"):
        metadata.query_id(str(checkpoint))


@pytest.mark.parametrize("damaged", ["offsets", "commits"])
@pytest.mark.parametrize("content", ["", "v1", "v1\n", 'v1\n{"batchWater', "v1\n[]", 'v1\n{}\n{"row":'])
def test_a_damaged_log_entry_is_named_with_a_remedy(checkpoint: Path, damaged: str, content: str) -> None:
    """Before Spark reads it, and before gold reads the watermark of its last batch."""
    for folder in ("commits", "state"):
        (checkpoint / folder).mkdir()
    (checkpoint / "commits" / "0").write_text('v1\n{"nextBatchWatermarkMs":0}')
    metadata.check_logs_intact(str(checkpoint))
    (checkpoint / damaged / "0").write_text(content)
    for reads in (metadata.check_logs_intact, metadata.uncommit_last_batch):
        with pytest.raises(LakehouseError, match=rf"{checkpoint}/{damaged}/0 .*damaged; restore it"):
            reads(str(checkpoint))


@pytest.mark.parametrize("content", ['v1\n{"batchWatermarkMs":0}\n-\n5', 'v1\n\n{"t":{"0":1}}'])
def test_parts_that_spark_omits_are_no_damage(checkpoint: Path, content: str) -> None:
    """A dash replaces the offset of a source that has none yet; a continuous query has no watermark."""
    (checkpoint / "offsets" / "0").write_text(content)
    metadata.check_logs_intact(str(checkpoint))


@pytest.mark.parametrize(("mode", "replayed"), [("append", 0), ("update", 0), ("complete", None)])
def test_a_batch_whose_windows_may_be_unwritten_is_replayed(checkpoint: Path, mode: str, replayed: int | None) -> None:
    """In complete mode none is: each batch writes all windows, and each start would compute the last one again."""
    for folder in ("commits", "state"):
        (checkpoint / folder).mkdir()
    (checkpoint / "offsets" / "0").write_text('v1\n{"batchWatermarkMs":0}\n{}')
    (checkpoint / "commits" / "0").write_text('v1\n{"nextBatchWatermarkMs":5}')
    metadata.bind_sink(str(checkpoint), {"sink": "delta", "mode": mode}, {})
    assert metadata.has_unwritten_windows(str(checkpoint)) == (replayed is not None)
    assert metadata.uncommit_last_batch(str(checkpoint)) == replayed
    assert (checkpoint / "commits" / "0").exists() == (replayed is None)
