"""After a kill, a stop, a second run or a lost checkpoint, a run resumes exactly or refuses to start."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from conftest import HALF, Prepare, RunWeather, run_pipeline
from deltalake import DeltaTable
from oracle import read_topic
from pyspark.sql import SparkSession
from support.kills import kill

from streaming_lakehouse.checkpointing.lock import checkpoint_lock
from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.config.spark_settings import REQUIRED_SETTINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.pipeline.discovery import load_pipeline

# How often a run is killed at each point: once in the suite, more on demand.
KILLS = int(os.environ.get("LAKEHOUSE_KILLS", "1"))
SILVER = "silver/weather_readings"
TABLES = (
    SILVER,
    "quarantine/weather_readings",
    "gold/weather_device_hourly",
    "gold/weather_alerts",
)
# Without late rows the result does not depend on batch boundaries, which are the same in every run.
DATA = {
    "numRows": "18000",
    "seed": "7",
    "late": "0",
    "duplicates": "0.05",
    "malformed": "0.05",
}
SEVERAL_BATCHES = {**DATA, "maxRowsPerTrigger": "4500"}
HOURLY, ALERTS = "gold.weather_device_hourly", "gold.weather_alerts"
LAYERS = ("bronze", "silver")
STEPS = (*LAYERS, HOURLY, ALERTS)
TIMEOUT_SECONDS = 240


def command(root: Path, steps: tuple[str, ...], options: dict[str, str], *words: str) -> list[str]:
    """The command line of a run from the generator."""
    given = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    given += [word for step in steps for word in ("--step", step)]
    return [sys.executable, "-m", "streaming_lakehouse", "run", "weather", *given, "--root", str(root), *words]


@contextmanager
def running(line: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The command in its own process group, which is killed at the end."""
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        kill(process)


def ended(line: list[str], expected_status: int) -> str:
    """Runs a command line in its own process group until it ends; returns its standard error."""
    process = subprocess.run(
        line, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS, start_new_session=True, check=False
    )
    assert process.returncode == expected_status, process.stderr
    return process.stderr


def table_rows(root: Path, tables: tuple[str, ...] = TABLES) -> dict[str, list[str]]:
    """The rows of the tables, without arrival times; rounded, since a sum's last bits depend on the order."""
    found = {}
    for table in tables:
        rows = DeltaTable(root / table).to_pyarrow_table().drop_columns(arrival_times(table)).to_pylist()
        rounded = [{name: round(c, 9) if isinstance(c, float) else c for name, c in row.items()} for row in rows]
        found[table] = sorted(map(repr, rounded))
    return found


def arrival_times(table: str) -> list[str]:
    return [] if table.startswith("gold") else ["ingested_at", "source_timestamp"]


@pytest.fixture(scope="module")
def uninterrupted(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The tables of an uninterrupted run."""
    root = tmp_path_factory.mktemp("uninterrupted")
    run_pipeline(root, options=SEVERAL_BATCHES, steps=STEPS)
    return table_rows(root)


@pytest.mark.parametrize("attempt", range(KILLS))
def test_killed_at_any_moment_it_ends_with_the_same_tables(
    uninterrupted: dict[str, list[str]], tmp_path: Path, attempt: int
) -> None:
    """kill -9 at a random moment, then the same command again, or a run in a session that ran others."""
    moments = random.Random(attempt)
    line, seconds = moments.randrange(1, 14), moments.random()
    with running(command(tmp_path, STEPS, SEVERAL_BATCHES)) as process:
        assert process.stderr is not None
        for _ in range(line):
            process.stderr.readline()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
    if attempt % 2:
        ended(command(tmp_path, STEPS, SEVERAL_BATCHES), 0)
    else:
        run_pipeline(tmp_path, options=SEVERAL_BATCHES, steps=STEPS)
    assert table_rows(tmp_path) == uninterrupted, f"killed {seconds:.1f} s after line {line}"
    assert all(uninterrupted.values()), "the data must put rows into every table"


def alerts_of_readings(lake: Path) -> list[str]:
    """The alerts about single readings, not about closed hours."""
    alerts = DeltaTable(lake / "gold" / "weather_alerts").to_pyarrow_table(columns=["alert", "event_id"]).to_pylist()
    return sorted(f"{alert['alert']} {alert['event_id']}" for alert in alerts if alert["event_id"])


@pytest.mark.parametrize("died", ["before the batch that closes windows", "before its own commit-log entry"])
def test_windows_that_a_dead_run_left_open_are_written_by_the_next(
    run_weather: RunWeather, prepare: Prepare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, died: str
) -> None:
    """Without a new row: the batch is replayed, its watermark closes windows, and its rows are not written twice."""
    lake = tmp_path / "lake"
    prepare(DATA)
    with monkeypatch.context() as patch:
        patch.setitem(REQUIRED_SETTINGS, "spark.sql.streaming.noDataMicroBatches.enabled", "false")
        run_weather(steps=("gold",))
    if died == "before its own commit-log entry":
        commits = list((lake / "_checkpoints/weather").glob("gold.*/commits/0"))
        assert len(commits) == len(load_pipeline("weather").gold)
        for commit in commits:
            commit.unlink()
            (commit.parent / ".0.crc").unlink()
    at_once = alerts_of_readings(lake)
    assert DeltaTable(lake / "gold" / "weather_device_hourly").count() == 0, "the run must leave its windows open"
    run_weather(steps=("gold",))
    # 50 devices, a reading a minute each: 18,000 rows end before 06:00, and the watermark is two hours behind.
    assert DeltaTable(lake / "gold" / "weather_device_hourly").count() == 3 * 50
    assert DeltaTable(lake / "gold" / "weather_device_sliding").count() == 7 * 50
    assert alerts_of_readings(lake) == at_once
    assert len(at_once) > 0


def test_sigterm_ends_it_at_a_batch_boundary(
    uninterrupted: dict[str, list[str]], spark: SparkSession, tmp_path: Path
) -> None:
    """Exit status 0 for an unbounded run; the next run processes the remaining rows."""
    with running(command(tmp_path, LAYERS, SEVERAL_BATCHES, "--trigger", "1 second")) as process:
        assert process.stderr is not None
        assert any("bronze.weather_readings: batch 0" in line for line in process.stderr)
        process.terminate()
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        assert (process.returncode, "Traceback" in errors) == (0, False), errors
    run_pipeline(tmp_path, options=SEVERAL_BATCHES, steps=LAYERS)
    assert table_rows(tmp_path, (SILVER,))[SILVER] == uninterrupted[SILVER]


def test_a_run_that_died_while_writing_its_first_log_entry_is_resumed(
    run_weather: RunWeather, prepare: Prepare, tmp_path: Path
) -> None:
    """Spark writes the entry under a temporary name, and refuses to start a stateful query beside such a file."""
    prepare(DATA)
    offsets = tmp_path / "lake/_checkpoints/weather" / HOURLY / "offsets"
    offsets.mkdir(parents=True)
    for partial in (".0.0f40ad2e-d1ca-45ea.tmp", "..0.0f40ad2e-d1ca-45ea.tmp.crc"):
        (offsets / partial).touch()
    run_weather(steps=(HOURLY,))
    assert DeltaTable(tmp_path / "lake/gold/weather_device_hourly").count() == 150
    assert not list(offsets.glob("*.tmp*"))


def test_a_jvm_that_dies_is_reported_in_one_line(
    uninterrupted: dict[str, list[str]], spark: SparkSession, tmp_path: Path
) -> None:
    """As when it runs out of memory, whichever call to it comes next; the next run resumes."""
    with running(command(tmp_path, LAYERS, SEVERAL_BATCHES, "--trigger", "1 second")) as process:
        assert process.stderr is not None
        assert any("bronze.weather_readings: batch 0" in line for line in process.stderr)
        for child in psutil.Process(process.pid).children():
            if "java" in child.name():
                child.kill()
        lines = process.communicate(timeout=TIMEOUT_SECONDS)[1].splitlines()
    assert process.returncode == 1, lines
    (error,) = (line for line in lines if ": batch " not in line)
    assert re.match(r"lakehouse: (step '[\w.]+' failed: )?Spark's JVM has ended, ", error), lines
    run_pipeline(tmp_path, options=SEVERAL_BATCHES, steps=LAYERS)
    assert table_rows(tmp_path, (SILVER,))[SILVER] == uninterrupted[SILVER]


def test_a_second_run_on_the_same_checkpoint_is_refused(
    run_weather: RunWeather, spark: SparkSession, tmp_path: Path
) -> None:
    """The step and its checkpoint are named, and nothing is written."""
    checkpoint = tmp_path / "lake" / "_checkpoints" / "weather" / "silver.weather_readings"
    checkpoint.parent.mkdir(parents=True)
    with (checkpoint.parent / ".silver.weather_readings.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        with pytest.raises(LakehouseError, match=rf"step 'silver.weather_readings'.*another process.*{checkpoint}"):
            run_weather("generator", {"numRows": "100"})
    assert not (tmp_path / "lake" / "bronze").exists()


def test_a_second_run_in_the_same_process_is_refused_and_the_first_retains_its_lock(
    run_weather: RunWeather, spark: SparkSession, tmp_path: Path
) -> None:
    """As from two cells of a notebook. Java would release the first one's lock when the second closes the file."""
    checkpoint = tmp_path / "lake" / "_checkpoints" / "weather" / "silver.weather_readings"
    with checkpoint_lock(spark, checkpoint, "the first"):
        with pytest.raises(LakehouseError, match=rf"step 'silver.weather_readings'.*in this process.*{checkpoint}"):
            run_weather("generator", {"numRows": "100"})
        with (checkpoint.parent / ".silver.weather_readings.lock").open("r+") as lock, pytest.raises(BlockingIOError):
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("step", "tables"),
    [
        ("bronze.weather_readings", ["bronze/weather_readings"]),
        ("silver.weather_readings", ["silver/weather_readings", "quarantine/weather_readings"]),
    ],
)
def test_a_step_without_its_checkpoint_or_one_of_its_tables_is_refused(
    run_weather: RunWeather, prepare: Prepare, tmp_path: Path, step: str, tables: list[str]
) -> None:
    """Without its checkpoint rows would be written twice, without a table they would be missing; the remedy works."""
    lake = tmp_path / "lake"
    options = HALF if step.startswith("bronze") else {}
    checkpoint = lake / "_checkpoints" / "weather" / step
    prepare(HALF)
    for table in tables:
        (lake / table).rename(tmp_path / "away")
        with pytest.raises(LakehouseError, match=rf"is missing, but the checkpoint of step '{step}'"):
            run_weather("generator", options, steps=(step,))
        (tmp_path / "away").rename(lake / table)
    shutil.rmtree(checkpoint)
    for moved in range(len(tables)):
        left = " and ".join(table.replace("/", ".") for table in tables[moved:])
        with pytest.raises(LakehouseError, match=rf"checkpoint of step '{step}' is missing, but {left} has rows"):
            run_weather("generator", options, steps=(step,))
        shutil.rmtree(lake / tables[moved])
    run_weather("generator", options, steps=(step,))
    assert DeltaTable(lake / tables[0]).count() > 0


def test_a_gold_table_that_is_gone_is_refused(run_weather: RunWeather, prepare: Prepare, tmp_path: Path) -> None:
    """Its checkpoint has the rows as written. A missing checkpoint is no error: see tests/sinks/test_sinks.py."""
    prepare(HALF)
    run_weather(steps=(ALERTS,))
    shutil.rmtree(tmp_path / "lake" / "gold" / "weather_alerts")
    with pytest.raises(LakehouseError, match=rf"is missing, but the checkpoint of step '{ALERTS}'"):
        run_weather(steps=(ALERTS,))


@pytest.mark.parametrize("log", ["offsets", "commits"])
def test_a_truncated_log_entry_of_a_checkpoint_is_named(
    run_weather: RunWeather, prepare: Prepare, tmp_path: Path, log: str
) -> None:
    """As after a full disk: Spark's error names no file."""
    prepare(HALF)
    entry = tmp_path / "lake" / "_checkpoints" / "weather" / "bronze.weather_readings" / log / "0"
    entry.write_bytes(entry.read_bytes()[:-5])
    with pytest.raises(LakehouseError, match=rf"{entry} is truncated or damaged; restore it"):
        run_weather("generator", HALF, steps=("bronze",))


@contextmanager
def restored_from(backup: Path, lake: Path, part: str) -> Iterator[None]:
    """Within the context, a part of the lake is restored from the backup."""
    newer = lake.with_name("newer")
    (lake / part).rename(newer)
    shutil.copytree(backup / part, lake / part)
    yield
    shutil.rmtree(lake / part)
    newer.rename(lake / part)


def test_a_table_and_a_checkpoint_out_of_sync_are_refused(run_weather: RunWeather, tmp_path: Path) -> None:
    """With an older checkpoint new rows would be skipped as written, with an older table rows would be missing."""
    lake, backup, steps = tmp_path / "lake", tmp_path / "backup", (*LAYERS, ALERTS)
    run_weather("generator", {"numRows": "300", "malformed": "0.1"}, steps=steps)
    shutil.copytree(lake, backup)
    run_weather("generator", {"numRows": "600", "malformed": "0.1"}, steps=steps)
    tables = {
        "bronze.weather_readings": ["bronze"],
        "silver.weather_readings": ["silver", "quarantine"],
        ALERTS: ["gold"],
    }
    for step, layers in tables.items():
        options = {"numRows": "900"} if "bronze" in layers else {}
        refused = pytest.raises(LakehouseError, match=rf"{layers[0]}\.weather.* has batch .*'{step}' has none after \d")
        with restored_from(backup, lake, f"_checkpoints/weather/{step}"), refused:
            run_weather("generator", options, steps=(step,))
        for layer in layers:
            name = "weather_alerts" if layer == "gold" else "weather_readings"
            refused = pytest.raises(LakehouseError, match=rf"'{step}' has batch .* {layer}\.{name} has none after \d")
            with restored_from(backup, lake, f"{layer}/{name}"), refused:
                run_weather("generator", options, steps=(step,))
    # With both from the backup they are in sync again. A batch without rows for quarantine, or for any table, does not
    # count as missing.
    for root, rows in ((backup, "900"), (backup, "900"), (backup, "1200"), (lake, "1200")):
        run_weather("generator", {"numRows": rows, "malformed": "0", "duplicates": "0"}, steps=steps, root=root)
        assert DeltaTable(root / "bronze" / "weather_readings").count() == int(rows)


def test_a_table_that_never_had_the_rows_of_its_checkpoint_is_refused(run_weather: RunWeather, tmp_path: Path) -> None:
    """As an empty bronze table that silver created after the first one was removed."""
    lake = tmp_path / "lake"
    run_weather("generator", {"numRows": "300"}, steps=("bronze",))
    shutil.rmtree(lake / "bronze")
    run_weather("generator", steps=("silver",))
    with pytest.raises(
        LakehouseError,
        match=r"'bronze.weather_readings' has batch 0 as written, but bronze\.weather_readings has none:",
    ):
        run_weather("generator", {"numRows": "600"}, steps=("bronze",))


def test_a_lake_resumes_from_its_first_source_only(run_weather: RunWeather, tmp_path: Path) -> None:
    """Offsets of one source mean nothing in another: rows would be skipped, or read twice."""
    landing = tmp_path / "landing" / "weather_readings"
    landing.mkdir(parents=True)
    run_weather("generator", {"seed": "1", "numRows": "10"}, steps=("bronze",))
    with pytest.raises(
        LakehouseError, match="source generator, seed 1; it cannot resume with source generator, seed 2"
    ):
        run_weather("generator", {"seed": "2", "numRows": "20"}, steps=("bronze",))
    with pytest.raises(LakehouseError, match=rf"cannot resume with source files, path {landing}"):
        run_weather("files", {"path": str(landing.parent)}, steps=("bronze",))
    run_weather("generator", {"seed": "1", "numRows": "20"}, steps=("bronze",))
    assert DeltaTable(tmp_path / "lake" / "bronze" / "weather_readings").count() == 20


def records_in(server: Broker, topic: str, rows: int) -> dict[str, str]:
    """Writes records to the topic; returns the options to read it."""
    options = {"kafka.bootstrap.servers": server.bootstrap_servers}
    publish(PublishJob(load_pipeline("weather").bronze[0], 1, 0, rows, options | {"topic": topic}), "kafka")
    return options | {"subscribe": topic}


def test_a_recreated_topic_is_refused(broker: Broker, run_weather: RunWeather, tmp_path: Path) -> None:
    """Its first records have the offsets of records that were read before, and would be skipped."""
    before = records_in(broker, "recreated", 10)
    run_weather("kafka", before, steps=("bronze",))
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.delete_topics(["recreated"])["recreated"].result()
    after = records_in(broker, "recreated", 30)
    with pytest.raises(LakehouseError, match=r"subscribe recreated, which was recreated .*\(topic recreated "):
        run_weather("kafka", after, steps=("bronze",))
    assert DeltaTable(tmp_path / "lake" / "bronze" / "weather_readings").count() == 10


def test_a_topic_of_the_same_name_on_another_cluster_is_refused(
    broker: Broker, run_weather: RunWeather, tmp_path: Path
) -> None:
    """Also at the same address: each cluster has its own id."""
    with Broker(tmp_path / "first") as first:
        run_weather("kafka", records_in(first, "moved", 10), steps=("bronze",))
    with pytest.raises(LakehouseError, match=r"subscribe moved, which was recreated .*\(cluster "):
        run_weather("kafka", records_in(broker, "moved", 30), steps=("bronze",))


def test_lost_records_are_reported_also_with_fail_on_data_loss_false(
    broker: Broker, run_weather: RunWeather, tmp_path: Path
) -> None:
    """With failOnDataLoss=false a run continues, and reports the offsets that are gone."""
    create_topic(broker.bootstrap_servers, "aged", 1)
    run_weather("kafka", records_in(broker, "aged", 10), steps=("bronze",))
    options = records_in(broker, "aged", 20)  # offsets 10 to 29
    admin, gone = AdminClient({"bootstrap.servers": broker.bootstrap_servers}), TopicPartition("aged", 0, 25)
    admin.delete_records([gone])[gone].result()
    run = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--source", "kafka", "--step", "bronze"]
    words = [f"--option={name}={value}" for name, value in options.items()]
    run += [*words, "--option=failOnDataLoss=false", "--root", str(tmp_path / "lake")]
    errors = ended(run, 0)
    assert re.search(r"(?s)WARN Kafka\w+: Cannot fetch offset 10\b.*earliest offset: 25\b", errors), errors
    assert DeltaTable(tmp_path / "lake" / "bronze" / "weather_readings").count() == 10 + 5


@pytest.mark.parametrize("mode", ["append", "update"])
def test_killed_around_a_commit_of_foreach_batch(
    run_weather: RunWeather, prepare: Prepare, tmp_path: Path, mode: str
) -> None:
    """Two streams in one session, killed just before, or just after, a Delta commit of one of them.

    With several kills silver has more rows each time, so that each run is killed in another batch.
    """
    steps = (HOURLY, "gold.weather_device_sliding")
    # More than the hours until the first windows close.
    runs = [{**DATA, "numRows": str(10_500 + 1_500 * number)} for number in range(KILLS)]
    points = [("1", "after"), ("2", "before"), ("2", "after"), ("1", "before")]
    for attempt in range(KILLS):
        prepare(*runs[: attempt + 1])
        script = Path(__file__).parent / "support" / "kill_at_commit.py"
        kill_at_commit = [sys.executable, str(script), *points[(attempt + (mode == "update")) % len(points)]]
        ended([*kill_at_commit, *command(tmp_path / "lake", steps, {}, "--mode", mode)[3:]], -signal.SIGKILL)
    run_weather(steps=steps, mode=mode)
    tables = ("gold/weather_device_hourly", "gold/weather_device_sliding")
    resumed = table_rows(tmp_path / "lake", tables)
    for part in ("gold", "_checkpoints/weather/" + steps[0], "_checkpoints/weather/" + steps[1]):
        shutil.rmtree(tmp_path / "lake" / part)
    run_weather(steps=steps, mode=mode)
    assert resumed == table_rows(tmp_path / "lake", tables)
    assert all(resumed.values())


def test_a_broker_that_dies_under_the_sink_is_reported_and_no_row_is_missing(
    run_weather: RunWeather, prepare: Prepare, tmp_path: Path
) -> None:
    """One line that names the step; after the same command again, every row is in the topic, each under its key."""
    lake, port = tmp_path / "lake", free_port()
    sink_options = {"kafka.bootstrap.servers": f"127.0.0.1:{port}", "topic": "hourly", "kafka.max.block.ms": "4000"}
    sink_options |= {"kafka.delivery.timeout.ms": "4000", "kafka.request.timeout.ms": "3000"}
    words = ["--sink", "kafka", "--trigger", "1 second"]
    words += [word for name, value in sink_options.items() for word in ("--option", f"sink.{name}={value}")]
    prepare(DATA)
    with Broker(tmp_path / "broker", port) as broker:
        create_topic(broker.bootstrap_servers, "hourly", 1)
        with running(command(lake, (HOURLY,), {}, *words)) as process:
            assert process.stderr is not None
            assert any("batch 0" in line for line in process.stderr), "nothing was sent"
            broker.stop()
            run_weather(options={**DATA, "numRows": "27000"}, steps=LAYERS)
            _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 1, errors
    assert errors.splitlines()[-1].startswith(f"lakehouse: step '{HOURLY}' failed: "), errors
    assert "Traceback" not in errors
    with Broker(tmp_path / "broker", port) as broker:
        run_weather(steps=(HOURLY,), sink="kafka", sink_options=sink_options)
        sent = {record.key: record.value for record in read_topic(broker.bootstrap_servers, "hourly")}
    run_weather(steps=(HOURLY,))
    expected = DeltaTable(lake / "gold" / "weather_device_hourly").to_pyarrow_table(columns=["readings"]).to_pylist()
    readings = sorted(json.loads(value or b"")["readings"] for value in sent.values())
    assert readings == sorted(row["readings"] for row in expected) != []


def test_a_full_disk_is_reported_and_leaves_no_partial_commit(spark: SparkSession, tmp_path: Path) -> None:
    """Files are limited to 1 MiB, so bronze's first Parquet file cannot be written. Without the limit it resumes."""
    limited = ["sh", "-c", 'ulimit -f 1024; exec "$@"', "sh"]
    options = {**DATA, "numRows": "60000"}
    errors = ended([*limited, *command(tmp_path, ("bronze",), options)], 1)
    assert "\nlakehouse: step 'bronze.weather_readings' failed: the disk is full" in errors
    table = tmp_path / "bronze" / "weather_readings"
    assert not list(table.glob("_delta_log/*.json"))
    run_pipeline(tmp_path, options=options, steps=("bronze",))
    assert DeltaTable(table).to_pyarrow_table(columns=["offset"]).num_rows == 60_000
