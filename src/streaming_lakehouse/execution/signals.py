"""What Ctrl-C and SIGTERM do to a run: the first stops it in order, the second ends it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_HANDLED = (signal.SIGTERM, signal.SIGINT)


def interrupt() -> None:
    """Raises KeyboardInterrupt."""
    raise KeyboardInterrupt


def _terminate() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def stop_on_signals(
    stop: threading.Event, announce: Callable[[], None], end: Callable[[], None] = interrupt
) -> Iterator[None]:
    """Within this context the first signal sets `stop` and calls `announce`.

    A second Ctrl-C calls `end`, a second SIGTERM ends the process. `stop` may be set before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # a notebook's cell: signals belong to the main thread
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            return end() if number == signal.SIGINT else _terminate()
        stop.set()
        # In a thread of its own, since the signal may have interrupted this one while it was printing.
        threading.Thread(target=announce, daemon=True).start()

    before = {number: signal.signal(number, on_signal) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
