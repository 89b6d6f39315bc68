"""The values of `--trigger`, parsed and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from streaming_lakehouse.config.options import is_int_in_range
from streaming_lakehouse.errors import LakehouseError

_MILLISECONDS = {"millisecond": 1, "second": 1000, "minute": 60_000, "hour": 3_600_000}
_INTERVAL = rf"(\d+) ({'|'.join(_MILLISECONDS)})s?"
MIN_REAL_TIME_MS = 5000  # spark.sql.streaming.realTimeMode.minBatchDuration
_MAX_MS = 366 * 24 * 3_600_000  # a year; Spark's own bound, 2 ** 63 microseconds, is no useful limit
_HINTS = {
    "processingTime": 'use "default" for one micro-batch after the other',
    "continuous": 'it is the checkpoint interval, such as "continuous 1 second"',
    "realTime": 'it is the checkpoint interval, "real-time 5 seconds" at least',
}
_SYNTAX = (
    'available-now, default, an interval such as "30 seconds", or for a hot path "continuous 1 second" or '
    '"real-time 5 minutes"'
)


@dataclass(frozen=True)
class Trigger:
    """A parsed trigger. `writer_options` are the arguments of `DataStreamWriter.trigger`; empty for Spark's default."""

    text: str
    writer_options: dict[str, Any]

    @property
    def is_available_now(self) -> bool:
        return "availableNow" in self.writer_options

    @property
    def kind(self) -> str:
        """The trigger without its interval: available-now, default, interval, continuous or real-time."""
        kinds = {"availableNow": "available-now", "processingTime": "interval", "realTime": "real-time"}
        name = next(iter(self.writer_options), "default")
        return kinds.get(name, name)

    @property
    def is_micro_batch(self) -> bool:
        return not {"continuous", "realTime"} & set(self.writer_options)


def parse_trigger(text: str) -> Trigger:
    """The trigger of `text`.

    `available-now` processes all available data and ends. `default` starts each micro-batch when the one before is
    done, for bronze every second and for gold tables with state every 2 seconds at most; `"30 seconds"` starts one
    every 30 seconds.
    `"continuous 1 second"` and `"real-time 5 minutes"` have no micro-batches: the interval is their checkpoint
    interval. Raises LakehouseError for anything else, and for an interval that Spark would refuse later or that would
    never pass.
    """
    words = " ".join(text.split())
    if words == "available-now":
        return Trigger(words, {"availableNow": True})
    if words == "default":
        return Trigger(words, {})
    for prefix, argument in (("continuous ", "continuous"), ("real-time ", "realTime"), ("", "processingTime")):
        if found := re.fullmatch(prefix + _INTERVAL, words):
            _check_bounds(words, argument, found[1], _MILLISECONDS[found[2]])
            return Trigger(words, {argument: words.removeprefix(prefix)})
    raise LakehouseError(f"unknown trigger {text!r}; use {_SYNTAX}")


def _check_bounds(words: str, argument: str, number: str, unit: int) -> None:
    """Raises LakehouseError for an interval out of bounds."""
    if not is_int_in_range(number, 0, _MAX_MS // unit):
        raise LakehouseError(f"trigger {words[:60]!r}: the interval is too long; give a year, 8784 hours, at most")
    if int(number) * unit < (MIN_REAL_TIME_MS if argument == "realTime" else 1):
        raise LakehouseError(f"trigger {words!r}: the interval is too short; {_HINTS[argument]}")


# What `default` means for bronze, and for a gold table with state: see RunPlan.
DEFAULT_OF_BRONZE, DEFAULT_WITH_STATE = parse_trigger("1 second"), parse_trigger("2 seconds")
