"""Reports the deletes and updates in upstream tables, which the layers pass over."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from pyspark.sql import SparkSession

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.preflight import rebuild_hint
from streaming_lakehouse.pipeline import Gold, Silver
from streaming_lakehouse.pipeline.steps import Step
from streaming_lakehouse.sinks import delta
from streaming_lakehouse.sources.delta import Change, find_changes

_CATALOG_INTERVAL_S = 60  # the history of a table in a catalog is read by a Spark job, a log by Python

log = logging.getLogger(__name__)


@dataclass
class UpstreamChanges:
    """Looks through the versions that a step has read since the last look, in this run or an earlier one."""

    plan: RunPlan
    spark: SparkSession
    last_look: dict[str, float] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)

    def check(self, step: Step) -> None:
        """Logs each commit that the step has passed over.

        Raises LakehouseError for one that has added rows too, which the step will never read. Every later run raises
        it again, until the step is rebuilt.
        """
        checkpoint, inputs = self.plan.checkpoint(step), self._inputs(step)
        versions = metadata.unchecked_versions(checkpoint) if checkpoint and inputs else {}
        if checkpoint is None or not any(versions.values()) or self._is_too_soon(step):
            return
        for table_id, unchecked in versions.items():
            if table := self._table(inputs, table_id):
                for change in find_changes(self.spark, table, unchecked):
                    self._report(step, table, change)
        metadata.record_checked_versions(checkpoint, versions)

    def _inputs(self, step: Step) -> list[Table]:
        table = self.plan.storage.table
        match step.makes:
            case Silver():
                return [table("bronze", step.makes.source.table)]
            case Gold():
                return [table("silver", each.table) for each in step.makes.streams]
        return []

    def _is_too_soon(self, step: Step) -> bool:
        now, last = time.monotonic(), self.last_look.get(step.name)
        if self.plan.storage.catalog and last is not None and now - last < _CATALOG_INTERVAL_S:
            return True
        self.last_look[step.name] = now
        return False

    def _table(self, inputs: list[Table], table_id: str) -> Table | None:
        """None where the table was recreated, which Delta refuses."""
        if len(inputs) == 1:
            return inputs[0]
        if table_id not in self.tables:
            self.tables |= {delta.table_id(self.spark, table): table for table in inputs}
        return self.tables.get(table_id)

    def _report(self, step: Step, table: Table, change: Change) -> None:
        if change.added:
            raise LakehouseError(
                f"step {step.name!r} failed: {table} was changed by {change}; layers read what is added by commits "
                f"that only add, so the new rows are missing here: {rebuild_hint(self.plan, step)}"
            )
        log.warning(
            "step %r passes over a change of %s: %s; what the step has made of these rows before stays, so change it "
            "there too, or rebuild it", step.name, table, change,
        )  # fmt: skip
