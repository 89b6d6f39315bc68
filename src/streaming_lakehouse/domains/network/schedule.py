"""Which flow or request a generated row is: base traffic and, in known stretches of rows, one episode of each kind.

A cycle is SLOTS slots of base traffic. In each slot one stretch is mixed in: an episode of an anomaly, or traffic that
only looks like one. All cycles have the same stretches in an order that the seed shuffles, so that the number of rows
before a slot is known without generating them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from streaming_lakehouse.pipeline.synthetic import uniform_randoms

START_S = 1_767_225_600  # 2026-01-01T00:00:00Z
BASE_PER_SECOND = 4  # base flows, and base requests, at the day's mean
BASE_PER_SLOT = 1_000
SLOT_S = BASE_PER_SLOT / BASE_PER_SECOND
_DAY_S = 86_400
_QUIETEST_S = 4 * 3_600  # the night's low, at 04:00
_DAILY_SWING = 0.5  # of the mean rate


class Stretch(NamedTuple):
    """The rows of one kind in a cycle: `flows` and `requests` beside the base traffic, over `seconds` at least."""

    kind: str
    flows: int
    requests: int
    seconds: float
    is_anomaly: bool = True


# Lengths and numbers: a vertical scan of 44 ports in 5 s and floods of 410 to 2,848 requests a minute were measured; a
# stretch here is slower, because its rows share a slot with the base traffic.
STRETCHES = (
    Stretch("backscatter", 60, 0, 60, is_anomaly=False),
    Stretch("port_scan", 90, 0, 20),
    Stretch("host_scan", 80, 0, 30),
    Stretch("ssh_brute_force", 60, 0, 150),
    Stretch("ssh_success_after_failures", 10, 0, 60),
    Stretch("slowloris", 60, 0, 60),
    Stretch("few_source_flood", 60, 600, 60),
    Stretch("many_source_flood", 500, 500, 60),
    Stretch("flash_crowd", 120, 240, 120, is_anomaly=False),
    Stretch("login_brute_force", 60, 60, 100),
    Stretch("login_success_after_failures", 10, 10, 60),
    Stretch("web_probe", 15, 15, 30),
)
SLOTS = len(STRETCHES)
BASE_PER_CYCLE = SLOTS * BASE_PER_SLOT
CYCLE_S = SLOTS * SLOT_S


class Position(NamedTuple):
    """What a row is: number `number` of the cycle's base traffic, or of the slot's stretch."""

    cycle: int
    slot: int
    stretch: Stretch | None
    number: int


class Slot(NamedTuple):
    """A slot's stretch, and when in the cycle it begins and how long it lasts, in seconds of base traffic."""

    stretch: Stretch
    start_s: float
    length_s: float


@lru_cache(maxsize=64)
def slots(cycle: int, seed: int) -> tuple[Slot, ...]:
    """The cycle's slots. The first one is never an anomaly, so that a detector has seen each host before it is hit."""
    first, *others = STRETCHES
    dice = [uniform_randoms(seed, cycle, number, 11) for number in range(SLOTS)]
    order = [first, *(stretch for _, stretch in sorted(zip((roll[0] for roll in dice), others, strict=False)))]
    made = []
    for number, (stretch, roll) in enumerate(zip(order, dice, strict=True)):
        length = stretch.seconds * (1 + 0.5 * roll[1])
        made.append(Slot(stretch, number * SLOT_S + 2 + roll[2] * (SLOT_S - length - 4), length))
    return tuple(made)


def flow_position(row: int, seed: int) -> Position:
    """The position of row `row` of the flows."""
    return _position(row, seed, "flows")


def request_position(row: int, seed: int) -> Position:
    """The position of row `row` of the requests."""
    return _position(row, seed, "requests")


def _rows(stretch: Stretch, stream: str) -> int:
    return stretch.flows if stream == "flows" else stretch.requests


_ROWS_PER_CYCLE = {
    stream: BASE_PER_CYCLE + sum(_rows(stretch, stream) for stretch in STRETCHES) for stream in ("flows", "requests")
}


@lru_cache(maxsize=128)
def _first_rows(cycle: int, seed: int, stream: str) -> tuple[int, ...]:
    """The first row of each slot, counted in the cycle."""
    return tuple(
        accumulate((BASE_PER_SLOT + _rows(slot.stretch, stream) for slot in slots(cycle, seed)[:-1]), initial=0)
    )


def _position(row: int, seed: int, stream: str) -> Position:
    cycle, row_in_cycle = divmod(row, _ROWS_PER_CYCLE[stream])
    first_rows = _first_rows(cycle, seed, stream)
    number = bisect_right(first_rows, row_in_cycle) - 1
    stretch, start_s, length_s = slots(cycle, seed)[number]
    rows, offset = _rows(stretch, stream), row_in_cycle - first_rows[number]
    base_before = int((start_s - number * SLOT_S) * BASE_PER_SECOND)
    base_during = int(length_s * BASE_PER_SECOND)
    mixed = offset - base_before
    if 0 <= mixed < rows + base_during:
        taken = mixed * rows // (rows + base_during)  # as evenly as integers can be mixed
        if (mixed + 1) * rows // (rows + base_during) > taken:
            return Position(cycle, number, stretch, taken)
        offset -= taken
    elif mixed >= 0:
        offset -= rows
    return Position(cycle, number, None, number * BASE_PER_SLOT + offset)


def event_time(base_s: float) -> float:
    """Seconds since 1970 of a moment given in seconds of base traffic since the first row: nights are slower."""
    turn = math.tau / _DAY_S
    swing = math.sin(turn * (base_s - _QUIETEST_S)) + math.sin(turn * _QUIETEST_S)
    return START_S + base_s + _DAILY_SWING / turn * swing
