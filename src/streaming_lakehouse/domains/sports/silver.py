"""When a timeline event is valid, and the match clock in seconds."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame, functions as F, types as T

from streaming_lakehouse.domains.sports.events import SCHEMA
from streaming_lakehouse.pipeline import expect, expect_not_ahead, expect_or_quarantine

# A match takes two hours: a stadium whose connection is down from kick-off delivers everything after the final whistle.
# A correction has the time of its decision, so that it is on time days after its goal.
WATERMARK = timedelta(hours=3)

_CLOCK = r"r'^[0-9]{1,3}:[0-5][0-9]\z'"  # not $, which would let a line feed follow
_OF_A_TEAM = (
    "'score_change', 'yellow_card', 'yellow_red_card', 'red_card', 'shot_on_target', 'shot_off_target', 'corner_kick'"
)
_KNOWN_TYPES = f"""
    {_OF_A_TEAM}, 'match_status', 'match_started', 'period_start', 'break_start', 'match_ended', 'canceled_goal',
    'canceled_yellow_card', 'canceled_red_card', 'delete_event', 'video_assistant_referee',
    'video_assistant_referee_over', 'shot_saved', 'throw_in', 'free_kick', 'goal_kick', 'offside', 'substitution',
    'injury', 'injury_return', 'injury_time_shown', 'penalty_awarded', 'penalty_missed', 'penalty_shootout',
    'possible_goal'
"""

EXPECTATIONS = (
    expect_or_quarantine("match_id_is_present", "match_id <> ''"),
    expect_or_quarantine("season_id_is_present", "season_id <> ''"),
    expect_or_quarantine("teams_are_two", "home_team <> '' AND away_team <> '' AND home_team <> away_team"),
    expect_or_quarantine("type_is_present", "type <> ''"),
    # The provider adds types from time to time, and a new one changes no score.
    expect("type_is_known", f"type IN ({_KNOWN_TYPES})"),
    expect_or_quarantine("competitor_is_known", "competitor IS NULL OR competitor IN ('home', 'away')"),
    expect_or_quarantine("competitor_is_present", f"type NOT IN ({_OF_A_TEAM}) OR competitor IS NOT NULL"),
    # Without a clock nobody can say whether two reports are of one goal.
    expect_or_quarantine(
        "goal_has_clock", "type <> 'score_change' OR (period IS NOT NULL AND match_clock IS NOT NULL)"
    ),
    expect_or_quarantine("match_clock_is_valid", f"match_clock IS NULL OR match_clock RLIKE {_CLOCK}"),
    expect_or_quarantine(
        "stoppage_time_clock_is_valid", f"stoppage_time_clock IS NULL OR stoppage_time_clock RLIKE {_CLOCK}"
    ),
    expect_or_quarantine(
        "period_in_range", "period IS NULL OR period BETWEEN 1 AND 4"
    ),  # two halves, two of extra time
    expect_or_quarantine("home_score_in_range", "home_score IS NULL OR home_score BETWEEN 0 AND 99"),
    expect_or_quarantine("away_score_in_range", "away_score IS NULL OR away_score BETWEEN 0 AND 99"),
    expect_or_quarantine(
        "related_event_id_is_present",
        "NOT (type LIKE 'canceled~_%' ESCAPE '~' OR type = 'delete_event') OR related_event_id <> ''",
    ),
    expect_not_ahead(),
)

TRANSFORMED_SCHEMA = T.StructType([*SCHEMA.fields, T.StructField("clock_s", T.IntegerType())])


def with_clock_s(events: DataFrame) -> DataFrame:
    """The event with its match clock as a number.

    In: match_clock, stoppage_time_clock string, as minutes:seconds or null. Adds: clock_s int, seconds of play with the
    stoppage time of the period; null without a match clock.
    """
    stoppage = F.coalesce(_seconds("stoppage_time_clock"), F.lit(0))
    return events.withColumn("clock_s", _seconds("match_clock") + stoppage)


def _seconds(clock: str) -> Column:
    minutes, seconds = (F.split_part(clock, F.lit(":"), F.lit(part)).try_cast("int") for part in (1, 2))
    return minutes * 60 + seconds
