"""How a run ends: a failed step is named, whatever else happens, and what a run checks before it starts."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ALL, HALF, Prepare, RunWeather
from deltalake import DeltaTable
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, functions as F
from pyspark.sql.streaming.query import StreamingQuery
from rich.console import Console

from streaming_lakehouse import cli, session
from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import preflight
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.execution.signals import stop_on_signals
from streaming_lakehouse.execution.supervisor import Supervisor
from streaming_lakehouse.pipeline.discovery import load_pipeline

TIMEOUT_SECONDS = 30
HOURLY = "gold.weather_device_hourly"


def supervised(
    steps: tuple[str, ...],
    start: Callable[[str], StreamingQuery],
    folder: Path,
    progress: ProgressReporter | None = None,
    trigger: str = "1 second",
) -> Supervisor:
    progress = progress or ProgressReporter(steps, Console(file=io.StringIO()))
    return Supervisor(steps, start, lambda step: str(folder / step), parse_trigger(trigger), progress)


class Slow:
    """Starts steps that are asked to stop in the middle of a batch, which then succeeds or fails."""

    def __init__(self, spark: SparkSession, folder: Path, error: str = "") -> None:
        self.spark, self.folder, self.error = spark, folder, error
        self.stop, self.has_started, self.is_awaited = (threading.Event() for _ in range(3))
        self.finished: list[int] = []

    def start(self, step: str) -> StreamingQuery:
        rows = self.spark.readStream.format("rate").load()
        writer = rows.writeStream.foreachBatch(self.write).option("checkpointLocation", str(self.folder / step))
        return writer.trigger(processingTime="1 second").start()

    def write(self, rows: DataFrame, batch_id: int) -> None:
        self.has_started.set()
        self.is_awaited.wait(TIMEOUT_SECONDS)
        if self.error:
            raise RuntimeError(self.error)
        self.finished.append(batch_id)


class Waiting(ProgressReporter):
    """Lets a step's batch finish as soon as the run, asked to stop, waits for it."""

    def __init__(self, slow: Slow, *steps: str) -> None:
        super().__init__(steps, Console(file=io.StringIO()))
        self.slow = slow

    def update(self, step: str, query: StreamingQuery) -> None:
        if self.slow.stop.is_set():
            self.slow.is_awaited.set()
        elif self.slow.has_started.is_set():
            self.slow.stop.set()


def test_a_step_that_fails_while_it_is_stopped_is_named(spark: SparkSession, tmp_path: Path) -> None:
    """A run that is asked to stop waits for the current batch; if the batch fails, the run fails."""
    slow = Slow(spark, tmp_path, "the step's own error")
    progress = Waiting(slow, "silver")
    with pytest.raises(LakehouseError, match="step 'silver' failed: RuntimeError: the step's own error"):
        supervised(("silver",), slow.start, tmp_path, progress).run(slow.stop)


def test_a_signal_during_the_start_lets_running_batches_finish(spark: SparkSession, tmp_path: Path) -> None:
    """Steps start one after the other; those that have not started by then do not."""
    slow = Slow(spark, tmp_path)

    def start(step: str) -> StreamingQuery:
        query = slow.start(step)
        assert slow.has_started.wait(TIMEOUT_SECONDS)
        slow.stop.set()
        return query

    supervisor = supervised(("bronze", "silver"), start, tmp_path, Waiting(slow, "bronze", "silver"))
    assert supervisor.run(slow.stop) is False
    assert list(supervisor.queries) == ["silver"]
    assert slow.finished == [0]
    assert not spark.streams.active


class Interrupted(Waiting):
    """Presses Ctrl-C for the second time while a batch runs."""

    def update(self, step: str, query: StreamingQuery) -> None:
        if self.slow.has_started.is_set() and not self.slow.stop.is_set():
            self.slow.stop.set()
            raise KeyboardInterrupt


def test_an_interrupt_does_not_wait_for_the_batch(spark: SparkSession, tmp_path: Path) -> None:
    """It would take as long as the batch; the next run replays it."""
    slow, timeout = Slow(spark, tmp_path), spark.conf.get("spark.sql.streaming.stopTimeout")
    try:
        with pytest.raises(KeyboardInterrupt):
            supervised(("silver",), slow.start, tmp_path, Interrupted(slow, "silver")).run(threading.Event())
        assert not slow.is_awaited.is_set() and not slow.finished
        assert spark.conf.get("spark.sql.streaming.stopTimeout") == timeout
    finally:
        slow.is_awaited.set()
        for query in spark.streams.active:
            query.stop()


def test_the_first_signal_stops_and_the_second_ends() -> None:
    """The first is announced at once, also while the run waits for a batch; SIGTERM counts as Ctrl-C does."""
    stop, is_announced, ended = threading.Event(), threading.Event(), []
    before = signal.getsignal(signal.SIGINT)
    for first in (signal.SIGINT, signal.SIGTERM):
        stop.clear()
        is_announced.clear()
        with stop_on_signals(stop, is_announced.set, lambda: ended.append("at once")):
            signal.raise_signal(first)
            assert stop.is_set() and is_announced.wait(TIMEOUT_SECONDS) and not ended
            # As the run does once Spark has started, here with what a notebook gets.
            with stop_on_signals(stop, is_announced.set), pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        assert ended.pop() == "at once"
    assert signal.getsignal(signal.SIGINT) is before


def test_the_command_ends_at_once_in_one_line() -> None:
    """With the status of Ctrl-C."""
    code = (
        "from streaming_lakehouse.cli.main import _end_at_once\n"
        "from streaming_lakehouse.execution.progress import ProgressReporter\n"
        "_end_at_once(ProgressReporter(()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "lakehouse: ended within a batch, which the next run replays\n"


@pytest.mark.parametrize("trigger", ["1 second", "available-now"])
def test_a_step_that_is_stopped_externally_is_no_success(spark: SparkSession, tmp_path: Path, trigger: str) -> None:
    """Spark stops a query silently when another one starts on its checkpoint, in a session that cannot lock it."""
    slow = Slow(spark, tmp_path)
    slow.is_awaited.set()

    def start(step: str) -> StreamingQuery:
        query = slow.start(step)
        assert slow.has_started.wait(TIMEOUT_SECONDS)
        query.stop()
        for commit in (tmp_path / step / "commits").glob("[0-9]*"):  # as if it had been stopped in its batch
            commit.unlink()
        return query

    with pytest.raises(LakehouseError, match="step 'silver' was stopped from outside this run"):
        supervised(("silver",), start, tmp_path, trigger=trigger).run(slow.stop)


def test_a_step_that_is_stopped_externally_is_named_also_by_a_run_that_is_stopped(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Although the run was about to end: two runs on one checkpoint corrupt it."""
    slow = Slow(spark, tmp_path)

    def start(step: str) -> StreamingQuery:
        query = slow.start(step)
        if step == "silver":
            slow.is_awaited.set()
            assert slow.has_started.wait(TIMEOUT_SECONDS)
            query.stop()
        else:
            slow.stop.set()
        return query

    with pytest.raises(LakehouseError, match="step 'silver' was stopped from outside this run"):
        supervised(("bronze", "silver"), start, tmp_path, Waiting(slow, "bronze", "silver")).run(slow.stop)
    assert not spark.streams.active


def test_in_a_stopped_run_the_steps_that_had_ended_are_done(spark: SparkSession, tmp_path: Path) -> None:
    """A gold table that is complete is not reported as stopped."""
    slow = Slow(spark, tmp_path)
    (tmp_path / "empty").mkdir()

    def start(step: str) -> StreamingQuery:
        if step == "bronze":
            slow.stop.set()
            return slow.start(step)
        empty = spark.readStream.schema("value STRING").text(str(tmp_path / "empty"))
        query = empty.writeStream.format("noop").option("checkpointLocation", str(tmp_path / step))
        finished = query.trigger(availableNow=True).start()
        assert finished.awaitTermination(TIMEOUT_SECONDS)
        return finished

    progress = Waiting(slow, "bronze", "hourly")
    assert supervised(("bronze", "hourly"), start, tmp_path, progress, "available-now").run(slow.stop) is False
    assert {step: state.is_done for step, state in progress.states.items()} == {"bronze": False, "hourly": True}


def start_dropping(spark: SparkSession, checkpoint: Path) -> StreamingQuery:
    """A query whose rows are an hour older with each batch: Spark drops those behind the watermark."""
    numbers = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
    times = numbers.select(F.timestamp_seconds(F.lit(10**9) - F.col("value") * 3600).alias("time"))
    distinct = times.withWatermark("time", "1 second").dropDuplicates(["time"])
    return distinct.writeStream.format("noop").option("checkpointLocation", str(checkpoint)).start()


def test_a_failed_step_names_the_command_that_rebuilds_it(tmp_path: Path) -> None:
    def start(step: str) -> StreamingQuery:
        raise PySparkException("[DELTA_VERSIONS_NOT_CONTIGUOUS] Versions (2, 4) are not contiguous.")

    supervisor = supervised(("hourly",), start, tmp_path)
    supervisor.rebuild_hint = lambda step: f"rebuild with: lakehouse reset weather --step {step}"
    gone = r"step 'hourly' failed: versions .* are gone .*; rebuild with: lakehouse reset weather --step hourly$"
    with pytest.raises(LakehouseError, match=gone):
        supervisor.run(threading.Event())


def test_a_row_that_spark_drops_ends_the_run_at_once(spark: SparkSession, tmp_path: Path) -> None:
    """The supervisor itself fails, so a run in a notebook fails as the command does."""
    supervisor = supervised(("hourly",), lambda step: start_dropping(spark, tmp_path / step), tmp_path)
    with pytest.raises(LakehouseError, match=r"step 'hourly' failed: Spark dropped \d+ rows? as late"):
        supervisor.run(threading.Event())
    assert not spark.streams.active
    assert metadata.late_drops(str(tmp_path / "hourly")) == supervisor.progress.states["hourly"].late_drops > 0


def test_a_table_that_lacks_dropped_rows_is_refused_until_it_is_rebuilt(
    run_weather: RunWeather, prepare: Prepare, tmp_path: Path
) -> None:
    """For Spark the batch is committed: a second run, as a job's retry, would succeed without the rows."""
    prepare(HALF)
    checkpoint = tmp_path / "lake/_checkpoints/weather" / HOURLY
    metadata.record_late_drops(str(checkpoint), 1_234)
    with pytest.raises(LakehouseError, match=rf"'{HOURLY}' failed: Spark dropped 1,234 rows.*rebuild with: ") as failed:
        run_weather(steps=(HOURLY,))
    assert not (tmp_path / "lake/gold").exists()
    cli.main([*str(failed.value).partition("rebuild with: lakehouse ")[2].split(), "--yes"])
    run_weather(steps=(HOURLY,))


def test_a_checkpoint_keeps_its_shuffle_partitions(
    run_weather: RunWeather,
    prepare: Prepare,
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """State has as many partitions as at first, also on a machine with more cores; the run says so."""
    prepare(HALF)
    run_weather(steps=(HOURLY,))
    assert "shuffle partitions" not in caplog.text
    cores = session._cores()
    monkeypatch.setattr(session, "_cores", lambda: cores + 5)
    prepare(HALF, ALL)
    run_weather(steps=(HOURLY,))
    message = f"the {cores} shuffle partitions of its checkpoint; the {cores + 5} of this session"
    assert f"step '{HOURLY}' resumes with {message}" in caplog.text
    checkpoint = tmp_path / "lake/_checkpoints/weather" / HOURLY
    latest = max(checkpoint.glob("offsets/[0-9]*"), key=lambda path: int(path.name))
    configured = json.loads(latest.read_text().splitlines()[1])["conf"]["spark.sql.shuffle.partitions"]
    partitions = [path for path in (checkpoint / "state/0").iterdir() if path.name.isdigit()]
    assert configured == str(cores) == str(len(partitions))


def test_checkpoints_of_version_0_1_are_refused_with_the_commands_to_rename_them(
    run_weather: RunWeather, prepare: Prepare, tmp_path: Path
) -> None:
    """They had the names of layers and gold tables: under the new names every row would be written twice."""
    prepare(HALF)
    run_weather(steps=(HOURLY,))
    checkpoints, counts = tmp_path / "lake/_checkpoints/weather", row_counts(tmp_path / "lake")
    old = {"bronze.weather_readings": "bronze", "silver.weather_readings": "silver", HOURLY: HOURLY.split(".")[1]}
    for name, before in old.items():
        (checkpoints / name).rename(checkpoints / before)
    moves = " && ".join(f"mv {before} {name}" for name, before in old.items())
    for step in old:
        with pytest.raises(LakehouseError, match=r"have the names of version 0\.1; no data changes") as refused:
            run_weather(options=HALF if step.startswith("bronze") else {}, steps=(step,))
        assert str(refused.value).endswith(f"rename them once: cd {checkpoints} && {moves}")
    subprocess.run(str(refused.value).rpartition("rename them once: ")[2], shell=True, check=True)
    run_weather(options=HALF, steps=tuple(old))
    assert row_counts(tmp_path / "lake") == counts


def row_counts(lake: Path) -> dict[str, int]:
    return {str(log.parent.relative_to(lake)): DeltaTable(log.parent).count() for log in lake.glob("*/*/_delta_log")}


def test_the_default_trigger_pauses_between_batches_of_bronze_and_of_gold_tables_with_state() -> None:
    """Not those of complete mode, for which Spark runs no batches without rows; another trigger is as it is given."""

    def pauses(trigger: str) -> dict[str, str]:
        found = {}
        for name in ("weather", "sports"):
            plan = RunPlan(load_pipeline(name), Storage(root=Path()), "kafka", {}, parse_trigger(trigger), ())
            found |= {step.name: plan.query_config(step).trigger for step in plan.steps}
        given = parse_trigger(trigger).writer_options
        return {
            step: own.writer_options["processingTime"] for step, own in found.items() if own.writer_options != given
        }

    assert pauses("default") == {
        "bronze.sports_timeline": "1 second",
        "bronze.weather_readings": "1 second",
        "gold.sports_momentum": "2 seconds",
        "gold.sports_scoreboard": "2 seconds",
        "gold.weather_alerts": "2 seconds",
        "gold.weather_device_hourly": "2 seconds",
        "gold.weather_device_sliding": "2 seconds",
        "gold.weather_region_hourly": "2 seconds",
    }
    assert pauses("available-now") == pauses("3 seconds") == {}


@pytest.mark.parametrize(
    ("source", "salt", "warns"), [("files", "", True), ("files", "set", False), ("generator", "", False)]
)
def test_real_records_are_not_hashed_with_a_public_salt_in_silence(
    source: str,
    salt: str,
    warns: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only synthetic ones."""
    monkeypatch.setenv("LAKEHOUSE_PAYMENTS_SALT", salt)
    (tmp_path / "landing" / "payments_transactions").mkdir(parents=True)
    options = {"path": str(tmp_path / "landing")} if source == "files" else {}
    storage, trigger = Storage(root=tmp_path / "lake"), parse_trigger("available-now")
    preflight.check_static(RunPlan(load_pipeline("payments"), storage, source, options, trigger))
    assert ("LAKEHOUSE_PAYMENTS_SALT is not set" in caplog.text) == warns
