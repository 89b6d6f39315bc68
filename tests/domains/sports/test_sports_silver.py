"""When a timeline event is valid, and its clock in seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import SparkSession, functions as F, types as T

from streaming_lakehouse.domains.sports import silver
from streaming_lakehouse.domains.sports.events import SCHEMA
from streaming_lakehouse.pipeline.expectations import failed_expectations

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOAL = {
    **{"event_id": "e", "season_id": "s", "match_id": "m", "home_team": "A", "away_team": "B", "type": "score_change"},
    **{"time": NOON, "period": 1, "match_clock": "7:04", "competitor": "home", "home_score": 1, "away_score": 0},
}
ENVELOPE = [T.StructField("source_timestamp", T.TimestampType()), T.StructField("ingested_at", T.TimestampType())]


def failures(spark: SparkSession, *events: dict[str, Any], warnings: bool = False) -> list[list[str]]:
    rows = [(number, *(event.get(name) for name in SCHEMA.names), NOON, NOON) for number, event in enumerate(events)]
    schema = T.StructType([T.StructField("number", T.IntegerType()), *SCHEMA.fields, *ENVELOPE])
    judged = spark.createDataFrame(rows, schema).select(
        "number",
        failed_expectations(each for each in silver.EXPECTATIONS if (each.on_violation == "warn") == warnings).alias(
            "failed"
        ),
    )
    return [row["failed"] for row in judged.orderBy("number").collect()]


def test_each_expectation_catches_its_fault_and_nothing_else(spark: SparkSession) -> None:
    later = datetime(2026, 1, 1, 13, 0, 1, tzinfo=UTC)
    faults: list[tuple[dict[str, Any], list[str]]] = [
        ({}, []),
        ({"type": "throw_in", "competitor": None, "match_clock": None, "period": None}, []),
        ({"type": "a_new_type"}, []),  # only counted
        ({"match_id": ""}, ["match_id_is_present"]),
        ({"season_id": None}, ["season_id_is_present"]),
        ({"away_team": "A"}, ["teams_are_two"]),
        ({"competitor": "both"}, ["competitor_is_known"]),
        ({"competitor": None}, ["competitor_is_present"]),
        ({"type": "red_card", "competitor": None}, ["competitor_is_present"]),
        ({"match_clock": None}, ["goal_has_clock"]),
        ({"match_clock": "7:60"}, ["match_clock_is_valid"]),
        ({"stoppage_time_clock": "soon"}, ["stoppage_time_clock_is_valid"]),
        ({"period": 99}, ["period_in_range"]),
        ({"home_score": -1}, ["home_score_in_range"]),
        ({"away_score": 100}, ["away_score_in_range"]),
        ({"type": "canceled_goal"}, ["related_event_id_is_present"]),
        ({"type": "delete_event", "related_event_id": "x"}, []),
        ({"time": later}, ["time_is_not_ahead"]),
    ]
    found = failures(spark, *(GOAL | changes for changes, _ in faults))
    assert found == [expected for _, expected in faults]


def test_the_kick_of_a_shoot_out_is_a_known_type(spark: SparkSession) -> None:
    found = failures(spark, GOAL | {"type": "penalty_shootout"}, GOAL | {"type": "a_new_type"}, warnings=True)
    assert found == [[], ["type_is_known"]]


@pytest.mark.parametrize(
    ("clock", "stoppage", "seconds"),
    [("7:04", None, 424), ("0:00", None, 0), ("45:00", "1:10", 2770), ("90:00", "0:05", 5405), (None, None, None)],
)
def test_the_clock_counts_stoppage_time(
    spark: SparkSession, clock: str | None, stoppage: str | None, seconds: int | None
) -> None:
    row = spark.range(1).select(
        F.lit(clock).cast("string").alias("match_clock"), F.lit(stoppage).cast("string").alias("stoppage_time_clock")
    )
    first = silver.with_clock_s(row).first()
    assert first is not None
    assert first["clock_s"] == seconds


def test_the_transform_gives_the_declared_columns(spark: SparkSession) -> None:
    assert silver.with_clock_s(spark.createDataFrame([], SCHEMA)).schema == silver.TRANSFORMED_SCHEMA
