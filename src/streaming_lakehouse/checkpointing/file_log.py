"""Which files a checkpoint's query has read: the log of Spark's file stream, in `sources/0` of the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_COMPACT = ".compact"


def missing_files(checkpoint: str, entries: range) -> list[Path]:
    """The local files of these entries of the log that are gone: Spark lists those that are there, and reads them."""
    log, missing = Path(checkpoint) / "sources" / "0", []
    for number in entries:
        for name in (str(number), f"{number}{_COMPACT}"):
            if (log / name).exists():
                listed = (entry["path"] for entry in _entries(log / name) if entry["batchId"] == number)
                files = map(_local_file, listed)
                missing += [file for file in files if file and not file.exists()]
                break
    return missing


def changed_files(checkpoint: str) -> list[Path]:
    """The local files whose time of modification differs from what it was when Spark listed them.

    Spark reads a file once, by its name: lines that were added or replaced since then are not read. Files that are
    gone have not changed: sources archive or delete what was read.
    """
    changed = []
    for uri, listed_ms in _files_read(Path(checkpoint) / "sources" / "0"):
        if not (file := _local_file(uri)):
            continue
        try:
            modified_ms = file.stat().st_mtime_ns // 1_000_000
        except OSError:
            continue
        if modified_ms != listed_ms:
            changed.append(file)
    return changed


def _files_read(log: Path) -> Iterator[tuple[str, int]]:
    """URI and time of modification in milliseconds of each file, as Spark's log has them.

    Every tenth entry of the log is compacted: it holds all entries before it.
    """
    entries = {int(each.name.removesuffix(_COMPACT)): each for each in log.glob("[0-9]*") if _is_entry(each)}
    compacted = max((batch for batch, file in entries.items() if file.suffix == _COMPACT), default=-1)
    for batch in sorted(batch for batch in entries if batch >= compacted):
        for entry in _entries(entries[batch]):
            yield entry["path"], entry["timestamp"]


def _entries(file: Path) -> Iterator[dict[str, Any]]:
    """The files that one file of the log lists; a compacted one lists those of all before it."""
    return map(json.loads, file.read_text().splitlines()[1:])  # the first line is the format's version


def _is_entry(file: Path) -> bool:
    return file.name.removesuffix(_COMPACT).isdigit()


def _local_file(uri: str) -> Path | None:
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None
