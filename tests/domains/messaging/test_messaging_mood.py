"""When a channel's mood falls, on windows written by hand."""

from __future__ import annotations

from streaming_lakehouse.domains.messaging.mood import MoodLevel, judge_all

MINUTES_MS = 60_000


def windows(*means: tuple[int, int, float]) -> list[dict[str, object]]:
    """Windows of (minute, messages, mean): half of a window's messages are 0.3 above the mean, half below."""
    return [
        {
            "channel": "C1",
            "window_start_ms": minute * MINUTES_MS,
            "window_end_ms": (minute + 5) * MINUTES_MS,
            "messages": messages,
            "compound_sum": messages * mean,
            "compound_square_sum": messages * (mean**2 + 0.3**2),
        }
        for minute, messages, mean in means
    ]


ORDINARY = [(minute, 20, 0.2) for minute in range(0, 60, 5)]


def falls(*means: tuple[int, int, float]) -> list[float]:
    return [row["window_start_ms"] / MINUTES_MS for row in judge_all(MoodLevel(), windows(*means))[1]]


def test_a_fall_is_reported_once() -> None:
    """With a deviation of 0.3 the limit of 16 messages is 0.2 - 4 * 0.3 / 4 = -0.1."""
    [alert] = judge_all(MoodLevel(), windows(*ORDINARY, (60, 16, -0.1001), (65, 16, -0.5), (70, 16, 0.2)))[1]
    assert (alert["channel"], alert["window_start_ms"], alert["messages"]) == ("C1", 60 * MINUTES_MS, 16)
    assert round(alert["sentiment_limit"], 9) == -0.1
    assert round(alert["recent_level"], 9) == 0.2
    assert falls(*ORDINARY, (60, 16, -0.0999)) == []


def test_windows_may_come_in_any_order() -> None:
    """A batch that closes several windows gives them in no order."""
    assert falls((60, 16, -0.5), *reversed(ORDINARY)) == [60]


def test_a_small_change_of_many_messages_is_no_fall() -> None:
    """1,000 messages make 0.04 significant, but 0.3 is what counts."""
    assert falls(*ORDINARY, (60, 1_000, 0.0)) == []
    assert falls(*ORDINARY, (60, 1_000, -0.11)) == [60]


def test_a_channel_without_a_level_and_a_window_of_four_messages_are_not_judged() -> None:
    """30 messages make a level; fewer than 5 say nothing about a mood."""
    assert falls((0, 20, 0.5), (5, 9, 0.5), (10, 20, -0.9)) == []
    assert falls(*ORDINARY, (60, 4, -1.0)) == []


def test_a_mood_that_rises_can_fall_again() -> None:
    """Two falls, two alerts; low windows have not lowered the level in between."""
    assert falls(*ORDINARY, (60, 20, -0.6), (65, 20, -0.6), (70, 20, 0.2), (75, 20, -0.6)) == [60, 75]


def test_a_fall_of_more_than_an_hour_becomes_the_level() -> None:
    """From then on the channel falls from there."""
    low = [(minute, 20, -0.3) for minute in range(60, 180, 5)]
    assert falls(*ORDINARY, *low) == [60]
    assert falls(*ORDINARY, *low, (180, 20, -0.9)) == [60, 180]


def test_a_level_is_forgotten_after_a_day_of_silence() -> None:
    """A day later to the minute it still holds, five minutes later no more."""
    day = 24 * 60
    assert falls(*ORDINARY, (day + 60, 20, -0.6)) == [day + 60]
    assert falls(*ORDINARY, (day + 65, 20, -0.6)) == []
