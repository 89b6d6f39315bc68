"""What becomes of a record: its first failure, all failures of a stage, late and duplicate deliveries."""

from __future__ import annotations

from datetime import timedelta

import pytest
from oracle import RawRecord, classify, rejected_deliveries
from oracle.moments import HOUR, micros_of
from oracle.weather import READINGS
from weather_lake import INGESTED, MEASURES, TOPIC, Row, at, raw_record, reading


def reasons(value: bytes | None) -> list[str]:
    return classify(raw_record(value), INGESTED, READINGS)[1]


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
                "rain_mm": 501,
            },
            ["temperature_in_range", "humidity_in_range", "pressure_in_range", "wind_speed_in_range", "rain_in_range"],
        ),
        ({"temperature_c": -91, "rain_mm": 10**400}, ["rain_mm_is_double"]),
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
    assert classify(record, INGESTED, READINGS)[1] == ["time_is_not_ahead"]
    assert classify(record._replace(source_timestamp=None), INGESTED, READINGS)[1] == ["time_is_not_ahead"]


def test_an_event_has_its_values_and_the_unknown_fields() -> None:
    """An int is a double; unknown fields keep their types and case, JSON null included."""
    value = reading(temperature_c=3, Rain_mm=1.50, note=None, long=12345678901234567890, extra=["1", 1, True])
    row, failed = classify(raw_record(value), INGESTED, READINGS)
    assert failed == []
    assert row is not None
    rescued = '{"Rain_mm": 1.5, "extra": ["1", 1, true], "long": 12345678901234567890, "note": null}'
    measures = dict.fromkeys(MEASURES) | {"temperature_c": 3.0}
    event = {"event_id": "a", "device": "d1", "time": micros_of(at("08:10")), **measures, "_rescued_data": rescued}
    assert {name: row[name] for name in event} == event
    assert isinstance(row["temperature_c"], float)


def test_escapes_of_a_whole_pair_and_of_nul_are_characters() -> None:
    """So is a backslash that is escaped itself."""
    value = b'{"event_id":"\\ud83d\\ude00\\u0000","device":"\\\\ud800","time":"2026-01-01T08:10:00Z"}'
    row, failed = classify(raw_record(value), INGESTED, READINGS)
    assert failed == []
    assert row is not None
    assert (row["event_id"], row["device"]) == ("\U0001f600\0", "\\ud800")


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
            id="a late row is no first delivery",
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
    assert list(rejected_deliveries(rows, 2 * HOUR)) == rejected
