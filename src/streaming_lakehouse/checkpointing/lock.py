"""Locks a checkpoint against a second process for as long as the first one's JVM can still write."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.session import is_local

# The JVM of a killed process ends within seconds; a restart right after a kill must not be refused.
_ACQUIRE_TIMEOUT_S = 10.0
# Within a process: the JVM would release a file lock when anybody closes the file, a refused second run included.
_locked_paths: set[Path] = set()
_guard = threading.Lock()


@contextmanager
def steps_locked(spark: SparkSession, storage: Storage, pipeline: str, steps: Iterable[str]) -> Iterator[None]:
    """Holds the locks of these steps' own checkpoints. Raises LakehouseError if one of them runs elsewhere."""
    with ExitStack() as locks:
        for step in steps:
            locks.enter_context(step_lock(spark, storage, pipeline, step, storage.checkpoint(pipeline, step)))
        yield


@contextmanager
def step_lock(spark: SparkSession, storage: Storage, pipeline: str, step: str, checkpoint: str) -> Iterator[None]:
    """Holds the lock of a step's checkpoint. In a workspace the job's max_concurrent_runs of 1 replaces it."""
    if storage.root is None or not is_local(spark):
        yield
        return
    with checkpoint_lock(spark, Path(checkpoint), f"step {step!r} of pipeline {pipeline!r}"):
        yield


@contextmanager
def checkpoint_lock(spark: SparkSession, checkpoint: Path, what: str) -> Iterator[None]:
    """Holds the lock on `checkpoint`. Raises LakehouseError if another process holds it, or a run in this one.

    The lock is the JVM's, not Python's: after a kill -9 of Python the JVM may finish a commit, and until it has ended
    nobody else may write. The operating system releases the lock when the process ends, so no stale lock remains.
    """
    path = checkpoint.parent / f".{checkpoint.name}.lock"
    resolved = path.resolve()  # the same file, however its path is written
    with _guard:
        if resolved in _locked_paths:
            raise LakehouseError(f"{what} is already running in this process (checkpoint {checkpoint}); stop it first")
        _locked_paths.add(resolved)
    try:
        with _locked(spark, path, f"{what} is running in another process (checkpoint {checkpoint}); stop it first"):
            yield
    finally:
        _locked_paths.discard(resolved)


@contextmanager
def _locked(spark: SparkSession, path: Path, message: str) -> Iterator[None]:
    jvm: Any = spark._jvm
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = jvm.java.io.RandomAccessFile(str(path), "rw")
    except (OSError, Py4JError) as error:
        raise LakehouseError(f"cannot write to {path.parent}: {getattr(error, 'strerror', None) or error}") from error
    channel = file.getChannel()
    try:
        deadline = time.monotonic() + _ACQUIRE_TIMEOUT_S
        while channel.tryLock() is None:
            if time.monotonic() > deadline:
                raise LakehouseError(message)
            time.sleep(0.2)
        yield
    finally:
        with suppress(Py4JError, ConnectionError):  # the JVM has ended, and its locks with it
            channel.close()
