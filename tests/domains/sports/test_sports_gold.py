"""Scores and momentum of matches written down by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from domains.sports.matches import KICK_OFF, MatchScript, rows_of, shuffled, silver
from pyspark.sql import SparkSession

from streaming_lakehouse.domains.sports import gold


def scores(spark: SparkSession, *scripts: MatchScript) -> dict[str, dict[str, Any]]:
    """The scoreboard of the matches' events, delivered in a random order."""
    events = shuffled(event for script in scripts for event in script.events)
    return {row["match_id"]: row for row in rows_of(gold.scoreboard(silver(spark, events)))}


def goals_of(row: dict[str, Any]) -> tuple[int, int]:
    return row["home_score"], row["away_score"]


def canceled_goal() -> MatchScript:
    script = MatchScript("canceled").start()
    script.goal("home", 600)
    goal = script.goal("home", 1200)
    script.add("canceled_goal", 1220, competitor="home", related_event_id=goal)
    return script.end()


def review(match_id: str, outcome: str) -> MatchScript:
    script = MatchScript(match_id).start()
    goal = script.goal("away", 600)
    script.add("video_assistant_referee", 620, related_event_id=goal, description="goal")
    script.add("video_assistant_referee_over", 680, related_event_id=goal, description=outcome)
    return script


def given_again() -> MatchScript:
    """Flagged offside, then given by the review: the newest ruling counts."""
    script = MatchScript("given_again").start()
    goal = script.goal("away", 600)
    script.add("canceled_goal", 610, competitor="away", related_event_id=goal)
    script.add("video_assistant_referee_over", 700, related_event_id=goal, description="goal")
    return script.end()


def entered_twice(match_id: str, correction: str | None) -> MatchScript:
    """A goal under two ids; the correction is about the first of them."""
    script = MatchScript(match_id).start()
    goal = script.goal("home", 600)
    script.goal("home", 609)
    if correction:
        script.add(correction, 700, competitor="home", related_event_id=goal)
    return script.end()


def two_quick_goals() -> MatchScript:
    """21 seconds apart are two goals; so are two at the same time for the two teams."""
    script = MatchScript("quick").start()
    script.goal("home", 600)
    script.goal("home", 621)
    script.goal("away", 621)
    return script.end()


def correction_only() -> MatchScript:
    script = MatchScript("correction_only").start()
    script.add("canceled_goal", 600, competitor="home", related_event_id="never-seen")
    return script


def shoot_out() -> MatchScript:
    """A goal in extra time, then kicks from the penalty mark, which decide the match and are no goals."""
    script = MatchScript("shoot_out").start()
    script.goal("home", 6_480, period=4, match_clock="108:00")
    for kick in range(4):
        script.add("penalty_shootout", 9_000 + 60 * kick, competitor="away")
    return script.end()


def unstarted() -> MatchScript:
    script = MatchScript("unstarted")
    script.goal("home", 600)
    return script


def canceled_days_later() -> MatchScript:
    script = MatchScript("days_later").start()
    goal = script.goal("home", 600)
    script.end()
    script.add("canceled_goal", 3 * 86_400, competitor="home", related_event_id=goal)
    return script


def disallowed_then_deleted() -> MatchScript:
    """The report that the review was about is removed as a duplicate: the goal stays disallowed."""
    script = entered_twice("disallowed_then_deleted", None)
    first = script.events[2]["event_id"]
    script.add("video_assistant_referee_over", 660, related_event_id=first, description="no_goal")
    script.add("delete_event", 800, related_event_id=first)
    return script


@pytest.fixture(scope="module")
def board(spark: SparkSession) -> dict[str, dict[str, Any]]:
    stoppage = MatchScript("stoppage").start()
    stoppage.goal("home", 2700, period=1, match_clock="45:00", stoppage_time_clock="1:00")
    stoppage.goal("home", 2761, period=2, match_clock="46:00")  # the same second of play, in the next half
    return scores(
        *(
            spark,
            canceled_goal(),
            review("no_goal", "no_goal"),
            review("goal", "goal"),
            review("penalty", "no_penalty"),
        ),
        *(given_again(), entered_twice("twice", None), entered_twice("twice_deleted", "delete_event")),
        *(entered_twice("twice_canceled", "canceled_goal"), two_quick_goals(), correction_only(), unstarted()),
        *(canceled_days_later(), disallowed_then_deleted(), stoppage, shoot_out()),
    )


@pytest.mark.parametrize(
    ("match", "score", "canceled", "duplicates", "open_corrections"),
    [
        ("canceled", (1, 0), 1, 0, 0),
        ("no_goal", (0, 0), 1, 0, 0),
        ("goal", (0, 1), 0, 0, 0),
        ("penalty", (0, 0), 1, 0, 0),  # the goal was a penalty that should not have been given
        ("given_again", (0, 1), 0, 0, 0),
        ("twice", (1, 0), 0, 1, 0),
        ("twice_deleted", (1, 0), 0, 1, 0),
        ("twice_canceled", (0, 0), 1, 1, 0),
        ("quick", (2, 1), 0, 0, 0),
        ("correction_only", (0, 0), 0, 0, 1),
        ("unstarted", (1, 0), 0, 0, 0),
        ("days_later", (0, 0), 1, 0, 0),
        ("disallowed_then_deleted", (0, 0), 1, 1, 0),
        ("stoppage", (2, 0), 0, 0, 0),
        ("shoot_out", (1, 0), 0, 0, 0),
    ],
)
def test_a_score_is_what_the_reports_and_rulings_leave(
    board: dict[str, dict[str, Any]],
    match: str,
    score: tuple[int, int],
    canceled: int,
    duplicates: int,
    open_corrections: int,
) -> None:
    row = board[match]
    assert goals_of(row) == score
    assert (row["goals_canceled"], row["duplicate_goal_reports"], row["open_corrections"]) == (
        *(canceled, duplicates, open_corrections),
    )


def test_a_match_has_a_status_and_its_times(board: dict[str, dict[str, Any]]) -> None:
    assert board["canceled"]["status"] == "ended"
    assert board["canceled"]["ended_at"] == KICK_OFF + timedelta(seconds=6600)
    assert board["goal"]["status"] == "live"
    assert (board["goal"]["started_at"], board["goal"]["ended_at"], board["goal"]["period"]) == (KICK_OFF, None, 1)
    assert board["unstarted"]["status"] == "not_started"
    assert board["unstarted"]["started_at"] is None
    assert board["days_later"]["last_report_at"] == KICK_OFF + timedelta(days=3)


def test_one_of_two_starts_and_one_of_two_ends_are_enough(spark: SparkSession) -> None:
    announced, whistle_lost = MatchScript("announced"), MatchScript("whistle_lost")
    announced.add("match_status", -600, description="about_to_start")
    whistle_lost.add("period_start", 0, period=1)
    whistle_lost.add("match_status", 7_800, description="closed")
    board = scores(spark, announced, whistle_lost)
    assert [board[match]["status"] for match in ("announced", "whistle_lost")] == ["not_started", "ended"]


def test_cards_count_by_team_until_they_are_taken_back(spark: SparkSession) -> None:
    script = MatchScript().start()
    script.add("yellow_card", 100, competitor="home")
    taken_back = script.add("red_card", 200, competitor="home")
    script.add("video_assistant_referee_over", 300, related_event_id=taken_back, description="no_red_card")
    script.add("yellow_red_card", 400, competitor="away")
    row = scores(spark, script)["m1"]
    assert (row["home_yellow_cards"], row["home_red_cards"], row["away_yellow_red_cards"]) == (1, 0, 1)


def test_momentum_weighs_both_teams_in_every_window_of_a_minute(spark: SparkSession) -> None:
    """A shot on target of the home team at 14:06 and a corner of the away team at 14:09."""
    script = MatchScript()
    script.add("shot_on_target", 6 * 60, competitor="home")
    script.add("shot_saved", 6 * 60, competitor="away")
    script.add("corner_kick", 9 * 60 + 30, competitor="away")
    script.add("throw_in", 9 * 60 + 40, competitor="away")
    rows = {
        (row["team"], (row["window_start"] - KICK_OFF) // timedelta(minutes=1)): row
        for row in rows_of(gold.momentum(silver(spark, script.events)))
    }
    # 14:02 to 14:07 is the first window with the shot, 14:09 to 14:14 the last with the corner.
    assert {minute for team, minute in rows if team == "A"} == set(range(2, 10))
    assert {minute for team, minute in rows if team == "B"} == set(range(2, 10))
    both = rows["A", 5]
    assert (both["opponent"], both["shots_on_target"], both["corners"], both["saves"]) == ("B", 1, 0, 0)
    assert both["pressure"] == pytest.approx(0.28)
    assert both["momentum"] == pytest.approx(0.28 - 0.034)
    assert rows["B", 5]["momentum"] == pytest.approx(0.034 - 0.28)
    assert (rows["B", 6]["corners"], rows["B", 6]["saves"]) == (1, 1)
    assert rows["B", 9]["saves"] == 0
    assert rows["A", 2]["window_end"] == KICK_OFF + timedelta(minutes=7)
