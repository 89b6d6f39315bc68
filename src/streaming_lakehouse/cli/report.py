"""What `lakehouse show` prints: a pipeline's tables, and where each record went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession, functions as F
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from streaming_lakehouse.checkpointing import backfill_journal, metadata
from streaming_lakehouse.config.storage import Storage, Table
from streaming_lakehouse.errors import LakehouseError, counted
from streaming_lakehouse.layers.acceptance import FIRST_DELIVERY, ON_TIME
from streaming_lakehouse.pipeline import Bronze, Gold, Pipeline, Reference, Silver
from streaming_lakehouse.pipeline.steps import Step
from streaming_lakehouse.session import check_storage_visible, get_session
from streaming_lakehouse.sinks import delta
from streaming_lakehouse.sources.delta import find_changes


@dataclass(frozen=True)
class Reconciliation:
    """Where bronze's rows went: each is in exactly one of the four, or waits for the next silver batch.

    `deleted_in` is the number of rows deleted from bronze since, `deleted_out` of those from silver and quarantine.
    """

    rows_in: int
    valid: int
    quarantined: int
    duplicates: int
    late: int
    bronze: str = "bronze"
    deleted_in: int = 0
    deleted_out: int = 0

    @property
    def pending(self) -> int:
        """Below 0 where silver and quarantine hold more rows than came in."""
        found = self.valid + self.quarantined + self.duplicates + self.late
        return self.rows_in + self.deleted_in - found - self.deleted_out

    def check(self) -> None:
        """Raises LakehouseError where a record must be in more than one table."""
        if self.pending < 0:
            raise LakehouseError(
                f"silver and quarantine hold {counted(-self.pending, 'row')} more than {self.bronze}, and each record "
                "must be in exactly one of them: probably a checkpoint was reset, or bronze was recreated, and "
                "they were not (or its rows were deleted by TRUNCATE, or by commits that are gone from its log); "
                "archive bronze, silver and quarantine with their checkpoints to rebuild them"
            )

    def __str__(self) -> str:
        text = (
            f"{counted(self.rows_in, 'row')} in{_deleted(self.deleted_in)} = {self.valid:,} valid "
            f"+ {self.quarantined:,} quarantined + {counted(self.duplicates, 'duplicate')} + {self.late:,} late"
            f"{_deleted(self.deleted_out)}"
        )
        if self.pending < 0:
            return f"{text} - {-self.pending:,} too many"
        return f"{text} + {self.pending:,} not yet in silver" if self.pending else text


def _deleted(rows: int) -> str:
    return f" + {rows:,} deleted since" if rows else ""


@dataclass(frozen=True)
class Report:
    pipeline: Pipeline
    storage: Storage

    def render(self, *, gold_rows: int) -> Iterator[RenderableType]:
        """The overview, a reconciliation for each bronze table with the quarantine's reasons, gold's latest rows.

        Raises LakehouseError where there is no table, and after the last part where a sum cannot be right.
        """
        check_storage_visible(self.storage, is_run=False)
        spark = get_session()
        if not any(delta.exists(spark, table) for table, _ in self._tables()):
            raise LakehouseError(no_tables_message(self.pipeline, self.storage))
        yield self._overview(spark)
        sums = []
        for bronze in self.pipeline.bronze:
            # Bronze is counted last: while a run writes, rows must not look as if they came from nowhere.
            reasons = self._quarantine_counts(spark, bronze)
            sums.append(self._reconcile(spark, bronze, reasons))
            yield from self._render_sum(bronze, sums[-1], reasons)
        for table, makes in self._tables():
            if gold_rows and isinstance(makes, Gold) and delta.exists(spark, table):
                yield f"\n{table}"
                yield _latest_rows(delta.read(spark, table), makes, gold_rows)
        if waiting := [f"gold.{gold.table}" for gold in self.pipeline.gold if self._has_unwritten_windows(gold)]:
            yield f"\n{', '.join(waiting)}: the next run writes the windows that have closed"
        if backfill_journal.file(self.storage, self.pipeline.name).exists():
            yield (
                "\na backfill is under way or was interrupted, and its records may be in quarantine and in silver; to "
                "finish it: "
                f"lakehouse backfill {self.pipeline.name} {self.storage.options}"
            )
            return
        for each in sums:
            each.check()

    def _render_sum(
        self, bronze: Bronze, total: Reconciliation, reasons: Counter[tuple[str, ...]]
    ) -> Iterator[RenderableType]:
        yield f"\n{total}" if len(self.pipeline.bronze) == 1 else f"\nbronze.{bronze.table}: {total}"
        yield "(the quarantine table holds the quarantined, the duplicates and the late)\n"
        if found := by_reason(reasons):
            yield grid(["failed expectation", "rows"], [[name, f"{rows:,}"] for name, rows in found.items()])

    def _reconcile(self, spark: SparkSession, bronze: Bronze, reasons: Counter[tuple[str, ...]]) -> Reconciliation:
        table = self.storage.table
        valid = sum(self._count(spark, table("silver", each.table)) for each in self.pipeline.silver_of(bronze))
        late, duplicates = reasons[(ON_TIME,)], reasons[(FIRST_DELIVERY,)]
        total = Reconciliation(
            rows_in=self._count(spark, table("bronze", bronze.table)),
            valid=valid,
            quarantined=reasons.total() - late - duplicates,
            duplicates=duplicates,
            late=late,
            bronze=f"bronze.{bronze.table}",
        )
        return self._with_deleted(spark, bronze, total) if total.pending else total

    def _with_deleted(self, spark: SparkSession, bronze: Bronze, total: Reconciliation) -> Reconciliation:
        """With the rows that others have deleted, which takes a look through each table's log."""
        table = self.storage.table
        silver = [table("silver", each.table) for each in self.pipeline.silver_of(bronze)]
        return replace(
            total,
            deleted_in=_count_deleted(spark, [table("bronze", bronze.table)]),
            deleted_out=_count_deleted(spark, [*silver, table("quarantine", bronze.table)]),
        )

    def _has_unwritten_windows(self, gold: Gold) -> bool:
        return metadata.has_unwritten_windows(self.storage.checkpoint(self.pipeline.name, Step(gold).name))

    def _tables(self) -> list[tuple[Table, Bronze | Silver | Reference | Gold]]:
        """Each stored table with the one that declares it; a quarantine follows its bronze table's silver tables."""
        found: list[tuple[Table, Bronze | Silver | Reference | Gold]] = []
        table = self.storage.table
        for bronze in self.pipeline.bronze:
            found.append((table("bronze", bronze.table), bronze))
            found += [(table("silver", each.table), each) for each in self.pipeline.silver_of(bronze)]
            found.append((table("quarantine", bronze.table), bronze))
        found += [(table("reference", each.table), each) for each in self.pipeline.references]
        return found + [(table("gold", each.table), each) for each in self.pipeline.gold]

    def _read(self, spark: SparkSession, table: Table) -> DataFrame | None:
        return delta.read(spark, table) if delta.exists(spark, table) else None

    def _count(self, spark: SparkSession, table: Table) -> int:
        rows = self._read(spark, table)
        return rows.count() if rows is not None else 0

    def _quarantine_counts(self, spark: SparkSession, bronze: Bronze) -> Counter[tuple[str, ...]]:
        """The rows of the quarantine by their reasons, read once: a sum and its parts must be of one snapshot."""
        quarantine = self._read(spark, self.storage.table("quarantine", bronze.table))
        return reasons_of(quarantine) if quarantine is not None else Counter()

    def _overview(self, spark: SparkSession) -> Grid:
        lines = []
        for table, makes in self._tables():
            rows = self._read(spark, table)
            lines.append([str(table), *(_table_stats(rows, makes) if rows is not None else ["-", "", ""])])
        return grid(["table", "rows", "newest event", "newest window"], lines)


def no_tables_message(pipeline: Pipeline, storage: Storage) -> str:
    where = storage.root or f"catalog {storage.catalog}"
    return (
        f"pipeline {pipeline.name!r} has no tables yet in {where}; create them with `lakehouse run {pipeline.name}`, "
        "or name another --root or --catalog"
    )


def _count_deleted(spark: SparkSession, tables: list[Table]) -> int:
    """Not those that a backfill has moved from quarantine to silver."""
    changes = [change for table in tables if delta.exists(spark, table) for change in find_changes(spark, table)]
    return sum(change.deleted for change in changes if not change.is_of_backfill)


def _table_stats(rows: DataFrame, makes: Bronze | Silver | Reference | Gold) -> list[str]:
    """Rows, the latest event time and the latest window's end; '' for what the table has no column of."""
    event_time = makes.event_time if isinstance(makes, Silver) else "time"
    stats = [F.count("*")]
    for column in (event_time, "window_end"):
        stats.append(F.max(column) if column in rows.columns else F.lit(None))
    count, event, window = rows.agg(*stats).first() or (0, None, None)
    return [f"{count:,}", _text(event), _text(window)]


def reasons_of(quarantined: DataFrame) -> Counter[tuple[str, ...]]:
    """The rows of a quarantine table by all their reasons."""
    found = quarantined.groupBy("failed_expectations").count().collect()
    return Counter({tuple(row["failed_expectations"]): row["count"] for row in found})


def by_reason(rejected: Counter[tuple[str, ...]]) -> dict[str, int]:
    """How many rows failed each expectation, the most frequent first; a row may fail several."""
    rows: Counter[str] = Counter()
    for reasons, count in rejected.items():
        rows.update(dict.fromkeys(reasons, count))
    return dict(sorted(rows.items(), key=lambda found: (-found[1], found[0])))


def _latest_rows(rows: DataFrame, makes: Gold, number: int) -> RenderableType:
    """By window or time where the table has one; else in the order of its key."""
    order = [F.desc(name) for name in ("window_end", "time") if name in rows.columns]
    found = rows.orderBy(*order, *makes.key).limit(number).collect()
    if not found:
        later = "; a window is written when the watermark has passed its end" if "window_end" in rows.columns else ""
        return f"no rows yet{later}"
    return _ResponsiveTable(rows.columns, [[_text(value) for value in row] for row in found])


@dataclass(frozen=True)
class _ResponsiveTable:
    """A table; where the terminal is too narrow for it, with its columns below one another, or one row after the other.

    No name of a column is cut: names of similar columns differ at their ends.
    """

    headings: list[str]
    lines: list[list[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        turned = _turned(self.headings, self.lines)
        for table in (grid(self.headings, self.lines), turned):
            if console.measure(table, options=options.update(max_width=10_000)).maximum <= options.max_width:
                yield table
                return
        for number, line in enumerate(self.lines):
            yield from ("",) if number else ()
            yield _turned(self.headings, [line])


def _turned(headings: list[str], lines: list[list[str]]) -> Grid:
    """A row for each column."""
    turned = Grid(box=None, pad_edge=False, show_header=False)
    turned.add_column(no_wrap=True)
    for _ in lines:
        turned.add_column(overflow="fold")
    for cells in zip(headings, *lines, strict=True):
        turned.add_row(*map(_cell, cells))
    return turned


def grid(headings: list[str], lines: list[list[str]]) -> Grid:
    grid = Grid(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        texts = [line[index].lstrip("-").replace(",", "").replace(".", "") for line in lines]
        is_number = any(texts) and all(text.isdigit() for text in texts if text)
        grid.add_column(_cell(heading), justify="right" if is_number else "left", overflow="fold")
    for line in lines:
        grid.add_row(*map(_cell, line))
    return grid


def _cell(text: str) -> Text:
    """The text as it stands: what looks like rich's markup is data, and control characters never reach a terminal."""
    return Text(cell_text(text))


def cell_text(text: str) -> str:
    """The text with control characters as escapes."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def moment_text(value: datetime) -> str:
    moment = value.astimezone(UTC).replace(tzinfo=None)  # collected without a zone, in the machine's
    return moment.isoformat(sep=" ", timespec="seconds")


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return moment_text(value)
    return "" if value is None else _number_text(value) if isinstance(value, float) else str(value)


def _number_text(value: float) -> str:
    """To three decimals, or three digits of a smaller number."""
    return f"{value:.3g}" if 0 < abs(value) < 0.1 else f"{value + 0.0:.3f}".rstrip("0").rstrip(".")
