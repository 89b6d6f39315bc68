"""The progress log of a run: a line per batch, and the start and end of each step."""

from __future__ import annotations

import io
from itertools import accumulate
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from pyspark.sql import DataFrame, SparkSession
from rich.console import Console

from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.layers.counts import BatchCounts
from streaming_lakehouse.local.broker import Broker, create_topic


class Query:
    """A query that has finished one batch."""

    def __init__(self, *sources: dict[str, Any], watermark: str = "") -> None:
        self.lastProgress: dict[str, Any] = {
            "batchId": 0,
            "timestamp": "2026-01-01T00:00:00.000Z",
            "durationMs": {"addBatch": 100},
            "processedRowsPerSecond": 10.0,
            "eventTime": {"watermark": watermark},
            "sources": sources,
            "stateOperators": [],
        }
        self.recentProgress = [self.lastProgress]


def source(rows: int, name: str = "KafkaV2[Subscribe[readings]]", **fields: Any) -> dict[str, Any]:
    return {"description": name, "numInputRows": rows, "metrics": {}, **fields}


def reporter() -> ProgressReporter:
    return ProgressReporter(("bronze",), Console(file=io.StringIO()))


def lines(reporter: ProgressReporter) -> list[str]:
    """The log lines, without their timestamps."""
    assert isinstance(reporter._console.file, io.StringIO)
    return [line.split(" ", 1)[1] for line in reporter._console.file.getvalue().splitlines()]


def test_a_step_is_logged_from_start_to_end() -> None:
    """One row and one batch are in the singular."""
    progress = reporter()
    progress.started("bronze")
    progress.update("bronze", Query(source(1), watermark="2026-01-01T00:00:00.000Z"))  # type: ignore[arg-type]
    progress.finished("bronze")
    progress.stopped("bronze")
    assert lines(progress)[:2] == [
        "bronze: started",
        "bronze: batch 0: 1 row, 10 rows/s, watermark 2026-01-01T00:00:00.000Z",
    ]
    assert lines(progress)[2:] == ["bronze: done: 1 row in 1 batch, 0.0 s"]


def test_a_stopped_step_is_logged_with_its_rows() -> None:
    """Once, and it is not done; a step that never started is not logged."""
    progress = ProgressReporter(("bronze", "silver"), Console(file=io.StringIO()))
    progress.started("bronze")
    progress.update("bronze", Query(source(4_500)))  # type: ignore[arg-type]
    for step in ("bronze", "bronze", "silver"):
        progress.stopped(step)
    assert lines(progress)[2:] == ["bronze: stopped after 1 batch, 4,500 rows"]
    assert not progress.states["bronze"].is_done


def test_where_the_records_of_a_batch_went_is_logged() -> None:
    """With the batch, and their sum at the end; silver reports it before Spark reports the batch."""
    progress = ProgressReporter(("silver",), Console(file=io.StringIO()))
    progress.started("silver")
    for batch, counts in enumerate((BatchCounts(1_200, 3, 2, 1), BatchCounts(5, 0, 1, 0))):
        query = Query(source(counts.valid + counts.rejected))
        query.lastProgress |= {"batchId": batch, "timestamp": f"2026-01-01T00:00:0{batch}.000Z"}
        progress.judged("silver", batch, counts)
        progress.update("silver", query)  # type: ignore[arg-type]
    progress.finished("silver")
    assert lines(progress)[1:] == [
        "silver: batch 0: 1,206 rows (1,200 valid, 3 quarantined, 2 duplicates, 1 late), 10 rows/s",
        "silver: batch 1: 6 rows (5 valid, 0 quarantined, 1 duplicate, 0 late), 10 rows/s",
        "silver: done: 1,212 rows in 2 batches, 0.0 s (1,205 valid, 3 quarantined, 3 duplicates, 1 late)",
    ]
    assert progress.rejected == 7
    board = Console(file=io.StringIO(), width=80)
    board.print(progress._board())
    assert isinstance(board.file, io.StringIO)
    assert "silver: 1,205 valid, 3 quarantined, 3 duplicates, 1 late" in board.file.getvalue()


def test_the_latency_is_that_of_the_mean_event_to_the_end_of_its_batch() -> None:
    """Beside the longest batch. The age of an archive's events is no latency."""
    progress = ProgressReporter(("silver", "gold.alerts"), Console(file=io.StringIO()))
    batches = (
        ("silver", 4, None),
        ("gold.alerts", 2, "00:00:07.500"),
        ("gold.alerts", 3, "20:00:00"),
        ("gold.alerts", 3, "00:00:18.500"),
    )
    for step, seconds, mean in batches:
        query = Query(source(10))
        query.lastProgress |= {
            "batchId": progress.states[step].last_batch + 1,
            "timestamp": f"2026-01-01T00:00:1{seconds}.{progress.states[step].last_batch + 1:03}Z",
            "durationMs": {"addBatch": 100, "triggerExecution": 1_000 * seconds},
            "eventTime": {"avg": f"2026-01-01T{mean}Z", "max": "2026-01-01T00:00:09Z"} if mean else {},
        }
        progress.update(step, query)  # type: ignore[arg-type]
        board = Console(file=io.StringIO(), width=80)
        board.print(progress._board())
        assert isinstance(board.file, io.StringIO)
        shown = board.file.getvalue()
        # Started at 00:00:12, took 2 s: 14 - 7.5 = 6.5 s. The other one's clock is 2.5 s ahead: 16 - 18.5.
        age = {"00:00:07.500": "6.5 s", "00:00:18.500": "-2.5 s"}.get(mean or "")
        expected = f"gold.alerts: events {age} old when their batch was done, on average; longest batch: silver, 4.0 s"
        assert (expected in " ".join(shown.split())) == (age is not None), shown
    assert lines(progress) == [
        "silver: batch 0: 10 rows, 10 rows/s",
        "gold.alerts: batch 0: 10 rows, 10 rows/s, events 6.5 s old",
        "gold.alerts: batch 1: 10 rows, 10 rows/s",
        "gold.alerts: batch 2: 10 rows, 10 rows/s, events -2.5 s old",
    ]


def test_the_initial_watermark_is_not_logged() -> None:
    """Spark's is 1970-01-01."""
    progress = reporter()
    progress.update("bronze", Query(source(2), watermark="1970-01-01T00:00:00.000Z"))  # type: ignore[arg-type]
    assert lines(progress) == ["bronze: batch 0: 2 rows, 10 rows/s"]


def test_a_batch_after_an_idle_time_is_logged_like_the_first(spark: SparkSession, tmp_path: Path) -> None:
    """While a query is idle Spark reports progress with the number of its next batch, here at once."""
    (tmp_path / "source").mkdir()
    progress = reporter()
    spark.conf.set("spark.sql.streaming.noDataProgressEventInterval", 0)
    writer = spark.readStream.text(str(tmp_path / "source")).writeStream.format("noop")
    query = writer.option("checkpointLocation", str(tmp_path / "checkpoint")).start()
    try:
        for batch in range(3):
            (tmp_path / "source" / f"{batch}.txt").write_text("a\n" * (batch + 1))
            query.processAllAvailable()
            while "addBatch" in (query.lastProgress or {"durationMs": "addBatch"})["durationMs"]:
                assert query.isActive
            progress.update("bronze", query)
    finally:
        query.stop()
        spark.conf.unset("spark.sql.streaming.noDataProgressEventInterval")
    assert [line.partition(" row")[0] for line in lines(progress)] == [
        "bronze: batch 0: 1",
        "bronze: batch 1: 2",
        "bronze: batch 2: 3",
    ]


def test_a_source_that_is_scanned_twice_has_each_row_once(spark: SparkSession, tmp_path: Path) -> None:
    """Spark itself counts a row once per scan."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "three.txt").write_text("a\nb\nc\n")

    def run(rows: DataFrame, name: str) -> int:
        writer = rows.writeStream.format("noop").option("checkpointLocation", str(tmp_path / name))
        query = writer.trigger(availableNow=True).start()
        query.awaitTermination()
        progress = reporter()
        progress.update("bronze", query)
        return progress.states["bronze"].rows

    once = spark.readStream.text(str(tmp_path / "source"))
    assert run(once, "once") == 3
    assert run(once.where("value = 'a'").union(once.where("value = 'b'")), "twice") == 3


def test_rows_are_logged_by_source(spark: SparkSession, tmp_path: Path) -> None:
    """By the last part of its path; a source that is scanned twice does not distort the other's."""
    for name, rows in (("orders", 3), ("payments", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.txt").write_text("a\n" * rows)
    orders, payments = (spark.readStream.text(str(tmp_path / name)) for name in ("orders", "payments"))
    rows = orders.where("value = 'a'").union(orders.where("value = 'b'")).union(payments)
    writer = rows.writeStream.format("noop").option("checkpointLocation", str(tmp_path / "checkpoint"))
    query = writer.trigger(availableNow=True).start()
    query.awaitTermination()
    progress = reporter()
    progress.update("bronze", query)
    assert progress.states["bronze"].rows == 5
    assert lines(progress)[0].startswith("bronze: batch 0: 5 rows (orders 3, payments 2), ")


def test_the_backlog_of_kafka_is_that_of_all_partitions(broker: Broker, spark: SparkSession, tmp_path: Path) -> None:
    """Spark's own metric is the largest of a single partition."""
    create_topic(broker.bootstrap_servers, "backlog", 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for number in range(10):
        producer.produce("backlog", b"x", partition=int(number < 4))
    assert producer.flush(30) == 0
    options = {"kafka.bootstrap.servers": broker.bootstrap_servers, "subscribe": "backlog"}
    options |= {"startingOffsets": "earliest", "maxOffsetsPerTrigger": "4"}
    writer = spark.readStream.format("kafka").options(**options).load().writeStream.format("noop")
    query = writer.option("checkpointLocation", str(tmp_path)).trigger(availableNow=True).start()
    query.awaitTermination()
    progress = reporter()
    for batch in query.recentProgress:
        query_then = Query()
        query_then.lastProgress = batch
        progress.update("bronze", query_then)  # type: ignore[arg-type]
    logged = [line.split(" behind")[0].rpartition(", ")[2] for line in lines(progress)]
    # Spark divides a batch's four records between the partitions; what is left is ten less those that were read.
    read = accumulate(batch["numInputRows"] for batch in query.recentProgress if batch["numInputRows"])
    assert logged == [f"{10 - rows} records" for rows in read]
    assert len(logged) > 2 and logged[-1] == "0 records"


def test_the_backlogs_of_several_sources_are_added() -> None:
    """Records of Kafka and bytes of Delta are different units."""
    topic = source(
        5, metrics={"maxOffsetsBehindLatest": "30"},
        latestOffset='{"t": {"0": 100, "1": 50}, "u": {"0": 7}}', endOffset='{"t": {"0": 90, "1": 20}}',
    )  # fmt: skip
    table = source(5, "DeltaSource[file:/lake/silver/orders]", metrics={"numBytesOutstanding": "2500000"})
    progress = reporter()
    progress.update("bronze", Query(topic, table, table))  # type: ignore[arg-type]
    assert progress.states["bronze"].backlog == "47 records + 5.0 MB"
