"""Sports' league table from silver rows, with its ranks by splitting the teams that are level again and again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from .domain import Row
from .sports_matches import CARD_POINTS, matches_of


def league_table(events: Iterable[Row], *, head_to_head_first: bool = False) -> list[Row]:
    seasons = defaultdict(list)
    for match in matches_of(events).values():
        if match.started:
            seasons[match.names["season_id"]].append(match)
    rows = []
    for season_id, matches in seasons.items():
        games = []
        for match in matches:
            home, away = match.names["home_team"], match.names["away_team"]
            fair = {
                s: sum(match.cards(s, card) * points for card, points in CARD_POINTS.items()) for s in ("home", "away")
            }
            games.append(
                (home, away, match.score("home"), match.score("away"), not match.ended, fair["home"], fair["away"])
            )
        rows += [{"season_id": season_id, **row} for row in table_of(games, head_to_head_first=head_to_head_first)]
    return rows


Game = tuple[str, str, int, int, bool, int, int]  # home, away, goals, goals, is running, fair play of both


def table_of(games: list[Game], *, head_to_head_first: bool) -> list[Row]:
    """Ranks by splitting the teams again and again, until nothing separates those who are left together."""
    rows = {team: _totals(team, games) for team in {team for game in games for team in game[:2]}}
    overall = [("goal_difference",), ("goals_for",)]
    mutual = ["mutual"]
    order: list[Any] = [
        ("points",),
        *(mutual + overall if head_to_head_first else overall + mutual),
        ("fair_play_points",),
    ]
    position = 1
    for level in _split(list(rows), order, rows, games, repeats_mutual=head_to_head_first):
        for team in level:
            rows[team]["position"] = position
        position += len(level)
    return list(rows.values())


def _split(
    teams: list[str], order: list[Any], rows: dict[str, Row], games: list[Game], *, repeats_mutual: bool
) -> list[list[str]]:
    if len(teams) == 1 or not order:
        return [teams]
    criterion, *rest = order
    if criterion == "mutual":
        among = [game for game in games if game[0] in teams and game[1] in teams]
        values = {}
        for team in teams:
            total = _totals(team, among)
            values[team] = (total["points"], total["goal_difference"], total["goals_for"])
    else:
        values = {team: (rows[team][criterion[0]],) for team in teams}
    levels = [[team for team in teams if values[team] == value] for value in sorted(set(values.values()), reverse=True)]
    if criterion == "mutual" and repeats_mutual and len(levels) > 1:
        rest = order  # applied anew to those who are still level
    return [part for level in levels for part in _split(level, rest, rows, games, repeats_mutual=repeats_mutual)]


def _totals(team: str, games: list[Game]) -> Row:
    row: Row = defaultdict(int)
    row["is_playing"] = False
    for home, away, home_goals, away_goals, is_running, home_fair, away_fair in games:
        if team not in (home, away):
            continue
        own, other, fair = (home_goals, away_goals, home_fair) if team == home else (away_goals, home_goals, away_fair)
        points = 3 if own > other else 1 if own == other else 0
        row["played"] += 1
        row["won"] += own > other
        row["drawn"] += own == other
        row["lost"] += own < other
        row["goals_for"] += own
        row["goals_against"] += other
        row["points"] += points
        row["provisional_points"] += points if is_running else 0
        row["fair_play_points"] += fair
        row["is_playing"] = row["is_playing"] or is_running
    names = ("played", "won", "drawn", "lost", "goals_for", "goals_against", "points", "provisional_points")
    total = {"team": team, **{name: row[name] for name in names}}
    difference = row["goals_for"] - row["goals_against"]
    return total | {
        "goal_difference": difference,
        "fair_play_points": row["fair_play_points"],
        "is_playing": row["is_playing"],
    }
