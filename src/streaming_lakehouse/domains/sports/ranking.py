"""From the results of a season to its table, ranked by criteria in a chosen order."""

from __future__ import annotations

from enum import Enum

from pyspark.sql import Column, functions as F

from streaming_lakehouse.domains.sports.arrays import count_where, is_in, pipe, sum_of

WIN_POINTS, DRAW_POINTS = 3, 1


class Criterion(Enum):
    """What separates teams that are level on everything before it; more is better."""

    POINTS = "points"
    GOAL_DIFFERENCE = "goal_difference"
    GOALS_FOR = "goals_for"
    HEAD_TO_HEAD = "head_to_head"  # points, then goal difference, then goals in the matches among the level teams
    FAIR_PLAY = "fair_play_points"


_OVERALL = (Criterion.GOAL_DIFFERENCE, Criterion.GOALS_FOR)

# Premier League, Bundesliga, World Cups until 2022: all matches, then those among the level teams.
GOAL_DIFFERENCE_FIRST = (Criterion.POINTS, *_OVERALL, Criterion.HEAD_TO_HEAD, Criterion.FAIR_PLAY)

# World Cup 2026 (its regulations) and similar La Liga and European Championships: the matches among the
# level teams first, and again for those who are still level; in a group of four that is over after three times.
HEAD_TO_HEAD_FIRST = (Criterion.POINTS, *3 * (Criterion.HEAD_TO_HEAD,), *_OVERALL, Criterion.FAIR_PLAY)


def sides_of(results: Column) -> Column:
    """Each result twice, as each team sees it.

    In: array of structs with home_team, away_team string and the fields of `scoring.score_of`. Out: array of structs
    with team, opponent string, is_playing boolean, goals_for, goals_against, points, fair_play_points int.
    """
    return F.flatten(
        F.transform(results, lambda result: F.array(_side(result, "home", "away"), _side(result, "away", "home")))
    )


def _side(result: Column, own: str, other: str) -> Column:
    goals_for, goals_against = result[f"{own}_score"], result[f"{other}_score"]
    points = F.when(goals_for > goals_against, WIN_POINTS).when(goals_for == goals_against, DRAW_POINTS).otherwise(0)
    # FIFA: yellow 1, second yellow 3, straight red 4, yellow and straight red 5. A second yellow follows a first one,
    # which counts already.
    fair_play = -(
        result[f"{own}_yellow_cards"] + 2 * result[f"{own}_yellow_red_cards"] + 4 * result[f"{own}_red_cards"]
    )
    return F.struct(
        result[f"{own}_team"].alias("team"),
        result[f"{other}_team"].alias("opponent"),
        (~result["is_ended"]).alias("is_playing"),
        goals_for.alias("goals_for"),
        goals_against.alias("goals_against"),
        points.alias("points"),
        fair_play.alias("fair_play_points"),
    )


def standings_of(sides: Column) -> Column:
    """A struct for each team with its matches, their sums, and an empty key to rank by."""
    teams = F.array_distinct(F.transform(sides, lambda side: side["team"]))
    return F.transform(teams, lambda team: pipe(F.filter(sides, lambda side: side["team"] == team), _standing))


def _standing(matches: Column) -> Column:
    goals_for, goals_against = _sum(matches, "goals_for"), _sum(matches, "goals_against")
    provisional = F.filter(matches, lambda side: side["is_playing"])
    return F.struct(
        matches[0]["team"].alias("team"),
        F.size(matches).alias("played"),
        count_where(matches, lambda side: side["goals_for"] > side["goals_against"]).alias("won"),
        count_where(matches, lambda side: side["goals_for"] == side["goals_against"]).alias("drawn"),
        count_where(matches, lambda side: side["goals_for"] < side["goals_against"]).alias("lost"),
        goals_for.alias("goals_for"),
        goals_against.alias("goals_against"),
        (goals_for - goals_against).alias("goal_difference"),
        _sum(matches, "points").alias("points"),
        (F.size(provisional) > 0).alias("is_playing"),
        _sum(provisional, "points").alias("provisional_points"),
        _sum(matches, "fair_play_points").alias("fair_play_points"),
        matches.alias("matches"),
        F.array().cast("array<int>").alias("key"),
    )


def _sum(sides: Column, field: str) -> Column:
    return sum_of(sides, lambda side: side[field])


def with_criterion(standings: Column, criterion: Criterion) -> Column:
    """The standings with longer keys: the criterion separates teams whose keys are equal so far."""

    def numbers(standing: Column) -> Column:
        if criterion is Criterion.HEAD_TO_HEAD:
            level = F.filter(standings, lambda other: other["key"] == standing["key"])
            return _head_to_head(standing["matches"], F.transform(level, lambda other: other["team"]))
        return F.array(standing[criterion.value])

    return F.transform(
        standings, lambda standing: standing.withField("key", F.concat(standing["key"], numbers(standing)))
    )


def _head_to_head(matches: Column, opponents: Column) -> Column:
    among_level = pipe(opponents, lambda teams: F.filter(matches, lambda side: is_in(side["opponent"], teams)))
    return pipe(
        among_level,
        lambda sides: F.array(
            _sum(sides, "points"), _sum(sides, "goals_for") - _sum(sides, "goals_against"), _sum(sides, "goals_for")
        ),
    )


def with_positions(standings: Column) -> Column:
    """The standings with position int; teams that no criterion separates share one."""
    return F.transform(
        standings,
        lambda standing: standing.withField(
            "position", count_where(standings, lambda other: other["key"] > standing["key"]) + 1
        ),
    )
