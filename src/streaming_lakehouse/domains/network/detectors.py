"""Detectors with a memory of one source or one host: `transformWithState` over windows that have closed.

Each takes the windows of its key in the order of their ends. An aggregation in append mode before it makes that order
hold across micro-batches too: a window comes once, when the watermark has passed its end. So a detector gives the same
alerts however the stream is cut into batches, and on a batch DataFrame. Times are microseconds since 1970, which do
not depend on the zone of the machine a Python worker runs on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from typing import Any, ClassVar

from pyspark.sql import Row
from pyspark.sql.streaming.stateful_processor import (
    ExpiredTimerInfo,
    StatefulProcessor,
    StatefulProcessorHandle,
    TimerValues,
)

ALERT_SCHEMA = (
    "source_ip string, alert string, time_us bigint, destination string, measure string, value double, threshold double"
)


class WindowDetector(StatefulProcessor):
    """Keeps one `Memory` a key until `forget_after_us` after its last window, in event time.

    Nothing older than that may change an alert: a batch, which has no watermark, forgets nothing.
    """

    Memory: ClassVar[type]
    state_schema: ClassVar[str]  # the Memory's fields, then the timer
    forget_after_us: ClassVar[int]

    def judge(self, key: str, window: Row, memory: Any) -> Iterator[Row]:
        """The rows that a window gives, in the light of the memory, which it updates."""
        raise NotImplementedError

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._handle = handle
        self._state = handle.getValueState("memory", self.state_schema)

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: TimerValues) -> Iterator[Row]:
        *remembered, timer_ms = self._state.get() or (0,)
        memory = self.Memory(*remembered)
        window_end_us = 0
        for window in sorted(rows, key=lambda row: int(row["window_end_us"])):
            window_end_us = window["window_end_us"]
            yield from self.judge(key[0], window, memory)
        if timerValues.getCurrentWatermarkInMs() > 0:
            if timer_ms:
                self._handle.deleteTimer(timer_ms)
            timer_ms = (window_end_us + self.forget_after_us) // 1_000
            self._handle.registerTimer(timer_ms)
        self._state.update((*astuple(memory), timer_ms))

    def handleExpiredTimer(
        self, key: Any, timerValues: TimerValues, expiredTimerInfo: ExpiredTimerInfo
    ) -> Iterator[Row]:
        self._state.clear()
        return iter(())

    def close(self) -> None:
        pass


def alert_row(source: str, alert: str, time_us: int, target: str | None, measured: tuple[str, float, float]) -> Row:
    measure, value, threshold = measured
    return Row(
        source_ip=source,
        alert=alert,
        time_us=time_us,
        destination=target,
        measure=measure,
        value=float(value),
        threshold=float(threshold),
    )
