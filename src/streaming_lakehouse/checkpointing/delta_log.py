"""Delta's log of a table in a folder: its commits, which are read without Spark in a few milliseconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def commit(table: Path, version: int) -> Path:
    """The file of a commit, which may have been cleaned up."""
    return table / "_delta_log" / f"{version:020}.json"


def versions(table: Path) -> list[int]:
    """The versions whose commits are in the log, the earliest first, without the compacted ones."""
    files = (table / "_delta_log").glob("[0-9]*.json")
    return sorted(int(file.stem) for file in files if file.stem.isdigit())


def latest_version(table: Path) -> int | None:
    """The latest version in the log, or None.

    Counted up from the last checkpoint, as Delta does: after a month of live batches a log has 100,000 files.
    """
    try:
        latest = int(json.loads((table / "_delta_log" / "_last_checkpoint").read_text())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        latest = -1
    if not commit(table, latest).exists():
        latest = max(versions(table), default=-1)
    while commit(table, latest + 1).exists():
        latest += 1
    return latest if latest >= 0 else None


def actions(text: str) -> Iterator[dict[str, Any]]:
    """The actions of a commit, from the text of its file."""
    return map(json.loads, text.splitlines())


def added_bytes(table: Path) -> int | None:
    """The size of the files of the latest commit with new rows; None where there is none, or it cannot be read.

    A compaction, which adds files without new rows, may follow it.
    """
    try:
        for version in range(latest_version(table) or 0, -1, -1):
            added = [each["add"] for each in actions(commit(table, version).read_text()) if "add" in each]
            if sizes := [int(each["size"]) for each in added if each["dataChange"]]:
                return sum(sizes)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None
