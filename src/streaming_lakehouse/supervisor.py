"""Watches queries that run side by side: one that fails ends them all, a signal ends each after the batch at hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse import checkpoints
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.failures import FAULTS, explained
from streaming_lakehouse.progress import Board
from streaming_lakehouse.triggers import Trigger

_LOOK_SECONDS = 0.25  # the board is looked after so often
_POLL_SECONDS = 0.05


@dataclass
class Supervisor:
    """Starts steps by `start` and stays until all have ended; each has its checkpoint, or none."""

    steps: tuple[str, ...]
    start: Callable[[str], StreamingQuery]
    checkpoint: Callable[[str], str | None]
    trigger: Trigger
    board: Board
    queries: dict[str, StreamingQuery] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def run(self, stop: threading.Event) -> bool:
        """True when all have done what there was; False where `stop` was set before, and some were stopped.

        Raises LakehouseError with the step's name where one fails, or loses rows, after all others were stopped.
        """
        try:
            # Downstream first: it makes the table it reads, where there is none, before upstream writes to it.
            for step in reversed(self.steps):
                if not stop.is_set():
                    with _named(step):
                        self.board.started(step)
                        self.queries[step] = self.start(step)
            while running := [step for step, query in self.queries.items() if query.isActive]:
                if stop.is_set():
                    self._stop_at_batch_boundary()
                    return self._are_done
                # Waits in the JVM, so that the end of a query is known at once; a signal is seen when it comes back.
                with _named(running[0]):
                    self.queries[running[0]].awaitTermination(_LOOK_SECONDS)  # type: ignore[arg-type]  # takes fractions
                self._watch()
            self._watch()
        finally:
            for step in self.queries:
                self._end(step)
            for step in self.queries:
                self._note_dropped(step)
        return self._are_done

    @property
    def _are_done(self) -> bool:
        return self.done == {*self.steps}

    def _watch(self) -> None:
        for step in self.queries:
            self._has_ended(step)

    def _has_ended(self, step: str) -> bool:
        """True where it has done all there was. Raises LakehouseError where it has failed."""
        query = self.queries[step]
        has_ended = not query.isActive  # asked first, so that nothing of it comes after what is told now
        _raise_failure(step, query)
        self._show(step)
        if has_ended:
            self._refuse_to_be_stopped(step)
            self.board.ended(step)
            self.done.add(step)
        return has_ended

    def _refuse_to_be_stopped(self, step: str) -> None:
        """By itself a query ends with available-now, and in no batch. A stop between two batches cannot be told."""
        checkpoint = self.checkpoint(step)
        in_batch = checkpoint and checkpoints.newest_begun(checkpoint) != checkpoints.newest_ended(checkpoint)
        if in_batch or not self.trigger.is_available_now:
            raise LakehouseError(
                f"step {step!r} was stopped from outside of this run, as by another on its checkpoint; see that there "
                "is one alone, and start again"
            )

    def _show(self, step: str) -> None:
        self.board.show(step, self.queries[step])
        if dropped := self.board.states[step].dropped:
            raise LakehouseError(tell_dropped(step, dropped, self.checkpoint(step)))

    def _stop_at_batch_boundary(self) -> None:
        """Lets each query finish the batch it is in, where it has batches; a second signal does not wait for it."""
        for step, query in self.queries.items():
            before = query.lastProgress
            while self._is_in_batch(query) and query.lastProgress == before:
                time.sleep(_POLL_SECONDS)
                self._show(step)
            if not self._has_ended(step):  # asked before our own stop, which may leave an exception of its own
                query.stop()
                self._show(step)
                self.board.stopped(step)

    def _is_in_batch(self, query: StreamingQuery) -> bool:
        return self.trigger.is_micro_batch and query.isActive and query.status["isTriggerActive"]

    def _end(self, step: str) -> None:
        """Stops what still runs, whatever has gone wrong."""
        with suppress(*FAULTS):  # as of a JVM that has ended: the others are stopped all the same
            self.queries[step].stop()
            self.board.show(step, self.queries[step])

    def _note_dropped(self, step: str) -> None:
        """Rows that were dropped stay on record: for Spark their batch is done, and the next run would end well."""
        dropped, checkpoint = self.board.states[step].dropped, self.checkpoint(step)
        if dropped and checkpoint:
            try:
                checkpoints.note_dropped(checkpoint, dropped)
            except OSError as error:
                told = tell_dropped(step, dropped, checkpoint)
                raise LakehouseError(f"{told} (the next run will not know of it: {error})") from error


def tell_dropped(step: str, rows: int, checkpoint: str | None) -> str:
    told = f"step {step!r} failed: Spark dropped {rows:,} rows behind the watermark, which silver should have kept back"
    if checkpoint is None:  # of a sink that begins anew each time
        return told
    return f"{told}, so its table lacks them: move the table and {checkpoint} away, to make both anew from silver"


def _raise_failure(step: str, query: StreamingQuery) -> None:
    with _named(step):
        error = query.exception()
        if error is not None:
            raise error


@contextmanager
def _named(step: str) -> Iterator[None]:
    """Turns what Spark raises into one line with the step's name."""
    try:
        yield
    except FAULTS as error:
        raise LakehouseError(f"step {step!r} failed: {explained(error)}") from error
    except LakehouseError as error:
        raise LakehouseError(f"step {step!r}: {error}") from error
