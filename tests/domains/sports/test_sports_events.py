"""The generated timeline: deterministic, in order, and as eventful as real matches."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import datetime, timedelta

import pytest

from streaming_lakehouse.domains.sports.events import SCHEMA, generate
from streaming_lakehouse.domains.sports.fixtures import MATCHES_AT_ONCE, SLOTS, TEAMS, fixture_of
from streaming_lakehouse.pipeline import Event

ROWS = 60_000
SEED = 17


@pytest.fixture(scope="module")
def timeline() -> list[Event]:
    return [generate(row, SEED) for row in range(ROWS)]


def test_a_row_is_a_function_of_its_number_and_the_seed(timeline: list[Event]) -> None:
    """In any order, from an empty cache or a full one; another seed plays other matches."""
    for row in random.Random(1).sample(range(ROWS), 200):
        assert generate(row, SEED) == timeline[row]
    assert generate(5_000, SEED + 1) != timeline[5_000]


def test_changing_an_event_does_not_change_the_next_copy() -> None:
    event = generate(40, SEED)
    event.fields["time"] = "changed"
    assert generate(40, SEED).fields["time"] != "changed"


def test_events_are_json_with_the_fields_of_the_schema(timeline: list[Event]) -> None:
    known = set(SCHEMA.names)
    for event in timeline:
        assert event.fields.keys() <= known
    assert json.loads(json.dumps(timeline[40].fields)) == timeline[40].fields


def test_ids_are_unique_and_rulings_are_about_events_that_exist(timeline: list[Event]) -> None:
    ids = {event.fields["event_id"] for event in timeline}
    related = {event.fields["related_event_id"] for event in timeline if "related_event_id" in event.fields}
    assert len(ids) == ROWS
    assert related <= ids


def test_rows_are_in_event_time_order_up_to_a_few_minutes(timeline: list[Event]) -> None:
    """Matches run side by side, and a correction may overtake its goal."""
    newest = datetime.fromisoformat(timeline[0].fields["time"])
    for event in timeline:
        time = datetime.fromisoformat(event.fields["time"])
        assert newest - time < timedelta(minutes=3)
        newest = max(newest, time)


def test_every_label_occurs_and_the_episodes_name_their_match(timeline: list[Event]) -> None:
    labels = Counter(event.label for event in timeline)
    assert labels.keys() == {
        *("clean", "duplicate_goal", "unstarted_match", "early_correction"),
        *("goal_canceled_after_end", "goal_canceled_next_day"),
    }
    assert min(labels.values()) >= 4
    for event in timeline:
        assert (event.episode is not None) == (event.label in ("duplicate_goal", "unstarted_match"))
        if event.episode:
            assert (event.episode.kind, event.episode.entity) == (event.label, event.fields["match_id"])


def test_an_early_correction_is_delivered_before_its_goal(timeline: list[Event]) -> None:
    rows = {event.fields["event_id"]: row for row, event in enumerate(timeline)}
    early = [event for event in timeline if event.label == "early_correction"]
    for correction in early:
        goal = rows[correction.fields["related_event_id"]]
        assert goal > rows[correction.fields["event_id"]]
        assert timeline[goal].fields["time"] < correction.fields["time"]


@pytest.mark.parametrize(
    ("kinds", "least", "most"),
    [
        (("score_change",), 2.7, 3.5),  # as reported: with canceled goals and duplicates
        (("shot_on_target", "shot_off_target", "score_change"), 21.0, 24.5),
        (("corner_kick",), 8.6, 10.2),
        (("yellow_card",), 3.0, 3.8),
        (("red_card", "yellow_red_card"), 0.07, 0.25),
        (("video_assistant_referee",), 0.25, 0.55),
    ],
)
def test_a_match_has_as_many_of_each_as_real_ones(
    timeline: list[Event], kinds: tuple[str, ...], least: float, most: float
) -> None:
    matches = ROWS / SLOTS
    assert least < sum(event.fields["type"] in kinds for event in timeline) / matches < most


def test_a_season_is_a_double_round_robin() -> None:
    """Each pair of a league meets twice, once at each ground, and no team plays twice on a day."""
    fixtures = [fixture_of(number) for number in range(2 * MATCHES_AT_ONCE * 2 * (TEAMS - 1))]
    pairs = Counter((fixture.season_id, fixture.home_team, fixture.away_team) for fixture in fixtures)
    assert len(pairs) == 4 * TEAMS * (TEAMS - 1)
    assert set(pairs.values()) == {1}
    teams_a_day = Counter((f.kick_off.date(), team) for f in fixtures for team in (f.home_team, f.away_team))
    assert set(teams_a_day.values()) == {1}
    assert len({fixture.season_id for fixture in fixtures}) == 4
    home = Counter(fixture.home_team for fixture in fixtures)
    assert set(home.values()) == {TEAMS - 1}
