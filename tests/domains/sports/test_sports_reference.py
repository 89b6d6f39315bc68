"""The gold tables of generated days, compared with plain Python and with the feed's own running score."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from domains.sports.matches import generated, rows_of, shuffled, silver
from oracle.sports_matches import momentum, scoreboard
from oracle.sports_table import league_table
from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.domains.sports import gold
from streaming_lakehouse.domains.sports.events import generate
from streaming_lakehouse.domains.sports.fixtures import MATCHES_AT_ONCE, SLOTS
from streaming_lakehouse.domains.sports.ranking import HEAD_TO_HEAD_FIRST

pytestmark = pytest.mark.usefixtures("few_rows")

SEED = 21
# Three days and a half of matches: the last ones are running.
EVENTS = 7 * SLOTS * MATCHES_AT_ONCE - 60 * MATCHES_AT_ONCE


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return generated(0, EVENTS, SEED)


@pytest.fixture(scope="module")
def timeline(spark: SparkSession, events: list[dict[str, Any]]) -> DataFrame:
    return silver(spark, shuffled(events)).cache()


def keyed(rows: list[dict[str, Any]], *key: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    found = {tuple(row[name] for name in key): row for row in rows}
    assert len(found) == len(rows), "the key is no key"
    return found


def test_the_scoreboard_is_the_reference(timeline: DataFrame, events: list[dict[str, Any]]) -> None:
    rows = keyed(rows_of(gold.scoreboard(timeline)), "match_id")
    assert rows == keyed(scoreboard(events), "match_id")
    assert {row["status"] for row in rows.values()} == {"not_started", "live", "ended"}


def test_the_scoreboard_agrees_with_the_feed(timeline: DataFrame, events: list[dict[str, Any]]) -> None:
    """The feed's newest score of a match, less what was canceled after its end."""
    feed: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    newest = sorted(range(EVENTS), key=lambda row: events[row]["time"])
    for row in newest:
        event, label = events[row], generate(row, SEED).label
        if label in ("goal_canceled_after_end", "goal_canceled_next_day"):
            feed[event["match_id"]][event["competitor"] == "away"] -= 1
        elif event.get("home_score") is not None and event["type"] != "match_status":
            feed[event["match_id"]] = [event["home_score"], event["away_score"]]
    scores = {row["match_id"]: [row["home_score"], row["away_score"]] for row in rows_of(gold.scoreboard(timeline))}
    assert scores == dict(feed)


@pytest.mark.parametrize("head_to_head_first", [False, True])
def test_the_league_table_is_the_reference(
    timeline: DataFrame, events: list[dict[str, Any]], head_to_head_first: bool
) -> None:
    order = {"order": HEAD_TO_HEAD_FIRST} if head_to_head_first else {}
    rows = keyed(rows_of(gold.league_table(timeline, **order)), "season_id", "team")
    expected = league_table(events, head_to_head_first=head_to_head_first)
    assert rows == keyed(expected, "season_id", "team")
    assert any(row["provisional_points"] for row in expected)


def test_momentum_is_the_reference(timeline: DataFrame, events: list[dict[str, Any]]) -> None:
    key = ("match_id", "team", "window_start")
    rows, expected = keyed(rows_of(gold.momentum(timeline)), *key), keyed(momentum(events), *key)
    assert rows.keys() == expected.keys()
    for row in rows:
        assert _rounded(rows[row]) == _rounded(expected[row])


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 9) if isinstance(value, float) else value for name, value in row.items()}
