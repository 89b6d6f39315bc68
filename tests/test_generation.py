"""The generator's records: reproducible, replayable from any row, and labelled truly."""

import json
from collections import Counter

import pytest

from streaming_lakehouse.domains.weather.events import EVENTS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import Record, Shares, records

NO_FAULTS = Shares(duplicates=0, late=0, broken=0, unknown_fields=0)


def made(start: int, end: int, seed: int = 7, shares: Shares | None = None) -> list[Record]:
    return list(records(EVENTS, seed=seed, start=start, end=end, shares=shares or Shares()))


def test_any_cut_into_ranges_gives_the_same_records() -> None:
    """A stream that resumes at any offset continues as if it had never stopped."""
    assert made(0, 700) + made(700, 701) + made(701, 2_000) == made(0, 2_000)


def test_another_seed_gives_other_records() -> None:
    """Seeds are independent of each other, event ids included."""
    assert not {record.value for record in made(0, 500, seed=1)} & {
        record.value for record in made(0, 500, seed=2, shares=NO_FAULTS)
    }


def test_shares_are_met() -> None:
    """Each fault has about the share asked for (within 4 standard deviations of 20,000 draws)."""
    labels = Counter(record.label for record in made(0, 20_000, shares=Shares(0.1, 0.05, 0.2, 0)))
    broken = sum(labels[kind] for kind in ("null", "empty", "not_utf8", "not_json", "wrong_type"))
    broken += labels["missing_field"] + labels["out_of_range"] + labels["far_future"]
    assert labels["duplicate"] == pytest.approx(2_000, abs=170)
    assert labels["late"] == pytest.approx(1_000, abs=125)
    assert broken == pytest.approx(4_000, abs=230)
    assert labels["unknown_field"] == 0


def test_a_duplicate_repeats_an_earlier_sound_record_to_the_byte() -> None:
    """What is labelled a duplicate is one, and nothing else is."""
    seen: set[bytes] = set()
    for record in made(0, 10_000):
        assert (record.value in seen) == (record.label == "duplicate") or record.label in ("null", "empty")
        seen.add(record.value or b"")


def test_without_faults_every_record_is_a_whole_event() -> None:
    """Shares of zero leave clean readings and labelled episodes alone."""
    rows = made(0, 3_000, shares=NO_FAULTS)
    events = [json.loads(record.value or b"") for record in rows]
    assert len({event["event_id"] for event in events}) == 3_000
    assert {record.label for record in rows} <= {"clean", "frost", "heat", "gale", "heavy_rain", "stuck_sensor"}


@pytest.mark.parametrize(
    "options", [{"late": "x"}, {"late": "-0.1"}, {"duplicates": "0.6", "broken": "0.6"}, {"late": "nan"}]
)
def test_impossible_shares_are_refused(options: dict[str, str]) -> None:
    """A share that is no number from 0 to 1, or shares above 1 together, are named."""
    with pytest.raises(LakehouseError, match="share"):
        Shares.of(options)
