"""What a run tells while it goes: a line a batch, and how each step began and ended."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from rich.console import Console

from streaming_lakehouse.progress import Board


class Query:
    """A query that has finished one batch of so many rows."""

    def __init__(self, rows: int, watermark: str) -> None:
        self.lastProgress: dict[str, Any] = {
            "batchId": 0,
            "timestamp": "2026-01-01T00:00:00.000Z",
            "durationMs": {"addBatch": 100},
            "processedRowsPerSecond": 10.0,
            "eventTime": {"watermark": watermark},
            "sources": [{"numInputRows": rows, "metrics": {}}],
            "stateOperators": [],
        }
        self.recentProgress = [self.lastProgress]


def board() -> Board:
    return Board(("bronze",), Console(file=io.StringIO()))


def lines(board: Board) -> list[str]:
    """What was logged, without the time of day."""
    assert isinstance(board._console.file, io.StringIO)
    return [line.split(" ", 1)[1] for line in board._console.file.getvalue().splitlines()]


def test_a_step_that_ends_is_told_from_start_to_end() -> None:
    """One row and one batch are not plural."""
    told = board()
    told.started("bronze")
    told.show("bronze", Query(1, "2026-01-01T00:00:00.000Z"))  # type: ignore[arg-type]
    told.ended("bronze")
    told.stopped("bronze")
    assert lines(told)[:2] == [
        "bronze: started",
        "bronze: batch 0: 1 row, 10 rows/s, watermark 2026-01-01T00:00:00.000Z",
    ]
    assert lines(told)[2:] == ["bronze: done: 1 row in 1 batch, 0.0 s"]


def test_a_step_that_is_stopped_says_how_far_it_came() -> None:
    """Once, and it is not done; one that never began says nothing."""
    told = Board(("bronze", "silver"), Console(file=io.StringIO()))
    told.started("bronze")
    told.show("bronze", Query(4_500, ""))  # type: ignore[arg-type]
    for step in ("bronze", "bronze", "silver"):
        told.stopped(step)
    assert lines(told)[2:] == ["bronze: stopped after 1 batch, 4,500 rows"]
    assert not told.states["bronze"].is_done


def test_no_watermark_yet_is_not_one_of_1970() -> None:
    """Spark's zero is left out."""
    told = board()
    told.show("bronze", Query(2, "1970-01-01T00:00:00.000Z"))  # type: ignore[arg-type]
    assert lines(told) == ["bronze: batch 0: 2 rows, 10 rows/s"]


def test_a_batch_after_an_idle_time_is_told_like_the_first(spark: SparkSession, tmp_path: Path) -> None:
    """While a query has nothing to do Spark tells of its next batch as if it had been, here at once."""
    (tmp_path / "source").mkdir()
    told = board()
    spark.conf.set("spark.sql.streaming.noDataProgressEventInterval", 0)
    lines_of = spark.readStream.text(str(tmp_path / "source")).writeStream.format("noop")
    query = lines_of.option("checkpointLocation", str(tmp_path / "checkpoint")).start()
    try:
        for batch in range(3):
            (tmp_path / "source" / f"{batch}.txt").write_text("a\n" * (batch + 1))
            query.processAllAvailable()
            while "addBatch" in (query.lastProgress or {"durationMs": "addBatch"})["durationMs"]:
                assert query.isActive
            told.show("bronze", query)
    finally:
        query.stop()
        spark.conf.unset("spark.sql.streaming.noDataProgressEventInterval")
    assert [line.partition(" row")[0] for line in lines(told)] == [
        "bronze: batch 0: 1",
        "bronze: batch 1: 2",
        "bronze: batch 2: 3",
    ]


def test_a_transform_that_reads_its_source_twice_has_each_row_once(spark: SparkSession, tmp_path: Path) -> None:
    """Spark itself counts them twice: in a plan of its own for each batch, and in a sink's."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "three.txt").write_text("a\nb\nc\n")

    def run(rows: DataFrame, name: str) -> int:
        writer = rows.writeStream.format("noop").option("checkpointLocation", str(tmp_path / name))
        query = writer.trigger(availableNow=True).start()
        query.awaitTermination()
        told = board()
        told.show("bronze", query)
        return told.states["bronze"].rows

    once = spark.readStream.text(str(tmp_path / "source"))
    assert run(once, "once") == 3
    assert run(once.where("value = 'a'").union(once.where("value = 'b'")), "twice") == 3
