"""Which keys are known, against a plain list of them."""

from __future__ import annotations

import random

import numpy as np

from streaming_lakehouse.layers.recent_keys import Keys, RecentKeys

Entry = tuple[int, int, int]


def keys(*entries: Entry) -> Keys:
    columns = list(zip(*entries, strict=True)) or [(), (), ()]
    return Keys(*(np.array(column, dtype=np.int64) for column in columns))


def known(recent: RecentKeys, *entries: tuple[int, int], since: int = 0) -> list[bool]:
    return recent.contains(keys(*((first, second, 0) for first, second in entries)), since_us=since).tolist()


def test_a_key_is_known_only_with_both_of_its_hashes() -> None:
    recent = RecentKeys(keys((1, 10, 0), (1, 11, 0), (2, 20, 0)))
    assert known(recent, (1, 10), (1, 11), (1, 12), (2, 10), (2, 20), (3, 30)) == [
        True,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_key_of_an_event_before_the_watermark_is_not_known() -> None:
    """Silver's row is behind the watermark: a new event with its key and a later time is not its duplicate."""
    recent = RecentKeys(keys((1, 1, 99), (2, 2, 100)))
    assert known(recent, (1, 1), (2, 2), since=100) == [False, True]
    recent.add(keys((1, 1, 150)), since_us=100)
    assert known(recent, (1, 1), (2, 2), since=100) == [True, True]


def test_nothing_is_known_of_no_keys() -> None:
    recent = RecentKeys(keys())
    assert known(recent, (0, 0)) == [False]
    assert known(recent) == []


def test_old_keys_are_forgotten() -> None:
    recent = RecentKeys(keys((1, 1, 1), (2, 2, 2)))
    recent.add(keys((3, 3, 3)), since_us=0)
    recent.forget_before(3)
    assert recent.size == 1
    assert known(recent, (2, 2), (3, 3)) == [False, True]


def test_many_batches_know_what_a_list_knows() -> None:
    """500 batches of 1 to 40 keys, with few first hashes so that many keys share one."""
    draw = random.Random(7)
    recent, every, watermark = RecentKeys(keys()), [], 0
    for now in range(500):
        batch = [(draw.randrange(50), draw.randrange(50), now - draw.randrange(5)) for _ in range(draw.randint(1, 40))]
        wanted = {(first, second) for first, second, time in every if time >= watermark}
        expected = [(first, second) in wanted for first, second, _ in batch]
        assert recent.contains(keys(*batch), since_us=watermark).tolist() == expected
        recent.add(keys(*batch), since_us=watermark)
        every.extend(batch)
        watermark = max(watermark, now - 20)
    assert recent.size < len(every) / 4
