"""What a run shows: a live table with a bar a step on a terminal, a log line a batch elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql.streaming.query import StreamingQuery
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table


@dataclass
class StepState:
    """What has been seen of one step."""

    rows: int = 0
    batches: int = 0
    last_batch: int = -1
    last_told: str = ""
    rows_per_second: float = 0.0
    behind: str = ""
    watermark: str = ""
    dropped: int = 0
    began: float = 0.0
    ended: float = 0.0
    is_done: bool = False
    reads: int = 1

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.began if self.began else 0.0


class Board:
    """Follows the queries of a run; a context manager, so that the terminal is left as it was."""

    def __init__(self, steps: tuple[str, ...], console: Console | None = None) -> None:
        self.states = {step: StepState() for step in steps}
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=4, transient=False)

    def __enter__(self) -> Board:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def started(self, step: str) -> None:
        """The step's query is being started."""
        self.states[step].began = time.monotonic()
        self._say(f"{step}: started")

    def ended(self, step: str) -> None:
        """The step has done all there was to do."""
        state = self.states[step]
        if not state.ended:
            state.ended, state.behind, state.is_done = time.monotonic(), "0", True
            self._say(f"{step}: done: {_rows(state.rows)} in {_batches(state.batches)}, {state.seconds:.1f} s")

    def stopped(self, step: str) -> None:
        """The step was ended before it had done all there was."""
        state = self.states[step]
        if state.began and not state.ended:
            state.ended = time.monotonic()
            self._say(f"{step}: stopped after {_batches(state.batches)}, {_rows(state.rows)}")

    def show(self, step: str, query: StreamingQuery) -> None:
        """Takes up the batches that `query` has finished since it was last asked."""
        state, last = self.states[step], query.lastProgress
        if last is None or last["timestamp"] == state.last_told:
            return
        if not state.last_told:  # a query's plan stays what it is
            state.reads = _reads(query)
        state.last_told = last["timestamp"]
        is_next = last["batchId"] <= state.last_batch + 1  # one is quickly had, a hundred take a second
        for progress in [last] if is_next else query.recentProgress:
            # A query with nothing to do tells of itself every 10 s, under the number of the batch that is yet to come.
            if progress["batchId"] > state.last_batch and "addBatch" in progress["durationMs"]:
                self._take(step, progress)

    def _take(self, step: str, progress: Any) -> None:
        state = self.states[step]
        # Under the source's one entry Spark counts a row each time that the query reads it.
        rows = sum(source["numInputRows"] for source in progress["sources"]) // state.reads
        state.last_batch = progress["batchId"]
        state.rows += rows
        state.batches += rows > 0
        state.rows_per_second = progress["processedRowsPerSecond"] / state.reads or state.rows_per_second
        state.behind = _behind(progress) or state.behind
        state.watermark = _watermark(progress) or state.watermark
        state.dropped += sum(operator["numRowsDroppedByWatermark"] for operator in progress["stateOperators"])
        if rows:
            about = [_rows(rows), f"{state.rows_per_second:,.0f} rows/s"]
            about += [f"{state.behind} behind"] if state.behind else []
            about += [f"watermark {state.watermark}"] if state.watermark else []
            self._say(f"{step}: batch {state.last_batch}: {', '.join(about)}")

    def _say(self, text: str) -> None:
        if not self._console.is_terminal:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self._console.print(f"{stamp} {text}", highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in ("step", "", "rows", "rows/s", "batches", "behind", "watermark", "time"):
            table.add_column(heading, justify="left" if heading in ("step", "", "watermark") else "right")
        for step, state in self.states.items():
            bar = ProgressBar(total=1, completed=1 if state.is_done else 0, width=20, pulse=state.began > state.ended)
            table.add_row(
                step,
                bar,
                f"{state.rows:,}",
                f"{state.rows_per_second:,.0f}",
                str(state.batches),
                state.behind,
                state.watermark.removesuffix(".000Z"),
                f"{state.seconds:.0f} s",
            )
        return table


def _behind(progress: Any) -> str:
    """How much the source still holds, in the unit it tells: records of Kafka, bytes of Delta."""
    for source in progress["sources"]:
        metrics = source["metrics"] or {}
        if "maxOffsetsBehindLatest" in metrics:
            return f"{int(float(metrics['maxOffsetsBehindLatest'])):,} records"
        if "numBytesOutstanding" in metrics:
            return f"{int(metrics['numBytesOutstanding']) / 1e6:,.1f} MB"
    return ""


def _watermark(progress: Any) -> str:
    """The watermark, once there is one: before the first it is Spark's zero, the beginning of 1970."""
    watermark: str = (progress["eventTime"] or {}).get("watermark", "")
    return "" if watermark.startswith("1970-01-01T00:00:00") else watermark


def _reads(query: StreamingQuery) -> int:
    """How often the query reads its source, as the transform of weather_alerts does twice.

    Every pipeline's query has one source, so that each streaming leaf of its plan is a read. Where the plan cannot be
    looked at, over Databricks Connect above all, rows count as often as they are read.
    """
    java: Any = getattr(query, "_jsq", None)
    if java is None:
        return 1
    try:
        leaves = java.streamingQuery().logicalPlan().collectLeaves()
        return max(1, len([place for place in range(leaves.size()) if leaves.apply(place).isStreaming()]))
    except Py4JError:  # a platform that lets nobody at its JVM: no reason to end a run
        return 1


def _rows(number: int) -> str:
    return f"{number:,} {'row' if number == 1 else 'rows'}"


def _batches(number: int) -> str:
    return f"{number:,} {'batch' if number == 1 else 'batches'}"
