"""Checks that a checkpoint and the table (or output folder) it feeds are in sync.

Restoring only one of them from a backup loses batches, or writes them twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streaming_lakehouse.checkpointing import delta_log, metadata
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
    last = last_committed_batch(Path(table.path), metadata.query_id(checkpoint))
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


def record_last_batch(checkpoint: str, table: Table, query_id: str) -> None:
    """Records the last batch that the table's log has: Delta makes no commit of an append without rows."""
    last = last_committed_batch(Path(table.path), query_id) if table.path else None
    if last is not None and last > _NO_BATCH:
        metadata.record_written_batch(checkpoint, table.layer, last)


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
    return delta_log.latest_version(Path(table.path)) if table.path else None


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

    A batch may have no rows for a table: those that were written are recorded. Delta's streaming sink, and version
    0.1, have each batch of bronze in the log, and of a gold table that is appended to: once one batch is there, all
    must be.
    """
    written = metadata.last_written_batch(checkpoint, table.layer)
    if written is None and table.layer not in ("silver", "quarantine"):
        is_expected = is_written_each_batch or last > _NO_BATCH
        written = metadata.latest_commit_batch(checkpoint) if is_expected else None
    return _NO_BATCH if written is None else written


def commit_metadata(query_id: str, batch: int) -> str:
    """The userMetadata of a commit with the rows of a query's batch."""
    return json.dumps({"queryId": query_id, "batchId": batch})


def batch_of_commit(user_metadata: str | None, query_id: str) -> int | None:
    """The query's batch that a commit with this userMetadata contains, or None."""
    try:
        written = json.loads(user_metadata or "{}")
        return int(written["batchId"]) if written["queryId"] == query_id else None
    except (ValueError, KeyError, TypeError):  # somebody else's text
        return None


def last_committed_batch(table: Path, query_id: str) -> int | None:
    """The latest batch that the query has committed to the table; `_NO_BATCH` for none, None if it cannot be known.

    Searches the commits from the latest back, as far as they exist: most often the first one answers. Delta's streaming
    sink, and version 0.1, wrote transactions, which the latest commit's checksum file lists even where their commit is
    gone.
    """
    latest = delta_log.latest_version(table)
    if latest is None:
        return None
    try:
        for version in range(latest, -1, -1):
            commit = delta_log.commit(table, version)
            if not commit.exists():  # cleaned up, as are all before it
                listed = _transactions_in_checksum(delta_log.commit(table, latest).with_suffix(".crc"))
                return listed.get(query_id) if listed else None
            for action in delta_log.actions(commit.read_text()):
                batch = _batch_of_action(action, query_id)
                if batch is not None:
                    return batch
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # Delta's own error for a damaged log is better; an old commit may be cleaned up meanwhile
    return _NO_BATCH


def _batch_of_action(action: dict[str, Any], query_id: str) -> int | None:
    if "txn" in action:
        return int(action["txn"]["version"]) if action["txn"]["appId"] == query_id else None
    return batch_of_commit(action.get("commitInfo", {}).get("userMetadata"), query_id)


def _transactions_in_checksum(checksum: Path) -> dict[str, int] | None:
    listed = json.loads(checksum.read_text()).get("setTransactions") if checksum.is_file() else None
    return None if listed is None else {each["appId"]: int(each["version"]) for each in listed}
