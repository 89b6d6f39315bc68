"""What `lakehouse quarantine` prints: the newest rejected records of a pipeline, each with its reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row, SparkSession, functions as F
from rich.console import RenderableType
from rich.text import Text

from streaming_lakehouse.cli.report import by_reason, cell_text, grid, moment_text, no_tables_message, reasons_of
from streaming_lakehouse.config.storage import Storage, Table
from streaming_lakehouse.errors import LakehouseError, counted, did_you_mean
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.session import check_storage_visible, get_session
from streaming_lakehouse.sinks import delta
from streaming_lakehouse.sources.envelope import RECORD_ID

_MAX_CHARACTERS = 2_000  # of a record's value; one of 10 MB would fill the screen a thousand times


@dataclass(frozen=True)
class QuarantineReport:
    """The quarantine tables of a pipeline; with `reason` only the rows that fail the expectation of that name."""

    pipeline: Pipeline
    storage: Storage
    reason: str | None = None

    def render(self, *, rows: int) -> Iterator[RenderableType]:
        """For each table the number of rows by reason, and the newest `rows` of them.

        Raises LakehouseError where the pipeline has no tables, or no row fails `reason`.
        """
        check_storage_visible(self.storage, is_run=False)
        spark = get_session()
        names = [bronze.table for bronze in self.pipeline.bronze]
        tables = [self.storage.table("quarantine", name) for name in names]
        found = [(table, delta.read(spark, table)) for table in tables if delta.exists(spark, table)]
        if not found:
            raise LakehouseError(no_tables_message(self.pipeline, self.storage))
        counts = {table: reasons_of(quarantined) for table, quarantined in found}
        self._check_reason(counts)
        for table, quarantined in found:
            yield from self._render_table(spark, table, quarantined, counts[table], rows)

    def _check_reason(self, counts: dict[Table, Counter[tuple[str, ...]]]) -> None:
        known = by_reason(sum(counts.values(), Counter()))
        if self.reason is not None and self.reason not in known:
            hint = did_you_mean(self.reason, known) if known else "; quarantine is empty"
            raise LakehouseError(f"no record in quarantine fails {self.reason!r}{hint}")

    def _render_table(
        self, spark: SparkSession, table: Table, quarantined: DataFrame, reasons: Counter[tuple[str, ...]], rows: int
    ) -> Iterator[RenderableType]:
        chosen = Counter({names: count for names, count in reasons.items() if self.reason in (None, *names)})
        yield f"{table}: {counted(chosen.total(), 'row')}"
        if chosen:
            yield grid(["failed expectation", "rows"], [[name, f"{n:,}"] for name, n in by_reason(chosen).items()])
        if self.reason is not None:
            quarantined = quarantined.where(F.array_contains("failed_expectations", self.reason))
        newest = quarantined.orderBy(F.desc("ingested_at"), *(F.desc(name) for name in RECORD_ID)).limit(rows)
        for row in newest.collect():
            yield _record(row)
        yield ""


def _record(row: Row) -> Text:
    """Where the record is in its source, when bronze got it, its reasons, and the record itself."""
    key = "" if row["key"] is None else f", key {_readable(row['key'])}"
    position = f"{row['source']}, partition {row['partition']}, offset {row['offset']}{key}"
    lines = [
        f"\n{cell_text(position)}, ingested {moment_text(row['ingested_at'])}",
        f"  fails {', '.join(row['failed_expectations'])}",
        f"  {_readable(row['value'])}",
    ]
    return Text("\n".join(lines))


def _readable(value: bytes | None) -> str:
    """The bytes as text; those that are not UTF-8, and control characters, as escapes."""
    if value is None:
        return "(null)"
    if not value:
        return "(empty)"
    text = cell_text(bytes(value[: 4 * _MAX_CHARACTERS]).decode(errors="backslashreplace"))
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}… ({len(value):,} bytes in all)"
