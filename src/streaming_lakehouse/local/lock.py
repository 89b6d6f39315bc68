"""Keeps a second process away from a checkpoint, for as long as the first one's JVM can still write."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from streaming_lakehouse.errors import LakehouseError

# The JVM of a killed process ends within seconds; a restart right after a kill must not be refused.
_PATIENCE_SECONDS = 10.0
# Of this process. Java would free a lock with whatever closes the file, a second run that was refused included.
_held: set[Path] = set()
_holding = threading.Lock()


@contextmanager
def checkpoint_lock(spark: SparkSession, checkpoint: Path, what: str) -> Iterator[None]:
    """Holds the lock on `checkpoint`. Raises LakehouseError where another process holds it, or a run in this one.

    The lock is the JVM's, not Python's: after a kill -9 of Python the JVM may finish a commit, and until it has ended
    nobody else may write. The operating system frees the lock with the process, so that none is ever left behind.
    """
    path = checkpoint.parent / f".{checkpoint.name}.lock"
    name = path.resolve()  # the file by whatever way it is reached
    with _holding:
        if name in _held:
            raise LakehouseError(f"{what} is being run by this very process (checkpoint {checkpoint}); stop that first")
        _held.add(name)
    try:
        with _locked(spark, path, f"{what} is being run by another process (checkpoint {checkpoint}); stop that first"):
            yield
    finally:
        _held.discard(name)


@contextmanager
def _locked(spark: SparkSession, path: Path, otherwise: str) -> Iterator[None]:
    jvm: Any = spark._jvm
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
        while channel.tryLock() is None:
            if time.monotonic() > deadline:
                raise LakehouseError(otherwise)
            time.sleep(0.2)
        yield
    finally:
        with suppress(Py4JError, ConnectionError):  # a JVM that has ended holds nothing
            channel.close()
