"""League tables: ranking orders, running matches, and what four World Cups and three league seasons came to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from domains.sports.matches import MatchScript, played, rows_of, shuffled, silver
from pyspark.sql import SparkSession

from streaming_lakehouse.domains.sports import gold
from streaming_lakehouse.domains.sports.ranking import GOAL_DIFFERENCE_FIRST, HEAD_TO_HEAD_FIRST, Criterion

pytestmark = pytest.mark.usefixtures("few_rows")

DATA = Path(__file__).parent / "data"
GROUP_H = "2018 Group H"
# Yellow cards of the two teams that nothing else separated (Associated Press, 28 June 2018): by match, home and away.
YELLOW_CARDS = {
    ("Colombia", "Japan"): (0, 1),
    ("Poland", "Senegal"): (0, 2),
    ("Japan", "Senegal"): (2, 3),
    ("Japan", "Poland"): (1, 0),
    ("Senegal", "Colombia"): (1, 0),
}


def positions(
    spark: SparkSession, events: list[dict[str, Any]], order: tuple[Criterion, ...] = GOAL_DIFFERENCE_FIRST
) -> list[tuple[int, str]]:
    table = rows_of(gold.league_table(silver(spark, shuffled(events)), order=order))
    return sorted((row["position"], row["team"]) for row in table)


def group_match(year: int, number: int, match: dict[str, Any]) -> list[dict[str, Any]]:
    """A match of the World Cup with its goals at the minutes that they were scored in."""
    season = f"{year} {match['group']}"
    script = MatchScript(f"{year}-{number}", match["home"], match["away"], season).start()
    for side in ("home", "away"):
        for minute, stoppage, is_own_goal in match[f"{side}_goals"]:
            half = 1 if minute <= 45 else 2
            clock = {"period": half, "match_clock": f"{minute - (not stoppage)}:00"}
            if stoppage:
                clock["stoppage_time_clock"] = f"{stoppage}:00"
            script.goal(side, 60 * minute, method="own_goal" if is_own_goal else "shot", **clock)
    cards = YELLOW_CARDS.get((match["home"], match["away"]), (0, 0)) if season == GROUP_H else (0, 0)
    for side, number_of_cards in zip(("home", "away"), cards, strict=True):
        for number_of_card in range(number_of_cards):
            script.add("yellow_card", 3_000 + number_of_card, competitor=side)
    return script.end().events


def group_matches(year: int) -> list[dict[str, Any]]:
    """The events of a World Cup's group matches, a season each group."""
    matches = json.loads((DATA / f"world_cup_{year}_groups.json").read_text("utf-8"))["matches"]
    return [event for number, match in enumerate(matches) for event in group_match(year, number, match)]


def test_the_groups_of_two_world_cups_give_the_official_standings(spark: SparkSession) -> None:
    """64 teams, one order for both; in 2018 Japan was ahead of Senegal by its cards alone."""
    events, official = [], []
    for year in (2014, 2018):
        world_cup = json.loads((DATA / f"world_cup_{year}_groups.json").read_text("utf-8"))
        events += group_matches(year)
        official += [(f"{year} {group}", *row) for group, *row in world_cup["standings"]]
    columns = ("season_id", "position", "team", "played", "won", "drawn", "lost", "goals_for", "goals_against")
    table = gold.league_table(silver(spark, shuffled(events))).select(*columns, "points").collect()
    assert sorted(tuple(row) for row in table) == sorted(official)
    assert len(official) == 64


@pytest.mark.parametrize(
    ("year", "order", "groups"), [(2022, GOAL_DIFFERENCE_FIRST, 8), (2026, HEAD_TO_HEAD_FIRST, 12)]
)
def test_the_groups_of_two_more_world_cups_lead_to_the_pairings_that_were_played(
    spark: SparkSession, year: int, order: tuple[Criterion, ...], groups: int
) -> None:
    """Who met in the first knock-out round shows the first two of each group, and in 2026 eight of the third ones."""
    table = rows_of(gold.league_table(silver(spark, shuffled(group_matches(year))), order=order))
    found = {row["team"]: f"{row['position']}{row['season_id'][-1]}" for row in table}
    assert len(set(found.values())) == len(found) == 4 * groups
    pairings = json.loads((DATA / f"world_cup_{year}_groups.json").read_text("utf-8"))["pairings"]
    for first, second, *teams in pairings:
        assert (found[teams[0]], found[teams[1]][: len(second)]) == (first, second), teams


def test_three_league_seasons_come_to_the_published_final_tables(spark: SparkSession) -> None:
    """992 matches of two Bundesliga seasons and a Premier League season, their events in no order at all."""
    events, published = [], []
    for season, league in json.loads((DATA / "league_seasons.json").read_text("utf-8")).items():
        teams = [team for team, _, _ in league["table"]]
        for day, (home, away, *goals) in enumerate(league["results"]):
            events += played(teams[home], teams[away], *goals, season=season, day=day)
        published += [(season, position, *row) for position, row in enumerate(league["table"], start=1)]
    table = gold.league_table(silver(spark, shuffled(events)))
    found = table.select("season_id", "position", "team", "points", "goal_difference").collect()
    assert sorted(map(tuple, found)) == sorted(published)
    assert len(published) == 18 + 18 + 20


def level_on_points() -> list[dict[str, Any]]:
    """A, B and C have 6 points and D none. B's difference is best; A beat B, B beat C, and C beat A by more."""
    return [
        *(*played("A", "B", 1, 0, day=1), *played("B", "C", 1, 0, day=2), *played("C", "A", 2, 0, day=3)),
        *(*played("A", "D", 2, 0, day=4), *played("B", "D", 5, 0, day=5), *played("C", "D", 1, 0, day=6)),
    ]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        # Differences: B 0 + 5, C 1 + 1, A -1 + 2.
        (GOAL_DIFFERENCE_FIRST, [(1, "B"), (2, "C"), (3, "A"), (4, "D")]),
        # Among the three each has 3 points; differences there: C 1, B 0, A -1.
        (HEAD_TO_HEAD_FIRST, [(1, "C"), (2, "B"), (3, "A"), (4, "D")]),
    ],
)
def test_the_order_of_criteria_is_a_parameter(
    spark: SparkSession, order: tuple[Criterion, ...], expected: list[tuple[int, str]]
) -> None:
    assert positions(spark, level_on_points(), order) == expected


def test_head_to_head_is_applied_again_to_those_who_are_still_level(spark: SparkSession) -> None:
    """A, B and C have 6 points, and among them 3 points and difference 0 each; C has 3 goals there, A and B have 2.

    Applied again to A and B, the match counts that A won. Applied once, the overall difference does, which is B's.
    """
    events = [
        *(*played("A", "B", 1, 0, day=1), *played("B", "C", 2, 1, day=2), *played("C", "A", 2, 1, day=3)),
        *(*played("A", "D", 1, 0, day=4), *played("B", "D", 5, 0, day=5), *played("C", "D", 1, 0, day=6)),
    ]
    once = (Criterion.POINTS, Criterion.HEAD_TO_HEAD, Criterion.GOAL_DIFFERENCE)
    assert positions(spark, events, HEAD_TO_HEAD_FIRST) == [(1, "C"), (2, "A"), (3, "B"), (4, "D")]
    assert positions(spark, events, once) == [(1, "C"), (2, "B"), (3, "A"), (4, "D")]


def test_teams_that_nothing_separates_share_a_position(spark: SparkSession) -> None:
    events = [*played("A", "B", 1, 1, day=1), *played("C", "D", 0, 2, day=2)]
    assert positions(spark, events) == [(1, "D"), (2, "A"), (2, "B"), (4, "C")]


def test_the_points_of_a_running_match_are_marked(spark: SparkSession) -> None:
    """A is ahead now: 3 of its 6 points are provisional. A match that has not started does not count."""
    running = MatchScript("running", "A", "C", day=1).start()
    running.goal("home", 600)
    unstarted = MatchScript("unstarted", "B", "C", day=1)
    unstarted.goal("home", 600)
    events = played("A", "B", 2, 0) + running.events + unstarted.events
    table = {row["team"]: row for row in rows_of(gold.league_table(silver(spark, events)))}
    marks = {team: (row["points"], row["provisional_points"], row["is_playing"]) for team, row in table.items()}
    assert marks == {"A": (6, 3, True), "B": (0, 0, False), "C": (0, 0, True)}
    assert (table["B"]["played"], table["C"]["played"]) == (1, 1)


def test_a_goal_that_is_taken_back_after_the_end_takes_its_points_back(spark: SparkSession) -> None:
    script = MatchScript().start()
    goal = script.goal("home", 600)
    script.end()
    script.add("canceled_goal", 86_400, competitor="home", related_event_id=goal)
    points = {row["team"]: row["points"] for row in rows_of(gold.league_table(silver(spark, script.events)))}
    assert points == {"A": 1, "B": 1}
