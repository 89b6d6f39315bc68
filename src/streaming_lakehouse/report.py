"""What `lakehouse show` tells: a pipeline's tables, and where each record went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession, functions as F
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table as Grid

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers.silver import LATE, REPEATED
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.session import get_session
from streaming_lakehouse.settings import Settings, Table
from streaming_lakehouse.sinks import delta


@dataclass(frozen=True)
class Account:
    """Where bronze's rows went: each is in exactly one of the four, or waits for the next silver batch."""

    rows_in: int
    valid: int
    quarantined: int
    duplicates: int
    late: int

    @property
    def waiting(self) -> int:
        return self.rows_in - self.valid - self.quarantined - self.duplicates - self.late

    def __str__(self) -> str:
        text = (
            f"{self.rows_in:,} rows in = {self.valid:,} valid + {self.quarantined:,} quarantined "
            f"+ {self.duplicates:,} duplicates + {self.late:,} late"
        )
        return text if not self.waiting else f"{text} + {self.waiting:,} not yet in silver"


@dataclass(frozen=True)
class Report:
    pipeline: Pipeline
    settings: Settings

    def parts(self, *, gold_rows: int) -> Iterator[RenderableType]:
        """The overview, the account, the reasons of the quarantine, and the newest rows of each gold table."""
        spark = get_session()
        if not any(delta.exists(spark, table) for table in self._tables()):
            raise LakehouseError(f"pipeline {self.pipeline.name!r} has no tables yet; make some: lakehouse run")
        yield self._overview(spark)
        yield str(self.account(spark))
        reasons = self._reasons(spark)
        if reasons:
            yield _grid(["failed expectation", "rows"], [[name, f"{rows:,}"] for name, rows in reasons.items()])
        for table in self._tables():
            if gold_rows and table.layer == "gold" and delta.exists(spark, table):
                yield f"\n{table}"
                yield _newest(delta.read(spark, table), gold_rows)

    def account(self, spark: SparkSession) -> Account:
        bronze, silver, quarantine = (self._read(spark, table) for table in self._tables()[:3])
        reasons = self._reasons(spark)
        late, repeated = reasons.get(LATE, 0), reasons.get(REPEATED, 0)
        rejected = quarantine.count() if quarantine else 0
        return Account(
            rows_in=bronze.count() if bronze else 0,
            valid=silver.count() if silver else 0,
            quarantined=rejected - late - repeated,
            duplicates=repeated,
            late=late,
        )

    def _tables(self) -> list[Table]:
        table, events = self.settings.table, self.pipeline.silver.table
        first = [table("bronze", self.pipeline.bronze.table), table("silver", events), table("quarantine", events)]
        return first + [table("gold", gold.table) for gold in self.pipeline.gold]

    def _read(self, spark: SparkSession, table: Table) -> DataFrame | None:
        return delta.read(spark, table) if delta.exists(spark, table) else None

    def _reasons(self, spark: SparkSession) -> dict[str, int]:
        quarantine = self._read(spark, self._tables()[2])
        if quarantine is None:
            return {}
        reasons = quarantine.select(F.explode("failed_expectations").alias("name")).groupBy("name").count()
        return {row["name"]: row["count"] for row in reasons.orderBy(F.desc("count"), "name").collect()}

    def _overview(self, spark: SparkSession) -> Grid:
        lines = []
        for table in self._tables():
            rows = self._read(spark, table)
            lines.append([str(table), *(self._figures(rows) if rows is not None else ["-", "", ""])])
        return _grid(["table", "rows", "newest event", "newest window"], lines)

    def _figures(self, rows: DataFrame) -> list[str]:
        figures = [F.count("*")]
        for column in (self.pipeline.silver.event_time, "window_end"):
            figures.append(F.max(column) if column in rows.columns else F.lit(None))
        count, event, window = rows.agg(*figures).first() or (0, None, None)
        return [f"{count:,}", _text(event), _text(window)]


def _newest(rows: DataFrame, number: int) -> RenderableType:
    order = [F.desc(name) for name in ("window_end", "time") if name in rows.columns]
    found = rows.orderBy(*order, rows.columns[0]).limit(number).collect()
    if not found:
        later = "; a window is written when the watermark has passed its end" if "window_end" in rows.columns else ""
        return f"no rows yet{later}"
    return _Fitting(rows.columns, [[_text(value) for value in row] for row in found])


@dataclass(frozen=True)
class _Fitting:
    """A table; where the terminal is too narrow for it, with its columns below one another."""

    headings: list[str]
    lines: list[list[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grid = _grid(self.headings, self.lines)
        if console.measure(grid, options=options.update(max_width=10_000)).maximum <= options.max_width:
            yield grid
            return
        turned = Grid(box=None, pad_edge=False, show_header=False)
        for cells in zip(self.headings, *self.lines, strict=True):
            turned.add_row(*cells)
        yield turned


def _grid(headings: list[str], lines: list[list[str]]) -> Grid:
    grid = Grid(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        is_number = all(line[place].lstrip("-").replace(",", "").replace(".", "").isdigit() for line in lines)
        grid.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for line in lines:
        grid.add_row(*line)
    return grid


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds" if value.second else "minutes")
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
