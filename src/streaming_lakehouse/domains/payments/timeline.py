"""How rows become times: the course of a day, in blocks of rows that cover known stretches of time."""

from __future__ import annotations

import bisect
import itertools
import math
from datetime import UTC, datetime

START = datetime(2026, 1, 1, tzinfo=UTC)
BLOCK_ROWS = 200  # an episode lies within one block
BLOCKS_PER_DAY = 10
_SLICES = 96  # quarters of an hour
_SLICE_S = 86_400 // _SLICES


def _intensity(hour: float) -> float:
    """Payments at an hour of the day, relatively: few at night, most at noon and after work."""
    return 0.15 + math.exp(-(((hour - 12) / 3) ** 2) / 2) + 0.9 * math.exp(-(((hour - 17.5) / 2) ** 2) / 2)


_SLICE_SHARES = [_intensity((number + 0.5) / 4) for number in range(_SLICES)]
_SHARES_BEFORE = [0.0, *(each / sum(_SLICE_SHARES) for each in itertools.accumulate(_SLICE_SHARES))]


def second_of_day(share: float) -> float:
    """The second by which this share of a day's payments has been made."""
    slice_ = min(bisect.bisect(_SHARES_BEFORE, share) - 1, _SLICES - 1)
    before, after = _SHARES_BEFORE[slice_], _SHARES_BEFORE[slice_ + 1]
    return _SLICE_S * (slice_ + (share - before) / (after - before))


def share_of_day(second: float) -> float:
    """The share of a day's payments that has been made by this second; the inverse of `second_of_day`."""
    slice_ = min(int(second // _SLICE_S), _SLICES - 1)
    before, after = _SHARES_BEFORE[slice_], _SHARES_BEFORE[slice_ + 1]
    return before + (after - before) * (second - slice_ * _SLICE_S) / _SLICE_S


def block_seconds(block: int) -> tuple[float, float]:
    """Where a block begins and ends, in seconds of its day."""
    number = block % BLOCKS_PER_DAY
    return second_of_day(number / BLOCKS_PER_DAY), second_of_day((number + 1) / BLOCKS_PER_DAY)
