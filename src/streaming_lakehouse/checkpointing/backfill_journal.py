"""The record of a pipeline's backfills that are under way: one that dies is finished by the next."""

from __future__ import annotations

import json
from pathlib import Path

from streaming_lakehouse.checkpointing.files import write_atomically
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError


def file(storage: Storage, pipeline: str) -> Path:
    """It exists from before a backfill's first row until gold has them all."""
    return Path(storage.checkpoint(pipeline, "backfill.json"))


def begin(storage: Storage, pipeline: str, backfilled_at_us: int) -> None:
    """Records a backfill, by the time that its rows in silver have as `backfilled_at`, microseconds since 1970."""
    write_atomically(file(storage, pipeline), [*unfinished(storage, pipeline), backfilled_at_us])


def unfinished(storage: Storage, pipeline: str) -> list[int]:
    """The backfills that were started and have not ended."""
    journal = file(storage, pipeline)
    if not journal.exists():
        return []
    try:
        return [int(microseconds) for microseconds in json.loads(journal.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise LakehouseError(f"{journal}, which says what a backfill has added, cannot be read: {error}") from error


def end(storage: Storage, pipeline: str) -> None:
    file(storage, pipeline).unlink(missing_ok=True)
