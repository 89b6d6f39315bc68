"""Runs streaming queries of any source, trigger, sink, mode and state for real: the evidence for each rule."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, functions as F
from pyspark.sql.streaming.query import StreamingQuery
from support.matrix_transforms import TRANSFORMS

from streaming_lakehouse.config.registry import SINKS, SOURCES
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import Trigger, parse_trigger
from streaming_lakehouse.execution.compatibility import violated_rules
from streaming_lakehouse.execution.rules import DELTA, QuerySpec, RefusedBy
from streaming_lakehouse.layers import gold
from streaming_lakehouse.layers.validation import is_valid, validate
from streaming_lakehouse.pipeline import Bronze, Gold, Silver, State
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.sinks import OUTPUT_MODES, QueryConfig, WriteRequest, get_sink
from streaming_lakehouse.sources import ReadRequest, get_source

TRIGGERS = {
    "default": "default",
    "interval": "1 second",
    "available-now": "available-now",
    "continuous": "continuous 1 second",
    "real-time": "real-time 5 seconds",
}
MICRO_BATCH = ("default", "interval", "available-now")
WEATHER = load_pipeline("weather")
EXHAUSTIVE = os.environ.get("LAKEHOUSE_EXHAUSTIVE") == "1"  # all combinations, not a witness of each rule
_EVENTS = Silver("events", source=Bronze("events", WEATHER.bronze[0].generator), schema=WEATHER.silver[0].schema,
                 watermark=timedelta(minutes=1))  # fmt: skip
_TIMEOUT_S = 60
_THREADS = 4  # two cores: while one query waits for its trigger, others work


def bronze_queries() -> list[QuerySpec]:
    """From each source to a table, at each trigger."""
    return [
        QuerySpec("bronze.matrix", source, trigger, DELTA, "append")
        for source, trigger in itertools.product(SOURCES, TRIGGERS)
    ]


def gold_queries() -> list[QuerySpec]:
    """From a table to each sink, in each mode, at each trigger, with windows; and once without state."""
    return [
        QuerySpec("gold.matrix", DELTA, trigger, sink, mode, state=state)
        for trigger, sink, mode, state in itertools.product(TRIGGERS, SINKS, OUTPUT_MODES, (State.WINDOW, State.NONE))
        if state is State.WINDOW or trigger == "available-now"
    ]


def state_queries() -> list[QuerySpec]:
    """Every other kind of state, in each mode, to the two sinks that write tables."""
    return [
        QuerySpec("gold.matrix", DELTA, "available-now", sink, mode, state=state)
        for sink, mode, state in itertools.product(("delta", "delta-native"), OUTPUT_MODES, State)
        if state not in (State.WINDOW, State.NONE)
    ]


def unwatermarked_queries() -> list[QuerySpec]:
    """Plans that no pipeline here can have, since a silver table always has a watermark: the rule about them."""
    return [
        QuerySpec("gold.matrix", DELTA, "available-now", "memory", mode, state=state, has_watermark=False)
        for mode, state in itertools.product(OUTPUT_MODES, (State.WINDOW, State.SESSION))
    ]


def hot_queries() -> list[QuerySpec]:
    """From each source straight to each sink, without micro-batches; those with micro-batches are in the others."""
    direct = [
        QuerySpec("hot.matrix", source, trigger, sink, mode)
        for source, trigger, sink, mode in itertools.product(SOURCES, TRIGGERS, SINKS, OUTPUT_MODES)
        if trigger not in MICRO_BATCH
    ]
    return [*direct, QuerySpec("hot.matrix", "kafka", "continuous", "kafka", "update", state=State.WINDOW)]


def all_queries() -> list[QuerySpec]:
    return [*bronze_queries(), *gold_queries(), *state_queries(), *unwatermarked_queries(), *hot_queries()]


def matrix_queries() -> list[QuerySpec]:
    """All of them on demand; by default those that are needed for every rule and every pair of values that works."""
    return all_queries() if EXHAUSTIVE else witnesses(all_queries())


def witnesses(queries: list[QuerySpec]) -> list[QuerySpec]:
    """The first query that shows each thing: a rule with a value that it looks at, or two values that work together."""
    shown: set[object] = set()
    chosen = []
    for query in queries:
        new = set(_shows(query)) - shown
        shown |= new
        if new:
            chosen.append(query)
    return chosen


def _shows(query: QuerySpec) -> Iterable[object]:
    """Of a query that is refused, only where one rule does; several rules would hide which of them is right."""
    rules = [rule.name for rule in violated_rules(query)]
    if rules:
        looks_at = {"sources": query.source, "sinks": query.sink}.get(rules[0].rpartition("-")[2], query.mode)
        return [(query.trigger, rules[0], looks_at, query.state.is_aggregation)] if len(rules) == 1 else []
    # Between `default` and an interval only the clock differs: each is needed once, not with every other value.
    kind = "interval" if query.trigger in ("default", "interval") else query.trigger
    pairs = [(query.source, kind), (query.sink, query.mode), (query.state, query.mode), (query.trigger,)]
    return [(query.is_hot, *pair) for pair in ([*pairs, (query.sink, kind)] if query.is_hot else pairs)]


@dataclass(frozen=True)
class QueryMatrix:
    """Where the queries find their input, and where they write their output."""

    spark: SparkSession
    folder: Path
    options: Mapping[str, Mapping[str, str]]  # of each source and sink that needs some
    create_topic: Callable[[str, str], None]  # for a sink: its name, and the topic's
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def outcomes(self, queries: list[QuerySpec]) -> dict[QuerySpec, str | BaseException | None]:
        """Runs them all: what Spark says against each, None, or what went wrong in the test.

        Those with micro-batches run several at a time. A continuous or real-time query holds a task slot for each
        partition until it stops: from Kafka, whose topic has one, two of them run at a time, and no others.
        """

        def run(query: QuerySpec) -> str | BaseException | None:
            try:
                return self.failure(query)
            except BaseException as error:  # raised again by the test of this query
                return error

        found = {}
        for at_once, chosen in itertools.groupby(sorted(queries, key=_threads), _threads):
            with ThreadPoolExecutor(at_once, initializer=self._activate_session) as pool:
                futures = {query: pool.submit(run, query) for query in chosen}
            found |= {query: future.result() for query, future in futures.items()}
        return found

    def _activate_session(self) -> None:
        """In this thread; the console sink asks for it where a query is started."""
        java_side: Any = self.spark._jvm
        java_side.org.apache.spark.sql.classic.SparkSession.setActiveSession(self.spark._jsparkSession)

    def failure(self, query: QuerySpec) -> str | None:
        """What Spark says against it, or None where rows arrived.

        Raises AssertionError where neither is so: no error, and no row in bounded time.
        """
        name = f"{query.step.partition('.')[0]}_{next(self.numbers)}"
        try:
            started = self.start(query, name)
        except (PySparkException, Py4JError) as error:  # all else is a bug of this project and no refusal by Spark
            return spark_error_message(error)
        try:
            return self._outcome(started, query, name)
        finally:
            with contextlib.suppress(Exception):
                started.stop()

    def start(self, query: QuerySpec, name: str) -> StreamingQuery:
        trigger = parse_trigger(TRIGGERS[query.trigger])
        sink = get_sink(query.sink)
        checkpoint = str(self.folder / "checkpoints" / name) if sink.is_resumable else None
        request = WriteRequest(
            Storage(root=self.folder / "lake").table("gold", name),
            ("event_id",) if query.state in (State.NONE, State.JOIN) else ("device", "window_start"),
            QueryConfig(name, checkpoint, trigger, query.mode),
            self._sink_options(query.sink, name, is_refused=by_spark(query)),
        )
        transform, streams = TRANSFORMS[query.state], 2 if query.state is State.JOIN else 1
        inputs = [self._read(query, trigger) for _ in range(streams)]
        if query.has_watermark and query.source == DELTA:
            table = Gold(name, transform, request.key, inputs=(_EVENTS,) * streams, state=query.state)
            return gold.start(inputs, table, sink, request)
        return sink.start(transform(*inputs), request)

    def _sink_options(self, sink: str, name: str, *, is_refused: bool) -> dict[str, str]:
        if sink in ("kafka", "eventhubs"):
            topic = name.replace("_", "-")
            if not is_refused:
                self.create_topic(sink, topic)
            option = "topic" if sink == "kafka" else "eventhubs.name"
            return {**self.options[f"sink {sink}"], option: topic}
        return {"path": str(self.folder / sink)} if sink in ("files", "foreach") else {}

    def _read(self, query: QuerySpec, trigger: Trigger) -> DataFrame:
        if query.source == DELTA:
            return self.spark.readStream.format("delta").load(str(self.folder / "silver"))
        request = ReadRequest("weather", WEATHER.bronze[0], self.options[query.source], trigger)
        records = get_source(query.source).read(self.spark, request)
        if not query.is_hot:
            return records.withColumn("event_id", F.lit(None).cast("string"))
        arrived = records.withColumn("ingested_at", F.col("source_timestamp"))
        return validate(arrived, WEATHER.silver[0]).where(is_valid()).select(*WEATHER.silver[0].schema.names)

    def _outcome(self, started: StreamingQuery, query: QuerySpec, name: str) -> str | None:
        end = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < end:
            if error := started.exception():
                return spark_error_message(error)
            if self._has_arrived(started, query, name):
                return None
            if not started.isActive:
                if error := started.exception():
                    return spark_error_message(error)
                # Without an error; that it read nothing is why this project refuses it.
                assert _by_lakehouse(query) or self._has_arrived(started, query, name), f"{query}: ended without a row"
                return None
            with contextlib.suppress(PySparkException):  # which is asked for above
                started.awaitTermination(0.1)  # type: ignore[arg-type]  # takes fractions
        raise AssertionError(f"{query}: no error, and no row after {_TIMEOUT_S} s: {started.lastProgress}")

    def _has_arrived(self, started: StreamingQuery, query: QuerySpec, name: str) -> bool:
        if query.trigger == "continuous":  # reports no progress: an epoch that has ended is in its offsets
            offsets = str(started._jsq.streamingQuery().committedOffsets())  # type: ignore[attr-defined]
            return any(map(int, re.findall(r"[:\[,]\s*(\d+)", offsets)))
        if query.sink == "foreach":
            return any((self.folder / "foreach" / name).glob("*.jsonl"))
        reported = started.recentProgress  # a window is written by a batch without rows, after the one that closed it
        return any(each["numInputRows"] for each in reported) and any(
            each["sink"]["numOutputRows"] for each in reported
        )


def _threads(query: QuerySpec) -> int:
    if query.is_micro_batch:
        return _THREADS
    return 2 if query.source == "kafka" else 1


def spark_error_message(error: Exception) -> str:
    """What Spark says. Raises AssertionError where it only passes on a bug of ours, from a worker or foreachBatch."""
    message = str(error)
    assert not re.search(r'File "[^"]*/streaming_lakehouse/', message), message
    return message


def _by_lakehouse(query: QuerySpec) -> bool:
    return any(rule.refused_by is RefusedBy.LAKEHOUSE for rule in violated_rules(query))


def by_spark(query: QuerySpec) -> bool:
    """Whether Spark is to refuse it, as the rules say."""
    return any(rule.refused_by is RefusedBy.SPARK for rule in violated_rules(query))


def query_id(query: QuerySpec) -> str:
    plan = [query.state.name.lower(), *(() if query.has_watermark else ("unwatermarked",))]
    return "-".join([query.step.partition(".")[0], query.source, query.sink, query.mode, query.trigger, *plan])
