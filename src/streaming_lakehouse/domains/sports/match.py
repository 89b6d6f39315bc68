"""One synthetic match, drawn phase by phase, with reviews, corrections and faults in known slots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from streaming_lakehouse.domains.sports.fixtures import SLOTS, Fixture, event_id, fixture_of
from streaming_lakehouse.domains.sports.phases import PHASE_EVENTS, Draft, phase_of
from streaming_lakehouse.pipeline.synthetic import Episode, Event, iso_utc, uniform_randoms

_PHASES = 19  # in a half
_HALF_S = (47 * 60, 49 * 60)  # with stoppage time
_SECOND_HALF_S = _HALF_S[0] + 15 * 60
_FULL_TIME_S = _SECOND_HALF_S + _HALF_S[1]
_FIRST_SLOT = (3, 3 + _PHASES * PHASE_EVENTS + 2)  # of each half's phases
_AFTER_END = SLOTS - 1

_CANCELED_AFTER_END = 0.03  # of the matches
_UNSTARTED = 0.03
_DUPLICATE_GOAL = "duplicate_goal"
_UNSTARTED_AT = (1, 5)  # half and phase after which the goal of a match that does not exist is reported

_FAMILY_NAMES = (
    "Adeyemi",
    "Bauer",
    "Costa",
    "Dahl",
    "Eriksen",
    "Fofana",
    "Greco",
    "Haddad",
    "Ivanov",
    "Jansen",
    "Kone",
)


class Goal(NamedTuple):
    slot: int
    competitor: str


class Play(NamedTuple):
    """A match's events by slot, and the goals that stand at its end."""

    events: tuple[Event | None, ...]
    goals: tuple[Goal, ...]


@lru_cache(maxsize=128)  # the matches of one kick-off, and of those that late corrections are about
def play(number: int, seed: int) -> Play:
    """A whole match, without the slot before its kick-off, which may be about another match."""
    match = _Match(fixture_of(number), seed)
    match.mark(1, 0, "match_started")
    match.half(0, _FIRST_SLOT[0], start_s=0)
    match.mark(_FIRST_SLOT[1] - 2, _HALF_S[0], "break_start")
    match.half(1, _FIRST_SLOT[1], start_s=_SECOND_HALF_S)
    match.mark(_AFTER_END - 1, _FULL_TIME_S, "match_ended")
    match.after_full_time()
    return Play(tuple(match.events), tuple(match.goals))


def match_fields(fixture: Fixture, kind: str) -> dict[str, Any]:
    return {
        "event_id": "",
        "season_id": fixture.season_id,
        "match_id": fixture.match_id,
        "home_team": fixture.home_team,
        "away_team": fixture.away_team,
        "type": kind,
        "time": "",
    }


def time_after_kick_off(fixture: Fixture, at_s: float) -> str:
    return iso_utc(fixture.kick_off + timedelta(milliseconds=round(at_s * 1_000)))


class _Match:
    """Plays one match phase by phase, so that the running score of the feed is known."""

    def __init__(self, fixture: Fixture, seed: int) -> None:
        self.fixture = fixture
        self.seed = seed
        self.events: list[Event | None] = [None] * SLOTS
        self.goals: list[Goal] = []
        self.score = {"home": 0, "away": 0}
        *_, strength, self.is_canceled, self.is_unstarted = uniform_randoms(seed, fixture.number, 1_001)
        self.home_share = 0.42 + 0.26 * strength  # the home team has a little more of the game

    def mark(self, slot: int, at_s: float, kind: str, **fields: Any) -> None:
        """An event of the match itself, without a clock."""
        self._put(slot, at_s, Draft(kind, fields=fields), {})

    def half(self, half: int, first_slot: int, *, start_s: int) -> None:
        self.mark(first_slot - 1, start_s, "period_start", period=half + 1)
        length_s = _HALF_S[half] / _PHASES
        for number in range(_PHASES):
            phase = _Timing(half, first_slot + number * PHASE_EVENTS, start_s, number * length_s, length_s)
            self._play_phase(phase)
            if (half, number) == _UNSTARTED_AT and self.is_unstarted < _UNSTARTED:
                self._report_unstarted(phase.slot + PHASE_EVENTS - 1)

    def after_full_time(self) -> None:
        """Twenty minutes after the end: usually the final status, sometimes a goal is taken back."""
        if self.is_canceled < _CANCELED_AFTER_END and self.goals:
            goal = self.goals.pop()
            draft = Draft("canceled_goal", fields={"competitor": goal.competitor}, label="goal_canceled_after_end")
            related = event_id(self.fixture.number, goal.slot, self.seed)
            self._put(_AFTER_END, _FULL_TIME_S + 1_200, draft, {"related_event_id": related})
        else:
            self.mark(_AFTER_END, _FULL_TIME_S + 1_200, "match_status", description="closed")

    def _play_phase(self, timing: _Timing) -> None:
        *choice, attack, first, second, third, fourth = uniform_randoms(self.seed, self.fixture.number, timing.slot)
        phase = phase_of(choice)
        sides = ("home", "away") if attack < self.home_share else ("away", "home")
        slots = [timing.slot + position for position in range(PHASE_EVENTS)]
        if phase.is_swapped:
            slots[:2] = slots[1], slots[0]
        goal_clock_s = 0.0
        for position, (draft, jitter) in enumerate(zip(phase.drafts, (first, second, third, fourth), strict=True)):
            clock_s = timing.clock_s(position + jitter)
            at_s = timing.start_s + clock_s
            if position == 0:
                goal_clock_s = clock_s
            elif draft.label == _DUPLICATE_GOAL:  # somebody else enters the goal later, with nearly the same clock
                clock_s = goal_clock_s + 10 * jitter
            self._put(slots[position], at_s, draft, self._play_fields(draft, timing.half, clock_s, sides, slots))
        if phase.has_goal:
            self.goals.append(Goal(slots[0], sides[0]))

    def _play_fields(
        self, draft: Draft, half: int, clock_s: float, sides: tuple[str, str], slots: list[int]
    ) -> dict[str, Any]:
        self.score[sides[0]] += draft.goals
        fields: dict[str, Any] = {"period": half + 1, **_clock(half, clock_s)}
        if draft.side is not None:
            fields["competitor"] = sides[draft.side]
        if draft.related is not None:
            fields["related_event_id"] = event_id(self.fixture.number, slots[draft.related], self.seed)
        if draft.type == "score_change":
            fields["players"] = [self._scorer(sides, slots[0], is_own_goal=draft.fields["method"] == "own_goal")]
        return fields

    def _scorer(self, sides: tuple[str, str], slot: int, *, is_own_goal: bool) -> dict[str, str]:
        team = self.fixture.home_team if sides[is_own_goal] == "home" else self.fixture.away_team
        shirt = 2 + int(uniform_randoms(self.seed, self.fixture.number, slot, 1)[0] * len(_FAMILY_NAMES))
        return {"id": f"{team} {shirt}", "name": _FAMILY_NAMES[shirt - 2], "type": "scorer"}

    def _put(self, slot: int, at_s: float, draft: Draft, further: Mapping[str, Any]) -> None:
        event = match_fields(self.fixture, draft.type) | {
            "event_id": event_id(self.fixture.number, slot, self.seed),
            "time": time_after_kick_off(self.fixture, at_s),
            "home_score": self.score["home"],
            "away_score": self.score["away"],
        }
        match = self.fixture.match_id
        is_detected = draft.label == _DUPLICATE_GOAL
        episode = Episode(draft.label, match, f"{draft.label}-{event['event_id']}") if is_detected else None
        self.events[slot] = Event({**event, **draft.fields, **further}, draft.label, episode)

    def _report_unstarted(self, slot: int) -> None:
        """A goal under a wrong number: of a match that nobody plays, with the sides swapped."""
        replaced = self.events[slot]
        if replaced is None or "related_event_id" in replaced.fields:  # a ruling, without which the score is another
            return
        match = f"{self.fixture.match_id}-x"
        fields = replaced.fields | {
            "match_id": match,
            "home_team": self.fixture.away_team,
            "away_team": self.fixture.home_team,
            "type": "score_change",
            "method": "shot",
            "competitor": "home",
            "home_score": 1,
            "away_score": 0,
        }
        self.events[slot] = Event(fields, "unstarted_match", Episode("unstarted_match", match, f"unstarted-{match}"))


class _Timing(NamedTuple):
    half: int
    slot: int
    start_s: int  # of the half, after the kick-off
    phase_s: float  # after the start of the half
    length_s: float

    def clock_s(self, position: float) -> float:
        """The closer to the phase's start, the closer together."""
        return self.phase_s + self.length_s * math.pow(position / PHASE_EVENTS, 1.7)


def _clock(half: int, clock_s: float) -> dict[str, str]:
    """As on television: it stands still at 45:00 and 90:00, and stoppage time has a clock of its own."""
    played, full = int(clock_s) + half * 45 * 60, (half + 1) * 45 * 60
    clock = {"match_clock": f"{min(played, full) // 60}:{min(played, full) % 60:02d}"}
    if played > full:
        clock["stoppage_time_clock"] = f"{(played - full) // 60}:{(played - full) % 60:02d}"
    return clock
