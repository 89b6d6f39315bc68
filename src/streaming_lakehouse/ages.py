"""Whether a table or a folder and its checkpoint are of one age.

A backup of one of them alone takes back what the other counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from streaming_lakehouse import checkpoints
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.settings import Table

_NONE = -1  # before the first batch, which has the number 0


def refuse_another_age(step: str, checkpoint: str, table: Table, remedy: str) -> None:
    """Raises LakehouseError where the table has batches that the checkpoint does not know, or lacks some that it does.

    The numbers of a table's batches stand in Delta's log. It is read as files, in a few milliseconds; that of a table
    in a catalog is closed to us, so that there nothing is compared.
    """
    begun = checkpoints.newest_begun(checkpoint)
    if table.path is None or begun is None:
        return
    _refuse_older_version(step, checkpoint, table, remedy)
    has = _newest_batch(Path(table.path), checkpoints.identity(checkpoint))
    if has is None:
        return
    if has > begun:
        raise LakehouseError(
            f"{table} has batch {has}, but the checkpoint of step {step!r} knows of none after {begun}: the newer "
            f"checkpoint is gone, and new rows would be skipped as known; {remedy}"
        )
    least = _surely_written(step, checkpoint, table, has)
    if has < least:
        raise LakehouseError(
            f"the checkpoint of step {step!r} has batch {least} as written, but {table} has none{_after(has)}: the "
            f"newer table is gone, and those rows would not come again; {remedy}"
        )


def note_version(checkpoint: str, table: Table) -> None:
    """Notes how far the table has come with a batch that was merged: it leaves no number, since it may be made again.

    It must not leave one as an append does: by it Delta would skip the batches of an older checkpoint, which come with
    other rows in each. Made again, they lead to the same table.
    """
    version = _newest_version(table)
    if version is not None:
        checkpoints.note_version(checkpoint, version)


def _refuse_older_version(step: str, checkpoint: str, table: Table, remedy: str) -> None:
    has, least = _newest_version(table), checkpoints.newest_version(checkpoint)
    if has is not None and least is not None and has < least:
        raise LakehouseError(
            f"the checkpoint of step {step!r} has rows as merged into version {least} of {table}, which has none after "
            f"{has}: the newer table is gone, and those rows would not come again; {remedy}"
        )


def _newest_version(table: Table) -> int | None:
    """The number of the newest commit in the table's log; None where the log is not to be looked at."""
    commits = _commits(Path(table.path)) if table.path else []
    return int(commits[0].stem) if commits else None


def refuse_folder_of_another_age(checkpoint: str, folder: str, batches: Iterable[int]) -> None:
    """Raises LakehouseError where the folder has batches that the checkpoint does not know, or lacks some that it does.

    `batches` are the numbers of those that are there, the newest among them: each batch leaves its own, with rows or
    without. All checkpoints begin with 0, so that a new one's first batches would pass for those of the old.
    """
    has = max(batches, default=_NONE)
    begun, ended = checkpoints.newest_begun(checkpoint), checkpoints.newest_ended(checkpoint)
    if begun is None and has > _NONE:
        raise LakehouseError(
            f"{folder} has what another checkpoint counts as written, and {checkpoint} is new: give another path, or "
            "move one of the two"
        )
    remedy = f"bring it back, or move away both, {checkpoint} and {folder}, so that all rows are written again"
    if begun is not None and has > begun:
        raise LakehouseError(
            f"{folder} has batch {has}, but {checkpoint} knows of none after {begun}: the newer checkpoint is gone, "
            f"and new rows would pass for those that are there; {remedy}"
        )
    if ended is not None and has < ended:
        raise LakehouseError(
            f"{checkpoint} has batch {ended} as written, but {folder} has none{_after(has)}: the newer folder is gone, "
            f"and those rows would not come again; {remedy}"
        )


def _after(batch: int) -> str:
    return f" after {batch}" if batch > _NONE else ""


def _surely_written(step: str, checkpoint: str, table: Table, has: int) -> int:
    """The newest batch that the table must have, as far as the checkpoint tells for certain."""
    written = None
    if step == "silver":  # not every batch has rows for silver, or for quarantine: those that have are on record
        written = checkpoints.newest_written(checkpoint, table.layer)
    elif step == "bronze" or has > _NONE:  # where one batch left its number, each does, with or without rows
        written = checkpoints.newest_ended(checkpoint)
    return _NONE if written is None else written


def _newest_batch(table: Path, identity: str) -> int | None:
    """The newest micro-batch that the query of this identity has committed; `_NONE` for none, None for not to be told.

    The checksum file of the newest commit lists all transactions. Delta may leave it away: then commits are looked
    through from the newest on, as far as they are there.
    """
    commits = _commits(table)
    try:
        listed = _in_checksum(commits[0].with_suffix(".crc")) if commits else None
        if listed is not None:
            return listed.get(identity, _NONE)
        for transaction in (each["txn"] for commit in commits for each in _actions(commit) if "txn" in each):
            if transaction["appId"] == identity:
                return int(transaction["version"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # of a damaged log Delta itself tells, and better; an old commit may be cleaned up as we look
    return _NONE if commits and int(commits[-1].stem) == 0 else None


def _commits(table: Path) -> list[Path]:
    """The commits of the log, the newest first, without the compacted ones."""
    files = (table / "_delta_log").glob("[0-9]*.json")
    return sorted((file for file in files if file.stem.isdigit()), reverse=True)


def _in_checksum(checksum: Path) -> dict[str, int] | None:
    listed = json.loads(checksum.read_text()).get("setTransactions") if checksum.is_file() else None
    return None if listed is None else {each["appId"]: int(each["version"]) for each in listed}


def _actions(commit: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, commit.read_text().splitlines())
