"""Silver: typed, valid events, one row an event; everything else goes to quarantine with the reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession, Window, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers.validation import is_valid, schema, validate
from streaming_lakehouse.pipeline import Silver
from streaming_lakehouse.pipeline.expectations import Expectation, no_failures
from streaming_lakehouse.sinks import QueryConfig, delta
from streaming_lakehouse.sources.envelope import QUARANTINE, RECORD_ID

ON_TIME = "is_on_time"
FIRST_DELIVERY = "is_first_delivery"
_MAX_BROADCAST_ROWS = 500_000  # a record id takes about 100 bytes; a file delivered twice may have millions
_MICROSECOND = timedelta(microseconds=1)

log = logging.getLogger(__name__)


def start(
    records: DataFrame, silver: Silver, routes: tuple[Silver, ...], tables: SilverTables, query: QueryConfig
) -> StreamingQuery:
    """Writes bronze's stream to silver and quarantine. `routes` are all silver tables of the bronze table."""
    # Validated as a stream: this plan takes half a second to build, so it is built once and not in every batch.
    judged = validate(records, silver, routes)
    checkpoint = str(query.checkpoint)
    write = SilverWriter(silver, tables, checkpoint, metadata.uncommitted_batch(checkpoint))
    return delta.for_each_batch(judged, write, query)


@dataclass(frozen=True)
class SilverTables:
    silver: Table
    quarantine: Table


@dataclass
class SilverWriter:
    """Writes one micro-batch of validated records after the other: `foreachBatch` calls it.

    A batch is two commits, quarantine first, then silver; each is written once, however often the batch is replayed.
    Every decision follows from the batch, the expectations, and what silver held before it: a replayed batch decides
    the same. Where other expectations were deployed before the replay, what quarantine already holds of the batch
    stays there, and the new ones judge the rest.

    `replayed_batch` is the batch that Spark runs again, since a run that died has started it; None if there is none.
    """

    silver: Silver
    tables: SilverTables
    checkpoint: str
    replayed_batch: int | None
    # The latest event time in silver, in microseconds since 1970: Python's datetimes without a zone are in the
    # machine's, where an hour is not always an hour when its clocks are changed for the summer.
    max_event_time_us: int | None = None
    is_loaded: bool = False

    def __call__(self, judged: DataFrame, batch_id: int) -> None:
        if not self.is_loaded:
            self._load_progress(judged.sparkSession)
        with delta.persisted(judged) as rows:
            if batch_id == self.replayed_batch:
                self._resume_batch(rows, batch_id)
            else:
                self._route(rows, batch_id)

    def _resume_batch(self, rows: DataFrame, batch_id: int) -> None:
        """If silver already holds the replayed batch, skip it: every event would look like a duplicate of itself.

        If only quarantine holds some of it, validate the rest.
        """
        if self.max_event_time_us is not None and self._already_written(rows, self.tables.silver) is not None:
            return
        rejected = self._already_written(rows, self.tables.quarantine)
        if rejected is None:
            self._route(rows, batch_id)
        else:
            self._batches.record(self.tables.quarantine, batch_id)
            self._route(rows.join(rejected, list(RECORD_ID), "left_anti"), batch_id, is_remainder=True)

    def _route(self, rows: DataFrame, batch_id: int, *, is_remainder: bool = False) -> None:
        counts = self._count_rows(rows)
        with delta.persisted(self._duplicates(rows)) as duplicates:
            duplicate_count = duplicates.count()
            accepted = counts.on_time - duplicate_count
            judged = self._with_rejection_reasons(rows, duplicates, duplicate_count)
            self._write(judged, batch_id, accepted=accepted, rejected=counts.rows - accepted, is_remainder=is_remainder)

    def _count_rows(self, rows: DataFrame) -> Row:
        """`rows` in the batch and those `on_time`; violations of `expect` and `expect_or_fail` are reported here."""
        violations = [
            F.count_if(is_valid() & each.is_violated).alias(each.name) for each in self._monitored_expectations
        ]
        counts = rows.agg(
            F.count(F.lit(1)).alias("rows"), F.count_if(self._is_acceptable()).alias("on_time"), *violations
        ).collect()[0]
        for expectation in self._monitored_expectations:
            _report_violations(expectation, counts[expectation.name], self.tables.silver)
        return counts

    @property
    def _monitored_expectations(self) -> list[Expectation]:
        return [each for each in self.silver.all_expectations if each.on_violation != "quarantine"]

    def _load_progress(self, spark: SparkSession) -> None:
        if delta.exists(spark, self.tables.silver):
            self.max_event_time_us = _max_event_time(delta.read(spark, self.tables.silver), self.silver)
        self.is_loaded = True

    @cached_property
    def _batches(self) -> delta.BatchWriter:
        return delta.BatchWriter(self.checkpoint, self.replayed_batch)

    def _already_written(self, rows: DataFrame, table: Table) -> DataFrame | None:
        """The ids of the batch's records that `table` already holds; None where there are none."""
        if not delta.exists(rows.sparkSession, table):
            return None
        ends = rows.agg(F.unix_micros(F.min("ingested_at")), F.unix_micros(F.max("ingested_at"))).collect()[0]
        in_batch = F.col("ingested_at").between(*(F.timestamp_micros(F.lit(end)) for end in ends))
        written = delta.read(rows.sparkSession, table).where(in_batch).select(*RECORD_ID)
        record_ids = written.join(rows.select(*RECORD_ID), list(RECORD_ID), "left_semi")
        return None if record_ids.isEmpty() else record_ids

    def _with_rejection_reasons(self, rows: DataFrame, duplicates: DataFrame, duplicate_count: int) -> DataFrame:
        """The rows with all reasons against them in `failed_expectations`."""
        failed = F.when(~is_valid(), F.col("failed_expectations")).when(self._is_late(), F.array(F.lit(ON_TIME)))
        if duplicate_count:
            small = duplicate_count < _MAX_BROADCAST_ROWS
            rows = rows.join(F.broadcast(duplicates) if small else duplicates, list(RECORD_ID), "left")
            failed = failed.when(F.col("is_duplicate"), F.array(F.lit(FIRST_DELIVERY)))
        return rows.withColumn("failed_expectations", failed.otherwise(no_failures()))

    def _write(self, rows: DataFrame, batch_id: int, *, accepted: int, rejected: int, is_remainder: bool) -> None:
        """A table that gets no row is created, where it is missing: after its first batch a step has both."""
        spark, tables = rows.sparkSession, self.tables
        if rejected:
            quarantined = rows.where(~is_valid()).select(*QUARANTINE.names)
            self._append_once(batch_id, quarantined, tables.quarantine, is_remainder=is_remainder)
        else:
            delta.create_if_missing(spark, tables.quarantine, QUARANTINE)
        if accepted:
            self._append_events(self._events(rows), batch_id)
        else:
            delta.create_if_missing(spark, tables.silver, schema(self.silver))

    def _events(self, rows: DataFrame) -> DataFrame:
        valid = rows.where(is_valid())
        return (self.silver.transform(valid) if self.silver.transform else valid).select(*schema(self.silver).names)

    def _append_events(self, events: DataFrame, batch_id: int) -> None:
        if batch_id == self.replayed_batch and delta.exists(events.sparkSession, self.tables.silver):
            # An append that was committed before, and whose rows were deleted since, is skipped: nothing is observed.
            self._append_once(batch_id, events, self.tables.silver)
            self.max_event_time_us = _max_event_time(delta.read(events.sparkSession, self.tables.silver), self.silver)
            return
        seen = Observation()  # by the write itself, which costs no further pass over the rows
        latest = F.unix_micros(F.max(self.silver.event_time)).alias("max_event_time_us")
        self._append_once(batch_id, events.observe(seen, latest), self.tables.silver)
        times = (self.max_event_time_us, seen.get["max_event_time_us"])
        self.max_event_time_us = max(time for time in times if time is not None)

    def _append_once(self, batch_id: int, rows: DataFrame, table: Table, *, is_remainder: bool = False) -> None:
        """Appends and records it: from the batch's number alone nobody could see later whether `table` got rows.

        `is_remainder` where the table already holds others of the batch: these must not be skipped because of them.
        """
        if is_remainder:
            delta.write_batch(rows, table, None)
        else:
            self._batches.write(rows, table, batch_id)

    def _is_acceptable(self) -> Column:
        """True for what enters silver, unless it is a duplicate."""
        return is_valid() & ~self._is_late()

    def _is_late(self) -> Column:
        """True for what is more than the watermark's delay behind the latest event of the batches before."""
        if self.max_event_time_us is None:
            return F.lit(False)
        return F.col(self.silver.event_time) < self._watermark

    @property
    def _watermark(self) -> Column:
        assert self.max_event_time_us is not None
        return F.timestamp_micros(F.lit(self.max_event_time_us - self.silver.watermark // _MICROSECOND))

    def _duplicates(self, rows: DataFrame) -> DataFrame:
        """The ids of records whose event is in silver, or occurs earlier in this batch, with `is_duplicate` true."""
        key = list(self.silver.dedup_key)
        record_ids = [F.lit(True).alias("is_duplicate"), *(F.col(name) for name in RECORD_ID)]
        events = rows.where(self._is_acceptable()).select(*key, *RECORD_ID)
        # The hash adds nothing but speed: numbers are sorted faster than strings.
        order = Window.partitionBy(F.xxhash64(*key), *key).orderBy(*RECORD_ID)
        numbered = events.withColumn("delivery_number", F.row_number().over(order))
        duplicates = numbered.where("delivery_number > 1").select(*record_ids)
        if self.max_event_time_us is not None:
            silver = delta.read(rows.sparkSession, self.tables.silver)
            known = silver.where(F.col(self.silver.event_time) >= self._watermark).select(*key)
            again = events.join(known, key, "left_semi").select(*record_ids)
            duplicates = duplicates.union(again).distinct()
        return duplicates


def _max_event_time(events: DataFrame, silver: Silver) -> int | None:
    latest: int | None = events.agg(F.unix_micros(F.max(silver.event_time))).collect()[0][0]
    return latest


def _report_violations(expectation: Expectation, violations: int, table: Table) -> None:
    if not violations:
        return
    text = f"{table}: {violations} valid rows violate the expectation {expectation.name!r} ({expectation.predicate})"
    if expectation.on_violation == "fail":
        raise LakehouseError(f"{text}; nothing of their batch was written")
    log.warning("%s; they stay in silver", text)
