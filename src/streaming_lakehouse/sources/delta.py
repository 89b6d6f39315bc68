"""A Delta table as a source: how a layer reads its upstream table, and which changes of it the stream passes over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.checkpointing import delta_log
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.errors import counted
from streaming_lakehouse.sources.envelope import ROW_ID

_OPTIONS = {
    # Delta's read limits count files or bytes, not commits. The rows of one commit may have any event times, as those
    # of a folder: if a commit were split, its first half could make rows of the second late for silver, or make gold
    # drop rows that silver accepted. What does not fit into memory is spilled to disk.
    "maxFilesPerTrigger": str(2**31 - 1),
    # A commit that removes or replaces rows, such as an erasure, is passed over; else no batch could follow it.
    "skipChangeCommits": "true",
}
_COLUMNS = ("version", "operation", "operationMetrics", "operationParameters")
# Rewrites files without changing a row, hence not passed over.
_COMPACTIONS = ("OPTIMIZE", "REORG")


def read_stream(spark: SparkSession, table: Table) -> DataFrame:
    """Streams what is added to the table; a batch has all available commits, and never splits one.

    A commit that removes or replaces rows is passed over, with the rows that it adds: `find_changes` finds it.
    """
    reader = spark.readStream.format("delta").options(**_OPTIONS)
    return reader.load(table.path) if table.path else reader.table(str(table.catalog_name))


@dataclass(frozen=True)
class Change:
    """A commit that removes or replaces rows; the fields are its writer's: Spark's or delta-rs's."""

    version: int
    operation: str
    metrics: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_of_backfill(self) -> bool:
        """True for the MERGE by which a backfill moves rows out of quarantine: it compares all of a row's id."""
        predicate = str(self.parameters.get("predicate", ""))
        return self.operation == "MERGE" and all(f"{name}#" in predicate for name in ROW_ID)

    @property
    def deleted(self) -> int:
        """The number of rows that the commit deletes, as far as Delta counts them: not those of TRUNCATE."""
        return self._sum("numDeletedRows", "numTargetRowsDeleted", "num_deleted_rows", "num_target_rows_deleted")

    @property
    def updated(self) -> int:
        return self._sum("numUpdatedRows", "numTargetRowsUpdated", "num_updated_rows", "num_target_rows_updated")

    @property
    def added(self) -> int:
        """The number of new rows beside those that it replaces: a stream never reads them."""
        return self._sum("numTargetRowsInserted", *(("numOutputRows",) if self.operation == "WRITE" else ()))

    def _sum(self, *names: str) -> int:
        return sum(int(self.metrics.get(name, 0)) for name in names)

    def __str__(self) -> str:
        counts = [(self.deleted, "deleted"), (self.updated, "updated"), (self.added, "added")]
        found = ", ".join(f"{counted(number, 'row')} {what}" for number, what in counts if number)
        return f"{self.operation} in version {self.version}" + (f" ({found})" if found else "")


def find_changes(spark: SparkSession, table: Table, versions: range | None = None) -> list[Change]:
    """The commits among these versions, or among all in the log, that a stream passes over, the earliest first."""
    if table.path:
        return list(_changes_in_log(Path(table.path), versions))
    return _changes_in_history(spark, table, versions)


def _changes_in_log(table: Path, versions: range | None) -> Iterator[Change]:
    for version in delta_log.versions(table) if versions is None else versions:
        commit = delta_log.commit(table, version)
        text = commit.read_text() if commit.exists() else ""  # an old commit may be cleaned up
        if '"remove"' not in text:
            continue
        actions = list(delta_log.actions(text))
        if any(action.get("remove", {}).get("dataChange") for action in actions):
            info: dict[str, Any] = next((each["commitInfo"] for each in actions if "commitInfo" in each), {})
            yield Change(
                version,
                info.get("operation", "a change"),
                info.get("operationMetrics") or {},
                info.get("operationParameters") or {},
            )


def _changes_in_history(spark: SparkSession, table: Table, versions: range | None) -> list[Change]:
    commits = _history(spark, table)
    if versions is not None:
        commits = commits.where(F.col("version").between(versions.start, versions.stop - 1))
    rows = commits.orderBy("version").select(*_COLUMNS).collect()
    return [Change(*row) for row in rows if _has_removed(row["operation"], row["operationMetrics"] or {})]


def _history(spark: SparkSession, table: Table) -> DataFrame:
    from delta.tables import DeltaTable

    found: DataFrame = DeltaTable.forName(spark, str(table.catalog_name)).history()
    return found


def _has_removed(operation: str, metrics: Mapping[str, str]) -> bool:
    counters = ("numRemovedFiles", "numTargetFilesRemoved", "numDeletionVectorsAdded", "numDeletionVectorsUpdated")
    return operation not in _COMPACTIONS and any(int(metrics.get(name, 0)) for name in counters)
