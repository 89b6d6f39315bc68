"""How the runner ends: a step that fails is named, whatever else is going on."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from conftest import RunWeather
from pyspark.sql import DataFrame, SparkSession, functions as F
from pyspark.sql.streaming.query import StreamingQuery
from rich.console import Console

from streaming_lakehouse import session
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.progress import Board
from streaming_lakehouse.runner import _run_together

PATIENCE_SECONDS = 30


class Failing:
    """Starts a step that is asked to stop in the middle of a batch, and fails before the batch has ended."""

    def __init__(self, spark: SparkSession, checkpoint: Path) -> None:
        self.spark, self.checkpoint = spark, checkpoint
        self.stop, self.is_waited_for = threading.Event(), threading.Event()

    def start(self, step: str) -> StreamingQuery:
        rows = self.spark.readStream.format("rate").load()
        writer = rows.writeStream.foreachBatch(self.fail).option("checkpointLocation", str(self.checkpoint))
        return writer.trigger(processingTime="1 second").start()

    def fail(self, rows: DataFrame, batch_id: int) -> None:
        self.stop.set()
        self.is_waited_for.wait(PATIENCE_SECONDS)
        raise RuntimeError("the step's own fault")


def test_a_step_that_fails_while_it_is_stopped_is_named(spark: SparkSession, tmp_path: Path) -> None:
    """A run that is asked to stop waits for the batch at hand; where that fails, the run has failed."""
    failing = Failing(spark, tmp_path)

    class Watched(Board):
        def show(self, step: str, query: StreamingQuery) -> None:
            if failing.stop.is_set():
                failing.is_waited_for.set()

    board = Watched(("silver",), Console(file=io.StringIO()))
    with pytest.raises(LakehouseError, match="step 'silver' failed"):
        _run_together([("silver", failing)], board, failing.stop)  # type: ignore[list-item]


class Dropping:
    """Starts a step whose rows are an hour earlier with each batch: Spark drops those behind the watermark."""

    def __init__(self, spark: SparkSession, checkpoint: Path) -> None:
        self.spark, self.checkpoint = spark, checkpoint

    def start(self, step: str) -> StreamingQuery:
        numbers = self.spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
        times = numbers.select(F.timestamp_seconds(F.lit(10**9) - F.col("value") * 3600).alias("time"))
        distinct = times.withWatermark("time", "1 second").dropDuplicates(["time"])
        return distinct.writeStream.format("noop").option("checkpointLocation", str(self.checkpoint)).start()


def test_a_row_that_spark_drops_ends_the_run_at_once(spark: SparkSession, tmp_path: Path) -> None:
    """It is no end that the run has by itself; a notebook's run fails by it as the command's does."""
    board = Board(("hourly",), Console(file=io.StringIO()))
    with pytest.raises(LakehouseError, match=r"step 'hourly' failed: Spark dropped \d+ rows behind the watermark"):
        _run_together([("hourly", Dropping(spark, tmp_path))], board, threading.Event())  # type: ignore[list-item]
    assert not spark.streams.active


def test_other_shuffle_partitions_than_the_checkpoints_are_told(
    run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """State keeps the pieces that it was begun with: on a machine with more cores the run goes on with them."""
    options = {"numRows": "3000", "seed": "7"}
    run_weather(options=options)
    assert "shuffle partitions" not in caplog.text
    kept = session._cores()
    monkeypatch.setattr(session, "_cores", lambda: kept + 5)
    run_weather(options={**options, "numRows": "4000"})
    told = f"the {kept} shuffle partitions that its checkpoint began with; the {kept + 5} of this session"
    assert f"step 'weather_device_hourly' goes on with {told}" in caplog.text
