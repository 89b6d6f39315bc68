"""The CLI, killed with its JVM at one of a layer's commits: `kill_at_commit.py COMMIT before|after run weather …`.

COMMIT is a number, of gold's commits, or as `silver.2` that of another layer's.
`after` is the worst moment: the rows are in the table, but the batch is not in the commit log.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable

from streaming_lakehouse.cli.main import main
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.sinks import delta


def kill_at_commit(
    write: Callable[..., None], layer: str, commit: int, moment: str, commits: itertools.count[int]
) -> Callable[..., None]:
    """Wraps `write`: kills this process group at the layer's commit of that number, counted over all streams."""
    guard = threading.Lock()

    def written(rows: object, table: Table, *arguments: object, **named: object) -> None:
        if table.layer != layer:
            return write(rows, table, *arguments, **named)
        with guard:
            is_last = next(commits) == commit
        if is_last and moment == "before":
            os.killpg(0, signal.SIGKILL)
        write(rows, table, *arguments, **named)
        if is_last:
            os.killpg(0, signal.SIGKILL)
        return None

    return written


if __name__ == "__main__":
    _, given, moment, *words = sys.argv
    layer, _, number = given.rpartition(".")
    commits = itertools.count(1)
    for name in ("write_batch", "merge_batch"):
        setattr(delta, name, kill_at_commit(getattr(delta, name), layer or "gold", int(number), moment, commits))
    main(words)
