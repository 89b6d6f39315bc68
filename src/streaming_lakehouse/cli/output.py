"""The command's standard streams: any locale, a terminal that lacks a character, an output that cannot be written."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from streaming_lakehouse.errors import LakehouseError


def restart_in_utf8() -> None:
    """Replaces this process by one in Python's UTF-8 mode, where its locale has another encoding.

    File names would be decoded by it here, but as UTF-8 in Java, which would take them for other files. What is
    printed stays in the encoding of the terminal.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    shown = sys.stdout.encoding if sys.stdout else "utf-8"
    modes = {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{shown}:backslashreplace"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | modes)  # noqa: S606  # no shell is meant


class OutputError(LakehouseError):
    """Standard output cannot be written."""


class _Output:
    """Standard output, whose errors are OutputErrors: an OSError might come from anywhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _translated():
            return self._stream.write(text)

    def flush(self) -> None:
        with _translated():
            self._stream.flush()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {error.strerror}") from error


@contextmanager
def standard_streams() -> Iterator[None]:
    """Within this context a character that the terminal lacks is printed as its escape.

    Raises OutputError where standard output cannot be written; where its reader has closed the pipe, as `head` does,
    the process ends with status 1 and nothing else.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is None:  # closed
        yield
        return
    before, output = sys.stdout, _Output(sys.stdout)
    sys.stdout = cast(TextIO, output)
    try:
        try:
            yield
        finally:
            output.flush()  # at the interpreter's end an error would be a traceback
    except OutputError as error:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), before.fileno())
        if isinstance(error.__cause__, BrokenPipeError):
            sys.exit(1)
        raise
    finally:
        sys.stdout = before
