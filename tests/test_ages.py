"""What Delta's log tells of a query's newest batch, and what is made of a log that is not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streaming_lakehouse.ages import _newest_batch

FIRST, SECOND = "0" * 20, "0" * 19 + "1"
BATCH_7 = json.dumps({"txn": {"appId": "ours", "version": 7}})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """One of two commits, the older of which has the query's batch 7."""
    folder = tmp_path / "_delta_log"
    folder.mkdir()
    (folder / f"{FIRST}.json").write_text(BATCH_7)
    (folder / f"{SECOND}.json").write_text(json.dumps({"commitInfo": {}}))
    return folder


@pytest.mark.parametrize(
    ("checksum", "told"),
    [
        (None, 7),
        ("{}", 7),
        ('{"setTransactions": [{"appId": "ours", "version": 9}]}', 9),
        ('{"setTransactions": [{"appId": "theirs", "version": 9}]}', -1),
        ('{"setTrans', None),
        ("[]", None),
    ],
)
def test_the_newest_batch_is_told_by_checksum_or_commits(
    log: Path, tmp_path: Path, checksum: str | None, told: int | None
) -> None:
    """By the commits where the checksum lists none; of a damaged one nothing is told, and Delta says so itself."""
    if checksum is not None:
        (log / f"{SECOND}.crc").write_text(checksum)
    assert _newest_batch(tmp_path, "ours") == told


def test_a_commit_that_is_cleaned_up_meanwhile_tells_nothing(log: Path, tmp_path: Path) -> None:
    """Delta removes old ones as it writes: what was listed a moment ago may be gone."""
    (log / f"{FIRST}.json").unlink()
    (log / f"{FIRST}.json").symlink_to(tmp_path / "gone")
    assert _newest_batch(tmp_path, "ours") is None
