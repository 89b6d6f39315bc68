"""Killed, stopped, doubled or robbed of its checkpoint: a run goes on exactly, or refuses to."""

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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from conftest import RunWeather
from deltalake import DeltaTable
from oracle import read_topic
from pyspark.sql import SparkSession

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.local.deliver import Delivery, deliver
from streaming_lakehouse.local.lock import checkpoint_lock
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.pipeline import load_pipeline

# How often the run is killed: a few times in the suite; more, where one wants to know.
KILLS = int(os.environ.get("LAKEHOUSE_KILLS", "2"))
TABLES = (
    "silver/weather_readings",
    "quarantine/weather_readings",
    "gold/weather_device_hourly",
    "gold/weather_device_sliding",
    "gold/weather_alerts",
)
# With all rows on time nothing depends on where batches are cut, and they are cut at the same rows in every run.
DATA = {
    "numRows": "18000",
    "maxRowsPerTrigger": "4500",
    "seed": "7",
    "late": "0",
    "duplicates": "0.05",
    "broken": "0.05",
}
PATIENCE_SECONDS = 240


def command(root: Path, *words: str) -> list[str]:
    """A run of DATA; words that read no source, or give its rows anew, have their own."""
    given = " ".join(words)
    reads = "--step" not in words or "--step bronze" in given
    data = {name: value for name, value in DATA.items() if reads and f"--option {name}=" not in given}
    options = [word for name, value in data.items() for word in ("--option", f"{name}={value}")]
    run = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--source", "generator"]
    return [*run, *options, "--root", str(root), *words]


@contextmanager
def running(root: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, which does not outlive the test."""
    process = subprocess.Popen(command(root, *words), stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    """Python and its JVM at once, as when the plug is pulled."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def finished(root: Path) -> float:
    """Runs it to its end; the seconds that took."""
    began = time.monotonic()
    ended = subprocess.run(command(root), stderr=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert ended.returncode == 0, ended.stderr
    return time.monotonic() - began


def contents(root: Path, tables: tuple[str, ...] = TABLES) -> dict[str, list[str]]:
    """The rows of the tables, without the moment of their arrival; a sum's last bits depend on its order."""
    found = {}
    for table in tables:
        rows = DeltaTable(root / table).to_pyarrow_table().drop_columns(moments(table)).to_pylist()
        rounded = [{name: round(c, 9) if isinstance(c, float) else c for name, c in row.items()} for row in rows]
        found[table] = sorted(map(repr, rounded))
    return found


def moments(table: str) -> list[str]:
    return [] if table.startswith("gold") else ["ingested_at", "source_timestamp"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], float]:
    """What a run gives that nobody disturbs, and how long it takes."""
    root = tmp_path_factory.mktemp("undisturbed")
    seconds = finished(root)
    return contents(root), seconds


@pytest.mark.parametrize("attempt", range(KILLS))
def test_killed_at_any_moment_it_ends_with_the_same_tables(
    undisturbed: tuple[dict[str, list[str]], float], tmp_path: Path, attempt: int
) -> None:
    """kill -9 at a random moment, then the same command again."""
    expected, seconds = undisturbed
    moment = random.Random(attempt).uniform(0.15, 0.95) * seconds
    with running(tmp_path) as process:
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            kill(process)
    finished(tmp_path)
    assert contents(tmp_path) == expected, f"killed after {moment:.1f} of {seconds:.1f} s"
    assert all(expected.values()), "the data must put rows into every table"


def alerts_of_readings(lake: Path) -> list[str]:
    """The alerts that came with the reading, not when an hour had closed."""
    alerts = DeltaTable(lake / "gold" / "weather_alerts").to_pyarrow_table(columns=["alert", "event_id"]).to_pylist()
    return sorted(f"{alert['alert']} {alert['event_id']}" for alert in alerts if alert["event_id"])


@pytest.mark.parametrize("died", ["before the batch that closes windows", "before its own end was on record"])
def test_windows_that_a_dead_run_left_open_are_written_by_the_next(
    run_weather: RunWeather, spark: SparkSession, tmp_path: Path, died: str
) -> None:
    """Without a new row: the batch is done again, its watermark counts, and its rows are not written twice."""
    options, lake = {"numRows": "18000", "late": "0"}, tmp_path / "lake"
    spark.conf.set("spark.sql.streaming.noDataMicroBatches.enabled", "false")
    try:
        run_weather("generator", options)
    finally:
        spark.conf.unset("spark.sql.streaming.noDataMicroBatches.enabled")
    if died == "before its own end was on record":
        for commit in (lake / "_checkpoints" / "weather").glob("weather_*/commits/*0*"):
            commit.unlink()
    at_once = alerts_of_readings(lake)
    assert DeltaTable(lake / "gold" / "weather_device_hourly").count() == 0, "the run must leave its windows open"
    run_weather("generator", options)
    # 50 devices, a reading a minute each: 18,000 rows end before 06:00, and the watermark is two hours behind.
    assert DeltaTable(lake / "gold" / "weather_device_hourly").count() == 3 * 50
    assert DeltaTable(lake / "gold" / "weather_device_sliding").count() == 7 * 50
    assert alerts_of_readings(lake) == at_once
    assert len(at_once) > 0


def test_sigterm_ends_it_at_a_batch_boundary(undisturbed: tuple[dict[str, list[str]], float], tmp_path: Path) -> None:
    """Exit status 0 for a run that has no end of its own; what is left is done by the next."""
    with running(tmp_path, "--trigger", "1 second") as process:
        assert process.stderr is not None
        assert any("bronze: batch 0" in line for line in process.stderr)
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, "Traceback" in said) == (0, False), said
    finished(tmp_path)
    assert contents(tmp_path)["silver/weather_readings"] == undisturbed[0]["silver/weather_readings"]


def test_a_run_that_died_while_it_noted_its_first_batch_does_not_stand_in_the_way(
    run_weather: RunWeather, tmp_path: Path
) -> None:
    """The entry has another name until it is whole; beside it Spark refuses to begin with state."""
    run_weather(options=DATA, steps=("bronze", "silver"))
    offsets = tmp_path / "lake/_checkpoints/weather/weather_device_hourly/offsets"
    offsets.mkdir(parents=True)
    for left in (".0.0f40ad2e-d1ca-45ea.tmp", "..0.0f40ad2e-d1ca-45ea.tmp.crc"):
        (offsets / left).touch()
    run_weather(options=DATA)
    assert DeltaTable(tmp_path / "lake/gold/weather_device_hourly").count() == 150
    assert not list(offsets.glob("*.tmp*"))


def test_a_jvm_that_ends_in_the_middle_is_told_in_one_line(tmp_path: Path) -> None:
    """As of one that runs out of memory, whichever call to it comes next; and the same command goes on."""
    with running(tmp_path, "--trigger", "1 second") as process:
        assert process.stderr is not None
        assert any("bronze: batch 0" in line for line in process.stderr)
        for child in psutil.Process(process.pid).children():
            if "java" in child.name():
                child.kill()
        said = process.communicate(timeout=PATIENCE_SECONDS)[1].splitlines()
    assert process.returncode == 1, said
    told = [line for line in said if line.startswith("lakehouse: ")]  # pyspark's own threads have more to say
    assert len(told) == 1 and re.match(r"lakehouse: (step '\w+' failed: )?Spark's JVM has ended, ", told[0]), said
    finished(tmp_path)


def test_a_second_run_on_the_same_checkpoint_is_refused(
    run_weather: RunWeather, spark: SparkSession, tmp_path: Path
) -> None:
    """The step and its checkpoint are named, and nothing is written."""
    checkpoint = tmp_path / "lake" / "_checkpoints" / "weather" / "silver"
    checkpoint.parent.mkdir(parents=True)
    with (checkpoint.parent / ".silver.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        with pytest.raises(LakehouseError, match=rf"step 'silver'.*another process.*{checkpoint}"):
            run_weather("generator", {"numRows": "100"})
    assert not (tmp_path / "lake" / "bronze").exists()


def test_a_second_run_in_the_same_process_is_refused_and_the_first_keeps_its_lock(
    run_weather: RunWeather, spark: SparkSession, tmp_path: Path
) -> None:
    """As from two cells of a notebook. Java would free the lock of the first with the file of the second."""
    checkpoint = tmp_path / "lake" / "_checkpoints" / "weather" / "silver"
    with checkpoint_lock(spark, checkpoint, "the first"):
        with pytest.raises(LakehouseError, match=rf"step 'silver'.*this very process.*{checkpoint}"):
            run_weather("generator", {"numRows": "100"})
        with (checkpoint.parent / ".silver.lock").open("r+") as lock, pytest.raises(BlockingIOError):
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("step", "tables"),
    [
        ("bronze", ["bronze/weather_readings"]),
        ("silver", ["silver/weather_readings", "quarantine/weather_readings"]),
    ],
)
def test_what_is_left_of_a_step_that_lost_its_other_half_is_refused(
    run_weather: RunWeather, tmp_path: Path, step: str, tables: list[str]
) -> None:
    """Without its checkpoint rows would be written twice, without a table they would be missing; and as advised."""
    lake, steps = tmp_path / "lake", ("bronze", "silver")
    made = {"numRows": "500"}
    options = made if step == "bronze" else {}
    checkpoint = lake / "_checkpoints" / "weather" / step
    run_weather("generator", made, steps=steps)
    for table in tables:
        (lake / table).rename(tmp_path / "away")
        with pytest.raises(LakehouseError, match=rf"is gone, but the checkpoint of step '{step}'"):
            run_weather("generator", options, steps=(step,))
        (tmp_path / "away").rename(lake / table)
    shutil.rmtree(checkpoint)
    for moved in range(len(tables)):
        left = " and ".join(table.replace("/", ".") for table in tables[moved:])
        with pytest.raises(LakehouseError, match=rf"checkpoint of step '{step}' is gone, but {left} has rows"):
            run_weather("generator", options, steps=(step,))
        shutil.rmtree(lake / tables[moved])
    run_weather("generator", options, steps=(step,))
    assert DeltaTable(lake / tables[0]).count() > 0


def test_a_gold_table_that_is_gone_is_refused(run_weather: RunWeather, tmp_path: Path) -> None:
    """Its checkpoint counts rows as written. A checkpoint that is gone is another matter: tests/test_sinks.py."""
    run_weather("generator", {"numRows": "500"}, steps=("bronze", "silver", "weather_alerts"))
    shutil.rmtree(tmp_path / "lake" / "gold" / "weather_alerts")
    with pytest.raises(LakehouseError, match="is gone, but the checkpoint of step 'weather_alerts'"):
        run_weather(steps=("weather_alerts",))


@pytest.mark.parametrize("log", ["offsets", "commits"])
def test_a_cut_off_log_of_a_checkpoint_is_named(run_weather: RunWeather, tmp_path: Path, log: str) -> None:
    """As a full disk leaves it: Spark speaks of the end of some input."""
    run_weather("generator", {"numRows": "100"}, steps=("bronze",))
    entry = tmp_path / "lake" / "_checkpoints" / "weather" / "bronze" / log / "0"
    entry.write_bytes(entry.read_bytes()[:-5])
    with pytest.raises(LakehouseError, match=rf"{entry} is cut off or damaged; bring it back"):
        run_weather("generator", {"numRows": "200"}, steps=("bronze",))


@contextmanager
def taken_from(backup: Path, lake: Path, part: str) -> Iterator[None]:
    """Within, a part of the lake is as it was when the backup was made."""
    newer = lake.with_name("newer")
    (lake / part).rename(newer)
    shutil.copytree(backup / part, lake / part)
    yield
    shutil.rmtree(lake / part)
    newer.rename(lake / part)


def test_a_half_that_came_back_from_a_backup_is_refused(run_weather: RunWeather, tmp_path: Path) -> None:
    """Of an older checkpoint new rows would be skipped as known, of an older table rows would be missing."""
    lake, backup, steps = tmp_path / "lake", tmp_path / "backup", ("bronze", "silver", "weather_alerts")
    run_weather("generator", {"numRows": "300", "broken": "0.1"}, steps=steps)
    shutil.copytree(lake, backup)
    run_weather("generator", {"numRows": "600", "broken": "0.1"}, steps=steps)
    tables = {"bronze": ["bronze"], "silver": ["silver", "quarantine"], "weather_alerts": ["gold"]}
    for step, layers in tables.items():
        options = {"numRows": "900"} if step == "bronze" else {}
        refused = pytest.raises(
            LakehouseError, match=rf"{layers[0]}\.weather.* has batch .*'{step}' knows of none after \d"
        )
        with taken_from(backup, lake, f"_checkpoints/weather/{step}"), refused:
            run_weather("generator", options, steps=(step,))
        for layer in layers:
            title = "weather_alerts" if layer == "gold" else "weather_readings"
            refused = pytest.raises(LakehouseError, match=rf"'{step}' has batch .* {layer}\.{title} has none after \d")
            with taken_from(backup, lake, f"{layer}/{title}"), refused:
                run_weather("generator", options, steps=(step,))
    # Both halves from the backup are a whole again. And a batch without a row for quarantine, or for any table, is none
    # that quarantine has lost.
    for root in (backup, lake):
        for rows in ("900", "900", "1200"):
            run_weather("generator", {"numRows": rows, "broken": "0", "duplicates": "0"}, steps=steps, root=root)
        assert DeltaTable(root / "bronze" / "weather_readings").count() == 1200


def test_a_table_that_never_had_the_rows_of_its_checkpoint_is_refused(run_weather: RunWeather, tmp_path: Path) -> None:
    """As one has not that silver made anew, without rows, when bronze's was gone."""
    lake = tmp_path / "lake"
    run_weather("generator", {"numRows": "300"}, steps=("bronze",))
    shutil.rmtree(lake / "bronze")
    run_weather("generator", steps=("silver",))
    with pytest.raises(
        LakehouseError, match=r"'bronze' has batch 0 as written, but bronze\.weather_readings has none:"
    ):
        run_weather("generator", {"numRows": "600"}, steps=("bronze",))


def test_a_lake_goes_on_from_the_source_it_began_with(run_weather: RunWeather, tmp_path: Path) -> None:
    """Offsets of one source mean nothing in another: rows would be passed over, or read twice."""
    landing = tmp_path / "landing" / "weather_readings"
    landing.mkdir(parents=True)
    run_weather("generator", {"seed": "1", "numRows": "10"}, steps=("bronze",))
    with pytest.raises(LakehouseError, match="source generator, seed 1; it cannot go on with source generator, seed 2"):
        run_weather("generator", {"seed": "2", "numRows": "20"}, steps=("bronze",))
    with pytest.raises(LakehouseError, match=rf"cannot go on with source files, path {landing}"):
        run_weather("files", {"path": str(landing.parent)}, steps=("bronze",))
    run_weather("generator", {"seed": "1", "numRows": "20"}, steps=("bronze",))
    assert DeltaTable(tmp_path / "lake" / "bronze" / "weather_readings").count() == 20


def records_in(server: Broker, topic: str, rows: int) -> dict[str, str]:
    """The options to read a topic that now has so many records."""
    options = {"kafka.bootstrap.servers": server.bootstrap_servers}
    deliver(Delivery(load_pipeline("weather"), 1, 0, rows, options | {"topic": topic}), "kafka", None)
    return options | {"subscribe": topic}


def test_a_topic_that_was_made_anew_is_another(broker: Broker, run_weather: RunWeather, tmp_path: Path) -> None:
    """Its first records have the offsets of those that were read before, and would be passed over."""
    before = records_in(broker, "made-anew", 10)
    run_weather("kafka", before, steps=("bronze",))
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.delete_topics(["made-anew"])["made-anew"].result()
    after = records_in(broker, "made-anew", 30)
    with pytest.raises(LakehouseError, match=r"subscribe made-anew, which is another .*\(its ids: topic made-anew "):
        run_weather("kafka", after, steps=("bronze",))
    assert DeltaTable(tmp_path / "lake" / "bronze" / "weather_readings").count() == 10


def test_a_topic_of_another_broker_is_another(broker: Broker, run_weather: RunWeather, tmp_path: Path) -> None:
    """Also where it stands at the same address: the cluster has an id of its own."""
    with Broker(tmp_path / "first") as first:
        run_weather("kafka", records_in(first, "moved", 10), steps=("bronze",))
    with pytest.raises(LakehouseError, match=r"subscribe moved, which is another .*\(its ids: cluster "):
        run_weather("kafka", records_in(broker, "moved", 30), steps=("bronze",))


def test_records_that_are_gone_are_told_also_where_that_is_allowed(
    broker: Broker, run_weather: RunWeather, tmp_path: Path
) -> None:
    """With failOnDataLoss=false a run goes on, and says which offsets it did not get."""
    create_topic(broker.bootstrap_servers, "aged", 1)
    run_weather("kafka", records_in(broker, "aged", 10), steps=("bronze",))
    options = records_in(broker, "aged", 20)  # offsets 10 to 29
    admin, gone = AdminClient({"bootstrap.servers": broker.bootstrap_servers}), TopicPartition("aged", 0, 25)
    admin.delete_records([gone])[gone].result()
    run = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--source", "kafka", "--step", "bronze"]
    words = [f"--option={name}={value}" for name, value in options.items()]
    run += [*words, "--option=failOnDataLoss=false", "--root", str(tmp_path / "lake")]
    ended = subprocess.run(run, stderr=subprocess.PIPE, text=True, check=True)
    assert re.search(r"(?s)WARN Kafka\w+: Cannot fetch offset 10\b.*earliest offset: 25\b", ended.stderr), ended.stderr
    assert DeltaTable(tmp_path / "lake" / "bronze" / "weather_readings").count() == 10 + 5


@pytest.mark.parametrize("mode", ["append", "update"])
def test_killed_around_a_commit_of_foreach_batch(tmp_path: Path, mode: str) -> None:
    """Two streams in one session; again and again the plug is pulled just before, or just after, one's Delta commit.

    Each run has more rows to do than the one before, so that each is killed in a batch of its own.
    """
    steps = ("bronze", "silver", "weather_device_hourly", "weather_device_sliding")
    words = [*(word for step in steps for word in ("--step", step)), "--mode", mode]
    rows = [10_500 + 1_500 * number for number in range(KILLS)]  # more than the hours until the first windows close
    for attempt, number in enumerate(rows):
        when = random.Random(attempt).choice(["before", "after", "after"])
        dying = [sys.executable, str(Path(__file__).parent / "dying.py"), str(1 + attempt % 2), when]
        more = ["--option", f"numRows={number}", *words]
        killed = subprocess.run(
            [*dying, *command(tmp_path / "killed", *more)[3:]],
            stderr=subprocess.PIPE, text=True, start_new_session=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    more = ["--option", f"numRows={rows[-1]}", *words]
    for root in ("killed", "undisturbed"):
        ended = subprocess.run(command(tmp_path / root, *more), stderr=subprocess.PIPE, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
    tables = ("gold/weather_device_hourly", "gold/weather_device_sliding")
    expected = contents(tmp_path / "undisturbed", tables)
    assert contents(tmp_path / "killed", tables) == expected
    assert all(expected.values())


def test_a_broker_that_dies_under_the_sink_is_told_and_no_row_is_missing(
    run_weather: RunWeather, tmp_path: Path
) -> None:
    """One line that names the step, and then the same command again: every row is there, under a key of its own."""
    lake, port = tmp_path / "lake", free_port()
    outward = {"kafka.bootstrap.servers": f"127.0.0.1:{port}", "topic": "hourly", "kafka.max.block.ms": "4000"}
    outward |= {"kafka.delivery.timeout.ms": "4000", "kafka.request.timeout.ms": "3000"}
    words = ["--step", "weather_device_hourly", "--sink", "kafka", "--trigger", "1 second"]
    words += [word for name, value in outward.items() for word in ("--option", f"sink.{name}={value}")]
    run_weather(options=DATA, steps=("bronze", "silver"))
    with Broker(tmp_path / "broker", port) as broker:
        create_topic(broker.bootstrap_servers, "hourly", 1)
        with running(lake, *words) as process:
            assert process.stderr is not None
            assert any("batch 0" in line for line in process.stderr), "nothing was sent"
            broker.stop()
            run_weather(options={**DATA, "numRows": "27000"}, steps=("bronze", "silver"))
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1, said
    assert said.splitlines()[-1].startswith("lakehouse: step 'weather_device_hourly' failed: "), said
    assert "Traceback" not in said
    with Broker(tmp_path / "broker", port) as broker:
        run_weather(steps=("weather_device_hourly",), sink="kafka", sink_options=outward)
        sent = {record.key: record.value for record in read_topic(broker.bootstrap_servers, "hourly")}
    run_weather(steps=("weather_device_hourly",))
    expected = DeltaTable(lake / "gold" / "weather_device_hourly").to_pyarrow_table(columns=["readings"]).to_pylist()
    readings = sorted(json.loads(value or b"")["readings"] for value in sent.values())
    assert readings == sorted(row["readings"] for row in expected) != []


def test_a_full_disk_is_told_and_leaves_no_half_a_commit(tmp_path: Path) -> None:
    """No file may grow beyond 1 MiB: bronze's first Parquet file cannot be written. With room again it goes on."""
    limited = ["sh", "-c", 'ulimit -f 1024; exec "$@"', "sh"]
    more = ["--option", "numRows=60000", "--option", "maxRowsPerTrigger=60000", "--step", "bronze"]
    failed = subprocess.run(
        [*limited, *command(tmp_path, *more)], stderr=subprocess.PIPE, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert failed.returncode == 1, failed.stderr
    assert "\nlakehouse: step 'bronze' failed: the disk is full" in failed.stderr
    table = tmp_path / "bronze" / "weather_readings"
    assert not list(table.glob("_delta_log/*.json"))
    ended = subprocess.run(command(tmp_path, *more), stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert DeltaTable(table).to_pyarrow_table(columns=["offset"]).num_rows == 60_000
