"""What can happen in a phase of a synthetic match: four events that follow each other closely.

The chances make a match of 2.9 goals (.07 of them own goals), 22.5 shots, 9.4 corners, 28 fouls, 3.4 yellow and .14 red
cards in 38 phases. Throw-ins, goal kicks and saves between them are as frequent as in the soccer samples of
aws-solutions-library-samples/real-time-live-sports-updates-using-aws-appsync.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streaming_lakehouse.pipeline.synthetic import CLEAN

PHASE_EVENTS = 4


class Draft(NamedTuple):
    """An event without its time and its match. `related` is the position, in the phase, of the event it is about."""

    type: str
    side: int | None = None  # 0: the attacking team, 1: the defending one
    related: int | None = None
    fields: Mapping[str, Any] = {}
    label: str = CLEAN
    goals: int = 0  # by which the feed's score of the attacking team changes


class Phase(NamedTuple):
    """Four drafts in the order of their times. `is_swapped`: the second is delivered before the first."""

    drafts: tuple[Draft, Draft, Draft, Draft]
    is_swapped: bool = False
    has_goal: bool = False  # that stands at the end of the phase


def _draft(text: str) -> Draft:
    kind, _, side = text.partition(" ")
    return Draft(kind, {"A": 0, "D": 1}[side])


def _phase(*texts: str) -> Phase:
    first, second, third, fourth = (_draft(text) for text in texts)
    return Phase((first, second, third, fourth))


_OPEN_PLAY = (
    (0.120, _phase("throw_in A", "shot_on_target A", "shot_saved D", "corner_kick A")),
    (0.080, _phase("free_kick A", "shot_on_target A", "shot_saved D", "throw_in D")),
    (0.200, _phase("throw_in A", "shot_off_target A", "goal_kick D", "throw_in D")),
    (0.125, _phase("corner_kick A", "shot_off_target A", "goal_kick D", "free_kick D")),
    (0.090, _phase("free_kick A", "yellow_card D", "throw_in A", "offside A")),
    (0.003, _phase("free_kick A", "red_card D", "throw_in A", "throw_in D")),
    (0.001, _phase("free_kick A", "yellow_red_card D", "throw_in A", "throw_in D")),
    (0.100, _phase("substitution A", "substitution D", "free_kick A", "throw_in D")),
    (0.050, _phase("free_kick A", "injury D", "injury_return D", "throw_in D")),
)
_MIDFIELD = _phase("throw_in A", "free_kick A", "throw_in D", "free_kick D")

GOAL_CHANCE = 0.077
_OWN_GOAL_SHARE = 0.024  # of the goals

_RESTART = _draft("free_kick D")
_THROW_IN = _draft("throw_in A")


def phase_of(dice: Sequence[float]) -> Phase:
    """The phase that three numbers in [0, 1) choose: what happens, which kind of goal, whose goal."""
    left = dice[0] - GOAL_CHANCE
    if left < 0:
        return _goal_phase(dice[1], is_own_goal=dice[2] < _OWN_GOAL_SHARE)
    for chance, phase in _OPEN_PLAY:
        if left < chance:
            return phase
        left -= chance
    return _MIDFIELD


def _goal_phase(choice: float, *, is_own_goal: bool) -> Phase:
    """A goal, and what may become of it. A review takes place in a third of the matches, goals or not."""
    goal = Draft("score_change", 0, fields={"method": "own_goal" if is_own_goal else "shot"}, goals=1)
    for chance, further, is_swapped, stands in _OUTCOMES:
        if choice < chance:
            return Phase((goal, *further), is_swapped, stands)
        choice -= chance
    return Phase((goal, _RESTART, _THROW_IN, _draft("throw_in D")), has_goal=True)


def _about_goal(kind: str, *, goals: int = 0, label: str = CLEAN, **fields: str) -> Draft:
    return Draft(kind, 0, 0, fields, label, goals)


_REVIEW = _about_goal("video_assistant_referee", description="goal")
_NO_GOAL = _about_goal("video_assistant_referee_over", description="no_goal", goals=-1)
_GOAL = _about_goal("video_assistant_referee_over", description="goal")
_CANCELED = _about_goal("canceled_goal", goals=-1)
_DUPLICATE = Draft("score_change", 0, fields={"method": "shot"}, label="duplicate_goal")
_DELETED = Draft("delete_event", 0, related=1)

# Chance among the goals, the three events after the goal, whether a correction is delivered first, whether it stands.
_OUTCOMES: tuple[tuple[float, tuple[Draft, Draft, Draft], bool, bool], ...] = (
    (0.05, (_REVIEW, _NO_GOAL, _RESTART), False, False),
    (0.06, (_REVIEW, _GOAL, _RESTART), False, True),
    (0.03, (_CANCELED, _RESTART, _THROW_IN), False, False),
    (0.03, (_CANCELED._replace(label="early_correction"), _RESTART, _THROW_IN), True, False),
    (0.02, (_CANCELED, _REVIEW, _GOAL._replace(goals=1)), False, True),
    (0.02, (_DUPLICATE, _DELETED, _RESTART), False, True),
    (0.02, (_DUPLICATE, _RESTART, _THROW_IN), False, True),
    (0.01, (_DUPLICATE, _about_goal("canceled_goal", goals=-1), _RESTART), False, False),
)
