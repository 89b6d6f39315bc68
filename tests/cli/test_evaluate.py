"""Detections against episodes: which of them match, and what is said of both."""

from __future__ import annotations

from datetime import timedelta

from streaming_lakehouse.cli.evaluate import Episode, Found, score
from streaming_lakehouse.pipeline import Detection

SECOND = 1_000_000
HOUR = 3_600 * SECOND
SCANS = Detection("scan", table="alerts", entity="source", time="time", tolerance=timedelta(seconds=60))


def test_a_detection_matches_an_episode_of_its_entity_within_the_tolerance() -> None:
    """By hand: two of three episodes are found, the first after 5 s; two of four rows are false alarms."""
    episodes = [
        Episode("a", 100 * SECOND, 200 * SECOND),
        Episode("b", 100 * SECOND, 200 * SECOND),
        Episode("c", 100 * SECOND, 200 * SECOND),
    ]
    found = [
        Found("a", 105 * SECOND),
        Found("b", 260 * SECOND),
        Found("b", 261 * SECOND),  # a second behind the tolerance
        Found("d", 150 * SECOND),
    ]
    result = score(SCANS, episodes, found, closed_until=HOUR, span=2 * HOUR)
    assert (result.episodes, result.detected, result.detections, result.false) == (3, 2, 4, 2)
    assert (result.precision, result.recall) == (0.5, 2 / 3)
    assert result.delay_s == (5 + 160) / 2
    assert result.false_per_hour == 1.0


def test_an_episode_at_the_end_counts_when_it_was_detected_only() -> None:
    """Its windows may still be open."""
    episodes = [Episode("a", 0, 10 * SECOND), Episode("b", 0, 10 * SECOND)]
    result = score(SCANS, episodes, [Found("a", 5 * SECOND)], closed_until=60 * SECOND, span=HOUR)
    assert (result.episodes, result.open, result.detected, result.recall) == (1, 1, 1, 1.0)


def test_nothing_to_divide_by_is_no_perfect_score() -> None:
    result = score(SCANS, [], [], closed_until=HOUR, span=HOUR)
    assert (result.precision, result.recall, result.delay_s) == (None, None, None)


def test_one_detection_may_find_several_episodes_and_each_counts_once() -> None:
    episodes = [Episode("a", 0, 100 * SECOND), Episode("a", 50 * SECOND, 120 * SECOND)]
    found = [Found("a", 60 * SECOND), Found("a", 70 * SECOND)]
    result = score(SCANS, episodes, found, closed_until=HOUR, span=HOUR)
    assert (result.detected, result.detections, result.precision) == (2, 2, 1.0)
