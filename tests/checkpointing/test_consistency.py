"""The last committed batch of a query in Delta's log, also when a file of the log is damaged or gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streaming_lakehouse.checkpointing import consistency
from streaming_lakehouse.checkpointing.consistency import commit_metadata, last_committed_batch
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.errors import LakehouseError

FIRST, SECOND = "0" * 20, "0" * 19 + "1"
TRANSACTION_7 = {"txn": {"appId": "ours", "version": 7}}
METADATA_7 = {"commitInfo": {"userMetadata": commit_metadata("ours", 7)}}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of two commits; the older one has the query's batch 7, the newer one is not by a query."""
    folder = tmp_path / "_delta_log"
    folder.mkdir()
    (folder / f"{FIRST}.json").write_text(json.dumps(METADATA_7))
    (folder / f"{SECOND}.json").write_text(json.dumps({"commitInfo": {"userMetadata": "nightly OPTIMIZE"}}))
    return folder


@pytest.mark.parametrize("action", [TRANSACTION_7, METADATA_7], ids=["transaction", "userMetadata"])
def test_the_last_batch_is_that_of_the_latest_commit_by_the_query(
    log: Path, tmp_path: Path, action: dict[str, object]
) -> None:
    """As version 0.1 and Delta's streaming sink recorded it, and as we do; other queries' commits do not count."""
    others = [
        {"commitInfo": {"userMetadata": commit_metadata("theirs", 9)}},
        {"txn": {"appId": "theirs", "version": 9}},
    ]
    (log / f"{FIRST}.json").write_text("\n".join(json.dumps(each) for each in ({"commitInfo": {}}, action)))
    (log / f"{SECOND}.json").write_text("\n".join(map(json.dumps, others)))
    assert last_committed_batch(tmp_path, "ours") == 7
    assert last_committed_batch(tmp_path, "nobody") == -1


@pytest.mark.parametrize(
    ("checksum", "expected"),
    [
        (None, None),
        ("{}", None),
        ('{"setTransactions": [{"appId": "ours", "version": 7}]}', 7),
        ('{"setTransactions": [{"appId": "theirs", "version": 9}]}', None),
        ('{"setTrans', None),
        ("[]", None),
    ],
)
def test_of_a_commit_that_was_cleaned_up_the_checksum_lists_the_transaction(
    log: Path, tmp_path: Path, checksum: str | None, expected: int | None
) -> None:
    """None where it cannot be known, and for a damaged checksum, which Delta reports itself."""
    (log / f"{FIRST}.json").unlink()
    if checksum is not None:
        (log / f"{SECOND}.crc").write_text(checksum)
    assert last_committed_batch(tmp_path, "ours") == expected


def test_a_commit_that_is_cleaned_up_meanwhile_is_no_error(log: Path, tmp_path: Path) -> None:
    """Delta removes old commits as it writes: a file that was just listed may be gone."""
    (log / f"{FIRST}.json").unlink()
    (log / f"{FIRST}.json").symlink_to(tmp_path / "gone")
    assert last_committed_batch(tmp_path, "ours") is None


@pytest.mark.parametrize("last_checkpoint", ['{"version": 1}', '{"version": 5}', '{"vers', None])
def test_the_latest_commit_is_found_from_any_last_checkpoint(
    log: Path, tmp_path: Path, last_checkpoint: str | None
) -> None:
    """Also where the file is damaged, or names a version that the log lacks, as after a restore of older commits."""
    (log / f"{2:020}.json").write_text(json.dumps({"commitInfo": {"userMetadata": commit_metadata("ours", 8)}}))
    if last_checkpoint:
        (log / "_last_checkpoint").write_text(last_checkpoint)
    assert last_committed_batch(tmp_path, "ours") == 8


def test_after_a_batch_without_rows_a_table_of_version_0_1_is_in_sync(log: Path, tmp_path: Path) -> None:
    """0.1 left a transaction of every batch; batch 8 has no rows and so no commit."""
    (log / f"{FIRST}.json").write_text(json.dumps(TRANSACTION_7))
    for entries in ("offsets", "commits"):
        (tmp_path / entries).mkdir()
        (tmp_path / entries / "8").touch()
    (tmp_path / "metadata").write_text(json.dumps({"id": "ours"}))
    table = Table("gold", "windows", path=str(tmp_path))

    def check() -> None:
        consistency.check_table_in_sync("windows", str(tmp_path), table, "rebuild", is_written_each_batch=False)

    with pytest.raises(LakehouseError, match=r"has batch 8 as written, but gold\.windows has none after 7"):
        check()
    consistency.record_last_batch(str(tmp_path), table, "ours")
    check()
