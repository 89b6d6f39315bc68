"""Windows in plain Python, what is computed of their rows, and which of them an append-mode table must have."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from .compare import Rounded
from .domain import Row, Silver
from .moments import micros_of, moment_of


class Window(NamedTuple):
    """Rows of one key with times in [start, end)."""

    key: tuple[Any, ...]
    start: int
    end: int
    rows: list[Row]

    def values(self, column: str) -> list[Any]:
        """What is not null."""
        return [row[column] for row in self.rows if row[column] is not None]


def sliding(rows: Iterable[Row], by: Sequence[str], size: int, slide: int, time: str = "time") -> Iterator[Window]:
    """Windows of `size` that begin at each multiple of `slide`, both in microseconds; a row is in size / slide."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        last = row[time] - row[time] % slide
        for start in range(last, row[time] - size, -slide):
            found[(*(row[column] for column in by), start)].append(row)
    for (*key, start), within in found.items():
        yield Window(tuple(key), start, start + size, within)


def tumbling(rows: Iterable[Row], by: Sequence[str], size: int, time: str = "time") -> Iterator[Window]:
    return sliding(rows, by, size, size, time)


def sessions(rows: Iterable[Row], by: Sequence[str], gap: int, time: str = "time") -> Iterator[Window]:
    """A session ends `gap` after its last row; a row at or before that end belongs to it."""

    def key_of(row: Row) -> tuple[Any, ...]:
        return tuple(row[column] for column in by)

    for key, same in groupby(sorted(rows, key=lambda row: (key_of(row), row[time])), key=key_of):
        session: list[Row] = []
        for row in same:
            if session and row[time] > session[-1][time] + gap:
                yield Window(key, session[0][time], session[-1][time] + gap, session)
                session = []
            session.append(row)
        yield Window(key, session[0][time], session[-1][time] + gap, session)


def mean(values: Sequence[float]) -> Rounded | None:
    return Rounded(math.fsum(values) / len(values)) if values else None


def total(values: Sequence[float]) -> Rounded | None:
    return Rounded(math.fsum(values)) if values else None


def smallest(values: Sequence[Any]) -> Any:
    return min(values, default=None)


def greatest(values: Sequence[Any]) -> Any:
    return max(values, default=None)


def watermark(streams: Iterable[tuple[Silver, Iterable[Row]]]) -> int:
    """The watermark of a query that has read these silver tables to their ends, in microseconds.

    Spark's rule: of each stream the newest event time in whole milliseconds minus the delay, never before 1970; of
    several streams the least.
    """
    return min(_watermark_of(silver, rows) for silver, rows in streams)


def _watermark_of(silver: Silver, rows: Iterable[Row]) -> int:
    newest = max((row[silver.event_time] for row in rows), default=0)
    return max(0, newest - newest % 1000 - silver.watermark)


def keep_closed(rows: Iterable[Row], closes_at: Callable[[Row], int | None], until: int) -> list[Row]:
    """The rows that append mode has written when the watermark is `until`: those that close by then or have no end."""
    return [row for row in rows if (end := closes_at(row)) is None or end <= until]


def with_datetimes(rows_of: Callable[..., Iterable[Row]], *columns: str) -> Callable[..., Iterator[Row]]:
    """`rows_of` as a function of rows in which these columns are moments of datetime, in UTC and without a zone."""

    def converted(*inputs: Iterable[Row]) -> Iterator[Row]:
        for row in rows_of(*([_changed(row, columns, moment_of) for row in rows] for rows in inputs)):
            yield _changed(row, [name for name, value in row.items() if isinstance(value, datetime)], micros_of)

    return converted


def _changed(row: Row, columns: Iterable[str], change: Callable[[Any], Any]) -> Row:
    return {**row, **{name: change(row[name]) for name in columns if row.get(name) is not None}}


def window_end(row: Row) -> int | None:
    """When a row of a window or session closes: `Gold(closes_at=window_end)`."""
    end: int = row["window_end"]
    return end
