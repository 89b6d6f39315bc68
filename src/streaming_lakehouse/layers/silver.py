"""Silver: typed, valid events, one row an event; everything else goes to quarantine with the reason."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession, Window, functions as F, types as T
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.expectations import Expectation, all_hold, no_failures, violated
from streaming_lakehouse.parsing import with_diagnosis, with_event
from streaming_lakehouse.pipeline import Silver
from streaming_lakehouse.settings import Table
from streaming_lakehouse.sinks import delta
from streaming_lakehouse.sources.envelope import BRONZE, PLACE, PROVENANCE, QUARANTINE

LATE = "is_on_time"
REPEATED = "is_first_delivery"
_BROADCAST_ROWS = 500_000  # a place takes about 100 bytes; a file delivered twice may repeat millions

log = logging.getLogger(__name__)


def start(records: DataFrame, silver: Silver, tables: Tables, query: delta.Query) -> StreamingQuery:
    """Divides bronze's stream between silver and quarantine."""
    return delta.for_each_batch(records, SilverBatches(silver, tables, query.checkpoint), query)


def schema(silver: Silver) -> T.StructType:
    """Silver's columns: the event's, `_rescued_data`, and where the row came from."""
    rescued = T.StructField("_rescued_data", T.StringType())
    return T.StructType([*silver.schema.fields, rescued, *(BRONZE[name] for name in PROVENANCE)])


def read(records: DataFrame, silver: Silver) -> DataFrame:
    """Bronze records with the event's fields and `is_sound`: true where nothing is wrong with the record itself."""
    events = with_event(records, silver.schema)
    is_sound = F.col("is_plain") & all_hold(_dropping(silver))
    return events.withColumn("is_sound", is_sound).drop("is_plain")


def diagnosed(doubtful: DataFrame, silver: Silver) -> DataFrame:
    """The reasons against events that `read` did not find sound, in `failed_expectations`; empty for a valid one.

    A record that could not be read has no fields to judge: only why it could not be read is said.
    Adds: `_rescued_data` string, `failed_expectations` array<string>.
    """
    reasons = F.when(F.size("parse_failures") > 0, F.col("parse_failures")).otherwise(violated(_dropping(silver)))
    read_closely = with_diagnosis(doubtful, silver.schema)
    return read_closely.withColumn("failed_expectations", reasons).drop("parse_failures", "is_sound")


def joined(events: DataFrame, doubtful: DataFrame) -> DataFrame:
    """The sound ones of `events`, which need no diagnosis, and the doubtful ones with theirs."""
    sound = events.where("is_sound").drop("is_sound").withColumn("_rescued_data", F.lit(None).cast("string"))
    return sound.withColumn("failed_expectations", no_failures()).unionByName(doubtful)


def judged(records: DataFrame, silver: Silver) -> DataFrame:
    """Bronze records with the event's fields, `_rescued_data` and `failed_expectations`: what silver thinks of each."""
    events = read(records, silver)
    return joined(events, diagnosed(events.where(~F.col("is_sound")), silver))


def _dropping(silver: Silver) -> list[Expectation]:
    return [expectation for expectation in silver.expectations if expectation.on_violation == "drop"]


@dataclass(frozen=True)
class Tables:
    silver: Table
    quarantine: Table


@dataclass
class SilverBatches:
    """Writes one micro-batch of bronze after the other: `foreachBatch` calls it.

    A batch is two commits, quarantine first, then silver; each is made once, however often the batch is repeated.
    Every decision follows from the batch and from what silver held before it, so that a repeat decides the same.
    """

    silver: Silver
    tables: Tables
    checkpoint: str
    newest: datetime | None = None  # the newest event time in silver
    transaction_id: str = ""
    is_caught_up: bool = False  # `newest` is known, and a batch that may be a repeat is behind us

    def __call__(self, records: DataFrame, batch_id: int) -> None:
        spark = records.sparkSession
        with (
            kept(read(records, self.silver)) as events,
            kept(diagnosed(events.where(~F.col("is_sound")), self.silver)) as doubtful,
        ):
            rows = joined(events, doubtful)
            is_first = not self.is_caught_up
            if is_first:
                self._catch_up(spark)
            summary = self._summary(rows)
            if is_first and summary.valid and self._is_committed(rows, summary):
                return
            with kept(self._repeats(spark, rows.where(_is_valid() & ~self._is_late()))) as repeats:
                repeated = repeats.count()
                decided = self._decided(rows, repeats, repeated)
                accepted = summary.valid - summary.late - repeated
                self._write(decided, batch_id, accepted=accepted, rejected=summary.rows - accepted)

    def _summary(self, rows: DataFrame) -> Row:
        is_valid = F.size("failed_expectations") == 0
        counts = {e.name: F.count_if(is_valid & e.is_violated) for e in self._watched}
        summary = rows.agg(
            F.count("*").alias("rows"),
            F.count_if(is_valid).alias("valid"),
            F.count_if(is_valid & self._is_late()).alias("late"),
            F.min("ingested_at").alias("ingested_from"),
            F.max("ingested_at").alias("ingested_to"),
            *(count.alias(name) for name, count in counts.items()),
        ).collect()[0]
        for expectation in self._watched:
            _tell(expectation, summary[expectation.name], self.tables.silver)
        return summary

    @property
    def _watched(self) -> list[Expectation]:
        return [expectation for expectation in self.silver.expectations if expectation.on_violation != "drop"]

    def _catch_up(self, spark: SparkSession) -> None:
        if delta.exists(spark, self.tables.silver):
            self.newest = _newest(delta.read(spark, self.tables.silver), self.silver)
        self.transaction_id = checkpoint_id(spark, self.checkpoint)
        self.is_caught_up = True

    def _is_committed(self, rows: DataFrame, summary: Row) -> bool:
        """True where this batch is in silver already: a run died after the commit and before the checkpoint knew.

        The batch must then not be judged again, since all of its events would be repeats of themselves.
        """
        if self.newest is None:
            return False
        of_then = F.col("ingested_at").between(F.lit(summary.ingested_from), F.lit(summary.ingested_to))
        written = delta.read(rows.sparkSession, self.tables.silver).where(of_then).select(*PLACE)
        return not written.join(rows.select(*PLACE), list(PLACE), "left_semi").isEmpty()

    def _decided(self, rows: DataFrame, repeats: DataFrame, repeated: int) -> DataFrame:
        """The rows with all reasons against them in `failed_expectations`."""
        failed = F.when(F.size("failed_expectations") > 0, F.col("failed_expectations")).when(
            self._is_late(), F.array(F.lit(LATE))
        )
        if repeated:
            rows = rows.join(F.broadcast(repeats) if repeated < _BROADCAST_ROWS else repeats, list(PLACE), "left")
            failed = failed.when(F.col("is_repeat"), F.array(F.lit(REPEATED)))
        return rows.withColumn("failed_expectations", failed.otherwise(no_failures()))

    def _write(self, rows: DataFrame, batch_id: int, *, accepted: int, rejected: int) -> None:
        if rejected:
            refused = rows.where(~_is_valid()).select(*QUARANTINE.names)
            delta.append_batch(refused, self.tables.quarantine, transaction_id=self.transaction_id, batch_id=batch_id)
        if accepted:
            # Told by the write itself, which costs no further pass over the rows.
            seen = Observation()
            events = rows.where(_is_valid()).select(*schema(self.silver).names)
            observed = events.observe(seen, F.max(self.silver.event_time).alias("newest"))
            delta.append_batch(observed, self.tables.silver, transaction_id=self.transaction_id, batch_id=batch_id)
            self.newest = max(filter(None, [self.newest, seen.get["newest"]]))

    def _is_late(self) -> Column:
        """More than the watermark's delay behind the newest event of the batches before."""
        if self.newest is None:
            return F.lit(False)
        return F.col(self.silver.event_time) < F.lit(self._watermark)

    @property
    def _watermark(self) -> datetime:
        assert self.newest is not None
        return self.newest - timedelta(hours=self.silver.watermark_hours)

    def _repeats(self, spark: SparkSession, events: DataFrame) -> DataFrame:
        """The places of the events that are in silver, or come a second time in this batch; `is_repeat` is true."""
        key, places = self.silver.key, ["is_repeat", *PLACE]
        # Most events come once. Hashes tell which may not have: only those are ordered.
        may_repeat = events.groupBy(F.xxhash64(key).alias("hash")).count().where("count > 1").select("hash")
        order = Window.partitionBy(key).orderBy(*PLACE)
        repeats = (
            events.select(key, *PLACE, F.xxhash64(key).alias("hash"))
            .join(may_repeat, "hash", "left_semi")
            .withColumn("is_repeat", F.row_number().over(order) > 1)
            .where("is_repeat")
            .select(*places)
        )
        if self.newest is not None:
            known = delta.read(spark, self.tables.silver).where(F.col(self.silver.event_time) >= F.lit(self._watermark))
            again = events.join(known.select(key), key, "left_semi").withColumn("is_repeat", F.lit(True))
            repeats = repeats.union(again.select(*places)).distinct()
        return repeats


def _newest(events: DataFrame, silver: Silver) -> datetime | None:
    newest: datetime | None = events.agg(F.max(silver.event_time)).collect()[0][0]
    return newest


def _is_valid() -> Column:
    return F.size("failed_expectations") == 0


@contextmanager
def kept(rows: DataFrame) -> Iterator[DataFrame]:
    """Keeps rows for several actions where the platform can; serverless cannot, and computes them again."""
    try:
        rows.persist()
    except Exception as error:
        if "NOT_SUPPORTED_WITH_SERVERLESS" not in str(error):
            raise
    try:
        yield rows
    finally:
        rows.unpersist()


def checkpoint_id(spark: SparkSession, checkpoint: str) -> str:
    """The identity Spark gave the checkpoint when it was made: another checkpoint has another."""
    row = spark.read.json(f"{checkpoint}/metadata").first()
    assert row is not None, f"{checkpoint}/metadata is empty"
    return str(row["id"])


def _tell(expectation: Expectation, violations: int, table: Table) -> None:
    if not violations:
        return
    text = f"{table}: {violations} valid rows violate the expectation {expectation.name!r} ({expectation.predicate})"
    if expectation.on_violation == "fail":
        raise LakehouseError(f"{text}; nothing of their batch was written")
    log.warning("%s; they are kept", text)
