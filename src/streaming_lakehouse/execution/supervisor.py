"""Runs queries in parallel: a failed one stops all, a signal stops each after its current batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.triggers import Trigger
from streaming_lakehouse.errors import LakehouseError, counted
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.execution.spark_errors import REBUILD, SPARK_EXCEPTIONS, to_user_message

_PROGRESS_INTERVAL_S = 0.25
_POLL_SECONDS = 0.05
_AT_ONCE = "100ms"


@dataclass
class Supervisor:
    """Starts the query of each step with `start`, and waits until all have ended; `checkpoint` is a step's, or None.

    `after_batch` is called with a step that has finished a batch, and raises LakehouseError if the run must not
    continue. `check_source` raises LakehouseError if a step's source is no longer that of its checkpoint's offsets,
    such as a topic that was recreated. It is called whenever the step reports progress, and after any failure: what a
    recreated topic causes in Spark does not name it. `rebuild_hint` says what rebuilds a step.
    """

    steps: tuple[str, ...]
    start: Callable[[str], StreamingQuery]
    checkpoint: Callable[[str], str | None]
    trigger: Trigger
    progress: ProgressReporter
    after_batch: Callable[[str], None] = lambda step: None
    check_source: Callable[[str], None] = lambda step: None
    rebuild_hint: Callable[[str], str] = lambda step: REBUILD
    queries: dict[str, StreamingQuery] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def run(self, stop: threading.Event) -> bool:
        """True if all steps have processed all available data; False if `stop` was set before.

        If a step fails or drops rows, stops all others and raises LakehouseError with the step's name.
        """
        try:
            # Downstream first: it creates the table that it reads, if there is none, before upstream writes to it.
            for step in reversed(self.steps):
                if not stop.is_set():
                    with self._prefix_step_name(step):
                        self.progress.started(step)
                        self.queries[step] = self.start(step)
            while running := [step for step, query in self.queries.items() if query.isActive]:
                if stop.is_set():
                    self._stop_at_batch_boundary()
                    return self._is_complete
                # Waits in the JVM, which returns as soon as the query ends; signals are handled after each wait.
                with self._prefix_step_name(running[0]):
                    self.queries[running[0]].awaitTermination(_PROGRESS_INTERVAL_S)  # type: ignore[arg-type]  # takes fractions
                self._poll_all()
            self._poll_all()
        except KeyboardInterrupt:
            _set_stop_timeout(_AT_ONCE)
            raise
        except LakehouseError:
            self._check_sources()
            raise
        finally:
            for step in self.queries:
                self._stop_quietly(step)
            _set_stop_timeout(None)
            for step in self.queries:
                self._record_late_drops(step)
        return self._is_complete

    def _check_sources(self) -> None:
        with suppress(*SPARK_EXCEPTIONS):  # such as that of a JVM that has ended, which is the failure already
            for step in self.queries:
                self.check_source(step)

    @property
    def _is_complete(self) -> bool:
        return self.done == {*self.steps}

    def _poll_all(self) -> None:
        for step in self.queries:
            self._poll(step)

    def _poll(self, step: str) -> bool:
        """True if the query has ended successfully. Raises LakehouseError if it has failed."""
        query = self.queries[step]
        has_ended = not query.isActive  # read first, so that no progress comes after what is recorded below
        self._raise_failure(step, query)
        self._update_progress(step)
        if has_ended:
            self._check_not_stopped_externally(step)
            self.progress.finished(step)
            self.done.add(step)
        return has_ended

    def _raise_failure(self, step: str, query: StreamingQuery) -> None:
        with self._prefix_step_name(step):
            error = query.exception()
            if error is not None:
                raise error

    @contextmanager
    def _prefix_step_name(self, step: str) -> Iterator[None]:
        """Turns Spark's exceptions into LakehouseErrors, and puts the step's name before the message."""
        try:
            yield
        except SPARK_EXCEPTIONS as error:
            message = to_user_message(error, self.rebuild_hint(step))
            raise LakehouseError(f"step {step!r} failed: {message}") from error
        except LakehouseError as error:
            raise LakehouseError(f"step {step!r}: {error}") from error

    def _check_not_stopped_externally(self, step: str) -> None:
        """A query ends by itself with available-now only, between batches. A stop between batches is not detected."""
        checkpoint = self.checkpoint(step)
        in_batch = checkpoint and metadata.latest_offset_batch(checkpoint) != metadata.latest_commit_batch(checkpoint)
        if in_batch or not self.trigger.is_available_now:
            raise LakehouseError(
                f"step {step!r} was stopped from outside this run, as by another run on its checkpoint; make sure that "
                "there is only one, and start again"
            )

    def _update_progress(self, step: str) -> None:
        state = self.progress.states[step]
        last_batch, last_progress_at = state.last_batch, state.last_progress_at
        self.progress.update(step, self.queries[step])
        if state.last_progress_at != last_progress_at:
            self.check_source(step)
        if dropped := state.late_drops:
            raise LakehouseError(late_drops_message(step, dropped, self.rebuild_hint(step)))
        if state.last_batch > last_batch:
            self.after_batch(step)

    def _stop_at_batch_boundary(self) -> None:
        """Lets each query finish its current micro-batch, if any; a second signal does not wait for it."""
        before = {step: query.lastProgress for step, query in self.queries.items()}
        waiting = dict(self.queries)
        while waiting:
            for step, query in tuple(waiting.items()):
                if self._is_in_batch(query) and query.lastProgress == before[step]:
                    self._update_progress(step)
                    continue
                del waiting[step]
                if not self._poll(step):  # before stop(), which may cause an exception of its own
                    query.stop()
                    self._update_progress(step)
                    self.progress.stopped(step)
            time.sleep(_POLL_SECONDS if waiting else 0)

    def _is_in_batch(self, query: StreamingQuery) -> bool:
        return self.trigger.is_micro_batch and query.isActive and query.status["isTriggerActive"]

    def _stop_quietly(self, step: str) -> None:
        """Stops the query, ignoring errors."""
        with suppress(*SPARK_EXCEPTIONS):  # such as that of a JVM that has ended
            self.queries[step].stop()
            self.progress.update(step, self.queries[step])

    def _record_late_drops(self, step: str) -> None:
        """Records dropped rows: for Spark their batch is committed, and the next run would succeed without them."""
        dropped, checkpoint = self.progress.states[step].late_drops, self.checkpoint(step)
        if dropped and checkpoint:
            try:
                metadata.record_late_drops(checkpoint, dropped)
            except OSError as error:
                message = late_drops_message(step, dropped, self.rebuild_hint(step))
                raise LakehouseError(f"{message} (this could not be recorded for the next run: {error})") from error


def _set_stop_timeout(timeout: str | None) -> None:
    """How long stop() waits for a query's batch; None for as long as it takes."""
    spark = SparkSession.getActiveSession()
    with suppress(*SPARK_EXCEPTIONS):
        if spark and timeout:
            spark.conf.set("spark.sql.streaming.stopTimeout", timeout)
        elif spark:
            spark.conf.unset("spark.sql.streaming.stopTimeout")


def late_drops_message(step: str, rows: int, rebuild: str) -> str:
    dropped = f"Spark dropped {counted(rows, 'row')} as late, which silver should have quarantined"
    return f"step {step!r} failed: {dropped}, so its table lacks them; {rebuild}"
