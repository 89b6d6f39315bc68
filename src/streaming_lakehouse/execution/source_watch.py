"""Checks, before and while a run reads a source, that it is the one that the checkpoint's offsets belong to."""

from __future__ import annotations

import threading
from contextlib import suppress

from pyspark.sql import SparkSession

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.pipeline.steps import Step
from streaming_lakehouse.sources import SourceAdmin


def bind_source_identity(plan: RunPlan, step: Step, checkpoint: str, admin: SourceAdmin) -> None:
    """Records what the step reads. Raises LakehouseError if it is another source than before, or does not exist."""
    address = plan.source_address(step)
    metadata.bind_source(checkpoint, address, admin.ids(metadata.source_ids(checkpoint, address)))


class SourceWatch:
    """Asks the source of a run's steps about itself while they read it; its connections are open until `close`."""

    def __init__(self, plan: RunPlan, spark: SparkSession) -> None:
        self._plan, self._spark = plan, spark
        self._steps = {step.name: step for step in plan.steps if step.reads_source}
        self._admins: dict[str, SourceAdmin] = {}
        self._lock = threading.Lock()  # a batch is checked in its own thread

    def check(self, name: str) -> None:
        """Raises LakehouseError, with the words of the next start, if the step's source was replaced or is gone.

        A broker that does not answer is no reason: Spark has its own patience with it.
        """
        step = self._steps.get(name)
        checkpoint = self._plan.checkpoint(step) if step else None
        if step is None or checkpoint is None:
            return
        with self._lock:
            admin = self._admin(step)
            if admin is not None:
                bind_source_identity(self._plan, step, checkpoint, admin)

    def lag(self, name: str, end_offsets: str | None) -> int | None:
        """The records that the step's source has now behind these offsets, else the last committed; None if unknown."""
        step = self._steps.get(name)
        if step is None:
            return None
        checkpoint = self._plan.checkpoint(step)
        with self._lock:
            admin = self._admin(step)
            read = end_offsets or (metadata.committed_offsets(checkpoint) if checkpoint else None)
            return admin.lag(read) if admin else None

    def close(self) -> None:
        for admin in self._admins.values():
            admin.close()

    def _admin(self, step: Step) -> SourceAdmin | None:
        if step.name not in self._admins:
            with suppress(LakehouseError):
                self._admins[step.name] = self._plan.source.admin(self._spark, self._plan.read_request(step))
        return self._admins.get(step.name)
