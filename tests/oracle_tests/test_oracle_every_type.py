"""A table with a column of every type: values that went through Parquet are those that were read from JSON."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake
from oracle import Account, RawRecord, check
from oracle.every_type import DOMAIN

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MICROS = pa.timestamp("us", tz="UTC")
ENVELOPE = {
    "key": pa.binary(),
    "value": pa.binary(),
    "headers": pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()})),
    "source": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "source_timestamp": MICROS,
    "ingested_at": MICROS,
}
ADDRESS = pa.struct({"city": pa.string(), "zip": pa.string(), "since": pa.date32()})
ATTRIBUTES = pa.map_(pa.string(), pa.list_(pa.float64()))
ITEM = pa.struct({"sku": pa.string(), "price": pa.decimal128(8, 2), "quantity": pa.int16(), "attributes": ATTRIBUTES})
# column -> (its type, the JSON name, the JSON value, the column's value)
COLUMNS: dict[str, tuple[Any, str, Any, Any]] = {
    "event_id": (pa.string(), "eventId", "a", "a"),
    "at": (MICROS, "@timestamp", "2026-01-01T13:00:00.5+01:00", NOON.replace(microsecond=500_000)),
    "note": (pa.string(), "note", None, None),
    "is_gift": (pa.bool_(), "isGift", True, True),
    "tiny": (pa.int8(), "tiny", -128, -128),
    "small": (pa.int16(), "small", 32767, 32767),
    "count": (pa.int32(), "count", 0, 0),
    "total": (pa.int64(), "total", 2**63 - 1, 2**63 - 1),
    "ratio": (pa.float32(), "ratio", 0.1, 0.1),
    "score": (pa.float64(), "score", 0.1, 0.1),
    "amount": (pa.decimal128(10, 2), "amount", 12.5, Decimal("12.50")),
    "fine": (pa.decimal128(38, 18), "fine.value", 1, Decimal(1)),
    "day": (pa.date32(), "day", "2024-02-29", date(2024, 2, 29)),
    "local_at": (MICROS, "localTime", "2026-01-01 13:00:00", NOON),
    "seconds_at": (MICROS, "ts", 1_767_268_800, NOON),
    "millis_at": (MICROS, "offset", 1_767_268_800_000, NOON),
    "micros_at": (MICROS, "partition", 1_767_268_800_000_001, NOON.replace(microsecond=1)),
    "payload": (pa.binary(), "value", "AP8=", b"\x00\xff"),
    "names": (pa.list_(pa.string()), "names", ["b", None, "a"], ["b", None, "a"]),
    "numbers": (pa.list_(pa.int32()), "numbers", [], []),
    "times": (pa.list_(MICROS), "times", [1_767_268_800_000], [NOON]),
    "tags": (pa.map_(pa.string(), pa.int32()), "tags", {"x": 1, "a": 2}, [("a", 2), ("x", 1)]),
    "labels": (pa.map_(pa.string(), pa.string()), "key", {}, []),
    "address": (
        ADDRESS,
        "address",
        {"City": "Ulm", "id.since": "1970-01-01"},
        {"city": "Ulm", "since": date(1970, 1, 1)},
    ),
    "items": (
        pa.list_(ITEM),
        "items",
        [{"sku": "s", "unitPrice": 0.1, "quantity": 3, "attributes": {"w": [1, 2.5]}}],
        [{"sku": "s", "price": Decimal("0.10"), "quantity": 3, "attributes": [("w", [1.0, 2.5])]}],
    ),
    "grid": (pa.list_(pa.list_(pa.int32())), "grid", [[1], None, []], [[1], None, []]),
    "stations": (
        pa.map_(pa.string(), pa.struct({"lat": pa.float64(), "seen_at": MICROS})),
        "stations",
        {"u": {"lat": 48, "seen": "1767268800"}},
        [("u", {"lat": 48.0, "seen_at": NOON})],
    ),
    "lower_id": (pa.int32(), "id", 1, 1),
    "upper_id": (pa.int32(), "ID", 2, 2),
    "größe": (pa.float64(), "größe", 1.8, 1.8),
}
VALUE = json.dumps({name: value for _, name, value, _ in COLUMNS.values()}).encode()
RAW = [RawRecord(None, VALUE, "events", 0, 0, NOON)]
BRONZE = {**RAW[0]._asdict(), "ingested_at": NOON}
OTHERS = {
    "tiny": -127,
    "ratio": 0.2,
    "amount": Decimal("12.51"),
    "day": date(2024, 3, 1),
    "times": [NOON.replace(microsecond=1)],
    "tags": [("a", 2), ("x", 2)],
    "address": {"city": "Ulm", "since": date(1970, 1, 2)},
    "items": [{"sku": "s", "price": Decimal("0.10"), "quantity": 3, "attributes": [("w", [1.0, 2.6])]}],
    "grid": [[1], [], []],
    "stations": [("u", {"lat": 48.0, "seen_at": None})],
}


def write(root: Path, **changes: Any) -> None:
    provenance = {name: ENVELOPE[name] for name in ("source", "partition", "offset", "source_timestamp", "ingested_at")}
    others = {"_rescued_data": pa.string(), **provenance, "backfilled_at": ENVELOPE["ingested_at"]}
    schema = pa.schema({**{name: each[0] for name, each in COLUMNS.items()}, **others})
    row = {name: each[3] for name, each in COLUMNS.items()} | {name: BRONZE[name] for name in provenance}
    commit = CommitProperties(app_transactions=[Transaction("app", 0)])
    write_deltalake(root / "bronze/every_type_events", pa.Table.from_pylist([BRONZE], pa.schema(ENVELOPE)))
    silver = pa.Table.from_pylist([row | changes], schema)
    write_deltalake(root / "silver/every_type_events", silver, commit_properties=commit)


def test_accepts_values_of_every_type(tmp_path: Path) -> None:
    """A map's entries have no order."""
    write(tmp_path)
    assert check(tmp_path, DOMAIN, RAW) == {"every_type_events": Account(1, 1, 0, 0, 0)}
    write(tmp_path / "other", tags=[("x", 1), ("a", 2)])
    assert check(tmp_path / "other", DOMAIN, RAW)["every_type_events"].valid == 1


@pytest.mark.parametrize("column", OTHERS)
def test_refuses_another_value_of_each_type(tmp_path: Path, column: str) -> None:
    """However deep it is."""
    write(tmp_path, **{column: OTHERS[column]})
    with pytest.raises(AssertionError) as refused:
        check(tmp_path, DOMAIN, RAW)
    assert str(refused.value).startswith(f"silver/every_type_events: rows with another {column}: 1, such as")
    assert len(str(refused.value).splitlines()) == 2
