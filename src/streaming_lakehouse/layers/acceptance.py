"""Which valid events enter silver: those that are on time, once each. Computed by Spark, for batches of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window, functions as F

from streaming_lakehouse.layers.counts import BatchCounts
from streaming_lakehouse.layers.validation import is_valid
from streaming_lakehouse.pipeline import Silver
from streaming_lakehouse.pipeline.expectations import Expectation, no_failures
from streaming_lakehouse.sinks import delta
from streaming_lakehouse.sources.envelope import ROW_ID

ON_TIME = "is_on_time"
FIRST_DELIVERY = "is_first_delivery"
_MAX_BROADCAST_ROWS = 500_000  # a row id takes about 100 bytes; a file delivered twice may have millions


@dataclass(frozen=True)
class JudgedBatch:
    """The rows of a batch, with all reasons against each in `failed_expectations`.

    `violations` has, by name, the number of valid rows against each expectation that does not quarantine.
    `max_event_time_us` is the newest event time of the accepted rows, where that is known before they are written.
    """

    rows: DataFrame
    counts: BatchCounts
    violations: dict[str, int]
    max_event_time_us: int | None = None


@contextmanager
def judge(
    rows: DataFrame, silver: Silver, monitored: Sequence[Expectation], watermark_us: int | None, known: DataFrame | None
) -> Iterator[JudgedBatch]:
    """Adds to validated rows whether they are late, or duplicates of rows of the batch or of `known` events.

    Before the first event there is no watermark, and no event is known.
    """
    violations = [F.count_if(is_valid() & each.is_violated).alias(each.name) for each in monitored]
    is_late = _is_late(silver, watermark_us)
    total, valid, late, *violated = rows.agg(
        F.count(F.lit(1)), F.count_if(is_valid()), F.count_if(is_valid() & is_late), *violations
    ).collect()[0]
    with delta.persisted(_duplicates(rows.where(is_valid() & ~is_late), silver, known)) as duplicates:
        duplicate_count = duplicates.count()
        counts = BatchCounts(valid - late - duplicate_count, total - valid, duplicate_count, late)
        violations_by_name = {each.name: count for each, count in zip(monitored, violated, strict=True)}
        yield JudgedBatch(_with_reasons(rows, is_late, duplicates, duplicate_count), counts, violations_by_name)


def _is_late(silver: Silver, watermark_us: int | None) -> Column:
    if watermark_us is None:
        return F.lit(False)
    return F.col(silver.event_time) < F.timestamp_micros(F.lit(watermark_us))


def _with_reasons(rows: DataFrame, is_late: Column, duplicates: DataFrame, duplicate_count: int) -> DataFrame:
    failed = F.when(~is_valid(), F.col("failed_expectations")).when(is_late, F.array(F.lit(ON_TIME)))
    if duplicate_count:
        small = duplicate_count < _MAX_BROADCAST_ROWS
        rows = rows.join(F.broadcast(duplicates) if small else duplicates, list(ROW_ID), "left")
        failed = failed.when(F.col("is_duplicate"), F.array(F.lit(FIRST_DELIVERY)))
    return rows.withColumn("failed_expectations", failed.otherwise(no_failures()))


def _duplicates(events: DataFrame, silver: Silver, known: DataFrame | None) -> DataFrame:
    """The ids of rows whose event is known, or occurs earlier in this batch, with `is_duplicate` true."""
    key = list(silver.dedup_key)
    record_ids = [F.lit(True).alias("is_duplicate"), *(F.col(name) for name in ROW_ID)]
    events = events.select(*key, *ROW_ID)
    # The hash adds nothing but speed: numbers are sorted faster than strings.
    order = Window.partitionBy(F.xxhash64(*key), *key).orderBy(*ROW_ID)
    numbered = events.withColumn("delivery_number", F.row_number().over(order))
    duplicates = numbered.where("delivery_number > 1").select(*record_ids)
    if known is not None:
        of_known_events = events.join(known.select(*key), key, "left_semi").select(*record_ids)
        duplicates = duplicates.union(of_known_events).distinct()
    return duplicates
