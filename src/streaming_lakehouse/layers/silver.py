"""Silver: typed, valid events, one row an event; everything else goes to quarantine with the reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession, Window, functions as F, types as T
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse import checkpoints
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.expectations import Expectation, all_hold, no_failures, violated
from streaming_lakehouse.parsing import PARSING_COLUMNS, with_diagnosis, with_event
from streaming_lakehouse.pipeline import Silver
from streaming_lakehouse.settings import Table
from streaming_lakehouse.sinks import Query, delta
from streaming_lakehouse.sources.envelope import BRONZE, PLACE, PROVENANCE, QUARANTINE

LATE = "is_on_time"
REPEATED = "is_first_delivery"
_OWN_COLUMNS = {*BRONZE.names, *PARSING_COLUMNS, "is_sound", "failed_expectations", "is_repeat", "delivery"}
_BROADCAST_ROWS = 500_000  # a place takes about 100 bytes; a file delivered twice may repeat millions

log = logging.getLogger(__name__)


def start(records: DataFrame, silver: Silver, tables: Tables, query: Query) -> StreamingQuery:
    """Divides bronze's stream between silver and quarantine."""
    # Judged as a stream: to build this plan takes half a second, and so it is built once and not in every batch.
    return delta.for_each_batch(read(records, silver), SilverBatches(silver, tables, str(query.checkpoint)), query)


def schema(silver: Silver) -> T.StructType:
    """Silver's columns: the event's, `_rescued_data`, and where the row came from."""
    rescued = T.StructField("_rescued_data", T.StringType())
    return T.StructType([*silver.schema.fields, rescued, *(BRONZE[name] for name in PROVENANCE)])


def check(silver: Silver) -> None:
    """Raises LakehouseError where a field of the event would take the place of a column that tells about its record."""
    for name in silver.schema.names:
        if name.lower() in _OWN_COLUMNS:  # Spark's names have no case
            raise LakehouseError(
                f"{silver.table}: no field of the event can be called {name!r}; the pipeline's own columns are "
                f"{', '.join(sorted(_OWN_COLUMNS))}"
            )


def read(records: DataFrame, silver: Silver) -> DataFrame:
    """Bronze records with the event's fields and the reasons against each, in `failed_expectations`.

    A record that could not be read has no fields to judge: only why it could not be read is said.
    Adds: the event's fields; `_rescued_data` string; `failed_expectations` array<string>, empty for a valid event.
    """
    rules = [rule for rule in silver.rules if rule.on_violation == "drop"]
    events = with_event(records, silver.schema).withColumn("is_sound", F.col("is_plain") & all_hold(rules))
    # Most events are sound, which is quickly told: only for the others reasons are looked for.
    reasons = F.coalesce("parse_failures", violated(rules))
    failed = F.when(F.col("is_sound"), no_failures()).otherwise(reasons)
    judged = with_diagnosis(events, silver.schema).withColumn("failed_expectations", failed)
    return judged.drop("is_plain", "is_sound", "parse_failures")


@dataclass(frozen=True)
class Tables:
    silver: Table
    quarantine: Table


@dataclass
class SilverBatches:
    """Writes one micro-batch of what `read` gives after the other: `foreachBatch` calls it.

    A batch is two commits, quarantine first, then silver; each is made once, however often the batch is repeated.
    Every decision follows from the batch, the rules, and what silver held before it: a repeat decides the same. Where
    other rules were deployed before the repeat, what is in quarantine already stays there, and they judge the rest.
    """

    silver: Silver
    tables: Tables
    checkpoint: str
    # The newest event time in silver, in microseconds since 1970: Python's moments without a zone are the machine's,
    # and where its clocks are changed for the summer, an hour of them is not always an hour.
    newest: int | None = None
    transaction_id: str = ""
    is_first: bool = True  # the batch at hand is the first of this process: silver may have it already

    def __call__(self, judged: DataFrame, batch_id: int) -> None:
        with delta.kept(judged) as rows:
            if self.is_first:
                self._go_on(rows, batch_id)
            else:
                self._divide(rows, batch_id)
        self.is_first = False

    def _go_on(self, rows: DataFrame, batch_id: int) -> None:
        """The first batch of a process may be one that a run has begun before, and died in.

        One that is in silver must not be judged again: all of its events would be repeats of themselves.
        """
        self._catch_up(rows.sparkSession)
        if self.newest is not None and self._places(rows, self.tables.silver) is not None:
            return
        rejected = self._places(rows, self.tables.quarantine)
        if rejected is None:
            self._divide(rows, batch_id)
        else:
            self._note_written(self.tables.quarantine, batch_id)
            self._divide(rows.join(rejected, list(PLACE), "left_anti"), batch_id, is_rest=True)

    def _divide(self, rows: DataFrame, batch_id: int, *, is_rest: bool = False) -> None:
        told = self._told_of(rows)
        with delta.kept(self._repeats(rows)) as repeats:
            repeated = repeats.count()
            accepted = told.on_time - repeated
            decided = self._decided(rows, repeats, repeated)
            self._write(decided, batch_id, accepted=accepted, rejected=told.rows - accepted, is_rest=is_rest)

    def _told_of(self, rows: DataFrame) -> Row:
        """`rows` in the batch and those `on_time`; what `expect` watches is told at once."""
        violations = [F.count_if(is_valid() & each.is_violated).alias(each.name) for each in self._watched]
        told = rows.agg(
            F.count(F.lit(1)).alias("rows"), F.count_if(self._may_enter()).alias("on_time"), *violations
        ).collect()[0]
        for expectation in self._watched:
            _tell(expectation, told[expectation.name], self.tables.silver)
        return told

    @property
    def _watched(self) -> list[Expectation]:
        return [rule for rule in self.silver.rules if rule.on_violation != "drop"]

    def _catch_up(self, spark: SparkSession) -> None:
        if delta.exists(spark, self.tables.silver):
            self.newest = _newest(delta.read(spark, self.tables.silver), self.silver)
        self.transaction_id = checkpoints.identity(self.checkpoint)

    def _places(self, rows: DataFrame, table: Table) -> DataFrame | None:
        """Where those of the batch lie that are in `table` already; None where there are none."""
        if not delta.exists(rows.sparkSession, table):
            return None
        ends = rows.agg(F.unix_micros(F.min("ingested_at")), F.unix_micros(F.max("ingested_at"))).collect()[0]
        of_then = F.col("ingested_at").between(*(F.timestamp_micros(F.lit(end)) for end in ends))
        written = delta.read(rows.sparkSession, table).where(of_then).select(*PLACE)
        places = written.join(rows.select(*PLACE), list(PLACE), "left_semi")
        return None if places.isEmpty() else places

    def _decided(self, rows: DataFrame, repeats: DataFrame, repeated: int) -> DataFrame:
        """The rows with all reasons against them in `failed_expectations`."""
        failed = F.when(~is_valid(), F.col("failed_expectations")).when(self._is_late(), F.array(F.lit(LATE)))
        if repeated:
            rows = rows.join(F.broadcast(repeats) if repeated < _BROADCAST_ROWS else repeats, list(PLACE), "left")
            failed = failed.when(F.col("is_repeat"), F.array(F.lit(REPEATED)))
        return rows.withColumn("failed_expectations", failed.otherwise(no_failures()))

    def _write(self, rows: DataFrame, batch_id: int, *, accepted: int, rejected: int, is_rest: bool) -> None:
        """A table that gets no row is made without, where it is missing: after its first batch a step has them all."""
        spark, tables = rows.sparkSession, self.tables
        if rejected:
            self._append(
                batch_id, rows.where(~is_valid()).select(*QUARANTINE.names), tables.quarantine, is_rest=is_rest
            )
        else:
            delta.ensure(spark, tables.quarantine, QUARANTINE)
        if accepted:
            self._append_events(rows.where(is_valid()).select(*schema(self.silver).names), batch_id)
        else:
            delta.ensure(spark, tables.silver, schema(self.silver))

    def _append_events(self, events: DataFrame, batch_id: int) -> None:
        is_sure = self.tables.silver.path and not self.is_first  # of a catalog's table nobody knows what it has
        if not is_sure and delta.exists(events.sparkSession, self.tables.silver):
            # An append that was made before, and whose rows somebody deleted since, is passed over: it would tell none.
            self._append(batch_id, events, self.tables.silver)
            self.newest = _newest(delta.read(events.sparkSession, self.tables.silver), self.silver)
            return
        seen = Observation()  # by the write itself, which costs no further pass over the rows
        newest = F.unix_micros(F.max(self.silver.event_time)).alias("newest")
        self._append(batch_id, events.observe(seen, newest), self.tables.silver)
        self.newest = max(at for at in (self.newest, seen.get["newest"]) if at is not None)

    def _append(self, batch_id: int, rows: DataFrame, table: Table, *, is_rest: bool = False) -> None:
        """Once, and on record: by its number alone nobody could tell later whether the batch had rows for `table`.

        `is_rest` where the table has others of the batch already: Delta must not skip these for them.
        """
        transaction_id = None if is_rest else self.transaction_id
        delta.write_batch(rows, table, mode="append", transaction_id=transaction_id, batch_id=batch_id)
        self._note_written(table, batch_id)

    def _note_written(self, table: Table, batch_id: int) -> None:
        if table.path:  # a catalog's table is not looked at for it
            checkpoints.note_written(self.checkpoint, table.layer, batch_id)

    def _may_enter(self) -> Column:
        """What enters silver, unless it is a repeat."""
        return is_valid() & ~self._is_late()

    def _is_late(self) -> Column:
        """More than the watermark's delay behind the newest event of the batches before."""
        if self.newest is None:
            return F.lit(False)
        return F.col(self.silver.event_time) < self._watermark

    @property
    def _watermark(self) -> Column:
        assert self.newest is not None
        return F.timestamp_micros(F.lit(self.newest - round(self.silver.watermark_hours * 3_600) * 1_000_000))

    def _repeats(self, rows: DataFrame) -> DataFrame:
        """The places of the events that are in silver, or come a second time in this batch; `is_repeat` is true."""
        key = self.silver.key
        places = [F.lit(True).alias("is_repeat"), *(F.col(name) for name in PLACE)]
        events = rows.where(self._may_enter()).select(key, *PLACE)
        # The hash adds nothing but speed: numbers are sorted faster than strings.
        order = Window.partitionBy(F.xxhash64(key), key).orderBy(*PLACE)
        repeats = events.withColumn("delivery", F.row_number().over(order)).where("delivery > 1").select(*places)
        if self.newest is not None:
            silver = delta.read(rows.sparkSession, self.tables.silver)
            known = silver.where(F.col(self.silver.event_time) >= self._watermark).select(key)
            again = events.join(known, key, "left_semi").select(*places)
            repeats = repeats.union(again).distinct()
        return repeats


def _newest(events: DataFrame, silver: Silver) -> int | None:
    newest: int | None = events.agg(F.unix_micros(F.max(silver.event_time))).collect()[0][0]
    return newest


def is_valid() -> Column:
    """True where `read` found nothing against a row."""
    return F.size("failed_expectations") == 0


def _tell(expectation: Expectation, violations: int, table: Table) -> None:
    if not violations:
        return
    text = f"{table}: {violations} valid rows violate the expectation {expectation.name!r} ({expectation.predicate})"
    if expectation.on_violation == "fail":
        raise LakehouseError(f"{text}; nothing of their batch was written")
    log.warning("%s; they are kept", text)
