"""The generator's records: reproducible, replayable from any row, and correctly labelled."""

import json
from collections import Counter

import pytest

from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.synthetic import FaultRates, Record, generate_records

NO_FAULTS = FaultRates(duplicates=0, late=0, malformed=0, unknown_fields=0)


def records(start: int, end: int, seed: int = 7, rates: FaultRates | None = None) -> list[Record]:
    return list(generate_records(READINGS, seed=seed, start=start, end=end, rates=rates or FaultRates()))


def test_any_cut_into_ranges_gives_the_same_records() -> None:
    """A stream that resumes at any offset continues as if it had never stopped."""
    assert records(0, 700) + records(700, 701) + records(701, 2_000) == records(0, 2_000)


def test_another_seed_gives_other_records() -> None:
    """Seeds are independent of each other, event ids included."""
    assert not {record.value for record in records(0, 500, seed=1)} & {
        record.value for record in records(0, 500, seed=2, rates=NO_FAULTS)
    }


def test_fault_rates_are_met() -> None:
    """Each fault is about as frequent as requested (within 4 standard deviations of 20,000 draws)."""
    labels = Counter(record.label for record in records(0, 20_000, rates=FaultRates(0.1, 0.05, 0.2, 0)))
    malformed = sum(labels[kind] for kind in ("null", "empty", "not_utf8", "not_json", "wrong_type"))
    malformed += labels["missing_field"] + labels["out_of_range"] + labels["far_future"] + labels["before_1970"]
    assert labels["duplicate"] == pytest.approx(2_000, abs=170)
    assert labels["late"] == pytest.approx(1_000, abs=125)
    assert malformed == pytest.approx(4_000, abs=230)
    assert labels["unknown_field"] == 0


def test_a_duplicate_is_identical_to_an_earlier_record() -> None:
    """Byte for byte; no record without that label is a duplicate."""
    seen: set[bytes] = set()
    for record in records(0, 10_000):
        assert (record.value in seen) == (record.label == "duplicate") or record.label in ("null", "empty")
        seen.add(record.value or b"")


def test_without_faults_every_record_is_a_complete_event() -> None:
    """With rates of zero all records are clean readings or labelled episodes."""
    rows = records(0, 3_000, rates=NO_FAULTS)
    events = [json.loads(record.value or b"") for record in rows]
    assert len({event["event_id"] for event in events}) == 3_000
    assert {record.label for record in rows} <= {"clean", "frost", "heat", "gale", "heavy_rain", "stuck_sensor"}


@pytest.mark.parametrize(
    "options", [{"late": "x"}, {"late": "-0.1"}, {"duplicates": "0.6", "malformed": "0.6"}, {"late": "nan"}]
)
def test_invalid_fault_rates_are_refused(options: dict[str, str]) -> None:
    """A rate that is no number from 0 to 1, or rates above 1 together."""
    with pytest.raises(LakehouseError, match="fault rate"):
        FaultRates.from_options(options)


def test_a_late_record_says_what_was_true_at_its_time() -> None:
    """As a reading that a station could not send: an hour of a stuck sensor has no other reading in it."""
    rates = FaultRates(duplicates=0, late=0.05, malformed=0, unknown_fields=0)
    rows = [(record.label, json.loads(record.value or b"")) for record in records(0, 40_000, rates=rates)]
    hours = [(event["device"], event["time"][:13]) for label, event in rows if label == "stuck_sensor"]
    late = [event for label, event in rows if label == "late" and (event["device"], event["time"][:13]) in hours]
    assert {event["temperature_c"] for event in late} == {11.1}
    assert len({event["event_id"] for _, event in rows}) == 40_000
