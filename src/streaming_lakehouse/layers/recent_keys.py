"""The keys of recent events in the driver's memory: a small batch finds its duplicates without reading silver."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql import Column, DataFrame, functions as F

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_KEYS = 4_000_000  # 24 bytes each


def key_hashes(key: tuple[str, ...]) -> tuple[Column, Column]:
    """Two 64-bit hashes with different seeds: of a million keys, two share both with a probability of 1e-27."""
    return F.xxhash64(*key), F.xxhash64(F.lit(1), *key)


class Keys(NamedTuple):
    """The hashes of keys, and the time of their events in microseconds since 1970: three arrays of bigint."""

    hash_1: npt.NDArray[np.int64]
    hash_2: npt.NDArray[np.int64]
    time_us: npt.NDArray[np.int64]

    def where(self, selected: npt.NDArray[np.bool_ | np.int64]) -> Keys:
        return Keys(*(column[selected] for column in self))

    def ordered(self) -> Keys:
        """By the first hash."""
        order = self.hash_1.argsort()
        return Keys(*(column[order] for column in self))

    @property
    def size(self) -> int:
        return len(self.hash_1)


def load(events: DataFrame | None, key: tuple[str, ...], event_time: str) -> RecentKeys | None:
    """The keys of `events`, of which there may be none; None if they are too many for the driver's memory."""
    import numpy as np

    if events is None:
        return RecentKeys(Keys(*(np.empty(0, dtype=np.int64) for _ in Keys._fields)))
    columns = [*key_hashes(key), F.unix_micros(event_time)]
    table = events.select(*columns).limit(MAX_KEYS + 1).toArrow()
    if table.num_rows > MAX_KEYS:
        return None
    return RecentKeys(Keys(*(column.to_numpy() for column in table.columns)))


class RecentKeys:
    """A set of keys, in segments that are each ordered, so that adding a batch does not copy all of them.

    A segment is merged with a new one that is half its size or more: there are never more than a few dozen.
    """

    def __init__(self, keys: Keys) -> None:
        self._segments = [keys.ordered()]

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self._segments)

    def contains(self, keys: Keys, *, since_us: int) -> npt.NDArray[np.bool_]:
        """True for each key that an event at or after `since_us` has."""
        import numpy as np

        is_known = np.zeros(keys.size, dtype=bool)
        for segment in self._segments:
            is_known |= _is_in(segment, keys, since_us)
        return is_known

    def add(self, keys: Keys, *, since_us: int) -> None:
        """Adds keys, and may forget those of events before `since_us`."""
        self._segments.append(keys.ordered())
        while len(self._segments) > 1 and self._segments[-2].size <= 2 * self._segments[-1].size:
            self._merge_last_two(since_us)

    def forget_before(self, since_us: int) -> None:
        """Forgets the keys of events before `since_us`."""
        self._segments = [segment.where(segment.time_us >= since_us) for segment in self._segments]

    def _merge_last_two(self, since_us: int) -> None:
        import numpy as np

        last, before = self._segments.pop(), self._segments.pop()
        merged = Keys(*(np.concatenate(columns) for columns in zip(before, last, strict=True)))
        self._segments.append(merged.where(merged.time_us >= since_us).ordered())


def _is_in(segment: Keys, keys: Keys, since_us: int) -> npt.NDArray[np.bool_]:
    """Compares a key with each of the segment's that have its first hash: they stand side by side."""
    import numpy as np

    found = np.zeros(keys.size, dtype=bool)
    position = np.searchsorted(segment.hash_1, keys.hash_1)
    while segment.size:
        at = np.minimum(position, segment.size - 1)
        has_hash = (position < segment.size) & (segment.hash_1[at] == keys.hash_1)
        if not has_hash.any():
            break
        found |= has_hash & (segment.hash_2[at] == keys.hash_2) & (segment.time_us[at] >= since_us)
        position = position + has_hash
    return found
