"""Keeps a second process away from a checkpoint, for as long as the first one's JVM can still write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from streaming_lakehouse.errors import LakehouseError

# The JVM of a killed process ends within seconds; a restart right after a kill must not be refused.
_PATIENCE_SECONDS = 10.0


@contextmanager
def checkpoint_lock(spark: SparkSession, checkpoint: Path, what: str) -> Iterator[None]:
    """Holds the lock on `checkpoint`. Raises LakehouseError where another process holds it.

    The lock is the JVM's, not Python's: after a kill -9 of Python the JVM may finish a commit, and until it has ended
    nobody else may write. The operating system frees the lock with the process, so that none is ever left behind.
    """
    jvm: Any = spark._jvm
    path = checkpoint.parent / f".{checkpoint.name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = jvm.java.io.RandomAccessFile(str(path), "rw")
    except (OSError, Py4JError) as error:
        raise LakehouseError(
            f"cannot write below {path.parent}: {getattr(error, 'strerror', None) or error}"
        ) from error
    channel = file.getChannel()
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _take(channel):
            if time.monotonic() > deadline:
                raise LakehouseError(
                    f"{what} is being run by another process (checkpoint {checkpoint}); stop that first"
                )
            time.sleep(0.2)
        yield
    finally:
        channel.close()


def _take(channel: Any) -> bool:
    try:
        return channel.tryLock() is not None
    except Py4JError as error:
        if "OverlappingFileLockException" in str(error):  # held by this very JVM
            return False
        raise
