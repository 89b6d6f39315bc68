"""Backfill: records that silver's stream has refused enter silver after all, and gold's rows follow.

Everything here is a batch. It decides as a rebuild from bronze would: no record is late, and a key is one event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from itertools import pairwise
from operator import or_

from pyspark.sql import Column, DataFrame, SparkSession, functions as F, types as T

from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.layers import acceptance, gold as gold_layer
from streaming_lakehouse.layers.silver import SilverTables, accepted_rows, report_violations
from streaming_lakehouse.layers.validation import BACKFILLED_AT, is_valid, validate
from streaming_lakehouse.pipeline import Gold, Reference, Silver
from streaming_lakehouse.sinks import TEXT_FORMATS, delta
from streaming_lakehouse.sources.envelope import ROW_ID

# The columns that are added here cannot be those of an event: see RESERVED_COLUMNS.
_REASONS, _REFUSED_FOR, _WAITS = "failed_expectations", "_refused_for", "_waits"
_IS_REMOVED = "_is_removed"
# Of two sums of the same numbers in another order; of a change that means something it would be a strange one.
_RELATIVE = 1e-9
_HOUR_US = 3_600_000_000
_MAX_SPANS = 64  # of a predicate; more are joined where the gap is smallest

Span = tuple[int, int]


@dataclass(frozen=True)
class Admission:
    """What becomes of quarantined records that are judged again.

    `admitted` and `refused` are batches with the event's columns, and the numbers count them; `waiting` is the number
    of valid records that are too new, `newest_us` the event time of the last of them.
    """

    admitted: DataFrame
    refused: DataFrame
    valid: int
    duplicates: int
    quarantined: int
    waiting: int
    newest_us: int | None


@dataclass(frozen=True)
class SilverBackfill:
    """Moves records of one silver table from quarantine to silver. `routes` are all silver tables of its bronze table.

    `backfilled_at_us`, in microseconds since 1970, identifies the backfill in the rows that it adds.
    """

    silver: Silver
    routes: tuple[Silver, ...]
    tables: SilverTables
    backfilled_at_us: int

    @contextmanager
    def judge(self, spark: SparkSession, reasons: Sequence[str], before_us: int) -> Iterator[Admission]:
        """Judges quarantine's records with one of these reasons by today's expectations.

        An event at or after `before_us` waits: rows of gold that it would change are not final yet. Raises
        LakehouseError where a record violates an expectation that fails.
        """
        monitored = tuple(each for each in self.silver.all_expectations if each.on_violation != "quarantine")
        with delta.persisted(self._validated(spark, reasons, before_us)) as rows:
            time = F.unix_micros(self.silver.event_time)
            waiting, newest_us = rows.where(_WAITS).agg(F.count(F.lit(1)), F.max(time)).collect()[0]
            due, known = rows.where(~F.col(_WAITS)).drop(_WAITS), delta.read(spark, self.tables.silver)
            with acceptance.judge(due, self.silver, monitored, None, known) as judged:
                for expectation in monitored:
                    report_violations(expectation, judged.violations[expectation.name], self.tables.silver)
                counts = (judged.counts.valid, judged.counts.duplicates, judged.counts.quarantined)
                admitted, refused = judged.rows.where(is_valid()), judged.rows.where(~is_valid())
                yield Admission(admitted, refused, *counts, waiting, newest_us)

    def _validated(self, spark: SparkSession, reasons: Sequence[str], before_us: int) -> DataFrame:
        quarantine = delta.read(spark, self.tables.quarantine).withColumnRenamed(_REASONS, _REFUSED_FOR)
        chosen = quarantine.where(F.arrays_overlap(_REFUSED_FOR, F.array(*map(F.lit, reasons))))
        is_new = F.unix_micros(self.silver.event_time) >= before_us
        return validate(chosen, self.silver, self.routes).withColumn(_WAITS, is_valid() & is_new)

    def append(self, admission: Admission) -> None:
        """Adds the admitted records to silver in one commit."""
        rows = accepted_rows(admission.admitted, self.silver, self.backfilled_at_us)
        delta.write_batch(rows, self.tables.silver, None)

    def update_reasons(self, admission: Admission) -> None:
        """Gives the records that stay in quarantine the reasons that they are refused for today."""
        changed = admission.refused.where(~F.col(_REFUSED_FOR).eqNullSafe(F.col(_REASONS)))
        rows = changed.select(*ROW_ID, _REASONS)
        if not rows.isEmpty():
            merge = delta.merge_builder(rows, self.tables.quarantine, ROW_ID)
            merge.whenMatchedUpdate(set={_REASONS: f"source.{_REASONS}"}).execute()

    def added(self, spark: SparkSession) -> DataFrame:
        """The rows of silver that this backfill has added."""
        return delta.read(spark, self.tables.silver).where(_is_added(self.backfilled_at_us))

    def remove_admitted(self, spark: SparkSession) -> None:
        """Removes from quarantine what the backfill has added to silver."""
        rows = self.added(spark).select(*ROW_ID)
        if not rows.isEmpty():
            delta.merge_builder(rows, self.tables.quarantine, ROW_ID).whenMatchedDelete().execute()

    def changed(self, spark: SparkSession) -> list[Span]:
        """The hours with added events, in microseconds since 1970; their ends are exclusive."""
        hour = F.floor(F.unix_micros(self.silver.event_time) / _HOUR_US).cast("bigint").alias("hour")
        hours = self.added(spark).select(hour).distinct().collect()
        return joined([(row["hour"] * _HOUR_US, (row["hour"] + 1) * _HOUR_US) for row in hours])


@dataclass(frozen=True)
class GoldBackfill:
    """Brings a gold table with a reach to what the added events make of it.

    `inputs` are the tables that it reads, `changed` the spans of the events that were added to them.
    """

    gold: Gold
    inputs: tuple[DataFrame, ...]
    changed: Sequence[Span]
    output_mode: str
    backfilled_at_us: int

    def differences(self) -> DataFrame:
        """The rows that differ with and without the added events, with `_is_removed` for those that are no more.

        Computed from the events around the added ones alone: both sides lack the same, so that rows at the edges, and
        of windows that have not closed, are equal in both.
        """
        after, before = self._rows(is_with_added=True), self._rows(is_with_added=False)
        key = list(self.gold.key)
        measures = [column for column in after.schema if column.name not in key]
        before = before.select(
            *(_quoted(name).alias(f"_before_{name}") for name in before.columns), F.lit(True).alias("_before")
        )
        has_same_key = [_quoted(name).eqNullSafe(_quoted(f"_before_{name}")) for name in key]
        both = after.withColumn("_after", F.lit(True)).join(before, has_same_key, "full_outer")
        is_equal = F.col("_after").eqNullSafe(F.col("_before"))
        for column in measures:
            is_equal &= _is_equal(column, _quoted(column.name), _quoted(f"_before_{column.name}"))
        is_removed = F.col("_after").isNull()
        keys = [F.when(is_removed, _quoted(f"_before_{name}")).otherwise(_quoted(name)).alias(name) for name in key]
        names = [_quoted(column.name) for column in measures]
        return both.where(~is_equal).select(*keys, *names, is_removed.alias(_IS_REMOVED))

    def apply(self, differences: DataFrame, table: Table) -> None:
        """Merges them into the gold table: idempotent."""
        stored = delta.read(differences.sparkSession, table).columns  # Delta stores no column of NullType
        values = {f"`{name}`": f"source.`{name}`" for name in differences.columns if name in stored}
        merge = delta.merge_builder(differences, table, self.gold.key)
        merge = merge.whenMatchedDelete(f"source.{_IS_REMOVED}").whenMatchedUpdate(set=values)
        merge.whenNotMatchedInsert(f"NOT source.{_IS_REMOVED}", values).execute()

    def _rows(self, *, is_with_added: bool) -> DataFrame:
        def chosen(rows: DataFrame, declared: Silver | Reference) -> DataFrame:
            if isinstance(declared, Reference):
                return rows
            around = rows.where(self._is_around(declared.event_time))
            found = around if is_with_added else around.where(~_is_added(self.backfilled_at_us))
            return found.drop(BACKFILLED_AT)

        return gold_layer.transform(list(map(chosen, self.inputs, self.gold.inputs)), self.gold, self.output_mode)

    def _is_around(self, event_time: str) -> Column:
        """Twice the reach: a row that an added event changes is made of events as far from it on its other side."""
        assert self.gold.reach is not None
        margin_us, time = 2 * self.gold.reach // timedelta(microseconds=1), F.col(event_time)
        around = joined([(start - margin_us, end + margin_us) for start, end in self.changed])
        return reduce(or_, ((time >= _moment(start)) & (time < _moment(end)) for start, end in around))


def joined(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, joined where they touch, and where there are too many also over the smallest gaps."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    largest_gaps = sorted(range(1, len(merged)), key=lambda number: merged[number - 1][1] - merged[number][0])
    bounds = [0, *sorted(largest_gaps[: _MAX_SPANS - 1]), len(merged)]
    return [(merged[first][0], merged[after - 1][1]) for first, after in pairwise(bounds) if first < after]


def _is_added(backfilled_at_us: int) -> Column:
    return F.unix_micros(BACKFILLED_AT).eqNullSafe(F.lit(backfilled_at_us))


def _moment(microseconds: int) -> Column:
    return F.timestamp_micros(F.lit(microseconds))


def _quoted(name: str) -> Column:
    return F.col(f"`{name}`")


def _is_equal(column: T.StructField, after: Column, before: Column) -> Column:
    """Sums of floating point numbers depend on the order of the rows; maps can be compared as text only."""
    if isinstance(column.dataType, T.FloatType | T.DoubleType):
        is_close = F.abs(after - before) <= _RELATIVE * F.greatest(F.abs(after), F.abs(before))
        return after.eqNullSafe(before) | F.coalesce(is_close, F.lit(False))
    if isinstance(column.dataType, T.ArrayType | T.MapType | T.StructType):
        return F.to_json(after, TEXT_FORMATS).eqNullSafe(F.to_json(before, TEXT_FORMATS))
    return after.eqNullSafe(before)
