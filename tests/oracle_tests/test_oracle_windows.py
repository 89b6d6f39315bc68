"""Windows in plain Python: which rows are in which, and which of them have closed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import pytest
from oracle.domain import Row
from oracle.moments import MINUTE
from oracle.weather import READINGS
from oracle.windows import keep_closed, sessions, sliding, tumbling, watermark, window_end, with_datetimes

HOURS = 60


def rows(*minutes: float, key: str = "k") -> list[Row]:
    return [{"key": key, "time": int(minute * MINUTE)} for minute in minutes]


def in_minutes(windows: Iterable) -> list[tuple[float, float, int]]:
    return sorted((each.start / MINUTE, each.end / MINUTE, len(each.rows)) for each in windows)


def test_a_tumbling_window_has_its_start_and_not_its_end() -> None:
    """Before 1970 as well."""
    found = tumbling(rows(-1, 0, 4.999, 5, 11), ("key",), 5 * MINUTE)
    assert in_minutes(found) == [(-5, 0, 1), (0, 5, 2), (5, 10, 1), (10, 15, 1)]


def test_a_row_is_in_each_sliding_window_that_holds_it() -> None:
    """Of 10 minutes each 4, which is no divisor: in two or three."""
    found = sliding(rows(8, 11), ("key",), 10 * MINUTE, 4 * MINUTE)
    assert in_minutes(found) == [(0, 10, 1), (4, 14, 2), (8, 18, 2)]


def test_a_session_ends_a_gap_after_its_last_row() -> None:
    """A row at the end still belongs to it, whatever the order in which rows came; keys have sessions of their own."""
    found = sessions([*rows(21, 0, 10, 5), *rows(1, key="l")], ("key",), 10 * MINUTE)
    assert in_minutes(found) == [(0, 20, 3), (1, 11, 1), (21, 31, 1)]


def test_the_watermark_is_that_of_the_slowest_stream() -> None:
    """In whole milliseconds and never before 1970; a stream without rows holds it there."""
    of_late, of_early = rows(5 * HOURS), [{"time": 4 * HOURS * MINUTE + 1999}]
    assert watermark([(READINGS, of_late)]) == 3 * HOURS * MINUTE
    assert watermark([(READINGS, of_late), (READINGS, of_early)]) == 2 * HOURS * MINUTE + 1000
    assert watermark([(READINGS, of_late), (READINGS, [])]) == 0
    assert watermark([(READINGS, rows(HOURS))]) == 0


def test_a_window_has_closed_when_the_watermark_reaches_its_end() -> None:
    """A row without an end is there at once."""
    ends = [{"window_end": end} for end in (9, 10, 11)]
    assert keep_closed(ends, window_end, 10) == ends[:2]
    assert keep_closed(ends, lambda row: None, 10) == ends


@pytest.mark.parametrize("other", [None, 7 * MINUTE])
def test_moments_may_be_datetimes_for_who_prefers_them(other: int | None) -> None:
    """What is null stays so, what is returned is in microseconds again."""

    def next_hours(events: list[Row], others: list[Row]) -> Iterator[Row]:
        for event in events:
            assert event["time"] == datetime(1970, 1, 1, 0, 5)
            yield {"time": event["time"] + timedelta(hours=1), "other": others[0]["seen_at"], "n": 1}

    rows_of = with_datetimes(next_hours, "time", "seen_at")
    assert list(rows_of(rows(5), [{"seen_at": other}])) == [{"time": 65 * MINUTE, "other": other, "n": 1}]
