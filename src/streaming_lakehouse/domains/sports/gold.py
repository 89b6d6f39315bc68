"""Sports' gold tables: the live score of each match, the table of each season, and each team's momentum."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame, functions as F

from streaming_lakehouse.domains.sports.arrays import grouped_by, pipe
from streaming_lakehouse.domains.sports.ranking import (
    GOAL_DIFFERENCE_FIRST,
    Criterion,
    sides_of,
    standings_of,
    with_criterion,
    with_positions,
)
from streaming_lakehouse.domains.sports.scoring import REPORT, SCORING_TYPES, score_of

WINDOW, REACH = "5 minutes", timedelta(minutes=5)
SLIDE = "1 minute"

# The chance of a goal. A shot on target, goals included: 2.9 goals of 10.5 such shots a match. A shot that misses: a
# choice, the attack was real. A corner: 3.4 % in ten Premier League seasons (The Athletic, October 2021).
SHOT_ON_TARGET_GOALS = 0.28
SHOT_OFF_TARGET_GOALS = 0.05
CORNER_GOALS = 0.034


def scoreboard(events: DataFrame) -> DataFrame:
    """The score of each match, right in any order of the events: goals are a set, corrections remove them.

    In: silver's columns. Out: match_id, season_id, home_team, away_team, status (not_started, live, ended) string;
    last_report_at, started_at, ended_at timestamp; period bigint; home_score, away_score, home_ and away_ yellow_cards,
    yellow_red_cards, red_cards int; goals_canceled, duplicate_goal_reports, open_corrections int.
    """
    matches = (
        events.where(F.col("type").isin(*SCORING_TYPES))
        .groupBy("match_id")
        .agg(
            *(F.min(name).alias(name) for name in ("season_id", "home_team", "away_team")),
            F.max("time").alias("last_report_at"),
            F.collect_set(F.struct(*REPORT)).alias("reports"),
        )
    )
    scores = matches.withColumn("score", score_of(F.col("reports")))
    status = F.when(F.col("score.is_ended"), "ended").when(F.col("score.is_started"), "live").otherwise("not_started")
    return scores.select(
        "match_id", "season_id", "home_team", "away_team", status.alias("status"), "last_report_at", "score.*"
    ).drop("is_started", "is_ended")


def league_table(events: DataFrame, *, order: tuple[Criterion, ...] = GOAL_DIFFERENCE_FIRST) -> DataFrame:
    """The table of each season, with the matches that are being played as if they ended now.

    One aggregation, since output mode complete allows no other after it: a season's reports are one set, and everything
    from there on is an expression over it. In: silver's columns; order: what ranks the teams.
    Out: season_id string, position int (shared by teams that nothing separates), team string, played, won, drawn, lost,
    goals_for, goals_against, goal_difference, points, provisional_points (those of the points that come from running
    matches) int, is_playing boolean, fair_play_points int.
    """
    report = F.struct(*_MATCH, *REPORT)
    seasons = (
        events.where(F.col("type").isin(*SCORING_TYPES))
        .groupBy("season_id")
        .agg(F.collect_set(report).alias("reports"))
    )
    sides = seasons.select("season_id", sides_of(_results(F.col("reports"))).alias("sides"))
    tables = sides.select("season_id", standings_of(F.col("sides")).alias("standings"))
    for criterion in order:
        tables = tables.withColumn("standings", with_criterion(F.col("standings"), criterion))
    return tables.select("season_id", F.inline(with_positions(F.col("standings")))).select(*_TABLE_COLUMNS)


_TABLE_COLUMNS = (
    *("season_id", "position", "team", "played", "won", "drawn", "lost", "goals_for", "goals_against"),
    *("goal_difference", "points", "provisional_points", "is_playing", "fair_play_points"),
)
_MATCH = dict.fromkeys(("match_id", "home_team", "away_team"), "string")


def _results(reports: Column) -> Column:
    """The scores of the matches that have started, with their teams."""
    results = F.transform(grouped_by("match_id", reports, _MATCH | REPORT), _result)
    return F.filter(results, lambda result: result["is_started"])


def _result(reports: Column) -> Column:
    """A match's score, and home_team and away_team, which all of its reports name."""
    teams = F.array_min(F.transform(reports, lambda report: F.struct(report["home_team"], report["away_team"])))
    scored = F.struct(score_of(reports).alias("score"), teams.alias("teams"))
    return pipe(scored, _with_teams)


def _with_teams(result: Column) -> Column:
    teams = result["teams"]
    return result["score"].withField("home_team", teams["home_team"]).withField("away_team", teams["away_team"])


def momentum(events: DataFrame) -> DataFrame:
    """How much of the game a team has, in sliding windows of 5 minutes every minute.

    In: silver's columns. Out: match_id, team, opponent string, window_start, window_end timestamp (end exclusive);
    shots_on_target (goals included), shots_off_target, corners, saves bigint; pressure double, the goals that such
    shots and corners give on average; opponent_pressure double; momentum double, the difference. There is no row for a
    window without any of these events. A correction changes no window: the attack took place.
    """
    counts = (
        _per_team(events)
        .groupBy("match_id", "team", "opponent", F.window("time", WINDOW, SLIDE))
        .agg(
            *(
                F.count_if((F.col("is_own") == is_own) & F.col("type").isin(*types)).alias(f"{prefix}{name}")
                for is_own, prefix in ((True, ""), (False, "opponent_"))
                for name, types in _ACTIONS.items()
            )
        )
    )
    pressure, opponent_pressure = _pressure(""), _pressure("opponent_")
    return counts.select(
        *("match_id", "team", "opponent"),
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        *_ACTIONS,
        pressure.alias("pressure"),
        opponent_pressure.alias("opponent_pressure"),
        (pressure - opponent_pressure).alias("momentum"),
    )


# A save is counted and not weighed: the shot that it belongs to is reported by itself.
_ACTIONS = {
    "shots_on_target": ("shot_on_target", "score_change"),
    "shots_off_target": ("shot_off_target",),
    "corners": ("corner_kick",),
    "saves": ("shot_saved",),
}


def _per_team(events: DataFrame) -> DataFrame:
    """Each action twice: for the team whose it is, and for its opponent."""
    home, away = F.col("home_team").alias("team"), F.col("away_team").alias("team")
    is_home = F.col("competitor") == "home"
    views = F.array(
        F.struct(home, F.col("away_team").alias("opponent"), is_home.alias("is_own")),
        F.struct(away, F.col("home_team").alias("opponent"), (~is_home).alias("is_own")),
    )
    actions = [kind for kinds in _ACTIONS.values() for kind in kinds]
    attacks = events.where(F.col("type").isin(*actions) & F.col("competitor").isNotNull())
    return attacks.select("match_id", "time", "type", F.inline(views))


def _pressure(prefix: str) -> Column:
    return (
        F.col(f"{prefix}shots_on_target") * SHOT_ON_TARGET_GOALS
        + F.col(f"{prefix}shots_off_target") * SHOT_OFF_TARGET_GOALS
        + F.col(f"{prefix}corners") * CORNER_GOALS
    )
