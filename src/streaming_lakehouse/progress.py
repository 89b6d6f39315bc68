"""What a run shows: a live table with a bar a step on a terminal, a log line a batch elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

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
    rows_per_second: float = 0.0
    behind: str = ""
    watermark: str = ""
    late: int = 0
    began: float = 0.0
    ended: float = 0.0

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
        self.states[step].began = time.monotonic()

    def ended(self, step: str) -> None:
        state = self.states[step]
        if not state.ended:
            state.ended, state.behind = time.monotonic(), "0"
            self._say(f"{step}: done: {state.rows:,} rows in {state.batches} batches, {state.seconds:.1f} s")

    def show(self, step: str, query: StreamingQuery) -> None:
        """Takes up the batches that `query` has finished since it was last asked."""
        last = query.lastProgress
        if last is None or last["batchId"] == self.states[step].last_batch:
            return
        for progress in query.recentProgress:
            if progress["batchId"] > self.states[step].last_batch:
                self._take(step, progress)

    def _take(self, step: str, progress: Any) -> None:
        state = self.states[step]
        # A query that uses its source twice reports its rows twice, and as one source each.
        rows = max((source["numInputRows"] for source in progress["sources"]), default=0)
        state.last_batch = progress["batchId"]
        state.rows += rows
        state.batches += rows > 0
        state.rows_per_second = progress["processedRowsPerSecond"] or state.rows_per_second
        state.behind = _behind(progress) or state.behind
        state.watermark = (progress["eventTime"] or {}).get("watermark", state.watermark)
        state.late += sum(operator["numRowsDroppedByWatermark"] for operator in progress["stateOperators"])
        if rows:
            about = [f"{rows:,} rows", f"{state.rows_per_second:,.0f} rows/s"]
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
            bar = ProgressBar(total=1, completed=1 if state.ended else 0, width=20, pulse=state.began > state.ended)
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
