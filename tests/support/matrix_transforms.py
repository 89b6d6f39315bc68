"""A transform for each kind of state, over weather's events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pyspark.sql import DataFrame, Row, functions as F
from pyspark.sql.streaming.stateful_processor import StatefulProcessor, StatefulProcessorHandle

from streaming_lakehouse.pipeline import State

_SCHEMA = "device string, window_start timestamp, readings bigint"


def _unchanged(events: DataFrame) -> DataFrame:
    return events


def _per_device(events: DataFrame) -> DataFrame:
    counts = events.groupBy("device").agg(F.count("*").alias("readings"))
    return counts.select("device", F.lit(None).cast("timestamp").alias("window_start"), "readings")


def _per_window(events: DataFrame) -> DataFrame:
    return _counted(events, F.window("time", "1 hour"))


def _per_session(events: DataFrame) -> DataFrame:
    return _counted(events, F.session_window("time", "30 seconds"))


def _counted(events: DataFrame, window: Any) -> DataFrame:
    counts = events.groupBy("device", window.alias("window")).agg(F.count("*").alias("readings"))
    return counts.select("device", F.col("window.start").alias("window_start"), "readings")


def _next_minute(events: DataFrame, others: DataFrame) -> DataFrame:
    """Each reading with those of its device in the minute after it, or with none."""
    later = others.select(F.col("device").alias("later_device"), F.col("time").alias("later_time"))
    is_next = F.expr("device = later_device AND later_time > time AND later_time <= time + INTERVAL 90 SECONDS")
    return events.join(later, is_next, "left_outer").select("event_id", "device", "time", "later_time")


class CountReadings(StatefulProcessor):
    """How many readings each device has sent so far."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._readings = handle.getValueState("readings", "readings bigint")

    def handleInputRows(self, key: Any, rows: Iterator[Row], timer_values: Any) -> Iterable[Row]:
        before = self._readings.get()[0] if self._readings.exists() else 0
        readings = before + sum(1 for _ in rows)
        self._readings.update((readings,))
        yield Row(device=key[0], window_start=None, readings=readings)

    def close(self) -> None:
        """Nothing is open."""


def _readings_so_far(events: DataFrame, *, output_mode: str) -> DataFrame:
    return events.groupBy("device").transformWithState(
        statefulProcessor=CountReadings(), outputStructType=_SCHEMA, outputMode=output_mode, timeMode="None"
    )


TRANSFORMS: Mapping[State, Callable[..., DataFrame]] = {
    State.NONE: _unchanged,
    State.AGGREGATION: _per_device,
    State.WINDOW: _per_window,
    State.SESSION: _per_session,
    State.JOIN: _next_minute,
    State.CUSTOM: _readings_so_far,
}
