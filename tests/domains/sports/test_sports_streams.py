"""Each gold table as a real stream in its output mode: the same rows as the batch, wherever the batches are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from domains.sports.matches import generated, rows_of, shuffled, silver
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.domains.sports import gold
from streaming_lakehouse.domains.sports.fixtures import MATCHES_AT_ONCE, SLOTS
from streaming_lakehouse.domains.sports.silver import WATERMARK

pytestmark = pytest.mark.usefixtures("few_rows")

BATCHES = 3
# Both kick-offs of the first two days: among them a goal that is canceled on the day after.
EVENTS = 4 * SLOTS * MATCHES_AT_ONCE
SEED = 12


@pytest.fixture(scope="module")
def in_order(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The events of two days in three files, as the feed delivers them."""
    return in_files(spark, generated(0, EVENTS, SEED), tmp_path_factory.mktemp("in_order"))


@pytest.fixture(scope="module")
def mixed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in an order that has nothing to do with time."""
    return in_files(spark, shuffled(generated(0, EVENTS, SEED)), tmp_path_factory.mktemp("mixed"))


def in_files(spark: SparkSession, events: list[dict[str, Any]], folder: Path) -> Path:
    size = -(-len(events) // BATCHES)
    for number in range(BATCHES):
        silver(spark, events[number * size : (number + 1) * size]).coalesce(1).write.mode("append").parquet(str(folder))
    return folder


def stream(spark: SparkSession, folder: Path) -> DataFrame:
    schema = spark.read.parquet(str(folder)).schema
    files = spark.readStream.schema(schema).option("maxFilesPerTrigger", 1).parquet(str(folder))
    return files.withWatermark("time", f"{int(WATERMARK.total_seconds())} seconds")


def finished(query: StreamingQuery) -> StreamingQuery:
    query.awaitTermination()
    assert query.exception() is None
    return query


def upserted(rows: DataFrame, key: tuple[str, ...], checkpoint: Path) -> tuple[list[dict[str, Any]], int]:
    """What a table holds after all batches of output mode update, and the number of batches that had rows."""
    table: dict[tuple[Any, ...], dict[str, Any]] = {}
    filled = set()

    def upsert(batch: DataFrame, batch_id: int) -> None:
        for row in rows_of(batch):
            table[tuple(row[name] for name in key)] = row
            filled.add(batch_id)

    writer = rows.writeStream.outputMode("update").option("checkpointLocation", str(checkpoint))
    finished(writer.trigger(availableNow=True).foreachBatch(upsert).start())
    return list(table.values()), len(filled)


def by_text(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=str)


def test_the_scoreboard_in_update_mode_is_right_at_any_interleaving(
    spark: SparkSession, mixed: Path, tmp_path: Path
) -> None:
    """Goals come before their match and corrections before their goals, batches apart."""
    rows, filled = upserted(gold.scoreboard(stream(spark, mixed)), ("match_id",), tmp_path)
    assert filled == BATCHES
    assert by_text(rows) == by_text(rows_of(gold.scoreboard(spark.read.parquet(str(mixed)))))
    assert sum(row["goals_canceled"] for row in rows) > 0


def test_the_league_table_in_complete_mode_is_right_at_any_interleaving(
    spark: SparkSession, mixed: Path, tmp_path: Path
) -> None:
    table = gold.league_table(stream(spark, mixed)).writeStream.outputMode("complete").format("memory")
    named = table.queryName("league_table").option("checkpointLocation", str(tmp_path))
    query = finished(named.trigger(availableNow=True).start())
    assert [progress["numInputRows"] > 0 for progress in query.recentProgress].count(True) == BATCHES
    expected = by_text(rows_of(gold.league_table(spark.read.parquet(str(mixed)))))
    assert by_text(rows_of(spark.table("league_table"))) == expected
    assert len(expected) == 40


def test_momentum_in_update_mode_gives_the_batch_result(spark: SparkSession, in_order: Path, tmp_path: Path) -> None:
    """Windows that a batch has cut are completed by the next one."""
    key = ("match_id", "team", "window_start")
    rows, filled = upserted(gold.momentum(stream(spark, in_order)), key, tmp_path)
    assert filled == BATCHES
    assert by_text(rows) == by_text(rows_of(gold.momentum(spark.read.parquet(str(in_order)))))
