"""What `lakehouse show` tells: a pipeline's tables, and where each record went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession, functions as F
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers.silver import LATE, REPEATED
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.session import check_place, get_session
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
        """Below 0 where silver and quarantine hold more rows than came in."""
        return self.rows_in - self.valid - self.quarantined - self.duplicates - self.late

    def check(self) -> None:
        """Raises LakehouseError where a record must be in more than one place."""
        if self.waiting < 0:
            raise LakehouseError(
                f"silver and quarantine hold {-self.waiting:,} rows more than bronze, and each record must be in "
                "exactly one of them: probably a checkpoint was reset, or bronze was made anew, while they were kept; "
                "move bronze, silver and quarantine away with their checkpoints to build them anew"
            )

    def __str__(self) -> str:
        text = (
            f"{self.rows_in:,} rows in = {self.valid:,} valid + {self.quarantined:,} quarantined "
            f"+ {self.duplicates:,} duplicates + {self.late:,} late"
        )
        if self.waiting < 0:
            return f"{text} - {-self.waiting:,} too many"
        return f"{text} + {self.waiting:,} not yet in silver" if self.waiting else text


@dataclass(frozen=True)
class Report:
    pipeline: Pipeline
    settings: Settings

    def parts(self, *, gold_rows: int) -> Iterator[RenderableType]:
        """The overview, the account, the reasons of the quarantine, and the newest rows of each gold table.

        Raises LakehouseError where there is no table, and after the last part where the account cannot be right.
        """
        check_place(self.settings, is_run=False)
        spark = get_session()
        if not any(delta.exists(spark, table) for table in self._tables()):
            name, place = self.pipeline.name, self.settings.root or f"catalog {self.settings.catalog}"
            raise LakehouseError(
                f"pipeline {name!r} has no tables yet in {place}; make some with `lakehouse run {name}`, or name "
                "another --root or --catalog"
            )
        yield self._overview(spark)
        # Bronze is counted last: a run that goes on meanwhile must not look as if rows had come from nowhere.
        rejected = self._rejected(spark)
        account = self._account(spark, rejected)
        reasons = _by_reason(rejected)
        yield f"\n{account}"
        yield "(the quarantine table holds the quarantined, the duplicates and the late)\n"
        if reasons:
            yield _grid(["failed expectation", "rows"], [[name, f"{rows:,}"] for name, rows in reasons.items()])
        for table in self._tables():
            if gold_rows and table.layer == "gold" and delta.exists(spark, table):
                yield f"\n{table}"
                yield _newest(delta.read(spark, table), gold_rows)
        account.check()

    def _account(self, spark: SparkSession, rejected: Counter[tuple[str, ...]]) -> Account:
        bronze, silver, _ = self._tables()[:3]
        valid, rows_in = self._count(spark, silver), self._count(spark, bronze)
        late, repeated = rejected[(LATE,)], rejected[(REPEATED,)]
        return Account(
            rows_in=rows_in,
            valid=valid,
            quarantined=rejected.total() - late - repeated,
            duplicates=repeated,
            late=late,
        )

    def _tables(self) -> list[Table]:
        table, events = self.settings.table, self.pipeline.silver.table
        first = [table("bronze", self.pipeline.bronze.table), table("silver", events), table("quarantine", events)]
        return first + [table("gold", gold.table) for gold in self.pipeline.gold]

    def _read(self, spark: SparkSession, table: Table) -> DataFrame | None:
        return delta.read(spark, table) if delta.exists(spark, table) else None

    def _count(self, spark: SparkSession, table: Table) -> int:
        rows = self._read(spark, table)
        return rows.count() if rows is not None else 0

    def _rejected(self, spark: SparkSession) -> Counter[tuple[str, ...]]:
        """The rows of the quarantine by their reasons, read once: a sum and its parts must not be of two moments."""
        quarantine = self._read(spark, self._tables()[2])
        found = quarantine.groupBy("failed_expectations").count().collect() if quarantine is not None else []
        return Counter({tuple(row["failed_expectations"]): row["count"] for row in found})

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


def _by_reason(rejected: Counter[tuple[str, ...]]) -> dict[str, int]:
    """How many rows failed each expectation, the most frequent first; a row may fail several."""
    rows: Counter[str] = Counter()
    for reasons, count in rejected.items():
        rows.update(dict.fromkeys(reasons, count))
    return dict(sorted(rows.items(), key=lambda found: (-found[1], found[0])))


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
            turned.add_row(*map(_cell, cells))
        yield turned


def _grid(headings: list[str], lines: list[list[str]]) -> Grid:
    grid = Grid(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        is_number = all(line[place].lstrip("-").replace(",", "").replace(".", "").isdigit() for line in lines)
        grid.add_column(_cell(heading), justify="right" if is_number else "left", overflow="fold")
    for line in lines:
        grid.add_row(*map(_cell, line))
    return grid


def _cell(text: str) -> Text:
    """The text as it stands: what looks like rich's markup is data, and control characters never reach a terminal."""
    return Text("".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text))


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None)  # collected without a zone, in the machine's
        return moment.isoformat(sep=" ", timespec="seconds" if value.second else "minutes")
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
