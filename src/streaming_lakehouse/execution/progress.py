"""The progress of a run: a live table with a bar per step on a terminal, else a log line per batch."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql.streaming.query import StreamingQuery
from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from streaming_lakehouse.errors import counted
from streaming_lakehouse.layers.counts import BatchCounts

# Older events mean that a run is catching up, or reads an archive.
_MAX_LATENCY = timedelta(hours=1)


@dataclass
class StepProgress:
    """The progress of one step so far."""

    rows: int = 0
    batches: int = 0
    last_batch: int = -1
    last_progress_at: str = ""
    rows_per_second: float = 0.0
    batch_seconds: float = 0.0  # of the latest batch with rows
    latency: timedelta | None = None
    backlog: str = ""
    watermark: str = ""
    late_drops: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    is_done: bool = False
    end_offsets: str | None = None
    source_scans: dict[str, int] = field(default_factory=dict)
    sink_count: Callable[[], int | None] | None = None
    sink_count_before: int | None = None
    counts: BatchCounts | None = None  # silver's; the sum over its batches
    batch_counts: dict[int, BatchCounts] = field(default_factory=dict)  # of batches that Spark has not reported yet

    @property
    def seconds(self) -> float:
        return (self.finished_at or time.monotonic()) - self.started_at if self.started_at else 0.0


class ProgressReporter:
    """Reports the progress of a run's queries; a context manager, which restores the terminal.

    `read_lag` asks a step's source how many records it has now behind offsets, or returns None. Spark knows those that
    were there when a batch was planned, and with available-now when the run started.
    """

    def __init__(self, steps: Iterable[str], console: Console | None = None) -> None:
        self.states = {step: StepProgress() for step in steps}
        self.read_lag: Callable[[str, str | None], int | None] = lambda step, end_offsets: None
        self._counted: dict[tuple[str, int], int] = {}
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, get_renderable=self._board, refresh_per_second=4, transient=False)

    def __enter__(self) -> ProgressReporter:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Restores the terminal."""
        if self._console.is_terminal:
            self._live.stop()

    def started(self, step: str) -> None:
        """Called when the step's query starts."""
        self.states[step].started_at = time.monotonic()
        self._log(f"{step}: started")

    def finished(self, step: str) -> None:
        """Called when the step has processed all available data."""
        state = self.states[step]
        if not state.finished_at:
            state.finished_at, state.is_done = time.monotonic(), True
            written = f"{counted(state.rows, 'row')} in {counted(state.batches, 'batch', 'batches')}"
            done = f"done: {written}, {state.seconds:.1f} s"
            self._log(f"{step}: {done}{_in_brackets(state.counts)}{self._remaining(step)}")

    def count_by_sink(self, step: str, count: Callable[[], int | None]) -> None:
        """Called before a step starts whose batches Spark does not report; `count` is what its sink has received."""
        self.states[step].sink_count, self.states[step].sink_count_before = count, count()

    def stopped(self, step: str) -> None:
        """Called when the step was stopped before that."""
        state = self.states[step]
        if not state.started_at or state.finished_at:
            return
        state.finished_at = time.monotonic()
        if state.sink_count:
            before, after = state.sink_count_before, state.sink_count()
            sent = None if before is None or after is None else after - before
            state.rows = sent or 0
            self._log(f"{step}: stopped" + ("" if sent is None else f", {counted(sent, 'row')} sent"))
        else:
            stopped = f"stopped after {counted(state.batches, 'batch', 'batches')}, {counted(state.rows, 'row')}"
            self._log(f"{step}: {stopped}{_in_brackets(state.counts)}{self._remaining(step)}")

    def stopping(self, *, after_batch: bool) -> None:
        """Called when a signal asks the run to stop, in another thread."""
        text = f"stopping{' after this batch' if after_batch else ''}, once more to end at once"
        if self._console.is_terminal:
            self._console.print(text, highlight=False)  # above the board
        self._log(text)

    def judged(self, step: str, batch: int, counts: BatchCounts) -> None:
        """Called when silver has written a batch, in another thread, before Spark reports it as finished."""
        self.states[step].batch_counts[batch] = counts

    @property
    def rejected(self) -> int:
        """The rows that the run has written to quarantine tables."""
        return sum(state.counts.rejected for state in self.states.values() if state.counts)

    def _remaining(self, step: str) -> str:
        """What has arrived at the source since the step's last batch was planned, where the source can be asked."""
        state = self.states[step]
        lag = self.read_lag(step, state.end_offsets)
        if lag is None:
            return ""
        state.backlog = counted(lag, "record")
        return f", {state.backlog} behind"

    def update(self, step: str, query: StreamingQuery) -> None:
        """Records the batches that `query` has finished since the last call."""
        state, last = self.states[step], query.lastProgress
        if last is None or last["timestamp"] == state.last_progress_at:
            return
        if not state.last_progress_at:  # the plan does not change
            state.source_scans = _count_source_scans(query)
        state.last_progress_at = last["timestamp"]
        is_next = last["batchId"] <= state.last_batch + 1  # recentProgress has 100 entries and takes a second
        for progress in [last] if is_next else query.recentProgress:
            if progress["sources"]:
                state.end_offsets = progress["sources"][0].get("endOffset") or state.end_offsets
            # An idle query reports progress every 10 s, with the number of the next batch and without addBatch.
            if progress["batchId"] > state.last_batch and "addBatch" in progress["durationMs"]:
                self._record(step, progress, is_latest=progress["batchId"] == last["batchId"])

    def count_batch(self, step: str, batch: int, rows: int) -> None:
        """Called before the batch ends with its rows, where Spark cannot count them."""
        self._counted[step, batch] = rows

    def _record(self, step: str, progress: Any, *, is_latest: bool) -> None:
        state = self.states[step]
        read = _rows_by_source(progress, state.source_scans)
        state.last_batch = progress["batchId"]
        rows = self._counted.pop((step, state.last_batch), 0)
        rate = rows / max(progress["durationMs"]["addBatch"] / 1000, 0.001)
        if not rows:
            rows = sum(read.values())
            all_rows = sum(source["numInputRows"] for source in progress["sources"])
            rate = progress["processedRowsPerSecond"] * rows / all_rows if rows else 0.0
        state.rows += rows
        state.batches += rows > 0
        if rows:
            state.batch_seconds = _duration(progress).total_seconds()
            state.latency = _latency(progress)
        state.rows_per_second = rate or state.rows_per_second
        lag = self.read_lag(step, state.end_offsets) if is_latest else None
        state.backlog = (_backlog(progress) if lag is None else counted(lag, "record")) or state.backlog
        state.watermark = _watermark(progress) or state.watermark
        state.late_drops += sum(operator["numRowsDroppedByWatermark"] for operator in progress["stateOperators"])
        if counts := state.batch_counts.pop(state.last_batch, None):
            state.counts = counts + (state.counts or BatchCounts())
        if rows:
            read_rows = counted(rows, "row") + _by_source(read) + _in_brackets(counts)
            parts = [read_rows, f"{state.rows_per_second:,.0f} rows/s"]
            parts += [f"{state.backlog} behind"] if state.backlog else []
            parts += [f"watermark {state.watermark}"] if state.watermark else []
            parts += [f"events {_seconds(state.latency)} old"] if state.latency is not None else []
            self._log(f"{step}: batch {state.last_batch}: {', '.join(parts)}")

    def _log(self, text: str) -> None:
        if not self._console.is_terminal:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            with suppress(OSError):  # a log that cannot be written is no reason to end a run
                self._console.print(f"{stamp} {text}", highlight=False, soft_wrap=True)

    def _board(self) -> Group:
        """The table, and below it where silver's records went, and the latency: beside it there is no room for that."""
        counts = [f"{step}: {state.counts}" for step, state in self.states.items() if state.counts]
        return Group(self._table(), *counts, *self._largest_latency())

    def _largest_latency(self) -> list[str]:
        """The step with the largest latency, and the one with the longest batch."""
        latencies = {step: state.latency for step, state in self.states.items() if state.latency is not None}
        if not latencies:
            return []
        last = max(latencies, key=lambda step: latencies[step])
        longest = max(self.states, key=lambda step: self.states[step].batch_seconds)
        return [
            f"{last}: events {_seconds(latencies[last])} old when their batch was done, on average; "
            f"longest batch: {longest}, {self.states[longest].batch_seconds:.1f} s"
        ]

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in ("step", "", "rows", "rows/s", "batches", "behind", "watermark", "time"):
            justify: JustifyMethod = "left" if heading in ("step", "", "watermark") else "right"
            table.add_column(heading, justify=justify, overflow="fold")
        for step, state in self.states.items():
            bar = ProgressBar(
                total=1, completed=1 if state.is_done else 0, width=20, pulse=state.started_at > state.finished_at
            )
            table.add_row(
                step,
                bar,
                f"{state.rows:,}",
                f"{state.rows_per_second:,.0f}",
                str(state.batches),
                state.backlog,
                state.watermark.removesuffix(".000Z"),
                f"{state.seconds:.0f} s",
            )
        return table


def _rows_by_source(progress: Any, scans: dict[str, int]) -> dict[str, int]:
    """The rows of each source. Spark counts a row once per scan of its source."""
    read: dict[str, int] = {}
    for source in progress["sources"]:
        name = source["description"]
        read[name] = read.get(name, 0) + source["numInputRows"] // scans.get(name, 1)
    return read


def _by_source(read: dict[str, int]) -> str:
    """The rows of each source if there are several, named by the last part of a table's path."""
    if len(read) < 2:
        return ""
    return " (" + ", ".join(f"{name.rstrip(']').rpartition('/')[2]} {rows:,}" for name, rows in read.items()) + ")"


def _in_brackets(counts: BatchCounts | None) -> str:
    return f" ({counts})" if counts else ""


def _backlog(progress: Any) -> str:
    """The unread data of all sources: records of Kafka over all partitions, megabytes of Delta."""
    records, megabytes = 0, 0.0
    units = set()
    for source in progress["sources"]:
        metrics = source["metrics"] or {}
        if "maxOffsetsBehindLatest" in metrics:
            units.add("records")
            records += _offset_lag(source)
        elif "numBytesOutstanding" in metrics:
            units.add("MB")
            megabytes += int(metrics["numBytesOutstanding"]) / 1e6
    parts = [counted(records, "record")] if "records" in units else []
    return " + ".join(parts + ([f"{megabytes:,.1f} MB"] if "MB" in units else []))


def _offset_lag(source: Any) -> int:
    """The lag over all partitions when the batch was planned; Spark's metric is the maximum of a single one."""
    latest, end = (_offsets(source[name]) for name in ("latestOffset", "endOffset"))
    return sum(max(offset - end.get(partition, 0), 0) for partition, offset in latest.items())


def _offsets(text: str | None) -> dict[tuple[str, str], int]:
    topics = json.loads(text) if text else {}
    return {
        (topic, partition): offset for topic, parts in (topics or {}).items() for partition, offset in parts.items()
    }


def _watermark(progress: Any) -> str:
    """The watermark, or nothing while it is Spark's initial one, 1970-01-01."""
    watermark: str = (progress["eventTime"] or {}).get("watermark", "")
    return "" if watermark.startswith("1970-01-01T00:00:00") else watermark


def _latency(progress: Any) -> timedelta | None:
    """From the mean time of the events that a batch has read to its end; negative where a clock runs ahead.

    None for events of the past, and where Spark has no times: it has those of queries with a watermark, as gold's are.
    """
    mean = (progress["eventTime"] or {}).get("avg")
    if mean is None:
        return None
    latency = datetime.fromisoformat(progress["timestamp"]) + _duration(progress) - datetime.fromisoformat(mean)
    return latency if abs(latency) < _MAX_LATENCY else None


def _seconds(time: timedelta) -> str:
    return f"{time.total_seconds():.1f} s"


def _duration(progress: Any) -> timedelta:
    return timedelta(milliseconds=progress["durationMs"].get("triggerExecution", 0))


def _count_source_scans(query: StreamingQuery) -> dict[str, int]:
    """How often the query scans each source, by its description; weather_alerts scans its source twice.

    Empty if the plan cannot be inspected, above all over Databricks Connect: there a row counts once per scan.
    """
    java: Any = getattr(query, "_jsq", None)
    if java is None:
        return {}
    try:
        leaves = java.streamingQuery().logicalPlan().collectLeaves()
        streaming = [leaf for leaf in map(leaves.apply, range(leaves.size())) if leaf.isStreaming()]
        return dict(Counter(_description(leaf) for leaf in streaming))
    except Py4JError:  # a platform that does not expose its JVM
        return {}


def _description(leaf: Any) -> str:
    """The source's description in the query's progress: that of its stream (DataSource V2) or of the source (V1)."""
    try:
        return str(leaf.stream().toString())
    except Py4JError:
        return str(leaf.source().toString())
