"""The oracle accepts tables that hold the truth, and names every departure from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from oracle import Account, check
from weather_lake import (
    ALERTS,
    BRONZE,
    DOMAIN,
    HOURLY,
    INGESTED,
    QUARANTINE,
    RAW,
    SCHEMAS,
    SENT,
    SILVER,
    SLIDING,
    VALUES,
    Lake,
    account_of,
    added,
    alert,
    at,
    changed,
    doubled,
    envelope,
    raw_record,
    reading,
    refusal,
    scenario,
    silver_row,
    window,
    without,
    write,
)


def test_accepts_the_truth(tmp_path: Path) -> None:
    """Tables that hold the truth pass, and the account adds up."""
    write(tmp_path, scenario())
    account = account_of(tmp_path, RAW)
    assert account == Account(rows_in=7, valid=3, quarantined=2, duplicates=1, late=1)


def test_an_empty_run_is_true(tmp_path: Path) -> None:
    """No records and no tables are a run with nothing to do."""
    assert account_of(tmp_path, []) == Account(0, 0, 0, 0, 0)


def test_orphans_and_compaction_change_nothing(tmp_path: Path) -> None:
    """A file of a killed run is invisible; an optimize commit is no batch."""
    write(tmp_path, scenario())
    file = next((tmp_path / SILVER).glob("*.parquet"))
    shutil.copy(file, file.with_name("part-orphan.parquet"))
    log = tmp_path / SILVER / "_delta_log"
    shutil.copy(log / f"{1:020}.json", log / f"{0:020}.{1:020}.compacted.json")
    DeltaTable(tmp_path / SILVER).optimize.compact()
    DeltaTable(tmp_path / SILVER).create_checkpoint()
    assert account_of(tmp_path, RAW).valid == 3


def test_sums_and_averages_may_differ_by_rounding(tmp_path: Path) -> None:
    """1e-9 relative is allowed in a sum; a minimum is exact."""
    lake = scenario()
    lake[HOURLY][0]["rain_total_mm"] = 8.000000000000002
    write(tmp_path / "sum", lake)
    assert account_of(tmp_path / "sum", RAW).valid == 3
    lake[HOURLY][0]["temperature_min_c"] = 10.000000000000002
    assert "another temperature_min_c: 1" in refusal(tmp_path / "minimum", lake, RAW)


def keep_late(lake: Lake) -> None:
    del lake[QUARANTINE][1]
    lake[SILVER].append(silver_row(3, 1, "c", "06:39:59.999"))


def quarantine_valid(lake: Lake) -> None:
    del lake[SILVER][1]
    lake[QUARANTINE].append({**envelope(1), "batch": 0, "failed_expectations": ["is_on_time"]})


TOGETHER = "silver and quarantine together, against bronze/weather_readings: rows"
OPEN = window("11:00", 1, -1.5, -1.5, -1.5, None, None, None)
OPEN_SLIDING = window("08:30", 1, 20.5, 20.5, 20.5, None, 18.0, 4.0)
HEAT = alert("heat", "11:00", "d", "temperature_c", -1.5, 35.0)
FAULTS = {
    "bronze lacks a row": (without(BRONZE, 3), f"{BRONZE}: rows missing: 1"),
    "bronze doubles a row": (doubled(BRONZE, 3), f"{BRONZE}: rows more than once: 1"),
    "bronze changes a value": (
        changed(BRONZE, 0, value=VALUES[0] + b" "),
        f"{BRONZE}: rows with another value: 1",
    ),
    "bronze empties a tombstone": (
        changed(BRONZE, 2, value=b""),
        f"{BRONZE}: rows with another value: 1",
    ),
    "bronze loses a key": (changed(BRONZE, 1, key=None), f"{BRONZE}: rows with another key: 1"),
    "bronze moves a timestamp": (changed(BRONZE, 1, source_timestamp=INGESTED), "another source_timestamp: 1"),
    "bronze has a row of nowhere": (
        added(BRONZE, {**envelope(0), "source": "other"}),
        "unexpected or more than once: 1",
    ),
    "bronze has an offset too many": (
        added(BRONZE, {**envelope(0), "offset": 9}),
        f"{BRONZE}: rows unexpected: 1",
    ),
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
    "silver changes a value": (
        changed(SILVER, 0, rain_mm=4.000000000000001),
        f"{SILVER}: rows with another rain_mm: 1",
    ),
    "silver loses a value": (changed(SILVER, 0, rain_mm=None), "expected=4.0, actual=None"),
    "silver moves a time": (
        changed(SILVER, 0, time=at("08:10:00.000001")),
        f"{SILVER}: rows with another time: 1",
    ),
    "silver renames a device": (
        changed(SILVER, 0, device="d2"),
        f"{SILVER}: rows with another device: 1",
    ),
    "rescued data lose a type": (
        changed(SILVER, 2, _rescued_data='{"battery":{"ok":"true","volts":"3"}}'),
        f"{SILVER}: rows with another _rescued_data: 1",
    ),
    "rescued data are empty": (
        changed(SILVER, 0, _rescued_data="{}"),
        f"{SILVER}: rows with another _rescued_data: 1",
    ),
    "silver forgets its provenance": (
        changed(SILVER, 0, ingested_at=SENT),
        f"{SILVER}: rows with another ingested_at: 1",
    ),
    "quarantine changes a value": (
        changed(QUARANTINE, 3, value=b"?"),
        f"{QUARANTINE}: rows with another value: 1",
    ),
    "quarantine drops headers": (
        changed(QUARANTINE, 3, headers=None),
        f"{QUARANTINE}: rows with another headers: 1",
    ),
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
    "heavy rain is missing": (without(ALERTS, 2), "gold/weather_alerts: rows missing: 1"),
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
    assert said.splitlines()[0] == "bronze/weather_readings: rows unexpected: 5, such as"
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
    assert account_of(tmp_path, raw) == Account(2, 1, 0, 1, 0)


def test_refuses_rows_that_no_batch_wrote(tmp_path: Path) -> None:
    """A commit without a txn action leaves its rows without a batch."""
    lake = scenario()
    lake[SILVER] = lake[SILVER][:2]
    write(tmp_path, lake)
    schema = pa.schema(SCHEMAS[SILVER].items())
    write_deltalake(tmp_path / SILVER, pa.Table.from_pylist(scenario()[SILVER][2:], schema), mode="append")
    with pytest.raises(AssertionError, match=f"{SILVER}, files of its batches against the table: rows missing: 1"):
        check(tmp_path, DOMAIN, RAW)


def test_refuses_a_batch_with_two_commits(tmp_path: Path) -> None:
    """A replayed batch that is not skipped is seen even where its rows are not."""
    write(tmp_path, scenario())
    again = CommitProperties(app_transactions=[Transaction("silver", 1)])
    empty = pa.schema(SCHEMAS[SILVER].items()).empty_table()
    write_deltalake(tmp_path / SILVER, empty, mode="append", commit_properties=again)
    with pytest.raises(AssertionError, match="batch 1 has more than one commit"):
        check(tmp_path, DOMAIN, RAW)


def test_refuses_a_column_of_another_type(tmp_path: Path) -> None:
    """The schema is part of the truth."""
    write(tmp_path, scenario())
    shutil.rmtree(tmp_path / ALERTS)
    rows = pa.Table.from_pylist(scenario()[ALERTS], pa.schema(SCHEMAS[ALERTS].items()))
    rows = rows.set_column(5, "value", rows["value"].cast(pa.string())).append_column("note", pa.nulls(3, pa.string()))
    write_deltalake(tmp_path / ALERTS, rows)
    with pytest.raises(AssertionError) as refused:
        check(tmp_path, DOMAIN, RAW)
    assert "unexpected column note" in str(refused.value)
    assert "column value is string, not double" in str(refused.value)
