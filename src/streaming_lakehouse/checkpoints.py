"""What a step's checkpoint tells: who it is, and how far the last run came."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from streaming_lakehouse.errors import LakehouseError

_Told = TypeVar("_Told")
_OVER_ROWS = "over_rows"
_DROPPED = "dropped_rows"
_RESTORE = (
    "bring it back from a backup, or rebuild: move away the checkpoint and the tables of its step, and those of the "
    "steps after it"
)
_REBUILD = "its table lacks rows: move the table and the checkpoint away, to make both anew"
_FORGET = "remove it, if all else is as it was: the next run writes it anew"


def identity(checkpoint: str) -> str:
    """The identity Spark gave the checkpoint when it was made: another checkpoint has another."""
    return _parsed(Path(checkpoint) / "metadata", _RESTORE, lambda text: str(json.loads(text)["id"]))


def check(checkpoint: str) -> None:
    """Raises LakehouseError where the newest entry of a log is cut off: Spark tells neither its file nor what to do."""
    for log in (Path(checkpoint) / "offsets", Path(checkpoint) / "commits"):
        newest = _newest(log)
        if newest is not None:
            _parsed(log / str(newest), _RESTORE, _entry)


def has_begun(checkpoint: str) -> bool:
    """True where the checkpoint knows of a batch that was begun."""
    return newest_begun(checkpoint) is not None


def newest_begun(checkpoint: str) -> int | None:
    """The number of the newest batch that the checkpoint knows of, or None."""
    return _newest(Path(checkpoint) / "offsets")


def newest_ended(checkpoint: str) -> int | None:
    """The number of the newest batch whose rows the checkpoint knows as written, or None."""
    return _newest(Path(checkpoint) / "commits")


def note_written(checkpoint: str, table: str, batch: int) -> None:
    """Notes in the checkpoint that `table` has the rows of `batch`: not every batch has rows for each table."""
    _put(_written(checkpoint, table), {"batch": batch})


def newest_written(checkpoint: str, table: str) -> int | None:
    """The newest batch that is noted for `table`, or None: the table surely had its rows once."""
    return _noted(_written(checkpoint, table), "batch")


def note_version(checkpoint: str, version: int) -> None:
    """Notes in the checkpoint that its table has come to this version of Delta's with the rows of a batch."""
    _put(_version(checkpoint), {"version": version})


def newest_version(checkpoint: str) -> int | None:
    """The version of the table that is noted, or None."""
    return _noted(_version(checkpoint), "version")


def _version(checkpoint: str) -> Path:
    return Path(checkpoint) / "version.json"


def _written(checkpoint: str, table: str) -> Path:
    return Path(checkpoint) / f"written.{table}.json"


def _noted(note: Path, what: str) -> int | None:
    return _parsed(note, _FORGET, lambda text: int(json.loads(text)[what])) if note.exists() else None


def _put(note: Path, told: Mapping[str, Any]) -> None:
    """All of it or nothing, whenever the process dies."""
    note.parent.mkdir(parents=True, exist_ok=True)
    draft = note.with_suffix(".draft")
    draft.write_text(json.dumps(told))
    os.replace(draft, note)


def _parsed(file: Path, remedy: str, parse: Callable[[str], _Told]) -> _Told:
    """What `parse` makes of the file's text. Raises LakehouseError, with the remedy, where it is not whole."""
    try:
        return parse(file.read_text())
    except (ValueError, KeyError, TypeError) as error:
        raise LakehouseError(f"{file} is cut off or damaged; {remedy}") from error
    except OSError as error:
        raise LakehouseError(f"{file} cannot be read: {error.strerror}; {remedy}") from error


def _entry(text: str) -> dict[str, Any]:
    """The object in an entry of a log, after its version; the sources' offsets, which follow, must be whole too."""
    told, *offsets = text.splitlines()[1:]
    for offset in offsets:
        if offset != "-":  # a source without any yet
            json.loads(offset)
    return {} if offsets and not told else {**json.loads(told)}  # a continuous query tells its offsets alone


def claim_source(checkpoint: str, place: Mapping[str, str], ids: Mapping[str, str]) -> None:
    """Notes beside the checkpoint in what place the records lie whose offsets it counts.

    `ids` tell it from another that has come to the same place; where a run cannot know one of them it is not compared.
    Raises LakehouseError where it has begun with another place: its offsets would mean something else there, and
    records would be read twice or passed over.
    """
    note = Path(checkpoint) / "source.json"
    otherwise = (
        "use another --root or --catalog. Where it is the same data in another place, with each record at the same "
        f"offset, remove {note}"
    )
    _claim(note, f"the checkpoint at {checkpoint} counts what came from", place, ids, otherwise)


def claim_sink(checkpoint: str, place: Mapping[str, str], ids: Mapping[str, str]) -> None:
    """Notes beside the checkpoint where the rows go that it counts as written, and in which output mode.

    `ids` are as for a source; one that a run is the first to know, as of a topic made for its rows, goes on record.
    Raises LakehouseError where it has begun with another place, which would never get the rows of before.
    """
    note = Path(checkpoint) / "sink.json"
    otherwise = f"give what it began with, or move away {checkpoint}, so that all rows are sent again"
    _claim(note, f"the checkpoint at {checkpoint} counts what went to", place, ids, otherwise)


def _claim(note: Path, counts: str, place: Mapping[str, str], ids: Mapping[str, str], otherwise: str) -> None:
    before: dict[str, Any] = dict(place)
    if has_begun(str(note.parent)) and note.exists():
        before = _parsed(note, _FORGET, lambda text: {**json.loads(text)})
    known = before.pop("ids", {})
    if before != dict(place):
        raise LakehouseError(f"{counts} {_words(before)}; it cannot go on with {_words(place)}: {otherwise}")
    others = [f"{name} {known[name]}, now {ids[name]}" for name in ids if known.get(name, ids[name]) != ids[name]]
    if others:
        raise LakehouseError(
            f"{counts} {_words(before)}, which is another by now or was made anew (its ids: {'; '.join(others)}): "
            f"{otherwise}"
        )
    _put(note, {**place, "ids": {**known, **ids}})


def shuffle_partitions(checkpoint: str) -> str | None:
    """The number of shuffle partitions that the checkpoint began with and keeps, or None where it has not begun."""
    folder, begun = Path(checkpoint) / "offsets", newest_begun(checkpoint)
    if begun is None:
        return None
    conf: dict[str, str] = _parsed(folder / str(begun), _RESTORE, _entry).get("conf", {})
    return conf.get("spark.sql.shuffle.partitions")


def note_rows(checkpoint: str) -> None:
    """Notes that the table had rows before this checkpoint's first batch, which may be the same rows again."""
    note = Path(checkpoint) / _OVER_ROWS
    note.parent.mkdir(parents=True, exist_ok=True)
    note.touch()


def is_over_rows(checkpoint: str) -> bool:
    """True where `note_rows` was called for this checkpoint, in this run or an earlier one."""
    return (Path(checkpoint) / _OVER_ROWS).exists()


def note_dropped(checkpoint: str, rows: int) -> None:
    """Notes that Spark dropped so many rows of this checkpoint's batches, which it has as done."""
    _put(Path(checkpoint) / _DROPPED, {"rows": rows})


def dropped(checkpoint: str) -> int:
    """The rows that `note_dropped` was told of, in an earlier run."""
    note = Path(checkpoint) / _DROPPED
    return _parsed(note, _REBUILD, lambda text: int(json.loads(text)["rows"])) if note.exists() else 0


def _words(place: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in place.items())


def sweep(checkpoint: str) -> None:
    """Removes what a run left that died while it noted its first batch, which is not begun then.

    Spark (4.1 and newer, SPARK-53103) would refuse to begin with state while anything is beside its log of batches.
    """
    if newest_begun(checkpoint) is None:
        for left in (Path(checkpoint) / "offsets").glob(".*"):
            left.unlink()


def reopen_last_batch(checkpoint: str) -> int | None:
    """The number of the batch that the next run of this query does again, or None where it begins with a new one.

    That is a batch which was begun and not ended. It is also one that did end, but moved the watermark past windows
    that are still open: within a run Spark then adds a batch without rows, which writes them. A run that is cut off
    before it leaves them unwritten until new rows come, since Spark looks only at the batch it has just done. Such
    a batch is opened again here: its entry in the commit log is removed, as if the run had died a moment sooner.
    """
    folder = Path(checkpoint)
    begun, ended = newest_begun(checkpoint), newest_ended(checkpoint)
    if begun is None or begun != ended:
        return begun
    if not (folder / "state").exists() or not _left_windows_open(folder, begun):
        return None
    for entry in (f".{begun}.crc", str(begun)):
        (folder / "commits" / entry).unlink(missing_ok=True)
    return begun


def _newest(log: Path) -> int | None:
    return max((int(entry.name) for entry in log.glob("[0-9]*") if entry.name.isdigit()), default=None)


def _left_windows_open(folder: Path, batch: int) -> bool:
    before = _parsed(folder / "offsets" / str(batch), _RESTORE, _entry).get("batchWatermarkMs", 0)
    after = _parsed(folder / "commits" / str(batch), _RESTORE, _entry).get("nextBatchWatermarkMs", 0)
    return bool(after > before)
