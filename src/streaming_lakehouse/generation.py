"""Makes a pipeline's test data: seeded, replayable by row number, with labelled faults mixed in."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

from streaming_lakehouse.errors import LakehouseError

CLEAN = "clean"
_LATE_BY_HOURS = 3.0  # more than any watermark in this project, so that a late row is late wherever batches are cut
_DUPLICATE_REACH = 500  # rows; a producer's retry repeats something recent


class Event(NamedTuple):
    """One event before faults are mixed in: its JSON fields, and `clean` or the name of its anomaly."""

    fields: dict[str, Any]
    label: str = CLEAN


class Record(NamedTuple):
    """One record as a source delivers it. `label` is the truth about it and is never part of the record."""

    key: bytes | None
    value: bytes | None
    label: str


@dataclass(frozen=True)
class Events:
    """What a domain tells about its events.

    `generate(row, seed)` is a pure function: the same row and seed give the same event on every machine.
    `impossible` holds, for each field with a valid range, a value outside of it.
    """

    generate: Callable[[int, int], Event]
    key: str
    time: str
    impossible: Mapping[str, float]


@dataclass(frozen=True)
class Shares:
    """The shares of faulty rows, each between 0 and 1; what is left is sound."""

    duplicates: float = 0.02
    late: float = 0.01
    broken: float = 0.01
    unknown_fields: float = 0.005

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Shares:
        """The shares named in `options`. Raises LakehouseError for one that is no number in [0, 1]."""
        given = {name.lower(): value for name, value in options.items()}  # as Spark compares names
        shares = {name: given[name] for name in SHARES if name in given}
        try:
            made = cls(**{name: float(text) for name, text in shares.items()})
        except ValueError as error:
            raise LakehouseError(f"generator: a share is a number from 0 to 1, not {shares}") from error
        parts = [made.duplicates, made.late, made.broken, made.unknown_fields]
        if not (min(parts) >= 0 and sum(parts) <= 1):  # as it stands, since a NaN is neither
            raise LakehouseError(f"generator: shares are at least 0 and together at most 1, not {shares}")
        return made


SHARES = tuple(field.name for field in fields(Shares))


def uniforms(seed: int, *place: int) -> tuple[float, ...]:
    """Eight numbers in [0, 1) that depend on the seed and the place alone (a counter-based generator)."""
    digest = blake2b(struct.pack(f"<{len(place) + 1}q", seed, *place)).digest()
    return tuple(number / 2**64 for number in struct.unpack("<8Q", digest))


def records(events: Events, *, seed: int, start: int, end: int, shares: Shares) -> Iterator[Record]:
    """The records of rows `start` to `end` (exclusive); any cut into ranges gives the same records."""
    for row in range(start, end):
        yield _record(events, row, seed, shares)


def check_last(events: Events, *, seed: int, end: int, shares: Shares, otherwise: str) -> None:
    """Raises LakehouseError where the row before `end` needs more than a date or 64 bits can hold."""
    row = max(end - 1, 0)
    try:
        list(records(events, seed=seed, start=row, end=row + 1, shares=shares))
    except (OverflowError, struct.error) as error:
        raise LakehouseError(f"generator: row {row:,} of seed {seed} cannot be made ({error}); {otherwise}") from error


def _record(events: Events, row: int, seed: int, shares: Shares) -> Record:
    fault = _fault(row, seed, shares)
    if fault == "duplicate":
        row = _repeated_row(row, seed, shares)
    event = events.generate(row, seed)
    key = str(event.fields[events.key]).encode()
    if fault == "broken":
        return _broken(events, event, key, uniforms(seed, row, 2))
    if fault == "late":
        _shift(event.fields, events.time, timedelta(hours=-_LATE_BY_HOURS * (1 + uniforms(seed, row, 2)[0])))
    if fault == "unknown_field":
        event.fields["firmware"] = "2.1"
    return Record(key, _json(event.fields), fault or event.label)


def _fault(row: int, seed: int, shares: Shares) -> str | None:
    left = uniforms(seed, row, 1)[0]
    for name, share in (
        ("duplicate", shares.duplicates if row else 0.0),
        ("late", shares.late),
        ("broken", shares.broken),
        ("unknown_field", shares.unknown_fields),
    ):
        if left < share:
            return name
        left -= share
    return None


def _repeated_row(row: int, seed: int, shares: Shares) -> int:
    """An earlier row without a fault, so that the repeat is the same to the byte; row 0 where there is none."""
    earlier = row - 1 - int(uniforms(seed, row, 1)[1] * min(row, _DUPLICATE_REACH))
    while earlier > 0 and _fault(earlier, seed, shares):
        earlier -= 1
    return max(earlier, 0)


def _broken(events: Events, event: Event, key: bytes, dice: tuple[float, ...]) -> Record:
    kinds: dict[str, Callable[[], bytes | None]] = {
        "null": lambda: None,
        "empty": lambda: b"",
        "not_utf8": lambda: _json(event.fields).replace(b'"', b'"\xff\xfe', 1),
        "not_json": lambda: _json(event.fields)[:-10],
        "wrong_type": lambda: _json({**event.fields, _pick(events, dice): "n/a"}),
        "missing_field": lambda: _json({k: v for k, v in event.fields.items() if k != events.time}),
        "out_of_range": lambda: _json({**event.fields, _pick(events, dice): events.impossible[_pick(events, dice)]}),
        "far_future": lambda: _json(_shift(event.fields, events.time, timedelta(days=36_525))),
    }
    kind = list(kinds)[int(dice[0] * len(kinds))]
    return Record(key, kinds[kind](), kind)


def _pick(events: Events, dice: tuple[float, ...]) -> str:
    return list(events.impossible)[int(dice[1] * len(events.impossible))]


def _shift(event: dict[str, Any], time: str, by: timedelta) -> dict[str, Any]:
    event[time] = iso_utc(datetime.fromisoformat(event[time]) + by)
    return event


def iso_utc(time: datetime) -> str:
    """ISO 8601 with milliseconds and Z, e.g. 2026-01-01T00:00:00.000Z."""
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _json(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
