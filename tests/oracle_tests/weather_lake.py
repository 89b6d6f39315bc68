"""A small lake of weather, made by hand, that holds the truth; and what spoils it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake
from oracle import Account, RawRecord, check, load_domain

Row = dict[str, Any]
Lake = dict[str, list[Row]]
TOPIC = "weather-readings"
SENT = datetime(2026, 1, 1, 11, 59, tzinfo=UTC)
INGESTED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TIMESTAMP = pa.timestamp("us", tz="UTC")
ENVELOPE = {
    "key": pa.binary(),
    "value": pa.binary(),
    "headers": pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()})),
    "source": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "source_timestamp": TIMESTAMP,
    "ingested_at": TIMESTAMP,
}
MEASURES = ("temperature_c", "humidity_pct", "pressure_hpa", "wind_speed_m_s", "rain_mm")
PROVENANCE = ("source", "partition", "offset", "source_timestamp", "ingested_at")
AGGREGATES = (
    "temperature_min_c",
    "temperature_avg_c",
    "temperature_max_c",
    "humidity_avg_pct",
    "wind_speed_max_m_s",
    "rain_total_mm",
)
WINDOW = {
    "device": pa.string(),
    "window_start": TIMESTAMP,
    "window_end": TIMESTAMP,
    "readings": pa.int64(),
    **dict.fromkeys(AGGREGATES, pa.float64()),
}
SCHEMAS = {
    "bronze/weather_readings": ENVELOPE,
    "silver/weather_readings": {
        "event_id": pa.string(),
        "device": pa.string(),
        "time": TIMESTAMP,
        **dict.fromkeys(MEASURES, pa.float64()),
        "_rescued_data": pa.string(),
        **{name: ENVELOPE[name] for name in PROVENANCE},
        "backfilled_at": TIMESTAMP,
    },
    "quarantine/weather_readings": {**ENVELOPE, "failed_expectations": pa.list_(pa.string())},
    "gold/weather_device_hourly": WINDOW,
    "gold/weather_device_sliding": WINDOW,
    "gold/weather_alerts": {
        "device": pa.string(),
        "alert": pa.string(),
        "time": TIMESTAMP,
        "event_id": pa.string(),
        "measure": pa.string(),
        "value": pa.float64(),
        "threshold": pa.float64(),
    },
}
BRONZE, SILVER, QUARANTINE, HOURLY, SLIDING, ALERTS = SCHEMAS
_WEATHER = load_domain("weather")
# The tables of this lake: the one with the stations' registry is left to the pipeline's contract test.
DOMAIN = replace(_WEATHER, gold=tuple(gold for gold in _WEATHER.gold if f"gold/{gold.table}" in SCHEMAS))


def at(clock: str) -> datetime:
    """A moment of the day of the scenario: `08:10` or `06:39:59.999`."""
    return datetime.fromisoformat(f"2026-01-01T{clock}+00:00")


def reading(event_id: str = "a", clock: str = "08:10:00", **fields: Any) -> bytes:
    """A record's value."""
    return json.dumps({"event_id": event_id, "device": "d1", "time": f"2026-01-01T{clock}Z", **fields}).encode()


def raw_record(value: bytes | None, offset: int = 0) -> RawRecord:
    return RawRecord(b"k", value, TOPIC, 0, offset, SENT)


def write(root: Path, lake: Lake) -> None:
    """Writes the tables; those that are as in another test are copies, which takes a tenth of the time."""
    for table, rows in lake.items():
        known = _WRITTEN.get((table, repr(rows)))
        if known is None:
            known = _WRITTEN[table, repr(rows)] = Path(_FOLDER.name, str(len(_WRITTEN)))
            _write_table(known, pa.schema(SCHEMAS[table].items()), rows)
        shutil.copytree(known, root / table)


def _write_table(path: Path, schema: pa.Schema, rows: list[Row]) -> None:
    """Rows of silver and quarantine are committed batch by batch, as the stream would."""
    batches = sorted({row["batch"] for row in rows if "batch" in row})
    if not batches:
        write_deltalake(path, pa.Table.from_pylist(rows, schema))
    for batch in batches:
        chosen = pa.Table.from_pylist([row for row in rows if row["batch"] == batch], schema)
        commit = CommitProperties(app_transactions=[Transaction("silver", batch)])
        write_deltalake(path, chosen, mode="append", commit_properties=commit)


_FOLDER = TemporaryDirectory(prefix="weather-lake-")
_WRITTEN: dict[tuple[str, str], Path] = {}


def account_of(root: Path, raw: list[RawRecord]) -> Account:
    return check(root, DOMAIN, raw)["weather_readings"]


def refusal(root: Path, lake: Lake, raw: list[RawRecord]) -> str:
    """What the oracle says of a lake that it must refuse."""
    write(root, lake)
    with pytest.raises(AssertionError) as refused:
        check(root, DOMAIN, raw)
    return str(refused.value)


VALUES: list[Any] = [
    reading("a", "08:10:00", temperature_c=10, humidity_pct=50, wind_speed_m_s=5, rain_mm=4),
    reading("b", "08:40:00", temperature_c=20.5, wind_speed_m_s=18, rain_mm=4),
    None,
    reading("c", "06:39:59.999"),
    reading("a", "08:10:00"),
    reading("d", "11:00:00", temperature_c=-1.5, battery={"volts": 3, "ok": True}),
    reading("e", "11:00:00", temperature_c=99),
]
RAW = [raw_record(value, offset) for offset, value in enumerate(VALUES)]


def envelope(offset: int) -> Row:
    headers = [{"key": "trace", "value": b"\xff"}]
    return {**RAW[offset]._asdict(), "ingested_at": INGESTED, "headers": headers}


def silver_row(offset: int, batch: int, event_id: str, clock: str, *measures: float | None) -> Row:
    return {
        **{name: envelope(offset)[name] for name in PROVENANCE},
        **dict(zip(MEASURES, measures, strict=False)),
        "batch": batch,
        "event_id": event_id,
        "device": "d1",
        "time": at(clock),
    }


def window_at(start: datetime, readings: int, *aggregates: float | None) -> Row:
    """A window of one hour."""
    measures = dict(zip(AGGREGATES, aggregates, strict=True))
    end = start + timedelta(hours=1)
    return {"device": "d1", "window_start": start, "window_end": end, "readings": readings, **measures}


def window(start: str, readings: int, *aggregates: float | None) -> Row:
    return window_at(at(start), readings, *aggregates)


def alert(name: str, clock: str, event_id: str | None, measure: str, *bounds: float) -> Row:
    row = {"device": "d1", "alert": name, "time": at(clock), "event_id": event_id}
    return {**row, "measure": measure, "value": bounds[0], "threshold": bounds[1]}


def scenario() -> Lake:
    """What must become of RAW in two batches: offsets 0 to 2, and 3 to 6 with the watermark at 06:40."""
    refused = [
        (2, 0, "record_is_present"),
        (3, 1, "is_on_time"),
        (4, 1, "is_first_delivery"),
        (6, 1, "temperature_in_range"),
    ]
    return {
        BRONZE: [envelope(offset) for offset in range(len(RAW))],
        SILVER: [
            silver_row(0, 0, "a", "08:10", 10.0, 50.0, None, 5.0, 4.0),
            silver_row(1, 0, "b", "08:40", 20.5, None, None, 18.0, 4.0),
            {**silver_row(5, 1, "d", "11:00", -1.5), "_rescued_data": '{"battery":{"ok":true, "volts":3}}'},
        ],
        QUARANTINE: [
            {**envelope(offset), "batch": batch, "failed_expectations": [name]} for offset, batch, name in refused
        ],
        HOURLY: [window("08:00", 2, 10.0, 15.25, 20.5, 50.0, 18.0, 8.0)],
        SLIDING: [
            window("07:30", 1, 10.0, 10.0, 10.0, 50.0, 5.0, 4.0),
            window("08:00", 2, 10.0, 15.25, 20.5, 50.0, 18.0, 8.0),
        ],
        ALERTS: [
            alert("gale", "08:40", "b", "wind_speed_m_s", 18.0, 17.2),
            alert("frost", "11:00", "d", "temperature_c", -1.5, 0.0),
            alert("heavy_rain", "09:00", None, "rain_total_mm", 8.0, 7.6),
        ],
    }


def changed(table: str, row: int, **values: Any) -> Callable[[Lake], None]:
    return lambda lake: lake[table][row].update(values)


def without(table: str, row: int) -> Callable[[Lake], None]:
    return lambda lake: lake[table].__delitem__(row)


def doubled(table: str, row: int) -> Callable[[Lake], None]:
    return lambda lake: lake[table].append(copy.copy(lake[table][row]))


def added(table: str, row: Row) -> Callable[[Lake], None]:
    return lambda lake: lake[table].append(row)
