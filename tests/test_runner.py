"""How the runner ends: a step that fails is named, whatever else is going on."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import RunWeather
from pyspark.sql import DataFrame, SparkSession, functions as F
from pyspark.sql.streaming.query import StreamingQuery
from rich.console import Console

from streaming_lakehouse import checkpoints, session
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.progress import Board
from streaming_lakehouse.supervisor import Supervisor
from streaming_lakehouse.triggers import parse_trigger

PATIENCE_SECONDS = 30


def supervised(
    steps: tuple[str, ...],
    start: Callable[[str], StreamingQuery],
    folder: Path,
    board: Board | None = None,
    trigger: str = "1 second",
) -> Supervisor:
    told = board or Board(steps, Console(file=io.StringIO()))
    return Supervisor(steps, start, lambda step: str(folder / step), parse_trigger(trigger), told)


class Slow:
    """Starts steps that are asked to stop in the middle of a batch, which then ends well or fails."""

    def __init__(self, spark: SparkSession, folder: Path, fault: str = "") -> None:
        self.spark, self.folder, self.fault = spark, folder, fault
        self.stop, self.is_begun, self.is_waited_for = (threading.Event() for _ in range(3))
        self.ended: list[int] = []

    def start(self, step: str) -> StreamingQuery:
        rows = self.spark.readStream.format("rate").load()
        writer = rows.writeStream.foreachBatch(self.write).option("checkpointLocation", str(self.folder / step))
        return writer.trigger(processingTime="1 second").start()

    def write(self, rows: DataFrame, batch_id: int) -> None:
        self.is_begun.set()
        self.is_waited_for.wait(PATIENCE_SECONDS)
        if self.fault:
            raise RuntimeError(self.fault)
        self.ended.append(batch_id)


class Waiting(Board):
    """A board that sees a step's batch through as soon as the run, asked to stop, waits for it."""

    def __init__(self, slow: Slow, *steps: str) -> None:
        super().__init__(steps, Console(file=io.StringIO()))
        self.slow = slow

    def show(self, step: str, query: StreamingQuery) -> None:
        if self.slow.stop.is_set():
            self.slow.is_waited_for.set()
        elif self.slow.is_begun.is_set():
            self.slow.stop.set()


def test_a_step_that_fails_while_it_is_stopped_is_named(spark: SparkSession, tmp_path: Path) -> None:
    """A run that is asked to stop waits for the batch at hand; where that fails, the run has failed."""
    slow = Slow(spark, tmp_path, "the step's own fault")
    board = Waiting(slow, "silver")
    with pytest.raises(LakehouseError, match="step 'silver' failed: RuntimeError: the step's own fault"):
        supervised(("silver",), slow.start, tmp_path, board).run(slow.stop)


def test_a_signal_while_steps_start_lets_the_batch_of_those_that_run_end(spark: SparkSession, tmp_path: Path) -> None:
    """Steps start one after the other; what has not started by then does not."""
    slow = Slow(spark, tmp_path)

    def start(step: str) -> StreamingQuery:
        query = slow.start(step)
        assert slow.is_begun.wait(PATIENCE_SECONDS)
        slow.stop.set()
        return query

    supervisor = supervised(("bronze", "silver"), start, tmp_path, Waiting(slow, "bronze", "silver"))
    assert supervisor.run(slow.stop) is False
    assert list(supervisor.queries) == ["silver"]
    assert slow.ended == [0]
    assert not spark.streams.active


@pytest.mark.parametrize("trigger", ["1 second", "available-now"])
def test_a_step_that_somebody_else_stops_is_no_success(spark: SparkSession, tmp_path: Path, trigger: str) -> None:
    """Spark stops a query without a word when another begins on its checkpoint, in a session that cannot lock it."""
    slow = Slow(spark, tmp_path)
    slow.is_waited_for.set()

    def start(step: str) -> StreamingQuery:
        query = slow.start(step)
        assert slow.is_begun.wait(PATIENCE_SECONDS)
        query.stop()
        for commit in (tmp_path / step / "commits").glob("[0-9]*"):  # as if it had been stopped in its batch
            commit.unlink()
        return query

    with pytest.raises(LakehouseError, match="step 'silver' was stopped from outside of this run"):
        supervised(("silver",), start, tmp_path, trigger=trigger).run(slow.stop)


def test_a_step_that_somebody_else_stops_is_no_success_of_a_run_that_is_stopped_either(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Its name is told, although the run was to end anyhow: two runs on one checkpoint corrupt it."""
    slow = Slow(spark, tmp_path)

    def start(step: str) -> StreamingQuery:
        query = slow.start(step)
        if step == "silver":
            slow.is_waited_for.set()
            assert slow.is_begun.wait(PATIENCE_SECONDS)
            query.stop()
        else:
            slow.stop.set()
        return query

    with pytest.raises(LakehouseError, match="step 'silver' was stopped from outside of this run"):
        supervised(("bronze", "silver"), start, tmp_path, Waiting(slow, "bronze", "silver")).run(slow.stop)
    assert not spark.streams.active


def test_of_a_run_that_is_stopped_those_steps_are_done_that_had_ended(spark: SparkSession, tmp_path: Path) -> None:
    """A gold table that is complete is not told as one that was stopped."""
    slow = Slow(spark, tmp_path)
    (tmp_path / "empty").mkdir()

    def start(step: str) -> StreamingQuery:
        if step == "bronze":
            slow.stop.set()
            return slow.start(step)
        empty = spark.readStream.schema("value STRING").text(str(tmp_path / "empty"))
        query = empty.writeStream.format("noop").option("checkpointLocation", str(tmp_path / step))
        ended = query.trigger(availableNow=True).start()
        assert ended.awaitTermination(PATIENCE_SECONDS)
        return ended

    board = Waiting(slow, "bronze", "hourly")
    assert supervised(("bronze", "hourly"), start, tmp_path, board, "available-now").run(slow.stop) is False
    assert {step: state.is_done for step, state in board.states.items()} == {"bronze": False, "hourly": True}


def start_dropping(spark: SparkSession, checkpoint: Path) -> StreamingQuery:
    """A query whose rows are an hour earlier with each batch: Spark drops those behind the watermark."""
    numbers = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
    times = numbers.select(F.timestamp_seconds(F.lit(10**9) - F.col("value") * 3600).alias("time"))
    distinct = times.withWatermark("time", "1 second").dropDuplicates(["time"])
    return distinct.writeStream.format("noop").option("checkpointLocation", str(checkpoint)).start()


def test_a_row_that_spark_drops_ends_the_run_at_once(spark: SparkSession, tmp_path: Path) -> None:
    """It is no end that the run has by itself; a notebook's run fails by it as the command's does."""
    supervisor = supervised(("hourly",), lambda step: start_dropping(spark, tmp_path / step), tmp_path)
    with pytest.raises(LakehouseError, match=r"step 'hourly' failed: Spark dropped \d+ rows behind the watermark"):
        supervisor.run(threading.Event())
    assert not spark.streams.active
    assert checkpoints.dropped(str(tmp_path / "hourly")) == supervisor.board.states["hourly"].dropped > 0


def test_a_table_that_lacks_dropped_rows_is_refused_until_it_is_made_anew(
    run_weather: RunWeather, tmp_path: Path
) -> None:
    """The batch is done for Spark: a second run, as a job's retry, would end well over what the first lost."""
    run_weather(options={"numRows": "500"})
    checkpoint = tmp_path / "lake/_checkpoints/weather/weather_device_hourly"
    checkpoints.note_dropped(str(checkpoint), 1_234)
    with pytest.raises(
        LakehouseError, match=rf"'weather_device_hourly' failed: Spark dropped 1,234 rows.*{checkpoint}"
    ):
        run_weather(options={"numRows": "500"})
    shutil.rmtree(checkpoint)
    shutil.rmtree(tmp_path / "lake/gold/weather_device_hourly")
    run_weather(options={"numRows": "500"})


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
