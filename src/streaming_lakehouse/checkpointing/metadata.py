"""What a step's checkpoint contains: its query id, its last batches, and the marker files that we add."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from streaming_lakehouse.checkpointing.files import write_atomically
from streaming_lakehouse.config.registry import RENAMED
from streaming_lakehouse.errors import LakehouseError

_Parsed = TypeVar("_Parsed")
_PREPOPULATED = "over_rows"
_LATE_DROPS = "dropped_rows"
_RESTORE_HINT = (
    "restore it from a backup, or rebuild: archive the step's checkpoint and tables, and those of the steps downstream"
)
_REBUILD_HINT = "its table lacks rows: archive the table and the checkpoint, so that both are rebuilt"
_REMOVE_HINT = "remove it if nothing else has changed: the next run writes it again"


def query_id(checkpoint: str) -> str:
    """The query's id, which Spark writes once into a new checkpoint: no two checkpoints share it."""
    return _parse_or_raise(Path(checkpoint) / "metadata", _RESTORE_HINT, lambda text: str(json.loads(text)["id"]))


def check_logs_intact(checkpoint: str) -> None:
    """Raises LakehouseError if the latest entry of a log is truncated: Spark's error names neither file nor remedy."""
    for log in (Path(checkpoint) / "offsets", Path(checkpoint) / "commits"):
        latest = _latest_entry(log)
        if latest is not None:
            _parse_or_raise(log / str(latest), _RESTORE_HINT, _parse_log_entry)


def has_started(checkpoint: str) -> bool:
    """True if the offset log has a batch."""
    return latest_offset_batch(checkpoint) is not None


def latest_offset_batch(checkpoint: str) -> int | None:
    """The latest batch in the offset log (a batch that was started), or None."""
    return _latest_entry(Path(checkpoint) / "offsets")


def latest_commit_batch(checkpoint: str) -> int | None:
    """The latest batch in the commit log (a batch that was written), or None."""
    return _latest_entry(Path(checkpoint) / "commits")


def record_written_batch(checkpoint: str, table: str, batch: int) -> None:
    """Records that `table` has the rows of `batch`: not every batch has rows for each table."""
    write_atomically(_written(checkpoint, table), {"batch": batch})


def last_written_batch(checkpoint: str, table: str) -> int | None:
    """The last batch recorded for `table`, or None. The table has contained its rows."""
    return _read_marker(_written(checkpoint, table), "batch")


def record_max_event_time(checkpoint: str, microseconds: int) -> None:
    """Records the latest event time of the table, in microseconds since 1970, with the batch just written."""
    write_atomically(_event_time(checkpoint), {"microseconds": microseconds})


def max_event_time(checkpoint: str) -> int | None:
    """The recorded latest event time, or None. A batch that a run died in may have later ones."""
    return _read_marker(_event_time(checkpoint), "microseconds")


def record_table_version(checkpoint: str, version: int) -> None:
    """Records the Delta version of the table after a batch."""
    write_atomically(_version(checkpoint), {"version": version})


def recorded_table_version(checkpoint: str) -> int | None:
    """The recorded Delta version of the table, or None."""
    return _read_marker(_version(checkpoint), "version")


def record_first_start(checkpoint: str, microseconds: int) -> None:
    """Records when a checkpoint's query starts for the first time; does nothing once it has a batch."""
    if not has_started(checkpoint):
        write_atomically(_first_start(checkpoint), {"microseconds": microseconds})


def backfills_read_until(checkpoint: str) -> int:
    """The query reads what backfills had added to its inputs before it started, in microseconds since 1970.

    0 for a checkpoint of a version without backfills: there were none before it.
    """
    return _read_marker(_first_start(checkpoint), "microseconds") or 0


def watermark_us(checkpoint: str) -> int | None:
    """The watermark of the query's latest batch, in microseconds since 1970; None before the first."""
    latest = latest_offset_batch(checkpoint)
    return None if latest is None else int(_offset_entry(checkpoint, latest).get("batchWatermarkMs", 0)) * 1000


def _first_start(checkpoint: str) -> Path:
    return Path(checkpoint) / "first_start.json"


def _event_time(checkpoint: str) -> Path:
    return Path(checkpoint) / "max_event_time.json"


def _version(checkpoint: str) -> Path:
    return Path(checkpoint) / "version.json"


def _written(checkpoint: str, table: str) -> Path:
    return Path(checkpoint) / f"written.{table}.json"


def _read_marker(marker: Path, field: str) -> int | None:
    if not marker.exists():
        return None
    return _parse_or_raise(marker, _REMOVE_HINT, lambda text: int(json.loads(text)[field]))


def _parse_or_raise(file: Path, remedy: str, parse: Callable[[str], _Parsed]) -> _Parsed:
    """The file's text, parsed. Raises LakehouseError, with the remedy, if the file is truncated or unreadable."""
    try:
        return parse(file.read_text())
    except (ValueError, LookupError, TypeError) as error:
        raise LakehouseError(f"{file} is truncated or damaged; {remedy}") from error
    except OSError as error:
        raise LakehouseError(f"{file} cannot be read: {error.strerror}; {remedy}") from error


def _parse_offsets(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()[2:] if line != "-"]  # a source without an offset yet


def _parse_log_entry(text: str) -> dict[str, Any]:
    """The JSON object of a log entry, which follows its version; the sources' offsets after it must be complete too."""
    header, *offsets = text.splitlines()[1:]
    for offset in offsets:
        if offset != "-":  # a source without an offset yet
            json.loads(offset)
    return {} if offsets and not header else {**json.loads(header)}  # a continuous query writes its offsets alone


def bind_source(checkpoint: str, address: Mapping[str, str], fingerprint: Mapping[str, str]) -> None:
    """Records which source the checkpoint's offsets belong to, and refuses to resume with another one.

    With another source the same offsets mean other records: a run would read records twice, or skip some.
    `fingerprint` holds ids that distinguish the source from another one at the same address; ids that a run cannot
    know are not compared. Raises LakehouseError if address or fingerprint differ from the recorded ones.
    """
    marker = _source(checkpoint)
    remedy = (
        "use another --root or --catalog. If the same data has moved, with each record at the same offset, "
        f"remove {marker}"
    )
    _bind(marker, f"the checkpoint at {checkpoint} has the offsets of", address, fingerprint, remedy)


def source_ids(checkpoint: str, address: Mapping[str, str]) -> dict[str, str]:
    """The ids that `bind_source` has recorded for this address; none before the first batch."""
    recorded = _recorded(_source(checkpoint)) or {}
    ids: dict[str, str] = recorded.pop("ids", {})
    return ids if recorded == dict(address) else {}


def recorded_source(checkpoint: str) -> dict[str, str]:
    """The address that `bind_source` has recorded; empty before the first batch."""
    recorded = _recorded(_source(checkpoint)) or {}
    return {name: value for name, value in recorded.items() if name != "ids"}


def _source(checkpoint: str) -> Path:
    return Path(checkpoint) / "source.json"


def bind_sink(checkpoint: str, address: Mapping[str, str], fingerprint: Mapping[str, str]) -> None:
    """Records the sink and output mode of the checkpoint's batches, and refuses to resume with others.

    Another sink would lack all earlier rows. `fingerprint` is as for a source; ids that only become known later, such
    as that of a topic created for these rows, are added. Raises LakehouseError if address or fingerprint differ.
    """
    marker = _sink(checkpoint)
    remedy = f"use the same sink and mode as before, or archive {checkpoint}, so that all rows are sent again"
    _bind(marker, f"the checkpoint at {checkpoint} has written to", address, fingerprint, remedy)


def recorded_sink(checkpoint: str) -> tuple[str | None, str | None]:
    """The name of the sink and the output mode that `bind_sink` recorded, or None for each."""
    recorded = _content(_sink(checkpoint)) or {}
    return recorded.get("sink"), recorded.get("mode")


def _sink(checkpoint: str) -> Path:
    return Path(checkpoint) / "sink.json"


def relocate(checkpoint: str, target: str) -> None:
    """Prepares a checkpoint to be moved: `transformWithState` records where the schemas of its state are."""
    for entry in Path(checkpoint).glob("state/*/_metadata/v2/*"):
        if entry.name.isdigit():
            entry.write_text(entry.read_text().replace(checkpoint, target))
            entry.with_name(f".{entry.name}.crc").unlink(missing_ok=True)


def _bind(marker: Path, subject: str, address: Mapping[str, str], fingerprint: Mapping[str, str], remedy: str) -> None:
    before = _recorded(marker)
    recorded: dict[str, Any] = dict(address) if before is None else dict(before)
    known = recorded.pop("ids", {})
    bound = f"{subject} {_format_address(recorded)}"
    if recorded != dict(address):
        raise LakehouseError(f"{bound}; it cannot resume with {_format_address(address)}: {remedy}")
    changed = [
        f"{name} {known[name]}, now {value}" for name, value in fingerprint.items() if known.get(name, value) != value
    ]
    if changed:
        raise LakehouseError(f"{bound}, which was recreated or replaced since ({'; '.join(changed)}): {remedy}")
    content = {**address, "ids": {**known, **fingerprint}}
    if content != before:
        write_atomically(marker, content)


def _recorded(marker: Path) -> dict[str, Any] | None:
    """What a marker has of the checkpoint's query; None before the first batch."""
    return _content(marker) if has_started(str(marker.parent)) else None


def _content(marker: Path) -> dict[str, Any] | None:
    """The JSON object of a marker, or None if it does not exist."""
    if not marker.exists():
        return None
    content: dict[str, Any] = _parse_or_raise(marker, _REMOVE_HINT, lambda text: {**json.loads(text)})
    if content.get("sink") in RENAMED:
        content["sink"] = RENAMED[content["sink"]]
    return content


def shuffle_partitions(checkpoint: str) -> str | None:
    """The number of shuffle partitions that the checkpoint is fixed to, or None before the first batch."""
    latest = latest_offset_batch(checkpoint)
    if latest is None:
        return None
    conf: dict[str, str] = _offset_entry(checkpoint, latest).get("conf", {})
    return conf.get("spark.sql.shuffle.partitions")


def mark_table_prepopulated(checkpoint: str) -> None:
    """Records that the table had rows before this checkpoint's first batch, which may contain the same rows."""
    marker = Path(checkpoint) / _PREPOPULATED
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def is_table_prepopulated(checkpoint: str) -> bool:
    """True if `mark_table_prepopulated` was called for this checkpoint, in this run or an earlier one."""
    return (Path(checkpoint) / _PREPOPULATED).exists()


def record_late_drops(checkpoint: str, rows: int) -> None:
    """Records that Spark dropped this number of late rows from batches that the checkpoint has as committed."""
    write_atomically(Path(checkpoint) / _LATE_DROPS, {"rows": rows})


def late_drops(checkpoint: str) -> int:
    """The number of late rows that an earlier run recorded with `record_late_drops`."""
    marker = Path(checkpoint) / _LATE_DROPS
    return _parse_or_raise(marker, _REBUILD_HINT, lambda text: int(json.loads(text)["rows"])) if marker.exists() else 0


def record_definition(checkpoint: str, definition: Mapping[str, Any]) -> None:
    """Records what the step computes: `execution.definition` says what that has."""
    write_atomically(definition_marker(checkpoint), definition)


def recorded_definition(checkpoint: str) -> dict[str, Any] | None:
    """The recorded definition; None before the first batch, and in a checkpoint of a version that recorded none."""
    return _recorded(definition_marker(checkpoint))


def definition_marker(checkpoint: str) -> Path:
    return Path(checkpoint) / "definition.json"


def _format_address(address: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in address.items())


def remove_partial_first_batch(checkpoint: str) -> None:
    """Removes the draft of the first offset-log entry, left by a run that died before the entry was complete.

    Spark (4.1 and newer, SPARK-53103) refuses to start a stateful query if its offset log has other files but no batch.
    """
    if latest_offset_batch(checkpoint) is None:
        for draft in (Path(checkpoint) / "offsets").glob(".*"):
            draft.unlink()


def uncommit_last_batch(checkpoint: str) -> int | None:
    """The batch that the next run of this query replays, or None if it starts with a new one.

    A batch in the offset log but not in the commit log is replayed. So is a committed batch that advanced the watermark
    past windows that are still open: within a run, Spark adds a batch without rows, which writes them. A run that is
    cut off before that leaves them unwritten until new rows arrive, since Spark considers only the batch it has just
    done. The entry of such a batch is removed from the commit log, as if the run had died a moment earlier.
    """
    folder = Path(checkpoint)
    started, committed = latest_offset_batch(checkpoint), latest_commit_batch(checkpoint)
    if started is None or started != committed:
        return started
    if not has_unwritten_windows(checkpoint):
        return None
    for entry in (f".{started}.crc", str(started)):
        (folder / "commits" / entry).unlink(missing_ok=True)
    return started


def has_unwritten_windows(checkpoint: str) -> bool:
    """True if the last batch is committed and has advanced the watermark: what it has closed, the next run writes.

    In complete mode every batch writes all windows, and Spark adds none without rows.
    """
    if recorded_sink(checkpoint)[1] == "complete":
        return False
    started = latest_offset_batch(checkpoint)
    if started is None or started != latest_commit_batch(checkpoint) or not (Path(checkpoint) / "state").exists():
        return False
    return _has_pending_windows(checkpoint, started)


def committed_offsets(checkpoint: str) -> str | None:
    """The offsets of the latest committed batch, in the JSON of the query's only source; None before the first."""
    batch = latest_commit_batch(checkpoint)
    return None if batch is None else batch_offsets(checkpoint, batch)


def batch_offsets(checkpoint: str, batch: int) -> str:
    """The offsets up to which a batch reads, in the JSON of the query's only source."""
    return _parse_or_raise(Path(checkpoint) / "offsets" / str(batch), _RESTORE_HINT, lambda text: text.splitlines()[2])


def offsets_before(checkpoint: str, batch: int) -> str | None:
    """The offsets from which a batch reads, as `batch_offsets`; None if Spark has recorded none."""
    if batch > 0:
        return batch_offsets(checkpoint, batch - 1)
    initial = Path(checkpoint) / "sources" / "0" / "0"  # Kafka's: a zero byte and a version come first
    if not initial.exists():
        return None
    return _parse_or_raise(initial, _RESTORE_HINT, lambda text: text.splitlines()[1])


def batch_started_at(checkpoint: str, batch: int) -> int:
    """The start of a batch, in milliseconds since 1970: what `current_timestamp` is in it, also when it is replayed."""
    return int(_offset_entry(checkpoint, batch)["batchTimestampMs"])


def uncommitted_batch(checkpoint: str) -> int | None:
    """The batch in the offset log that has no entry in the commit log: Spark will run it again."""
    started = latest_offset_batch(checkpoint)
    return started if started != latest_commit_batch(checkpoint) else None


def unchecked_versions(checkpoint: str) -> dict[str, range]:
    """The versions of each Delta table, by its id, that committed batches have read since `record_checked_versions`.

    Before its first call, as far back as the offset log goes. The first batch reads the table as it is, so the versions
    before its end are not among them.
    """
    committed = latest_commit_batch(checkpoint)
    if committed is None:
        return {}
    checked = _content(_upstream(checkpoint)) or {}
    oldest = min(_entries(Path(checkpoint) / "offsets"), default=committed)
    starts, ends = (_next_versions(checkpoint, batch) for batch in (oldest, committed))
    return {table: range(checked.get(table, starts.get(table, end)), end) for table, end in ends.items()}


def record_checked_versions(checkpoint: str, versions: Mapping[str, range]) -> None:
    """Records that these versions were searched for deletes and updates, which a stream passes over."""
    write_atomically(_upstream(checkpoint), {table: each.stop for table, each in versions.items()})


def _upstream(checkpoint: str) -> Path:
    return Path(checkpoint) / "upstream.json"


def _next_versions(checkpoint: str, batch: int) -> dict[str, int]:
    """The first version of each Delta table that is not read after the batch; no batch reads half of one."""
    file = Path(checkpoint) / "offsets" / str(batch)
    offsets = _parse_or_raise(file, _RESTORE_HINT, _parse_offsets)
    tables = [offset for offset in offsets if isinstance(offset, dict) and "reservoirId" in offset]
    # A negative index is before the version's first file.
    return {each["reservoirId"]: each["reservoirVersion"] + (each["index"] >= 0) for each in tables}


def record_reference_version(checkpoint: str, table: str, version: int) -> None:
    """Records which version of a reference table the query's batches read from now on."""
    write_atomically(_reference(checkpoint, table), {"version": version})


def reference_version(checkpoint: str, table: str) -> int | None:
    """The recorded version, or None."""
    return _read_marker(_reference(checkpoint, table), "version")


def _reference(checkpoint: str, table: str) -> Path:
    return Path(checkpoint) / f"reference.{table}.json"


def _latest_entry(log: Path) -> int | None:
    return max(_entries(log), default=None)


def _entries(log: Path) -> Iterator[int]:
    return (int(entry.name) for entry in log.glob("[0-9]*") if entry.name.isdigit())


def _offset_entry(checkpoint: str, batch: int) -> dict[str, Any]:
    return _parse_or_raise(Path(checkpoint) / "offsets" / str(batch), _RESTORE_HINT, _parse_log_entry)


def _commit_entry(checkpoint: str, batch: int) -> dict[str, Any]:
    return _parse_or_raise(Path(checkpoint) / "commits" / str(batch), _RESTORE_HINT, _parse_log_entry)


def _has_pending_windows(checkpoint: str, batch: int) -> bool:
    before = _offset_entry(checkpoint, batch).get("batchWatermarkMs", 0)
    after = _commit_entry(checkpoint, batch).get("nextBatchWatermarkMs", 0)
    return bool(after > before)
