"""Checks that a checkpoint and the table (or output folder) it feeds are in sync.

Restoring only one of them from a backup loses batches, or writes them twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.errors import LakehouseError

_NO_BATCH = -1  # before the first batch, which has the number 0


def check_table_in_sync(step: str, checkpoint: str, table: Table, remedy: str, *, is_written_each_batch: bool) -> None:
    """Raises LakehouseError if the table has batches that the checkpoint lacks, or lacks batches that it has.

    Delta's log contains the numbers of a table's batches. Its files are read in a few milliseconds. The log of a
    table in a catalog cannot be read, so nothing is compared there.
    """
    started = metadata.latest_offset_batch(checkpoint)
    if table.path is None or started is None:
        return
    _check_version_not_behind(step, checkpoint, table, remedy)
    last = _last_committed_batch(Path(table.path), metadata.query_id(checkpoint))
    if last is None:
        return
    if last > started:
        raise LakehouseError(
            f"{table} has batch {last}, but the checkpoint of step {step!r} has none after {started}: the checkpoint "
            f"is older than the table, and new rows would be skipped as already written; {remedy}"
        )
    expected = _min_expected_batch(checkpoint, table, last, is_written_each_batch=is_written_each_batch)
    if last < expected:
        raise LakehouseError(
            f"the checkpoint of step {step!r} has batch {expected} as written, but {table} has none"
            f"{_after_batch(last)}: the table is older than the checkpoint, and its missing rows would not be read "
            f"again; {remedy}"
        )


def record_table_version(checkpoint: str, table: Table) -> None:
    """Records the table's version after a merged batch, which, being idempotent, leaves no batch number in Delta's log.

    It must not leave one as an append does: by it Delta would skip the batches of an older checkpoint, which have
    other rows. Merged again, they result in the same table.
    """
    version = _latest_version(table)
    if version is not None:
        metadata.record_table_version(checkpoint, version)


def _check_version_not_behind(step: str, checkpoint: str, table: Table, remedy: str) -> None:
    latest, recorded = _latest_version(table), metadata.recorded_table_version(checkpoint)
    if latest is not None and recorded is not None and latest < recorded:
        raise LakehouseError(
            f"the checkpoint of step {step!r} has rows as merged into version {recorded} of {table}, which has none "
            f"after {latest}: the table is older than the checkpoint, and its missing rows would not be read again; "
            f"{remedy}"
        )


def _latest_version(table: Table) -> int | None:
    """The table's latest version; None if its log cannot be read."""
    commits = _commits(Path(table.path)) if table.path else []
    return int(commits[0].stem) if commits else None


def check_folder_in_sync(checkpoint: str, folder: str, batches: Iterable[int]) -> None:
    """Raises LakehouseError if the folder has batches that the checkpoint lacks, or lacks batches that it has.

    `batches` are the numbers of the batches in the folder, the latest among them: each batch leaves its number, even
    without rows. Every checkpoint starts at 0, so a new one's first batches would be taken for those of the old one.
    """
    last = max(batches, default=_NO_BATCH)
    started, committed = metadata.latest_offset_batch(checkpoint), metadata.latest_commit_batch(checkpoint)
    if started is None and last > _NO_BATCH:
        raise LakehouseError(
            f"{folder} has the output of another checkpoint, and {checkpoint} is new: give another path, or archive "
            "the folder"
        )
    remedy = f"restore the newer one, or archive both, {checkpoint} and {folder}, so that all rows are written again"
    if started is not None and last > started:
        raise LakehouseError(
            f"{folder} has batch {last}, but {checkpoint} has none after {started}: the checkpoint is older than the "
            f"folder, and new rows would be skipped as already written; {remedy}"
        )
    if committed is not None and last < committed:
        raise LakehouseError(
            f"{checkpoint} has batch {committed} as written, but {folder} has none{_after_batch(last)}: the folder is "
            f"older than the checkpoint, and its missing rows would not be written again; {remedy}"
        )


def _after_batch(batch: int) -> str:
    return f" after {batch}" if batch > _NO_BATCH else ""


def _min_expected_batch(checkpoint: str, table: Table, last: int, *, is_written_each_batch: bool) -> int:
    """The latest batch that the table must contain, as far as the checkpoint records it.

    Bronze is written in each batch, even without rows. So is a gold table that is appended to: once one batch is in its
    log, all must be. A batch may have no rows for silver or for quarantine: those that were written are recorded.
    """
    if table.layer in ("silver", "quarantine"):
        written = metadata.last_written_batch(checkpoint, table.layer)
    else:
        is_expected = is_written_each_batch or last > _NO_BATCH
        written = metadata.latest_commit_batch(checkpoint) if is_expected else None
    return _NO_BATCH if written is None else written


def _last_committed_batch(table: Path, query_id: str) -> int | None:
    """The latest batch that the query has committed to the table; `_NO_BATCH` for none, None if it cannot be known.

    The checksum file of the latest commit lists all transactions. Delta may omit it: then the commits are searched from
    the latest back, as far as they exist.
    """
    commits = _commits(table)
    try:
        listed = _transactions_in_checksum(commits[0].with_suffix(".crc")) if commits else None
        if listed is not None:
            return listed.get(query_id, _NO_BATCH)
        for transaction in (each["txn"] for commit in commits for each in _actions(commit) if "txn" in each):
            if transaction["appId"] == query_id:
                return int(transaction["version"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # Delta's own error for a damaged log is better; an old commit may be cleaned up meanwhile
    return _NO_BATCH if commits and int(commits[-1].stem) == 0 else None


def _commits(table: Path) -> list[Path]:
    """The commits of the log, the latest first, without the compacted ones."""
    files = (table / "_delta_log").glob("[0-9]*.json")
    return sorted((file for file in files if file.stem.isdigit()), reverse=True)


def _transactions_in_checksum(checksum: Path) -> dict[str, int] | None:
    listed = json.loads(checksum.read_text()).get("setTransactions") if checksum.is_file() else None
    return None if listed is None else {each["appId"]: int(each["version"]) for each in listed}


def _actions(commit: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, commit.read_text().splitlines())
