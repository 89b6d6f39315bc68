"""Runs one streaming query of any combination for real, and tells whether it worked: the proof behind the checker."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checks import DELTA, By, Combination, verdict
from streaming_lakehouse.cli import SINKS, SOURCES
from streaming_lakehouse.domains.weather.events import EVENTS
from streaming_lakehouse.generation import Shares, records
from streaming_lakehouse.layers import silver
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.settings import Settings
from streaming_lakehouse.sinks import MODES, Outlet, Query, find_sink
from streaming_lakehouse.sources import Request, find_source
from streaming_lakehouse.triggers import Trigger, parse_trigger

TRIGGERS = {
    "default": "default",
    "interval": "1 second",
    "available-now": "available-now",
    "continuous": "continuous 1 second",
    "real-time": "real-time 5 seconds",
}
MICRO_BATCH = ("default", "interval", "available-now")
PATIENCE_SECONDS = 60
WEATHER = load_pipeline("weather")
_SHARES = Shares(duplicates=0, late=0, broken=0, unknown_fields=0)


def bronze_queries() -> list[Combination]:
    """From each source to a table, at each trigger."""
    return [
        Combination("bronze", source, trigger, DELTA, "append")
        for source, trigger in itertools.product(SOURCES, TRIGGERS)
    ]


def gold_queries() -> list[Combination]:
    """From a table to each sink, in each mode, at each trigger, with windows; and once without."""
    return [
        Combination("gold", DELTA, trigger, sink, mode, aggregates=aggregates)
        for trigger, sink, mode, aggregates in itertools.product(TRIGGERS, SINKS, MODES, (True, False))
        if aggregates or trigger == "available-now"
    ]


def hot_queries() -> list[Combination]:
    """From each source straight to each sink, without micro-batches; micro-batches are in the other two."""
    straight = [
        Combination("hot", source, trigger, sink, mode)
        for source, trigger, sink, mode in itertools.product(SOURCES, TRIGGERS, SINKS, MODES)
        if trigger not in MICRO_BATCH
    ]
    return [*straight, Combination("hot", "kafka", "continuous", "kafka", "update", aggregates=True)]


def plan_queries() -> list[Combination]:
    """Plans that no pipeline here may have, since silver's watermark is always there: the rules about them."""
    return [
        Combination(
            "plan", DELTA, "available-now", "memory", mode, aggregates=True, watermarked=watermarked, sessions=sessions
        )
        for mode, watermarked, sessions in itertools.product(MODES, (True, False), (True, False))
    ]


@dataclass(frozen=True)
class Bench:
    """Where the queries find their input, and where they leave their output."""

    spark: SparkSession
    folder: Path
    options: Mapping[str, Mapping[str, str]]  # of each source and sink that needs some
    create_topic: Callable[[str, str], None]  # of a sink: its name, and the topic's
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def failure(self, query: Combination) -> str | None:
        """What Spark says against it, or None where rows arrived.

        Raises AssertionError where neither is so: no error, and no row in bounded time.
        """
        number = next(self.numbers)
        title = f"{query.step}_{number}"
        try:
            started = self.started(query, title)
        except (PySparkException, Py4JError) as error:  # all else is a fault of ours and no refusal by Spark
            return refusal(error)
        try:
            return self._outcome(started, query, title)
        finally:
            with contextlib.suppress(Exception):
                started.stop()

    def started(self, query: Combination, title: str) -> StreamingQuery:
        trigger = parse_trigger(TRIGGERS[query.trigger])
        rows = self._transformed(self._read(query, trigger), query)
        sink = find_sink(query.sink)
        checkpoint = str(self.folder / "checkpoints" / title) if sink.goes_on else None
        outlet = Outlet(
            Settings(root=self.folder / "lake").table("gold", title),
            ("device", "window_start") if query.aggregates else ("event_id",),
            Query(title, checkpoint, trigger, query.mode),
            self._sink_options(query.sink, title),
        )
        return sink.start(rows, outlet)

    def _sink_options(self, sink: str, title: str) -> dict[str, str]:
        if sink in ("kafka", "eventhubs"):
            topic = title.replace("_", "-")
            self.create_topic(sink, topic)
            name = "topic" if sink == "kafka" else "eventhubs.name"
            return {**self.options[f"sink {sink}"], name: topic}
        return {"path": str(self.folder / sink)} if sink in ("files", "foreach") else {}

    def _read(self, query: Combination, trigger: Trigger) -> DataFrame:
        if query.source == DELTA:
            return self.spark.readStream.format("delta").load(str(self.folder / "silver"))
        request = Request(WEATHER, self.options[query.source], trigger)
        records = find_source(query.source).read(self.spark, request)
        if query.step == "bronze":
            return records.withColumn("event_id", F.lit(None).cast("string"))
        arrived = records.withColumn("ingested_at", F.col("source_timestamp"))
        return silver.read(arrived, WEATHER.silver).where(silver.is_valid()).select(*WEATHER.silver.schema.names)

    def _transformed(self, events: DataFrame, query: Combination) -> DataFrame:
        if not query.aggregates:
            return events
        if query.watermarked:
            events = events.withWatermark("time", "1 minute")
        window = F.session_window("time", "30 seconds") if query.sessions else F.window("time", "1 hour")
        grouped = events.groupBy("device", window.alias("window")).agg(F.count("*").alias("readings"))
        return grouped.select("device", F.col("window.start").alias("window_start"), "readings")

    def _outcome(self, started: StreamingQuery, query: Combination, title: str) -> str | None:
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if error := started.exception():
                return refusal(error)
            if self._has_arrived(started, query, title):
                return None
            if not started.isActive:
                if error := started.exception():
                    return refusal(error)
                # Without an error; that it took nothing is why we refuse it.
                assert _by_us(query) or self._has_arrived(started, query, title), f"{query}: it ended without a row"
                return None
            with contextlib.suppress(PySparkException):  # which is asked for above
                started.awaitTermination(0.1)  # type: ignore[arg-type]  # takes fractions
        raise AssertionError(f"{query}: no error, and no row after {PATIENCE_SECONDS} s: {started.lastProgress}")

    def _has_arrived(self, started: StreamingQuery, query: Combination, title: str) -> bool:
        if query.trigger == "continuous":  # tells no progress: an epoch that has ended is in its offsets
            offsets = str(started._jsq.streamingQuery().committedOffsets())  # type: ignore[attr-defined]
            return any(map(int, re.findall(r"[:\[,]\s*(\d+)", offsets)))
        if query.sink == "foreach":
            return any((self.folder / "foreach" / title).glob("*.jsonl"))
        told = started.recentProgress  # a window is written by a batch without rows, after the one that closed it
        return any(one["numInputRows"] for one in told) and any(one["sink"]["numOutputRows"] for one in told)


def refusal(error: Exception) -> str:
    """What Spark says. Raises AssertionError where it only passes on a fault of ours, from a worker or foreachBatch."""
    told = str(error)
    assert not re.search(r'File "[^"]*/streaming_lakehouse/', told), told
    return told


def _by_us(query: Combination) -> bool:
    return any(rule.by is By.US for rule in verdict(query))


def name(query: Combination) -> str:
    """Of its test."""
    plan = [word for word in ("aggregates", "watermarked", "sessions") if getattr(query, word)]
    return "-".join([query.step, query.source, query.sink, query.mode, query.trigger, *plan])


def by_spark(query: Combination) -> bool:
    """Whether Spark is to refuse it, as the rules say."""
    return any(rule.by is By.SPARK for rule in verdict(query))


@contextlib.contextmanager
def lines_served() -> Iterator[int]:
    """A TCP server that sends weather events to whoever comes, again and again; its port."""
    lines = [record.value for record in records(EVENTS, seed=1, start=0, end=100, shares=_SHARES)]

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while True:
                    self.request.sendall(b"\n".join(line for line in lines if line) + b"\n")
                    time.sleep(0.05)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def table(works: Callable[[str, str, str, str], str]) -> str:
    """Sources, triggers, sinks and modes as Markdown: `works` tells '' or the rule's name for each.

    Triggers, and sources within one, of which the same is to be said, are one.
    """
    triggers = _alike(TRIGGERS, lambda trigger: _rows(trigger, works))
    heading = f"| source | {' | '.join(SINKS)} |\n{'|---' * (len(SINKS) + 1)}|\n"
    return "\n\n".join(f"## {', '.join(names)}\n\n{heading}{rows}" for rows, names in triggers.items())


def _rows(trigger: str, works: Callable[[str, str, str, str], str]) -> str:
    def cells(source: str) -> str:
        return " | ".join(_cell({mode: works(source, trigger, sink, mode) for mode in MODES}) for sink in SINKS)

    return "\n".join(f"| {', '.join(names)} | {row} |" for row, names in _alike(SOURCES, cells).items())


def _alike(names: Iterable[str], said: Callable[[str], str]) -> dict[str, list[str]]:
    """What is said of the names, and of which of them."""
    found: dict[str, list[str]] = {}
    for each in names:
        found.setdefault(said(each), []).append(each)
    return found


def _cell(against: Mapping[str, str]) -> str:
    """The modes that work, then each rule with the modes that it refuses."""
    works = [f"**{mode}**" for mode, rule in against.items() if not rule]
    rules = dict.fromkeys(rule for rule in against.values() if rule)
    refused = [f"{', '.join(m for m, r in against.items() if r == rule)}: `{rule}`" for rule in rules]
    return "<br>".join([", ".join(works), *refused] if works else refused)


def is_written() -> bool:
    """Whether the tests shall write the table instead of holding it against what is written."""
    return os.environ.get("LAKEHOUSE_WRITE_DOCS") == "1"
