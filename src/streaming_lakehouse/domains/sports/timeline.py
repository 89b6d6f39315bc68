"""The rows of the synthetic timeline: every match's events, and before a kick-off sometimes one of the day before."""

from __future__ import annotations

from streaming_lakehouse.domains.sports.fixtures import event_id, fixture_of, number_a_day_before
from streaming_lakehouse.domains.sports.match import match_fields, play, time_after_kick_off
from streaming_lakehouse.pipeline.synthetic import Event, uniform_randoms

_CANCELED_NEXT_DAY = 0.02  # of the matches


def event_at(number: int, slot: int, seed: int) -> Event:
    """The event in a slot of the match with this number."""
    event = _before_kick_off(number, seed) if slot == 0 else play(number, seed).events[slot]
    assert event is not None
    return event


def _before_kick_off(number: int, seed: int) -> Event:
    """Ten minutes before: usually the announcement, sometimes a decision on a goal of the day before."""
    fixture = fixture_of(number)
    delay, is_canceled, *_ = uniform_randoms(seed, number, 1_000)
    fields = {"event_id": event_id(number, 0, seed), "time": time_after_kick_off(fixture, -600 + 30 * delay)}
    before = number_a_day_before(number)
    if is_canceled < _CANCELED_NEXT_DAY and before >= 0 and (goals := play(before, seed).goals):
        related = event_id(before, goals[-1].slot, seed)
        event = match_fields(fixture_of(before), "canceled_goal") | fields
        event |= {"competitor": goals[-1].competitor, "related_event_id": related}
        return Event(event, "goal_canceled_next_day")
    return Event(match_fields(fixture, "match_status") | fields | {"description": "about_to_start"})
