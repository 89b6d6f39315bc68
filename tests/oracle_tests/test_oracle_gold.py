"""Gold at its edges: thresholds, rounding, windows before 1970."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from oracle import Account, RawRecord, check, load_domain
from weather_lake import (
    ALERTS,
    BRONZE,
    DOMAIN,
    HOURLY,
    INGESTED,
    PROVENANCE,
    QUARANTINE,
    RAW,
    SCHEMAS,
    SILVER,
    SLIDING,
    Lake,
    Row,
    account_of,
    alert,
    at,
    raw_record,
    reading,
    refusal,
    scenario,
    window,
    window_at,
    write,
)


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
    assert account_of(tmp_path, raw) == Account(4, 3, 1, 0, 0)


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
    assert account_of(tmp_path, raw).valid == len(raw)


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
    assert account_of(tmp_path / "true", raw).valid == len(raw)
    lake[ALERTS] = [] if is_stuck else alerts
    assert "gold/weather_alerts: rows" in refusal(tmp_path / "false", lake, raw)


def test_a_column_may_have_a_tolerance_of_its_own(tmp_path: Path) -> None:
    """A share of the expected value; without it, as in a minimum, the last bit counts."""
    lake = scenario()
    lake[HOURLY][0]["temperature_min_c"] = 10.000001
    write(tmp_path, lake)
    with pytest.raises(AssertionError, match="another temperature_min_c: 1"):
        check(tmp_path, DOMAIN, RAW)
    weather = load_domain("weather")
    tolerant = replace(weather.gold[0], rounded={"temperature_min_c": 1e-6})
    assert check(tmp_path, replace(weather, gold=(tolerant,)), RAW)["weather_readings"].valid == 3
