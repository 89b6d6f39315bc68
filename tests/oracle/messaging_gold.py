"""Messaging's gold tables from silver rows, in which times are datetimes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from .compare import Rounded
from .domain import Row
from .windows import mean as mean_of

FIVE_MINUTES = timedelta(minutes=5)
MIDNIGHT = datetime(2026, 1, 1)


def floor(time: datetime) -> datetime:
    return MIDNIGHT + (time - MIDNIGHT) // FIVE_MINUTES * FIVE_MINUTES


def standing_messages(rows: Iterable[Row]) -> dict[tuple[str, datetime], list[float | None]]:
    """The sentiments of the messages that stand at the end of each channel's window."""
    versions: dict[tuple[str, datetime], list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] != "other" and floor(row["time"]) == floor(row["message_time"]):
            versions[row["channel"], row["message_time"]].append(row)
    windows: dict[tuple[str, datetime], list[float | None]] = defaultdict(list)
    for (channel, posted), changes in versions.items():
        if any(change["kind"] == "delete" for change in changes):
            continue
        edits = [change for change in changes if change["kind"] == "edit"] or changes
        last = max(edits, key=lambda change: (change["time"], change["event_id"]))
        windows[channel, floor(posted)].append(last["sentiment_compound"])
    return windows


def channel_sentiment(rows: Iterable[Row]) -> list[Row]:
    tables = []
    for (channel, start), sentiments in standing_messages(rows).items():
        scored = [sentiment for sentiment in sentiments if sentiment is not None]
        negative = [sentiment for sentiment in scored if sentiment <= -0.05]
        tables.append(
            {
                "channel": channel,
                "window_start": start,
                "window_end": start + FIVE_MINUTES,
                "messages": len(sentiments),
                "scored_messages": len(scored),
                "sentiment_mean": mean_of(scored),
                "negative_share": Rounded(len(negative) / len(scored)) if scored else None,
            }
        )
    return tables


def conversations(rows: Iterable[Row]) -> list[Row]:
    posted: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "message":
            posted[row["channel"], row["thread_ts"]].append(row)
    return [
        _conversation(key, session)
        for key, messages in posted.items()
        for session in _sessions(sorted(messages, key=lambda row: (row["time"], row["event_id"])))
    ]


def _sessions(messages: list[Row]) -> list[list[Row]]:
    sessions = [[messages[0]]]
    for message in messages[1:]:
        if message["time"] - sessions[-1][-1]["time"] <= timedelta(minutes=10):
            sessions[-1].append(message)
        else:
            sessions.append([message])
    return sessions


def _conversation(key: tuple[str, str | None], session: list[Row]) -> Row:
    first, last = session[0]["time"], session[-1]["time"]
    scored = [row["sentiment_compound"] for row in session if row["sentiment_compound"] is not None]
    return {
        "channel": key[0],
        "thread_ts": key[1],
        "window_start": first,
        "window_end": last + timedelta(minutes=10),
        "duration_s": (last - first).total_seconds(),
        "messages": len(session),
        "participants": len({row["user_hash"] for row in session}),
        "sentiment_mean": mean_of(scored),
        "sentiment_last": scored[-1] if scored else None,
    }


def mood_alerts(rows: Iterable[Row]) -> list[Row]:
    windows: dict[str, list[tuple[datetime, list[float]]]] = defaultdict(list)
    for (channel, start), sentiments in sorted(standing_messages(rows).items()):
        scored = [sentiment for sentiment in sentiments if sentiment is not None]
        if scored:
            windows[channel].append((start, scored))
    return [alert for channel, course in windows.items() for alert in _falls(channel, course)]


class Known(NamedTuple):
    """A window that the level has taken up: the weight of each message, their number, mean and squared deviations."""

    weight: float
    messages: int
    mean: float
    squares: float


def _known(weight: float, scored: list[float]) -> Known:
    mean = math.fsum(scored) / len(scored)
    return Known(weight, len(scored), mean, math.fsum((each - mean) ** 2 for each in scored))


def _level(known: list[Known], weight: float) -> tuple[float, float]:
    """The weighted mean and variance of all messages."""
    level = sum(each.weight * each.messages * each.mean for each in known) / weight
    squares = (each.weight * (each.squares + each.messages * (each.mean - level) ** 2) for each in known)
    return level, sum(squares) / weight


def _falls(channel: str, course: list[tuple[datetime, list[float]]]) -> list[Row]:
    """Follows the level as a list of the windows before instead of as sums."""
    alerts: list[Row] = []
    known: list[Known] = []
    low_since: datetime | None = None
    previous: datetime | None = None
    for start, scored in course:
        if previous and start - previous > timedelta(hours=24, minutes=5):
            known, low_since = [], None
        previous = start
        weight = sum(each.weight * each.messages for each in known)
        is_low, mean, level, limit = False, mean_of(scored), 0.0, 0.0
        if weight >= 30:
            level, variance = _level(known, weight)
            limit = level - max(0.3, 4 * (variance / len(scored)) ** 0.5)
            is_low = mean <= limit
        if is_low and len(scored) >= 5 and low_since is None:
            low_since = start
            times = {"window_start": start, "window_end": start + FIVE_MINUTES}
            measures = {"sentiment_mean": mean, "recent_level": Rounded(level), "sentiment_limit": Rounded(limit)}
            alerts.append({"channel": channel, **times, "messages": len(scored), **measures})
        elif is_low and len(scored) >= 5 and low_since and start + FIVE_MINUTES - low_since > timedelta(hours=1):
            known, low_since = [_known(1.0, scored)], None
        elif not is_low and (len(scored) >= 5 or low_since is None):
            known = [each._replace(weight=0.95 * each.weight) for each in known] + [_known(1.0, scored)]
            low_since = None
    return alerts
