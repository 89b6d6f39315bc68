"""When a streaming query looks for new data: the values of `--trigger`, parsed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from streaming_lakehouse.errors import LakehouseError

_INTERVAL = r"\d+ (?:milliseconds?|seconds?|minutes?|hours?)"
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
    micro-batches (the interval is that of their checkpoints). Raises LakehouseError for anything else.
    """
    words = " ".join(text.split())
    if words == "available-now":
        return Trigger(words, {"availableNow": True})
    if words == "default":
        return Trigger(words, {})
    for prefix, argument in (("continuous ", "continuous"), ("real-time ", "realTime"), ("", "processingTime")):
        if re.fullmatch(prefix + _INTERVAL, words):
            return Trigger(words, {argument: words.removeprefix(prefix)})
    raise LakehouseError(f"unknown trigger {text!r}; it is {_FORMS}")
