"""Silver: typed, valid events, one row an event; everything else goes to quarantine with the reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from pyspark.sql import DataFrame, Observation, SparkSession, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.errors import LakehouseError, counted
from streaming_lakehouse.layers import acceptance, recent_keys, small_batch
from streaming_lakehouse.layers.acceptance import JudgedBatch
from streaming_lakehouse.layers.counts import BatchCounts
from streaming_lakehouse.layers.recent_keys import MAX_KEYS, Keys, RecentKeys
from streaming_lakehouse.layers.validation import BACKFILLED_AT, is_valid, schema, validate
from streaming_lakehouse.pipeline import Silver
from streaming_lakehouse.pipeline.expectations import Expectation
from streaming_lakehouse.sinks import QueryConfig, delta
from streaming_lakehouse.sources.envelope import QUARANTINE, RECORD_ID

_MICROSECOND = timedelta(microseconds=1)

log = logging.getLogger(__name__)


OnBatch = Callable[[int, BatchCounts], None]


def start(  # noqa: PLR0913 - what the runner knows, and a callback
    records: DataFrame,
    silver: Silver,
    routes: tuple[Silver, ...],
    tables: SilverTables,
    query: QueryConfig,
    on_batch: OnBatch | None = None,
) -> StreamingQuery:
    """Writes bronze's stream to silver and quarantine. `routes` are all silver tables of the bronze table.

    `on_batch` is called with the number and the counts of each batch that was written.
    """
    # Validated as a stream: this plan takes half a second to build, so it is built once and not in every batch.
    judged = validate(records, silver, routes)
    checkpoint = str(query.checkpoint)
    write = SilverWriter(silver, tables, checkpoint, metadata.uncommitted_batch(checkpoint), on_batch=on_batch)
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
    # The keys of silver's rows since the watermark; None where they are not in memory.
    recent: RecentKeys | None = None
    # Where they were too many: the latest event time then. Once the watermark has passed it, all of them are old.
    too_many_until_us: int | None = None
    on_batch: OnBatch | None = None

    def __call__(self, judged: DataFrame, batch_id: int) -> None:
        if not self.is_loaded:
            self._load_progress(judged.sparkSession)
        with delta.persisted(judged) as rows:
            if batch_id == self.replayed_batch:
                self._resume_batch(rows, batch_id)
                self.recent = None  # what silver has of the batch is not certain to be what was judged
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
            self._batches.record(self.tables.quarantine)
            self._route(rows.join(rejected, list(RECORD_ID), "left_anti"), batch_id, is_remainder=True)

    def _route(self, rows: DataFrame, batch_id: int, *, is_remainder: bool = False) -> None:
        with self._judged(rows) as batch:
            for expectation in self._monitored:
                report_violations(expectation, batch.violations[expectation.name], self.tables.silver)
            self._write_quarantine(batch, batch_id, is_remainder=is_remainder)
            self._write_silver(batch, batch_id)
        if self.on_batch:
            self.on_batch(batch_id, batch.counts)

    @contextmanager
    def _judged(self, rows: DataFrame) -> Iterator[JudgedBatch]:
        """Decides about a small batch here, about a large one in Spark: it would not fit, nor would its keys."""
        small = None if self._has_too_many_keys else small_batch.fetch(rows, self.silver, self._monitored)
        recent = self._recent_keys(rows.sparkSession) if small else None
        if small and recent is not None:
            batch, keys = small.judge(rows, self._watermark_us, recent)
            yield batch
            self._remember(keys)
            return
        self.recent = None  # the rows of this batch would be missing
        known = self._known(rows.sparkSession)
        with acceptance.judge(rows, self.silver, self._monitored, self._watermark_us, known) as judged:
            yield judged

    def _recent_keys(self, spark: SparkSession) -> RecentKeys | None:
        """The keys that a new event could repeat, from memory or from silver; None if they are too many."""
        if self.recent is None:
            self.recent = recent_keys.load(self._known(spark), self.silver.dedup_key, self.silver.event_time)
            self.too_many_until_us = self.max_event_time_us if self.recent is None else None
        return self.recent

    @property
    def _has_too_many_keys(self) -> bool:
        if self.too_many_until_us is None or self._watermark_us is None:
            return False
        return self._watermark_us <= self.too_many_until_us

    def _remember(self, keys: Keys) -> None:
        assert self.recent is not None
        since = self._watermark_us or 0
        self.recent.add(keys, since_us=since)
        if self.recent.size > MAX_KEYS:
            self.recent.forget_before(since)
            if self.recent.size > MAX_KEYS:  # the next batch drops them
                self.too_many_until_us = self.max_event_time_us

    def _known(self, spark: SparkSession) -> DataFrame | None:
        """Silver's events since the watermark: what is older is late, not a duplicate."""
        if self._watermark_us is None:
            return None
        since = F.timestamp_micros(F.lit(self._watermark_us))
        return delta.read(spark, self.tables.silver).where(F.col(self.silver.event_time) >= since)

    @property
    def _watermark_us(self) -> int | None:
        """A row is late when it is more than the watermark's delay behind the newest event of the batches before."""
        if self.max_event_time_us is None:
            return None
        return self.max_event_time_us - self.silver.watermark // _MICROSECOND

    @cached_property
    def _monitored(self) -> tuple[Expectation, ...]:
        return tuple(each for each in self.silver.all_expectations if each.on_violation != "quarantine")

    def _load_progress(self, spark: SparkSession) -> None:
        """From the checkpoint: silver is read, by a Spark job, only where its last batch may not be recorded there.

        The recorded time also counts where it is later: events deleted from silver since do not move the watermark
        back, which gold's does not do either.
        """
        recorded = metadata.max_event_time(self.checkpoint)
        is_current = recorded is not None and self.replayed_batch is None
        stored = None if is_current else self._max_event_time_in_silver(spark)
        self.max_event_time_us = max((time for time in (recorded, stored) if time is not None), default=None)
        self.is_loaded = True

    def _max_event_time_in_silver(self, spark: SparkSession) -> int | None:
        if not delta.exists(spark, self.tables.silver):
            return None
        events = delta.read(spark, self.tables.silver)
        latest: int | None = events.agg(F.unix_micros(F.max(self.silver.event_time))).collect()[0][0]
        return latest

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

    def _write_quarantine(self, batch: JudgedBatch, batch_id: int, *, is_remainder: bool) -> None:
        """A table that gets no row is created, where it is missing: after its first batch a step has both."""
        table = self.tables.quarantine
        if not batch.counts.rejected:
            delta.create_if_missing(batch.rows.sparkSession, table, QUARANTINE)
            return
        rows = batch.rows.where(~is_valid()).select(*QUARANTINE.names)
        if is_remainder:  # the table has other rows of the batch: these must not be skipped because of them
            delta.write_batch(rows, table, None)
        else:
            self._batches.write(rows, table, batch_id)

    def _write_silver(self, batch: JudgedBatch, batch_id: int) -> None:
        spark, table = batch.rows.sparkSession, self.tables.silver
        if not batch.counts.valid:
            delta.create_if_missing(spark, table, schema(self.silver))
            return
        latest = self._append(self._events(batch.rows), batch, batch_id)
        times = [time for time in (self.max_event_time_us, latest) if time is not None]
        self.max_event_time_us = max(times, default=None)
        if self.max_event_time_us is not None:
            metadata.record_max_event_time(self.checkpoint, self.max_event_time_us)

    def _append(self, events: DataFrame, batch: JudgedBatch, batch_id: int) -> int | None:
        """Appends the events; gives silver's latest event time, or only that of the events."""
        table = self.tables.silver
        if batch_id == self.replayed_batch and delta.exists(events.sparkSession, table):
            # An append that was committed before, and whose rows were deleted since, is skipped: its times are not new.
            self._batches.write(events, table, batch_id)
            return self._max_event_time_in_silver(events.sparkSession)
        if batch.max_event_time_us is not None:
            self._batches.write(events, table, batch_id)
            return batch.max_event_time_us
        seen = Observation()  # by the write itself, which costs no further pass over the rows
        latest = F.unix_micros(F.max(self.silver.event_time)).alias("max_event_time_us")
        self._batches.write(events.observe(seen, latest), table, batch_id)
        observed: int | None = seen.get["max_event_time_us"]
        return observed

    def _events(self, rows: DataFrame) -> DataFrame:
        return accepted_rows(rows.where(is_valid()), self.silver)


def accepted_rows(valid: DataFrame, silver: Silver, backfilled_at_us: int | None = None) -> DataFrame:
    """Silver's rows of valid records; with the time of the backfill that adds them, in microseconds since 1970."""
    transformed = silver.transform(valid) if silver.transform else valid
    backfilled_at = F.timestamp_micros(F.lit(backfilled_at_us).cast("bigint"))
    return transformed.withColumn(BACKFILLED_AT, backfilled_at).select(*schema(silver).names)


def report_violations(expectation: Expectation, violations: int, table: Table) -> None:
    if not violations:
        return
    predicate = " ".join(expectation.predicate.split())  # one line of log, however it is written in the domain
    violating = counted(violations, "valid row violates", "valid rows violate")
    text = f"{table}: {violating} the expectation {expectation.name!r} ({predicate})"
    if expectation.on_violation == "fail":
        raise LakehouseError(f"{text}; nothing of their batch was written")
    log.warning("%s; they are not quarantined for it", text)
