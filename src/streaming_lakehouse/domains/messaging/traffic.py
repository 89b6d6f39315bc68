"""The generator's course of a chat: when messages are written, in which channels, by whom, and when a mood falls."""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import accumulate
from typing import NamedTuple

from streaming_lakehouse.pipeline import Episode
from streaming_lakehouse.pipeline.synthetic import uniform_randoms

START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS_PER_DAY = 30_000
CHANNELS = tuple(f"C0{number:02d}CHAT" for number in range(12))
USERS = tuple(f"U{number:04d}CHAT" for number in range(400))
MOOD_DROP = "mood_drop"

_START_S = int(START.timestamp())
_USER_EXPONENT = 1.55  # of Zipf's law, measured on a Slack export
_LANES = (0.40, 0.65, 0.80, 0.92)  # cumulative shares of the conversations that run in parallel, without the last
_LANE_ROWS = 120  # rows until the first conversation moves to another channel; the others last longer
_DROP_SHARE = 0.5  # of the hours
_LEVEL_HOURS = 6  # until each channel has a level to fall from


class MoodDrop(NamedTuple):
    """A channel's mood falls from `start_s` to `end_s`, in seconds since START."""

    episode: Episode
    start_s: float
    end_s: float


def second(row: int) -> float:
    """The row's time in seconds since START: the rows of a day follow its cycle."""
    day, position = divmod(row, ROWS_PER_DAY)
    minutes = _minute_shares()
    share = (position + 0.5) / ROWS_PER_DAY
    minute = bisect_right(minutes, share) - 1
    within = (share - minutes[minute]) / (minutes[minute + 1] - minutes[minute])
    return day * 86_400 + (minute + within) * 60


def slack_ts(row: int, seed: int) -> str:
    """The time of the row's event as Slack writes it, with up to a second of clock skew.

    The last three digits are those of the row: no two messages of a channel have the same `ts`.
    """
    millis = int((second(row) + uniform_randoms(seed, row, 3)[3]) * 1000)
    return f"{_START_S + millis // 1000}.{millis % 1000:03d}{row % 1000:03d}"


def channel_of(row: int, lane_at: float, seed: int) -> str:
    """Conversations run in parallel lanes, each in one channel for a while: so messages come in bursts."""
    lane = bisect_right(_LANES, lane_at)
    return _channel_of_lane(lane, row // (_LANE_ROWS * (lane + 1)), seed)


def user_of(channel: str, uniform: float) -> str:
    """Few users of a channel write most of its messages."""
    return USERS[(bisect_right(_user_shares(), uniform) + 31 * CHANNELS.index(channel)) % len(USERS)]


def mood_drop_at(row: int, seed: int) -> Episode | None:
    """The mood drop at the row's time, whatever the row's channel: at most one an hour."""
    now = second(row)
    drop = _mood_drop(int(now // 3600), seed)
    return drop.episode if drop and drop.start_s <= now < drop.end_s else None


@lru_cache(1024)
def _channel_of_lane(lane: int, turn: int, seed: int) -> str:
    return CHANNELS[bisect_right(_channel_shares(), uniform_randoms(seed, turn, lane, 5)[0])]


@lru_cache(1024)
def _mood_drop(hour: int, seed: int) -> MoodDrop | None:
    """10 to 20 minutes that begin in the first 35 of the hour."""
    is_drop, start, length, channel, *_ = uniform_randoms(seed, hour, 0, 6)
    if is_drop >= _DROP_SHARE or hour < _LEVEL_HOURS:
        return None
    entity = CHANNELS[bisect_right(_channel_shares(), channel)]
    start_s = hour * 3600 + 60 * 35 * start
    return MoodDrop(
        Episode(MOOD_DROP, entity, f"{MOOD_DROP}-{seed}-{hour}"), start_s, start_s + 60 * (10 + 10 * length)
    )


@cache
def _minute_shares() -> tuple[float, ...]:
    """The share of a day's messages before each minute: most are written at 14 h, fewest at 2 h."""
    weights = [1 - 0.7 * math.cos((minute / 1440 - 2 / 24) * math.tau) for minute in range(1440)]
    return (0.0, *_cumulative_shares(weights), 1.0)


@cache
def _channel_shares() -> tuple[float, ...]:
    return _cumulative_shares([1 / rank for rank in range(1, len(CHANNELS) + 1)])


@cache
def _user_shares() -> tuple[float, ...]:
    return _cumulative_shares([rank**-_USER_EXPONENT for rank in range(1, len(USERS) + 1)])


def _cumulative_shares(weights: list[float]) -> tuple[float, ...]:
    """Without the last, which is 1."""
    total = sum(weights)
    return tuple(part / total for part in accumulate(weights[:-1]))
