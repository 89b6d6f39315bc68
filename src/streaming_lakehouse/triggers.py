"""When a streaming query looks for new data: the values of `--trigger`, parsed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.options import is_whole

_MILLISECONDS = {"millisecond": 1, "second": 1000, "minute": 60_000, "hour": 3_600_000}
_INTERVAL = rf"(\d+) ({'|'.join(_MILLISECONDS)})s?"
LEAST_REAL_TIME = 5000  # milliseconds: spark.sql.streaming.realTimeMode.minBatchDuration
_LONGEST = 366 * 24 * 3_600_000  # milliseconds: a year; Spark's own bound, 2 ** 63 microseconds, no run lives to see
_INSTEAD = {
    "processingTime": 'use "default" for one micro-batch after the other without a pause',
    "continuous": 'it is that of the checkpoints, such as "continuous 1 second"',
    "realTime": 'it is that of the checkpoints, "real-time 5 seconds" at least',
}
_FORMS = (
    'available-now, default, an interval such as "30 seconds", or for a hot path "continuous 1 second" or '
    '"real-time 5 minutes"'
)


@dataclass(frozen=True)
class Trigger:
    """`arguments` are those of `DataStreamWriter.trigger`; empty for Spark's default."""

    text: str
    arguments: dict[str, Any]

    @property
    def is_available_now(self) -> bool:
        return "availableNow" in self.arguments

    @property
    def kind(self) -> str:
        """The trigger without its interval: available-now, default, interval, continuous or real-time."""
        kinds = {"availableNow": "available-now", "processingTime": "interval", "realTime": "real-time"}
        name = next(iter(self.arguments), "default")
        return kinds.get(name, name)

    @property
    def is_micro_batch(self) -> bool:
        return not {"continuous", "realTime"} & set(self.arguments)


def parse_trigger(text: str) -> Trigger:
    """The trigger that `text` means.

    `available-now` takes all there is and ends; `default` starts each micro-batch when the one before is done;
    `"30 seconds"` starts one every 30 seconds; `"continuous 1 second"` and `"real-time 5 minutes"` take no
    micro-batches (the interval is that of their checkpoints). Raises LakehouseError for anything else, and for an
    interval that Spark would refuse later, or wait for without an end.
    """
    words = " ".join(text.split())
    if words == "available-now":
        return Trigger(words, {"availableNow": True})
    if words == "default":
        return Trigger(words, {})
    for prefix, argument in (("continuous ", "continuous"), ("real-time ", "realTime"), ("", "processingTime")):
        if found := re.fullmatch(prefix + _INTERVAL, words):
            _check(words, argument, found[1], _MILLISECONDS[found[2]])
            return Trigger(words, {argument: words.removeprefix(prefix)})
    raise LakehouseError(f"unknown trigger {text!r}; it is {_FORMS}")


def _check(words: str, argument: str, number: str, unit: int) -> None:
    """Raises LakehouseError for an interval out of bounds."""
    if not is_whole(number, 0, _LONGEST // unit):
        raise LakehouseError(f"trigger {words[:60]!r}: the interval is too long; give a year, 8784 hours, at most")
    if int(number) * unit < (LEAST_REAL_TIME if argument == "realTime" else 1):
        raise LakehouseError(f"trigger {words!r}: the interval is too short; {_INSTEAD[argument]}")
