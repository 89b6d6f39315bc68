"""The last committed batch of a query in Delta's log, also when a file of the log is damaged or gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streaming_lakehouse.checkpointing.consistency import _last_committed_batch

FIRST, SECOND = "0" * 20, "0" * 19 + "1"
BATCH_7 = json.dumps({"txn": {"appId": "ours", "version": 7}})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of two commits; the older one has the query's batch 7."""
    folder = tmp_path / "_delta_log"
    folder.mkdir()
    (folder / f"{FIRST}.json").write_text(BATCH_7)
    (folder / f"{SECOND}.json").write_text(json.dumps({"commitInfo": {}}))
    return folder


@pytest.mark.parametrize(
    ("checksum", "expected"),
    [
        (None, 7),
        ("{}", 7),
        ('{"setTransactions": [{"appId": "ours", "version": 9}]}', 9),
        ('{"setTransactions": [{"appId": "theirs", "version": 9}]}', -1),
        ('{"setTrans', None),
        ("[]", None),
    ],
)
def test_the_last_batch_is_read_from_checksum_or_commits(
    log: Path, tmp_path: Path, checksum: str | None, expected: int | None
) -> None:
    """From the commits if the checksum lists none; None for a damaged checksum, which Delta reports itself."""
    if checksum is not None:
        (log / f"{SECOND}.crc").write_text(checksum)
    assert _last_committed_batch(tmp_path, "ours") == expected


def test_a_commit_that_is_cleaned_up_meanwhile_is_no_error(log: Path, tmp_path: Path) -> None:
    """Delta removes old commits as it writes: a file that was just listed may be gone."""
    (log / f"{FIRST}.json").unlink()
    (log / f"{FIRST}.json").symlink_to(tmp_path / "gone")
    assert _last_committed_batch(tmp_path, "ours") is None
