"""The synthetic leagues: who plays whom and when, and in which rows, as functions of the match's number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

START = datetime(2026, 1, 1, tzinfo=UTC)
LEAGUES = 4
TEAMS = 10  # in a league, as in the Swiss Super League until 2023: a season is 18 matchdays
MATCHDAYS = 2 * (TEAMS - 1)
KICK_OFFS = (timedelta(hours=14), timedelta(hours=18))  # of each day; half of the leagues play at each
LEAGUES_AT_ONCE = LEAGUES // len(KICK_OFFS)
MATCHES_AT_ONCE = LEAGUES_AT_ONCE * TEAMS // 2
SLOTS = 159  # events of a match: a constant, so that a row's match follows from the row's number

_TOWNS = (
    "Alderbrook",
    "Bramford",
    "Caldmoor",
    "Dunhaven",
    "Eastmere",
    "Fernleigh",
    "Garswick",
    "Holmstead",
    "Ironvale",
    "Kestrel Bay",
)
_CLUBS = ("United", "Rovers", "Athletic", "City")


class Fixture(NamedTuple):
    """A match before it is played. `number` counts all matches; those of one kick-off have adjacent numbers."""

    number: int
    season_id: str
    match_id: str
    home_team: str
    away_team: str
    kick_off: datetime


def fixture_of(number: int) -> Fixture:
    """The match with this number: each day is a matchday of every league, and each season a double round-robin."""
    slot, lane = divmod(number, MATCHES_AT_ONCE)
    day, wave = divmod(slot, len(KICK_OFFS))
    season, matchday = divmod(day, MATCHDAYS)
    league, pairing = divmod(lane, TEAMS // 2)
    league += wave * LEAGUES_AT_ONCE
    season_id = f"league-{league + 1}-season-{season + 1}"
    home, away = _pairing(matchday, pairing)
    return Fixture(
        number,
        season_id,
        f"{season_id}-{matchday + 1:02d}-{pairing + 1}",
        f"{_TOWNS[home]} {_CLUBS[league]}",
        f"{_TOWNS[away]} {_CLUBS[league]}",
        START + timedelta(days=day) + KICK_OFFS[wave],
    )


def number_a_day_before(number: int) -> int:
    """The number of the match that was played at the same time and in the same lane on the day before; may be < 0."""
    return number - MATCHES_AT_ONCE * len(KICK_OFFS)


def _pairing(matchday: int, pairing: int) -> tuple[int, int]:
    """Home and away team by the circle method: team 0 stays, the others rotate; the second leg swaps the sides."""
    leg, turn = divmod(matchday, TEAMS - 1)
    circle = [0, *(1 + (team + turn) % (TEAMS - 1) for team in range(TEAMS - 1))]
    home, away = circle[pairing], circle[TEAMS - 1 - pairing]
    is_swapped = (turn + pairing + leg) % 2 == 1 if pairing == 0 else (pairing + leg) % 2 == 1
    return (away, home) if is_swapped else (home, away)


def event_id(number: int, slot: int, seed: int) -> str:
    """Names the row: rows go round the matches of one kick-off, slot by slot."""
    block, lane = divmod(number, MATCHES_AT_ONCE)
    return f"s{seed}-{(block * SLOTS + slot) * MATCHES_AT_ONCE + lane}"
