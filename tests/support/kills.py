"""The command in a process group of its own, killed at some moment, and the batches that it was killed in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streaming_lakehouse.checkpointing import metadata

TIMEOUT_SECONDS = 900
_POLL_SECONDS = 0.1
_BATCH = re.compile(r": batch \d+: ")
_STARTED = re.compile(r"(\S+): started$", re.MULTILINE)
_KILL_AT_COMMIT = Path(__file__).parent / "kill_at_commit.py"


@dataclass
class Command:
    """A running command. `log` is the file of its standard error."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def batches(self) -> int:
        """The number of micro-batches that it has reported so far."""
        return len(_BATCH.findall(self._text))

    def open_batches(self, checkpoints: Path) -> dict[str, int]:
        """The batch of each step that it had started, by the step's name, which was not committed when it ended."""
        found = {}
        for step in sorted(_STARTED.findall(self._text)):
            logs = (metadata.latest_offset_batch, metadata.latest_commit_batch)
            started, committed = (latest(str(checkpoints / step)) for latest in logs)
            if started is not None and started != committed:
                found[step] = started
        return found

    def wait_for_batch(self) -> None:
        """Returns when it has reported its first micro-batch."""
        ends_at = time.monotonic() + TIMEOUT_SECONDS
        while not self.batches:
            assert not self.ends_within(_POLL_SECONDS), f"it ended without a batch: {self._tail}"
            assert time.monotonic() < ends_at, f"no batch in {TIMEOUT_SECONDS} s: {self._tail}"

    def ends_within(self, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def ended(self) -> int:
        """Waits until it has ended; returns its exit status."""
        assert self.ends_within(TIMEOUT_SECONDS), f"still running: {self._tail}"
        return self.process.returncode

    def end(self, status: int = 0) -> None:
        """Waits until it has ended with that status."""
        found = self.ended()
        assert found == status, f"exit status {found}: {self._tail}"

    @property
    def _text(self) -> str:
        return self.log.read_text(errors="replace")  # a character may be half written

    @property
    def _tail(self) -> str:
        return self._text[-2000:]

    def kill(self) -> None:
        kill(self.process)


def kill(process: subprocess.Popen[Any]) -> None:
    """Kills Python and its JVM, a process group, at once, as a power failure would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def command(log: Path, words: Sequence[str], *, kill_at: tuple[str, str] | None = None) -> Iterator[Command]:
    """`lakehouse WORDS`, which is killed where it still runs at the end of the context.

    `kill_at`: a commit, and `before` or `after`: it kills itself there.
    """
    start = [str(_KILL_AT_COMMIT), *kill_at] if kill_at else ["-m", "streaming_lakehouse"]
    with log.open("wb") as errors:
        process = subprocess.Popen([sys.executable, *start, *words], stderr=errors, start_new_session=True)
    running = Command(process, log)
    try:
        yield running
    finally:
        running.kill()
