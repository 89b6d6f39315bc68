"""The oracle on hand-made records and tables: it accepts the truth and names every departure from it."""

from __future__ import annotations

import copy
import gzip
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from oracle import (
    HOUR,
    Account,
    Event,
    RawRecord,
    check,
    classify,
    main,
    micros_of,
    parse_time,
    read_files,
    read_topic,
    rejected_deliveries,
)

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


def at(clock: str) -> datetime:
    """A moment of the day of the scenario: `08:10` or `06:39:59.999`."""
    return datetime.fromisoformat(f"2026-01-01T{clock}+00:00")


def reading(event_id: str = "a", clock: str = "08:10:00", **fields: Any) -> bytes:
    """A record's value."""
    return json.dumps({"event_id": event_id, "device": "d1", "time": f"2026-01-01T{clock}Z", **fields}).encode()


def raw_record(value: bytes | None, offset: int = 0) -> RawRecord:
    return RawRecord(b"k", value, TOPIC, 0, offset, SENT)


def reasons(value: bytes | None) -> list[str]:
    return classify(raw_record(value), INGESTED)[1]


def write(root: Path, lake: Lake) -> None:
    """Writes the tables; rows of silver and quarantine are committed batch by batch, as the stream would."""
    for table, rows in lake.items():
        schema = pa.schema(SCHEMAS[table].items())
        batches = sorted({row["batch"] for row in rows if "batch" in row})
        write_deltalake(root / table, schema.empty_table())
        for batch in batches or [None]:
            chosen = [row for row in rows if row.get("batch") == batch]
            commit = CommitProperties(app_transactions=[Transaction("silver", batch)]) if batches else None
            data = pa.Table.from_pylist(chosen, schema)
            write_deltalake(root / table, data, mode="append", commit_properties=commit)


def refusal(root: Path, lake: Lake, raw: list[RawRecord]) -> str:
    """What the oracle says of a lake that it must refuse."""
    write(root, lake)
    with pytest.raises(AssertionError) as refused:
        check(root, raw)
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


def test_accepts_the_truth(tmp_path: Path) -> None:
    """Tables that hold the truth pass, and the account adds up."""
    write(tmp_path, scenario())
    account = check(tmp_path, RAW)
    assert account == Account(rows_in=7, valid=3, quarantined=2, duplicates=1, late=1)


def test_an_empty_run_is_true(tmp_path: Path) -> None:
    """No records and no tables are a run with nothing to do."""
    assert check(tmp_path, []) == Account(0, 0, 0, 0, 0)


def test_orphans_and_compaction_change_nothing(tmp_path: Path) -> None:
    """A file of a killed run is invisible; an optimize commit is no batch."""
    write(tmp_path, scenario())
    file = next((tmp_path / SILVER).glob("*.parquet"))
    shutil.copy(file, file.with_name("part-orphan.parquet"))
    log = tmp_path / SILVER / "_delta_log"
    shutil.copy(log / f"{1:020}.json", log / f"{0:020}.{1:020}.compacted.json")
    DeltaTable(tmp_path / SILVER).optimize.compact()
    DeltaTable(tmp_path / SILVER).create_checkpoint()
    assert check(tmp_path, RAW).valid == 3


def test_sums_and_averages_may_differ_by_rounding(tmp_path: Path) -> None:
    """1e-9 relative is allowed in a sum; a minimum is exact."""
    lake = scenario()
    lake[HOURLY][0]["rain_total_mm"] = 8.000000000000002
    write(tmp_path / "sum", lake)
    assert check(tmp_path / "sum", RAW).valid == 3
    lake[HOURLY][0]["temperature_min_c"] = 10.000000000000002
    assert "another temperature_min_c: 1" in refusal(tmp_path / "minimum", lake, RAW)


def changed(table: str, row: int, **values: Any) -> Callable[[Lake], None]:
    return lambda lake: lake[table][row].update(values)


def without(table: str, row: int) -> Callable[[Lake], None]:
    return lambda lake: lake[table].__delitem__(row)


def doubled(table: str, row: int) -> Callable[[Lake], None]:
    return lambda lake: lake[table].append(copy.copy(lake[table][row]))


def added(table: str, row: Row) -> Callable[[Lake], None]:
    return lambda lake: lake[table].append(row)


def keep_late(lake: Lake) -> None:
    del lake[QUARANTINE][1]
    lake[SILVER].append(silver_row(3, 1, "c", "06:39:59.999"))


def quarantine_valid(lake: Lake) -> None:
    del lake[SILVER][1]
    lake[QUARANTINE].append({**envelope(1), "batch": 0, "failed_expectations": ["is_on_time"]})


TOGETHER = "silver and quarantine together, against bronze: rows"
OPEN = window("11:00", 1, -1.5, -1.5, -1.5, None, None, None)
OPEN_SLIDING = window("08:30", 1, 20.5, 20.5, 20.5, None, 18.0, 4.0)
HEAT = alert("heat", "11:00", "d", "temperature_c", -1.5, 35.0)
FAULTS = {
    "bronze lacks a row": (without(BRONZE, 3), "bronze: rows missing: 1"),
    "bronze doubles a row": (doubled(BRONZE, 3), "bronze: rows more than once: 1"),
    "bronze changes a value": (changed(BRONZE, 0, value=VALUES[0] + b" "), "bronze: rows with another value: 1"),
    "bronze empties a tombstone": (changed(BRONZE, 2, value=b""), "bronze: rows with another value: 1"),
    "bronze loses a key": (changed(BRONZE, 1, key=None), "bronze: rows with another key: 1"),
    "bronze moves a timestamp": (changed(BRONZE, 1, source_timestamp=INGESTED), "another source_timestamp: 1"),
    "bronze has a row of nowhere": (
        added(BRONZE, {**envelope(0), "source": "other"}),
        "unexpected or more than once: 1",
    ),
    "bronze has an offset too many": (added(BRONZE, {**envelope(0), "offset": 9}), "bronze: rows unexpected: 1"),
    "bronze forgets ingested_at": (changed(BRONZE, 1, ingested_at=None), "rows without ingested_at: 1"),
    "silver lacks a row": (without(SILVER, 1), f"{TOGETHER} missing: 1"),
    "silver doubles a row": (doubled(SILVER, 1), f"{TOGETHER} more than once: 1"),
    "a row is in both": (added(QUARANTINE, {**envelope(1), "batch": 0}), f"{TOGETHER} more than once: 1"),
    "quarantine invents a row": (
        added(QUARANTINE, {**envelope(1), "offset": 8, "batch": 0}),
        f"{TOGETHER} unexpected: 1",
    ),
    "silver keeps a late row": (keep_late, "expected=['is_on_time'], actual=[]"),
    "quarantine takes a valid row": (quarantine_valid, "expected=[], actual=['is_on_time']"),
    "a wrong reason": (
        changed(QUARANTINE, 3, failed_expectations=["humidity_in_range"]),
        "expected=['temperature_in_range'], actual=['humidity_in_range']",
    ),
    "a reason too many": (
        changed(QUARANTINE, 0, failed_expectations=["record_is_present", "is_on_time"]),
        "actual=['record_is_present', 'is_on_time']",
    ),
    "silver changes a value": (changed(SILVER, 0, rain_mm=4.000000000000001), "silver: rows with another rain_mm: 1"),
    "silver loses a value": (changed(SILVER, 0, rain_mm=None), "expected=4.0, actual=None"),
    "silver moves a time": (changed(SILVER, 0, time=at("08:10:00.000001")), "silver: rows with another time: 1"),
    "silver renames a device": (changed(SILVER, 0, device="d2"), "silver: rows with another device: 1"),
    "rescued data lose a type": (
        changed(SILVER, 2, _rescued_data='{"battery":{"ok":"true","volts":"3"}}'),
        "silver: rows with another _rescued_data: 1",
    ),
    "rescued data are empty": (changed(SILVER, 0, _rescued_data="{}"), "silver: rows with another _rescued_data: 1"),
    "silver forgets its provenance": (changed(SILVER, 0, ingested_at=SENT), "silver: rows with another ingested_at: 1"),
    "quarantine changes a value": (changed(QUARANTINE, 3, value=b"?"), "quarantine: rows with another value: 1"),
    "quarantine drops headers": (changed(QUARANTINE, 3, headers=None), "quarantine: rows with another headers: 1"),
    "an open window is there": (added(HOURLY, OPEN), "gold/weather_device_hourly: rows unexpected: 1"),
    "an open sliding window is there": (
        added(SLIDING, OPEN_SLIDING),
        "gold/weather_device_sliding: rows unexpected: 1",
    ),
    "a closed window is absent": (without(HOURLY, 0), "gold/weather_device_hourly: rows missing: 1"),
    "a closed sliding window is absent": (without(SLIDING, 0), "gold/weather_device_sliding: rows missing: 1"),
    "a window is there twice": (doubled(HOURLY, 0), "gold/weather_device_hourly: rows more than once: 1"),
    "a window counts wrongly": (
        changed(HOURLY, 0, readings=3),
        "gold/weather_device_hourly: rows with another readings: 1",
    ),
    "a window's average is off": (changed(HOURLY, 0, temperature_avg_c=15.2500001), "another temperature_avg_c: 1"),
    "a window's sum is NaN": (changed(HOURLY, 0, rain_total_mm=float("nan")), "another rain_total_mm: 1"),
    "a window's end is off": (changed(HOURLY, 0, window_end=at("09:30")), "another window_end: 1"),
    "an alert is missing": (without(ALERTS, 1), "gold/weather_alerts: rows missing: 1"),
    "an alert is there twice": (doubled(ALERTS, 0), "gold/weather_alerts: rows more than once: 1"),
    "an alert too many": (added(ALERTS, HEAT), "gold/weather_alerts: rows unexpected: 1"),
    "an alert's value is off": (changed(ALERTS, 1, value=-1.4), "gold/weather_alerts: rows with another value: 1"),
    "heavy rain is missing": (without(ALERTS, 2), "gold/weather_alerts, heavy_rain: rows missing: 1"),
}


@pytest.mark.parametrize(("spoil", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_refuses_a_fault_and_names_it(tmp_path: Path, spoil: Callable[[Lake], None], message: str) -> None:
    """One fault in one table is enough, and the message says what and how many."""
    lake = scenario()
    spoil(lake)
    assert message in refusal(tmp_path, lake, RAW)


def test_a_difference_shows_three_examples(tmp_path: Path) -> None:
    """All are counted, three are shown, moments readable."""
    lake = scenario()
    for row in lake[SILVER]:
        row["time"] += timedelta(seconds=1)
    lake[BRONZE] += [{**envelope(0), "offset": offset} for offset in range(10, 15)]
    said = refusal(tmp_path / "bronze", lake, RAW)
    assert said.splitlines()[0] == "bronze: rows unexpected: 5, such as"
    assert len(said.splitlines()) == 4
    assert said.splitlines()[1] == "  source='weather-readings', partition=0, offset=10"
    del lake[BRONZE][-5:]
    assert "expected=" in refusal(tmp_path / "silver", lake, RAW)


def test_the_batch_decides_what_is_late(tmp_path: Path) -> None:
    """Were all rows of one batch, nothing could be late, so the very same tables are wrong."""
    lake = scenario()
    for row in lake[SILVER] + lake[QUARANTINE]:
        row["batch"] = 0
    assert "offset=3, expected=[], actual=['is_on_time']" in refusal(tmp_path, lake, RAW)


def test_batches_count_in_their_order_not_in_that_of_the_offsets(tmp_path: Path) -> None:
    """The first delivery is the one of the earlier batch."""
    lake: Lake = {table: [] for table in SCHEMAS}
    raw = [raw_record(reading(), offset) for offset in (0, 1)]
    lake[BRONZE] = [{**record._asdict(), "ingested_at": INGESTED} for record in raw]
    lake[SILVER] = [silver_row(1, 0, "a", "08:10")]
    lake[QUARANTINE] = [{**lake[BRONZE][0], "batch": 1, "failed_expectations": ["is_first_delivery"]}]
    write(tmp_path, lake)
    assert check(tmp_path, raw) == Account(2, 1, 0, 1, 0)


def test_edges_belong_where_the_contract_says(tmp_path: Path) -> None:
    """Thresholds are met by equality, a window may begin before 1970, the earlier arrival bounds the time."""
    first = datetime(1970, 1, 1, tzinfo=UTC)
    events: list[Row] = [
        {"time": first, "temperature_c": 0.0},
        {"time": first + timedelta(minutes=10), "temperature_c": 35.0, "wind_speed_m_s": 17.2},
        {"time": first + timedelta(minutes=210)},
        {"time": first + timedelta(hours=10, microseconds=1)},
    ]
    lake: Lake = {table: [] for table in SCHEMAS}
    raw = []
    for offset, event in enumerate(events):
        value = json.dumps({**event, "time": event["time"].isoformat(), "event_id": str(offset), "device": "d1"})
        raw.append(raw_record(value.encode(), offset)._replace(source_timestamp=first + timedelta(hours=9)))
        lake[BRONZE].append({**raw[-1]._asdict(), "ingested_at": INGESTED})
        provenance = {name: lake[BRONZE][-1][name] for name in PROVENANCE}
        lake[SILVER].append({**event, **provenance, "event_id": str(offset), "device": "d1", "batch": 0})
    del lake[SILVER][3]
    lake[QUARANTINE] = [{**lake[BRONZE][3], "batch": 0, "failed_expectations": ["time_is_not_ahead"]}]
    both = (2, 0.0, 17.5, 35.0, None, 17.2, None)
    lake[HOURLY] = [window_at(first, *both)]
    lake[SLIDING] = [window_at(first - timedelta(minutes=30), *both), *lake[HOURLY]]
    warm = events[1]["time"]
    lake[ALERTS] = [
        {**alert("frost", "00:00", "0", "temperature_c", 0.0, 0.0), "time": first},
        {**alert("heat", "00:00", "1", "temperature_c", 35.0, 35.0), "time": warm},
        {**alert("gale", "00:00", "1", "wind_speed_m_s", 17.2, 17.2), "time": warm},
    ]
    write(tmp_path, lake)
    assert check(tmp_path, raw) == Account(4, 3, 1, 0, 0)


def test_refuses_rows_that_no_batch_wrote(tmp_path: Path) -> None:
    """A commit without a txn action leaves its rows without a batch."""
    lake = scenario()
    lake[SILVER] = lake[SILVER][:2]
    write(tmp_path, lake)
    schema = pa.schema(SCHEMAS[SILVER].items())
    write_deltalake(tmp_path / SILVER, pa.Table.from_pylist(scenario()[SILVER][2:], schema), mode="append")
    with pytest.raises(AssertionError, match="silver, files of its batches against the table: rows missing: 1"):
        check(tmp_path, RAW)


def test_refuses_a_batch_with_two_commits(tmp_path: Path) -> None:
    """A replayed batch that is not skipped is seen even where its rows are not."""
    write(tmp_path, scenario())
    again = CommitProperties(app_transactions=[Transaction("silver", 1)])
    empty = pa.schema(SCHEMAS[SILVER].items()).empty_table()
    write_deltalake(tmp_path / SILVER, empty, mode="append", commit_properties=again)
    with pytest.raises(AssertionError, match="batch 1 has more than one commit"):
        check(tmp_path, RAW)


def test_refuses_a_column_of_another_type(tmp_path: Path) -> None:
    """The schema is part of the truth."""
    write(tmp_path, scenario())
    shutil.rmtree(tmp_path / ALERTS)
    rows = pa.Table.from_pylist(scenario()[ALERTS], pa.schema(SCHEMAS[ALERTS].items()))
    rows = rows.set_column(5, "value", rows["value"].cast(pa.string())).append_column("note", pa.nulls(3, pa.string()))
    write_deltalake(tmp_path / ALERTS, rows)
    with pytest.raises(AssertionError) as refused:
        check(tmp_path, RAW)
    assert "unexpected column note" in str(refused.value)
    assert "column value is string, not double" in str(refused.value)


def hours_of_rain_and_heat(rains: list[float], temperatures: list[float]) -> tuple[Lake, list[RawRecord]]:
    """One closed hour with these rains, one a minute from 01:00, another with these temperatures from 03:00."""
    hours = [(1, "rain_mm", rains), (3, "temperature_c", temperatures), (8, "temperature_c", [1.0])]
    readings = [(f"0{hour}:{n:02}", name, v) for hour, name, values in hours for n, v in enumerate(values)]
    raw: list[RawRecord] = []
    lake: Lake = {table: [] for table in SCHEMAS}
    for offset, (clock, name, value) in enumerate(readings):
        record = raw_record(reading(str(offset), f"{clock}:00", **{name: value}), offset)
        raw.append(record)
        lake[BRONZE].append({**record._asdict(), "ingested_at": INGESTED})
        provenance = {name: lake[BRONZE][-1][name] for name in PROVENANCE}
        row = {"event_id": str(offset), "device": "d1", "time": at(clock), name: value, "batch": 0}
        lake[SILVER].append({**row, **provenance})
    low, high = min(temperatures), max(temperatures)
    average = sum(temperatures) / len(temperatures)
    wet = (len(rains), None, None, None, None, None, sum(rains))
    warm = (len(temperatures), low, average, high, None, None, None)
    lake[HOURLY] = [window("01:00", *wet), window("03:00", *warm)]
    half = [window("00:30", *wet), window("02:30", *warm)]
    lake[SLIDING] = lake[HOURLY] + half
    return lake, raw


@pytest.mark.parametrize("is_reported", [True, False])
def test_rain_within_rounding_of_the_threshold_may_be_either(tmp_path: Path, is_reported: bool) -> None:
    """7.6 added up in another order is more or less than 7.6, so both are true."""
    lake, raw = hours_of_rain_and_heat([0.1] * 6 + [7.0], [1.0])
    if is_reported:
        lake[ALERTS] = [alert("heavy_rain", "02:00", None, "rain_total_mm", 7.600000000000001, 7.6)]
    write(tmp_path, lake)
    assert check(tmp_path, raw).valid == len(raw)


@pytest.mark.parametrize(
    ("temperatures", "is_stuck"),
    [
        ([20.0] * 29 + [20.09], True),
        ([20.0] * 29, False),
        ([20.0] * 29 + [20.2], False),
    ],
)
def test_a_stuck_sensor_has_30_readings_within_a_tenth(
    tmp_path: Path, temperatures: list[float], is_stuck: bool
) -> None:
    """Both bounds count, in both directions."""
    lake, raw = hours_of_rain_and_heat([1.0], temperatures)
    spread = max(temperatures) - min(temperatures)
    alerts = [alert("stuck_sensor", "04:00", None, "temperature_spread_c", spread, 0.1)]
    lake[ALERTS] = alerts if is_stuck else []
    write(tmp_path / "true", lake)
    assert check(tmp_path / "true", raw).valid == len(raw)
    lake[ALERTS] = [] if is_stuck else alerts
    assert "gold/weather_alerts: rows" in refusal(tmp_path / "false", lake, raw)


DEEP = b'{"a":' + b"[" * 998 + b"]" * 998 + b"}"
RECORDS = [
    (None, "record_is_present"),
    (b"", "record_is_not_empty"),
    (b" \t\r\n", "record_is_not_empty"),
    (b" " * 1_048_577, "record_is_at_most_1_mib"),
    (b"{" + b" " * 1_048_576, "record_is_at_most_1_mib"),
    (b'{"a":"\xff"}', "record_is_utf8"),
    (b'{"a":"\xed\xa0\x80"}', "record_is_utf8"),
    (b"{}{}", "record_is_one_json_object"),
    (b"{} x", "record_is_one_json_object"),
    (b"[{}]", "record_is_one_json_object"),
    (b"null", "record_is_one_json_object"),
    (b'"text"', "record_is_one_json_object"),
    (b'{"a":NaN}', "record_is_one_json_object"),
    (b'{"a":-Infinity}', "record_is_one_json_object"),
    (b"{'a':1}", "record_is_one_json_object"),
    (b'{"a":01}', "record_is_one_json_object"),
    (b'{"a":1.}', "record_is_one_json_object"),
    (b'{"a":1,}', "record_is_one_json_object"),
    (b'{"a":"\n"}', "record_is_one_json_object"),
    (b'\xef\xbb\xbf{"a":1}', "record_is_one_json_object"),
    (b'{"a":' + DEEP + b"}", "record_is_one_json_object"),
    (b"[" * 100_000, "record_is_one_json_object"),
    (b'{"a":1,"a":1}', "record_has_unique_keys"),
    (b'{"a":1,"\\u0061":2}', "record_has_unique_keys"),
    (b'{"a":[{"b":1,"b":1}]}', "record_has_unique_keys"),
    (b'{"a":"\\ud800"}', "record_is_utf8"),
    (b'{"a":[{"\\ud800":1,"\\ud801":1}]}', "record_is_utf8"),
    (b'{"a":' + b"1" * 1001 + b"}", "record_is_one_json_object"),
    (b'{"a":1.' + b"1" * 1000 + b"}", "record_is_one_json_object"),
    (b'{"' + b"a" * 50_001 + b'":1}', "record_is_one_json_object"),
]


@pytest.mark.parametrize(("value", "reason"), RECORDS, ids=[f"{str(v)[:24]}: {r}" for v, r in RECORDS])
def test_a_record_fails_the_first_expectation_it_does_not_meet(value: bytes | None, reason: str) -> None:
    """What is no single JSON object has one reason."""
    assert reasons(value) == [reason]


@pytest.mark.parametrize("extra", [DEEP[5:-1], b"1" * 1000, b"-0." + b"1" * 1000, b'"[[[{{{"', b"1e999"])
def test_unusual_json_is_still_json(extra: bytes) -> None:
    """Depth 999, numbers of 1,000 digits, brackets in strings."""
    assert reasons(b'{"x":' + extra + b"," + reading()[1:]) == []


def test_a_record_of_exactly_1_mib_is_small_enough() -> None:
    """The limit itself is allowed."""
    assert reasons(reading().ljust(1_048_576)) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"event_id": 1, "device": False, "time": 5}, ["event_id_is_string", "device_is_string", "time_is_timestamp"]),
        ({"temperature_c": "1", "rain_mm": True}, ["temperature_c_is_double", "rain_mm_is_double"]),
        ({"humidity_pct": [], "pressure_hpa": {}}, ["humidity_pct_is_double", "pressure_hpa_is_double"]),
        ({"wind_speed_m_s": "x", "temperature_c": 99}, ["wind_speed_m_s_is_double"]),
        (
            {"event_id": "", "device": None, "time": None},
            ["event_id_is_present", "time_is_present", "device_is_present"],
        ),
        ({"temperature_c": -90, "humidity_pct": 0, "pressure_hpa": 850, "wind_speed_m_s": 0, "rain_mm": 0}, []),
        ({"temperature_c": 60, "humidity_pct": 100, "pressure_hpa": 1090, "wind_speed_m_s": 120, "rain_mm": 500}, []),
        (
            {
                "temperature_c": -91,
                "humidity_pct": 101,
                "pressure_hpa": 849,
                "wind_speed_m_s": -0.1,
                "rain_mm": 10**400,
            },
            ["temperature_in_range", "humidity_in_range", "pressure_in_range", "wind_speed_in_range", "rain_in_range"],
        ),
        ({"time": "2026-01-01T12:59:00Z"}, []),
        ({"time": "2026-01-01T12:59:00.000001Z"}, ["time_is_not_ahead"]),
        ({"time": "1970-01-01T00:00:00Z"}, []),
        ({"time": "1969-12-31T23:59:59.999999Z"}, ["time_is_not_before_1970"]),
        ({"time": "0000-02-29T00:00:00Z"}, ["time_is_not_before_1970"]),
        ({"time": "2026-01-01T14:00:00Z", "rain_mm": -1}, ["rain_in_range", "time_is_not_ahead"]),
    ],
)
def test_a_stage_reports_all_that_fails(fields: Row, expected: list[str]) -> None:
    """Types first; only where they pass, presence, ranges and arrival, each in the schema's order."""
    assert reasons(reading(**fields)) == expected


def test_the_earlier_of_the_two_arrivals_counts() -> None:
    """A broker's clock that runs ahead does not let the future in."""
    record = RawRecord(None, reading(clock="13:00:00.000001"), TOPIC, 0, 0, INGESTED + timedelta(hours=5))
    assert classify(record, INGESTED)[1] == ["time_is_not_ahead"]
    assert classify(record._replace(source_timestamp=None), INGESTED)[1] == ["time_is_not_ahead"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001999Z", 1),
        ("1970-01-01T00:00:00.5Z", 500_000),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("1970-01-01T01:30:00+01:30", 0),
        ("1969-12-31T23:00:00-01:00", 0),
        ("2024-02-29T00:00:00Z", micros_of(datetime(2024, 2, 29, tzinfo=UTC))),
        ("0001-01-01T00:00:00+01:00", micros_of(datetime(1, 1, 1, tzinfo=UTC)) - HOUR),
        ("0000-12-31T06:00:00-18:00", micros_of(datetime(1, 1, 1, tzinfo=UTC))),
        ("2026-01-01T00:00:00+18:01", None),
        ("2023-02-29T00:00:00Z", None),
        ("2026-01-01T24:00:00Z", None),
        ("2026-01-01T23:59:60Z", None),
        ("2026-01-01T00:00:00", None),
        ("2026-01-01 00:00:00Z", None),
        ("2026-01-01T00:00Z", None),
        ("2026-01-01T00:00:00.Z", None),
        ("2026-01-01T00:00:00.1234567890Z", None),
        ("2026-01-01T00:00:00z", None),
        ("2026-01-01T00:00:00+0100", None),
        ("2026-01-01T00:00:00+01:60", None),
        ("2026-01-01T00:00:00Z\n", None),
        ("٢٠٢٦-01-01T00:00:00Z", None),
        (5, None),
    ],
)
def test_a_time_has_one_form(text: Any, expected: int | None) -> None:
    """Fractions beyond microseconds are cut off; an offset is applied; nothing else is a time."""
    assert parse_time(text) == expected


def test_an_event_has_its_values_and_the_unknown_fields() -> None:
    """An int is a double; unknown fields keep their types and case, JSON null included."""
    value = reading(temperature_c=3, Rain_mm=1.50, note=None, long=12345678901234567890, extra=["1", 1, True])
    event, failed = classify(raw_record(value), INGESTED)
    assert failed == []
    assert event is not None
    rescued = '{"Rain_mm": 1.5, "extra": ["1", 1, true], "long": 12345678901234567890, "note": null}'
    assert event == Event("a", "d1", micros_of(at("08:10")), 3.0, None, None, None, None, rescued)
    assert isinstance(event.temperature_c, float)


def test_escapes_of_a_whole_pair_and_of_nul_are_characters() -> None:
    """So is a backslash that is escaped itself."""
    value = b'{"event_id":"\\ud83d\\ude00\\u0000","device":"\\\\ud800","time":"2026-01-01T08:10:00Z"}'
    event, failed = classify(raw_record(value), INGESTED)
    assert failed == []
    assert event is not None
    assert (event.event_id, event.device) == ("\U0001f600\0", "\\ud800")


def delivery(batch: int, row: int, event_id: str, hours: float) -> tuple[int, int, str, int]:
    return batch, row, event_id, int(hours * HOUR)


@pytest.mark.parametrize(
    ("rows", "rejected"),
    [
        pytest.param([delivery(0, 0, "a", 9), delivery(0, 1, "b", 1)], [], id="the first batch has no watermark"),
        pytest.param([delivery(0, 0, "a", 9), delivery(1, 1, "b", 7)], [], id="at the watermark is on time"),
        pytest.param(
            [delivery(0, 0, "a", 9), (1, 1, "b", 7 * HOUR - 1)], [(1, "is_on_time")], id="a microsecond before is late"
        ),
        pytest.param(
            [delivery(0, 0, "a", 9), delivery(1, 1, "b", 20), delivery(1, 2, "c", 8)],
            [],
            id="a batch is not its own past",
        ),
        pytest.param(
            [delivery(0, 0, "a", 9), delivery(0, 1, "a", 8)], [(1, "is_first_delivery")], id="twice in one batch"
        ),
        pytest.param(
            [delivery(0, 0, "a", 9), delivery(3, 1, "a", 9)], [(1, "is_first_delivery")], id="again in a later batch"
        ),
        pytest.param(
            [delivery(0, 0, "a", 1), delivery(0, 1, "b", 9), delivery(1, 2, "a", 9)],
            [],
            id="forgotten by the watermark",
        ),
        pytest.param(
            [delivery(0, 0, "b", 9), delivery(1, 1, "a", 1), delivery(1, 2, "a", 9)],
            [(1, "is_on_time")],
            id="a late row does not take its event's place",
        ),
        pytest.param(
            [delivery(0, 0, "b", 9), delivery(0, 1, "a", 8), delivery(1, 2, "a", 1), delivery(2, 3, "a", 9)],
            [(2, "is_on_time"), (3, "is_first_delivery")],
            id="late goes before duplicate",
        ),
        pytest.param(
            [delivery(0, 0, "a", 7), delivery(0, 1, "b", 9), delivery(1, 2, "a", 7)],
            [(2, "is_first_delivery")],
            id="known at the watermark",
        ),
        pytest.param(
            [delivery(0, 0, "a", 9), delivery(1, 1, "b", 8), delivery(2, 2, "c", 6.5)],
            [(2, "is_on_time")],
            id="the watermark never goes back",
        ),
    ],
)
def test_late_and_repeated_deliveries(rows: list[tuple[int, int, str, int]], rejected: list[tuple[int, str]]) -> None:
    """The watermark and the known events come from earlier batches, in (batch, row) order."""
    assert list(rejected_deliveries(rows)) == rejected


def landed(folder: Path) -> list[RawRecord]:
    """Two files, one of them packed, with the marker files that writers leave."""
    folder.mkdir(parents=True)
    (folder / "one part.json").write_bytes(VALUES[0] + b"\n\n" + VALUES[1])
    (folder / "two.json.gz").write_bytes(gzip.compress(VALUES[5] + b"\n"))
    (folder / "_SUCCESS").touch()
    (folder / ".one part.json.crc").write_bytes(b"crc")
    return read_files(folder)


def test_files_have_a_record_a_line(tmp_path: Path) -> None:
    """An empty line is a record, the end of the last line is not; hidden files are no data."""
    records = landed(tmp_path / "in")
    assert [(Path(r.source).name, r.offset, r.value) for r in records] == [
        ("one part.json", 0, VALUES[0]),
        ("one part.json", 1, b""),
        ("one part.json", 2, VALUES[1]),
        ("two.json.gz", 0, VALUES[5]),
    ]
    assert {r.partition for r in records} == {None}


def lake_of_files() -> Lake:
    """The lake of `landed`: URIs as Spark writes them, and offsets of its own that keep the lines' order."""
    lake = scenario()
    places = [("one%20part.json", 7, VALUES[0]), ("one%20part.json", 8, b""), ("one%20part.json", 20, VALUES[1])]
    places.append(("two.json.gz", 0, VALUES[5]))
    rows = [
        {"value": v, "source": f"file:///landing/{name}", "partition": 0, "offset": offset, "ingested_at": INGESTED}
        for name, offset, v in places
    ]
    lake[BRONZE] = rows
    for row, bronze in zip(lake[SILVER], (rows[0], rows[2], rows[3]), strict=True):
        row.update({name: bronze.get(name) for name in PROVENANCE})
    lake[QUARANTINE] = [{**rows[1], "batch": 0, "failed_expectations": ["record_is_not_empty"]}]
    return lake


def test_accepts_files_under_bronzes_own_offsets(tmp_path: Path) -> None:
    """Only name, lines and their order must agree."""
    raw = landed(tmp_path / "in")
    write(tmp_path / "lake", lake_of_files())
    assert check(tmp_path / "lake", raw) == Account(4, 3, 1, 0, 0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed(BRONZE, 0, offset=9), "files whose lines are not in the file's order: 1"),
        (changed(BRONZE, 0, value=b"x"), "bronze: lines of files missing: 1"),
        (doubled(BRONZE, 3), "bronze: lines of files unexpected or more than once: 1"),
        (changed(BRONZE, 0, source="file:///landing/two.json.gz"), "bronze: lines of files missing: 1"),
        (changed(BRONZE, 2, offset=8), "bronze: lines of files under one partition and offset: 1"),
    ],
)
def test_refuses_other_lines_of_files(tmp_path: Path, spoil: Callable[[Lake], None], message: str) -> None:
    """A lost, doubled, changed, moved or reordered line is named."""
    raw = landed(tmp_path / "in")
    lake = lake_of_files()
    spoil(lake)
    assert message in refusal(tmp_path / "lake", lake, raw)


def test_the_command_prints_the_account_or_the_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0 and the account, or 1 and the difference."""
    landed(tmp_path / "in")
    write(tmp_path / "lake", lake_of_files())
    assert main([str(tmp_path / "lake"), "--files", str(tmp_path / "in")]) == 0
    assert capsys.readouterr().out == "rows_in 4, valid 3, quarantined 1, duplicates 0, late 0\n"
    (tmp_path / "in" / "three.json").write_bytes(b"{}\n")
    assert main([str(tmp_path / "lake"), "--files", str(tmp_path / "in")]) == 1
    assert "lines of files missing: 1" in capsys.readouterr().err


def test_a_topic_is_read_whole() -> None:
    """All partitions of librdkafka's own broker, tombstones, empty values and absent keys as they are."""
    producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
    sent = [(0, b"k", b"v"), (0, None, None), (1, b"", b""), (1, b"k", b"\xff\n"), (1, None, b"{}")]
    for partition, key, value in sent:
        producer.produce(TOPIC, value, key, partition, timestamp=1_767_268_740_123)
    assert producer.flush(10) == 0
    records = sorted(read_topic(f"{broker.host}:{broker.port}", TOPIC), key=lambda r: (r.partition, r.offset))
    assert [(r.partition, r.key, r.value) for r in records] == sent
    assert [r.offset for r in records] == [0, 1, 0, 1, 2]
    assert {r.source_timestamp for r in records} == {SENT + timedelta(milliseconds=123)}
