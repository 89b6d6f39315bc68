"""Silver's decisions, batch by batch, on real Delta tables: late rows, duplicates, and what survives a crash."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession, types as T
from support.weather import WEATHER

from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers import recent_keys, silver as silver_layer, small_batch
from streaming_lakehouse.layers.counts import BatchCounts
from streaming_lakehouse.layers.silver import SilverTables, SilverWriter
from streaming_lakehouse.layers.validation import check_reserved_columns, validate
from streaming_lakehouse.pipeline.expectations import expect, expect_not_ahead, expect_or_fail, expect_or_quarantine
from streaming_lakehouse.sinks import delta
from streaming_lakehouse.sources.envelope import BRONZE

pytestmark = pytest.mark.usefixtures("few_rows")

NOON = datetime(2026, 1, 1, 12)
ARRIVAL = datetime(2026, 1, 2)

# Weather's silver with half of its fields, of which each batch here makes the plan anew.
_FIELDS = T.StructType([WEATHER.silver[0].schema[name] for name in ("event_id", "device", "time", "temperature_c")])
READINGS = replace(WEATHER.silver[0], schema=_FIELDS, expectations=(expect_not_ahead(),))
Reading = tuple[str | None, datetime | None]


class Lake:
    """A silver table and its quarantine, fed batch by batch."""

    def __init__(self, spark: SparkSession, root: Path) -> None:
        self.spark, self.root = spark, root
        storage = Storage(root=root)
        self.tables = SilverTables(storage.table("silver", "readings"), storage.table("quarantine", "readings"))
        self.latest_batch: int | None = None
        self.counts: dict[int, BatchCounts] = {}
        self.new_checkpoint("first")

    def new_checkpoint(self, query_id: str) -> None:
        self.checkpoint = self.root / "checkpoint"
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        (self.checkpoint / "metadata").write_text(json.dumps({"id": query_id}))
        self.latest_batch = None

    def started(self, *, is_after_crash: bool = True, **changes: object) -> Callable[[DataFrame, int], None]:
        """The function by which a new process writes a batch of bronze; after a crash the latest one again."""
        silver = replace(READINGS, **changes)  # type: ignore[arg-type]
        replayed_batch = self.latest_batch if is_after_crash else None
        writer = SilverWriter(silver, self.tables, str(self.checkpoint), replayed_batch)
        writer.on_batch = self.counts.__setitem__
        self.writer = writer

        def write(records: DataFrame, batch_id: int) -> None:
            self.latest_batch = batch_id
            writer(validate(records, silver), batch_id)

        return write

    def batch(self, *readings: Reading, first_offset: int = 0, ingested_at: datetime = ARRIVAL) -> DataFrame:
        rows = [
            (None, record(event_id, time), None, "topic", 0, offset, ARRIVAL, ingested_at)
            for offset, (event_id, time) in enumerate(readings, start=first_offset)
        ]
        return self.spark.createDataFrame(rows, BRONZE)

    def silver(self) -> list[tuple[str, int]]:
        rows = delta.read(self.spark, self.tables.silver).collect()
        return sorted((row["event_id"], row["offset"]) for row in rows)

    def quarantine(self) -> list[tuple[int, list[str]]]:
        if not delta.exists(self.spark, self.tables.quarantine):
            return []
        rows = delta.read(self.spark, self.tables.quarantine).collect()
        return sorted((row["offset"], row["failed_expectations"]) for row in rows)


def record(event_id: str | None, time: datetime | None) -> bytearray:
    text = time and time.isoformat(timespec="microseconds") + "Z"
    return bytearray(json.dumps({"event_id": event_id, "device": "d", "time": text, "temperature_c": 50}).encode())


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(spark, tmp_path)


def test_a_row_is_late_when_it_is_more_than_the_delay_behind_earlier_batches(lake: Lake) -> None:
    """The boundary: at exactly two hours a row is still on time, a microsecond more and it is late."""
    write = lake.started()
    write(lake.batch(("newest", NOON), ("old", NOON - timedelta(days=1))), 0)
    edge = NOON - timedelta(hours=2)
    before, after = edge - timedelta(microseconds=1), edge + timedelta(milliseconds=1)
    write(lake.batch(("at", edge), ("before", before), ("after", after), first_offset=2), 1)
    assert lake.silver() == [("after", 4), ("at", 2), ("newest", 0), ("old", 1)]
    assert lake.quarantine() == [(3, ["is_on_time"])]
    assert lake.counts == {0: BatchCounts(valid=2), 1: BatchCounts(valid=2, late=1)}


def test_of_several_deliveries_the_first_is_used(lake: Lake) -> None:
    """Within a batch the lower offset, across batches the earlier one; also where a duplicate's fields differ."""
    write = lake.started()
    write(lake.batch(("a", NOON), ("b", NOON), ("a", NOON + timedelta(seconds=1))), 0)
    write(lake.batch(("b", NOON + timedelta(minutes=1)), ("c", NOON), ("c", NOON), first_offset=3), 1)
    assert lake.silver() == [("a", 0), ("b", 1), ("c", 4)]
    assert lake.quarantine() == [(2, ["is_first_delivery"]), (3, ["is_first_delivery"]), (5, ["is_first_delivery"])]
    assert lake.counts == {0: BatchCounts(valid=2, duplicates=1), 1: BatchCounts(valid=1, duplicates=2)}


@pytest.mark.parametrize("max_rows", [small_batch.MAX_ROWS_PER_PARTITION, 1])
def test_a_record_that_bronze_has_twice_is_in_silver_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, max_rows: int
) -> None:
    """As from a second source: the same source, partition and offset, ingested at two times; judged in either way."""
    monkeypatch.setattr(small_batch, "MAX_ROWS_PER_PARTITION", max_rows)
    again = lake.batch(("a", NOON), ingested_at=ARRIVAL + timedelta(hours=1))
    lake.started()(lake.batch(("a", NOON)).union(again), 0)
    assert lake.silver() == [("a", 0)]
    assert lake.quarantine() == [(0, ["is_first_delivery"])]


def test_small_and_large_batches_are_judged_alike(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches with duplicates, late and invalid rows: all judged as small, and in turn; and after a restart."""
    lakes = {name: Lake(spark, tmp_path / name) for name in ("small", "in turn")}
    draw = random.Random(11)
    writes = {name: lake.started() for name, lake in lakes.items()}
    for number in range(4):
        readings = [reading(draw, number) for _ in range(40)]
        for name, lake in lakes.items():
            is_large = name == "in turn" and number % 2
            monkeypatch.setattr(small_batch, "MAX_ROWS_PER_PARTITION", 1 if is_large else 10_000)
            if number == 2:
                writes[name] = lake.started(is_after_crash=False)
            writes[name](lake.batch(*readings, first_offset=100 * number), number)
    silver, quarantine = lakes["small"].silver(), lakes["small"].quarantine()
    reasons = {reason for _, failed in quarantine for reason in failed}
    assert reasons == {"event_id_is_present", "is_on_time", "is_first_delivery"}
    assert (lakes["in turn"].silver(), lakes["in turn"].quarantine()) == (silver, quarantine)


def test_after_a_backlog_small_batches_are_judged_in_the_driver_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the keys since the watermark are too many Spark judges, and no duplicate is missed on the way back."""
    for module in (silver_layer, recent_keys):
        monkeypatch.setattr(module, "MAX_KEYS", 3)
    write, has_keys = lake.started(), []
    backlog = [(name, NOON) for name in "abcd"]
    for number, readings in enumerate(
        (
            backlog,
            [("a", NOON), ("e", NOON + timedelta(hours=1))],
            [("f", NOON + timedelta(hours=3))],
            [("f", NOON + timedelta(hours=3)), ("g", NOON + timedelta(hours=3)), ("b", NOON)],
        )
    ):
        write(lake.batch(*readings, first_offset=10 * number), number)
        has_keys.append(lake.writer.recent is not None)
    # After the third batch the watermark is at 13:00, behind which the backlog is.
    assert has_keys == [True, False, False, True]
    assert [name for name, _ in lake.silver()] == [*"abcdefg"]
    assert lake.quarantine() == [(10, ["is_first_delivery"]), (30, ["is_first_delivery"]), (32, ["is_on_time"])]


def reading(draw: random.Random, hour: int) -> Reading:
    """One of a few events, some of them without an id; up to five hours before the batch's, so that some are late."""
    event_id = draw.choice((None, *"abcdefghijklmnopqrst"))
    return event_id and f"{event_id}{hour - draw.randrange(2)}", NOON + timedelta(hours=hour - 5 * draw.random())


def test_a_duplicate_behind_the_watermark_counts_as_late(lake: Lake) -> None:
    """Duplicates are not searched that far back: but the row does not reach silver either."""
    write = lake.started()
    write(lake.batch(("a", NOON - timedelta(hours=3)), ("b", NOON)), 0)
    write(lake.batch(("a", NOON - timedelta(hours=3)), first_offset=2), 1)
    assert lake.quarantine() == [(2, ["is_on_time"])]


def test_a_time_far_ahead_does_not_move_the_watermark(lake: Lake) -> None:
    """A clock that is a century ahead makes no other row late."""
    write = lake.started()
    write(lake.batch(("future", NOON + timedelta(days=36_525)), ("a", NOON)), 0)
    write(lake.batch(("b", NOON - timedelta(hours=1)), first_offset=2), 1)
    assert lake.silver() == [("a", 1), ("b", 2)]
    assert lake.quarantine() == [(0, ["time_is_not_ahead"])]
    assert lake.counts == {0: BatchCounts(valid=1, quarantined=1), 1: BatchCounts(valid=1)}


def test_every_pipeline_refuses_an_event_without_key_or_time_or_from_before_1970(lake: Lake) -> None:
    """Gold's watermark starts in 1970 and would drop such a row, even while silver is empty and nothing is late."""
    write = lake.started(expectations=())
    start = datetime(1970, 1, 1)
    before = start - timedelta(microseconds=1)
    write(lake.batch(("at", start), ("before", before), ("year 1", datetime(1, 1, 1)), (None, NOON), ("a", None)), 0)
    assert lake.silver() == [("at", 0)]
    assert lake.quarantine() == [
        (1, ["time_is_not_before_1970"]),
        (2, ["time_is_not_before_1970"]),
        (3, ["event_id_is_present"]),
        (4, ["time_is_present"]),
    ]


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("newest", ["2026-03-29T02:30:00", "2026-10-25T01:30:00", "2026-10-25T00:30:00"])
def test_the_delay_is_the_same_across_a_daylight_saving_change(lake: Lake, in_berlin: None, newest: str) -> None:
    """Two hours are two hours on a machine whose time zone has daylight saving, also in a new process."""
    write, latest = lake.started(expectations=()), datetime.fromisoformat(newest)
    edge = latest - timedelta(hours=2)
    write(lake.batch(("newest", latest)), 0)
    for batch, process in enumerate((write, lake.started(expectations=())), start=1):
        process(
            lake.batch(
                (f"at {batch}", edge), (f"before {batch}", edge - timedelta(seconds=1)), first_offset=10 * batch
            ),
            batch,
        )
    assert lake.silver() == [("at 1", 10), ("at 2", 20), ("newest", 0)]
    assert lake.quarantine() == [(11, ["is_on_time"]), (21, ["is_on_time"])]


@pytest.mark.parametrize("commits_before_the_crash", [0, 1, 2])
@pytest.mark.parametrize("is_small", [True, False], ids=["small", "large"])
def test_a_batch_that_is_replayed_after_a_crash_is_written_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, commits_before_the_crash: int, is_small: bool
) -> None:
    """Whether the run died before, between or after the two commits, the replay leads to the same tables."""
    if not is_small:
        monkeypatch.setattr(small_batch, "MAX_ROWS_PER_PARTITION", 1)
    lake.started()(lake.batch(("a", NOON), ("z", NOON - timedelta(hours=1))), 0)
    second = lake.batch(
        ("b", NOON + timedelta(hours=1)), ("a", NOON), ("late", NOON - timedelta(hours=5)), first_offset=2
    )
    with monkeypatch.context() as patch:
        patch.setattr(delta, "write_batch", dying_after(commits_before_the_crash))
        if commits_before_the_crash < 2:
            with pytest.raises(ConnectionResetError):
                lake.started()(second, 1)
        else:
            lake.started()(second, 1)
    lake.started()(second, 1)
    assert lake.silver() == [("a", 0), ("b", 2), ("z", 1)]
    assert lake.quarantine() == [(3, ["is_first_delivery"]), (4, ["is_on_time"])]


@pytest.mark.parametrize("dies_again", [False, True])
def test_changed_expectations_put_no_record_of_a_replayed_batch_in_two_tables_or_in_none(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, dies_again: bool
) -> None:
    """What quarantine has of the batch stays there, by the old expectations; the rest is judged by the new ones."""

    def dying_between_the_commits(*, refuses: str) -> None:
        with monkeypatch.context() as patch, pytest.raises(ConnectionResetError):
            patch.setattr(delta, "write_batch", dying_after(1))
            judging(refuses)(batch, 0)

    def judging(refused: str) -> Callable[[DataFrame, int], None]:
        return lake.started(expectations=(expect_or_quarantine(f"is_not_{refused}", f"event_id <> '{refused}'"),))

    batch = lake.batch(("x", NOON), ("y", NOON), ("z", NOON))
    dying_between_the_commits(refuses="x")
    if dies_again:
        dying_between_the_commits(refuses="y")
    judging("y")(batch, 0)
    judging("z")(batch, 0)
    assert lake.silver() == [("z", 2)]
    assert lake.quarantine() == [(0, ["is_not_x"]), (1, ["is_not_y"])]


@pytest.mark.parametrize("deleted", ["event_id = 'a'", "true"], ids=["its rows", "all rows"])
def test_a_replayed_batch_whose_rows_were_deleted_is_skipped(lake: Lake, deleted: str) -> None:
    """An append that the log has is skipped, so nothing is observed of its rows; the next batch is written."""
    write = lake.started()
    write(lake.batch(("kept", NOON)), 0)
    write(lake.batch(("a", NOON + timedelta(hours=1)), first_offset=1), 1)
    lake.spark.sql(f"DELETE FROM delta.`{lake.tables.silver.path}` WHERE {deleted}")
    write = lake.started()
    write(lake.batch(("a", NOON + timedelta(hours=1)), first_offset=1), 1)
    write(lake.batch(("b", NOON + timedelta(hours=2)), first_offset=2), 2)
    assert lake.silver() == ([("b", 2)] if deleted == "true" else [("b", 2), ("kept", 0)])
    assert lake.quarantine() == []


@pytest.mark.parametrize("name", ["value", "Offset", "is_well_formed", "_text", "_route"])
def test_a_field_with_the_name_of_a_column_of_its_record_is_refused(name: str) -> None:
    """In any case, since Spark's names have none."""
    schema = T.StructType([*READINGS.schema.fields, T.StructField(name, T.StringType())])
    with pytest.raises(LakehouseError, match=f"weather_readings: no column of the event can be called '{name}'"):
        check_reserved_columns(replace(READINGS, schema=schema))
    with pytest.raises(LakehouseError, match=f"no column of the event can be called '{name}'"):
        check_reserved_columns(replace(READINGS, transform=lambda rows: rows, transformed_schema=schema))
    check_reserved_columns(READINGS)


def dying_after(commits: int) -> Callable[..., None]:
    left = [commits]
    write_batch = delta.write_batch

    def append_or_die(*arguments: object, **named: object) -> None:
        if not left[0]:
            raise ConnectionResetError("killed")
        left[0] -= 1
        write_batch(*arguments, **named)  # type: ignore[arg-type]

    return append_or_die


def test_a_restarted_run_knows_the_watermark(lake: Lake) -> None:
    """It is silver's newest event, not the state of one process."""
    lake.started()(lake.batch(("a", NOON)), 0)
    lake.started()(lake.batch(("b", NOON - timedelta(hours=3)), first_offset=1), 1)
    assert lake.quarantine() == [(1, ["is_on_time"])]


def test_a_new_checkpoint_skips_nothing(lake: Lake) -> None:
    """Batch numbers start again at 0; under the old query's id the new batch would be skipped."""
    lake.started()(lake.batch(("a", NOON)), 0)
    lake.new_checkpoint("second")
    lake.started()(lake.batch(("b", NOON), first_offset=1), 0)
    assert lake.silver() == [("a", 0), ("b", 1)]


def test_expect_warns_and_expect_or_fail_stops_before_anything_is_written(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of rows that violate an `expect` is logged; an `expect_or_fail` is named in the error."""
    cool = "temperature_c\n    < 20"
    lake.started(expectations=(expect("is_cool", cool),))(lake.batch(("a", NOON)), 0)
    assert lake.silver() == [("a", 0)]
    assert "1 valid row violates the expectation 'is_cool' (temperature_c < 20); they are not" in caplog.text
    with pytest.raises(LakehouseError, match=r"'is_cool'.*nothing of their batch was written"):
        lake.started(expectations=(expect_or_fail("is_cool", cool),))(lake.batch(("b", NOON), first_offset=1), 1)
    assert lake.silver() == [("a", 0)]
