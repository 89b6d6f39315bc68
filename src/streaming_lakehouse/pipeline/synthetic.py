"""Synthetic events for demos and tests: seeded, replayable by row number, with labelled faults mixed in."""

from __future__ import annotations

import json
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

from streaming_lakehouse.errors import LakehouseError

CLEAN = "clean"
_LOOKBACK = 500  # rows; a producer's retry repeats something recent
_BEFORE_ALL = timedelta(hours=2)  # so long that no window, and no level of a detector, holds first rows and earlier
_CENTURY = timedelta(days=36_525)
_PER_SECOND = {"epoch_seconds": 1, "epoch_millis": 1_000, "epoch_micros": 1_000_000}


class Episode(NamedTuple):
    """An anomaly as a detector should find it: all rows of one attack, outage or spree have the same episode.

    `entity` is who or what a detection names: a source address, an account, a device, a channel.
    """

    kind: str
    entity: str
    id: str


class Event(NamedTuple):
    """One event before faults are mixed in: its JSON fields, its label, `clean` or the anomaly's kind, its episode."""

    fields: dict[str, Any]
    label: str = CLEAN
    episode: Episode | None = None


class Record(NamedTuple):
    """One record as a source delivers it. `label`, `episode` and `time` are the truth about it, not part of the record.

    `episode` and `time`, the event time, are those of a record without a fault that belongs to an episode.
    """

    key: bytes | None
    value: bytes | None
    label: str
    episode: Episode | None = None
    time: datetime | None = None


@dataclass(frozen=True)
class EventGenerator:
    """How a domain's events are made up.

    `generate(row, seed)` is a pure function: the same row and seed give the same event on every machine. `key` and
    `time` name the fields with the record's key and the event time, which is written in `time_format`. `out_of_range`
    holds changes, fields with their values, each of which makes any event invalid: at least one for each expectation.
    `unknown_field` is a field that the schema does not know, with its value. Faults that need what is not given here do
    not occur. A late row is one to two times `lateness` behind, and two hours more where no row is so early: that must
    be more than the watermark, so that it is late in every batch but the first, which nothing is behind. `identity`
    holds the fields by which an event is itself and no duplicate: with it a late row says what an event of that earlier
    time says; without, it is the row's own event with an earlier time, which an anomaly then has outside its episode.
    """

    generate: Callable[[int, int], Event]
    key: str
    time: str
    out_of_range: tuple[Mapping[str, Any], ...] = ()
    unknown_field: tuple[str, Any] | None = None
    time_format: Literal["iso_8601", "epoch_seconds", "epoch_millis", "epoch_micros"] = "iso_8601"
    lateness: timedelta = timedelta(hours=3)
    identity: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaultRates:
    """How many of the rows are faulty, each rate between 0 and 1; the rest is valid."""

    duplicates: float = 0.02
    late: float = 0.01
    malformed: float = 0.01
    unknown_fields: float = 0.005

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> FaultRates:
        """The rates named in `options`. Raises LakehouseError for one that is no number in [0, 1]."""
        given = {name.lower(): value for name, value in options.items()}  # as Spark compares names
        rates = {name: given[name] for name in FAULT_RATE_OPTIONS if name in given}
        try:
            made = cls(**{name: float(text) for name, text in rates.items()})
        except ValueError as error:
            raise LakehouseError(f"generator: a fault rate is a number from 0 to 1, not {rates}") from error
        parts = [made.duplicates, made.late, made.malformed, made.unknown_fields]
        if not (min(parts) >= 0 and sum(parts) <= 1):  # not the other way round, since a NaN is neither
            raise LakehouseError(f"generator: fault rates are at least 0 and together at most 1, not {rates}")
        return made


FAULT_RATE_OPTIONS = tuple(field.name for field in fields(FaultRates))


def uniform_randoms(seed: int, *counter: int) -> tuple[float, ...]:
    """Eight numbers in [0, 1) that depend on the seed and the counter alone (a counter-based generator)."""
    digest = blake2b(struct.pack(f"<{len(counter) + 1}q", seed, *counter)).digest()
    return tuple(number / 2**64 for number in struct.unpack("<8Q", digest))


def generate_records(
    generator: EventGenerator, *, seed: int, start: int, end: int, rates: FaultRates
) -> Iterator[Record]:
    """The records of rows `start` to `end` (exclusive); any division into ranges gives the same records."""
    for row in range(start, end):
        yield _record(generator, row, seed, rates)


def check_representable(generator: EventGenerator, *, seed: int, end: int, rates: FaultRates, hint: str) -> None:
    """Raises LakehouseError, with the hint, where the row before `end` needs more than a date or 64 bits can hold."""
    row = max(end - 1, 0)
    try:
        list(generate_records(generator, seed=seed, start=row, end=row + 1, rates=rates))
    except (OverflowError, struct.error) as error:
        raise LakehouseError(f"generator: row {row:,} of seed {seed} cannot be made ({error}); {hint}") from error


def _record(generator: EventGenerator, row: int, seed: int, rates: FaultRates) -> Record:
    fault = _choose_fault(generator, row, seed, rates)
    if fault == "duplicate":
        row = _duplicated_row(generator, row, seed, rates)
    event = generator.generate(row, seed)
    if fault == "late":
        event = _late(generator, event, row, seed)
    key = str(event.fields[generator.key]).encode()
    if fault == "malformed":
        return _malformed(generator, event, key, uniform_randoms(seed, row, 2))
    if fault == "unknown_field" and generator.unknown_field:
        name, value = generator.unknown_field
        event.fields[name] = value
    if fault or not event.episode:
        return Record(key, _json(event.fields), fault or event.label)
    return Record(key, _json(event.fields), event.label, event.episode, _event_time(event.fields, generator))


def _choose_fault(generator: EventGenerator, row: int, seed: int, rates: FaultRates) -> str | None:
    left = uniform_randoms(seed, row, 1)[0]
    for name, rate in (
        ("duplicate", rates.duplicates if row else 0.0),
        ("late", rates.late),
        ("malformed", rates.malformed),
        ("unknown_field", rates.unknown_fields if generator.unknown_field else 0.0),
    ):
        if left < rate:
            return name
        left -= rate
    return None


def _duplicated_row(generator: EventGenerator, row: int, seed: int, rates: FaultRates) -> int:
    """An earlier row without a fault, so that the duplicate is identical byte for byte; row 0 where there is none."""
    earlier = row - 1 - int(uniform_randoms(seed, row, 1)[1] * min(row, _LOOKBACK))
    while earlier > 0 and _choose_fault(generator, earlier, seed, rates):
        earlier -= 1
    return max(earlier, 0)


def _late(generator: EventGenerator, event: Event, row: int, seed: int) -> Event:
    """The row's event as one that is late."""
    dice = uniform_randoms(seed, row, 2)
    behind = generator.lateness * (1 + dice[0])

    def time_of(each: int) -> datetime:
        return _event_time(generator.generate(each, seed).fields, generator)

    time = _event_time(event.fields, generator) - behind
    if time <= time_of(0):
        behind += _BEFORE_ALL
    elif generator.identity:
        earlier = bisect_left(range(row), time, key=time_of)
        earlier -= int(dice[1] * min(earlier, _LOOKBACK))  # of any key: rows of one time are often in their order
        own = {name: event.fields[name] for name in generator.identity}
        return Event({**generator.generate(earlier, seed).fields, **own})
    return event._replace(fields=_shift(event.fields, generator, -behind))


def _malformed(generator: EventGenerator, event: Event, key: bytes, dice: tuple[float, ...]) -> Record:
    """A record that must go to quarantine; its label says why."""
    valid = event.fields
    changes = generator.out_of_range
    change = changes[int(dice[1] * len(changes))] if changes else {}
    kinds: dict[str, Callable[[], bytes | None]] = {
        "null": lambda: None,
        "empty": lambda: b"",
        "not_utf8": lambda: _json(valid).replace(b'"', b'"\xff\xfe', 1),
        "not_json": lambda: _json(valid)[:-10],
        "wrong_type": lambda: _json({**valid, **_wrong_type(valid, change)}),
        "missing_field": lambda: _json({name: value for name, value in valid.items() if name != generator.time}),
        "out_of_range": lambda: _json({**valid, **change}),
        "far_future": lambda: _json(_shift(valid, generator, _CENTURY)),
        "before_1970": lambda: _json(_shift(valid, generator, -_CENTURY)),
    }
    possible = [kind for kind in kinds if change or kind not in ("wrong_type", "out_of_range")]
    kind = possible[int(dice[0] * len(possible))]
    return Record(key, kinds[kind](), kind)


def _wrong_type(event: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The change's first field as a number where it is a string, and the other way round."""
    name, value = next(iter(change.items()))
    return {name: 12_345 if isinstance(event.get(name, value), str) else "n/a"}


def _shift(event: dict[str, Any], generator: EventGenerator, by: timedelta) -> dict[str, Any]:
    """Moves the event time, in the format that it has."""
    time = event[generator.time]
    if generator.time_format == "iso_8601":
        event[generator.time] = iso_utc(datetime.fromisoformat(time) + by)
    else:
        per_second = _PER_SECOND[generator.time_format]
        moved = float(time) + by.total_seconds() * per_second
        if isinstance(time, str):
            event[generator.time] = f"{moved:.6f}"  # as Slack writes seconds
        else:
            event[generator.time] = round(moved) if isinstance(time, int) else round(moved, 6)
    return event


def _event_time(event: Mapping[str, Any], generator: EventGenerator) -> datetime:
    time = event[generator.time]
    if generator.time_format == "iso_8601":
        return datetime.fromisoformat(time)
    return datetime.fromtimestamp(float(time) / _PER_SECOND[generator.time_format], UTC)


def iso_utc(time: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and Z, e.g. 2026-01-01T00:00:00.000Z."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _json(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
