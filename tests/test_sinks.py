"""Gold tables sent to each sink, in each mode: the rows are those of the table, and a restart goes on exactly."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from conftest import RunWeather, run_at
from deltalake import DeltaTable
from namespace import Namespace
from pyspark.sql import SparkSession, types as T

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.settings import Table
from streaming_lakehouse.sinks import Outlet, delta, files, foreach, kafka

HOURLY = "weather_device_hourly"
HALF, ALL = {"numRows": "7500", "seed": "7"}, {"numRows": "15000", "seed": "7"}
GOLD = (HOURLY,)
KEY = ("device", "window_start")


Grow = Callable[[str], None]


@pytest.fixture(scope="module")
def stages(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A lake with half of the rows in silver, and the same lake later, with all of them; gold was never made."""
    folder = tmp_path_factory.mktemp("stages")
    run_at(folder / "half", options=HALF, steps=("bronze", "silver"))
    shutil.copytree(folder / "half", folder / "all")
    run_at(folder / "all", options=ALL, steps=("bronze", "silver"))
    return {stage: folder / stage for stage in ("half", "all")}


@pytest.fixture
def grow(stages: dict[str, Path], tmp_path: Path) -> Grow:
    """Brings the test's lake to the stage; what gold has there stays."""
    return lambda stage: shutil.copytree(stages[stage], tmp_path / "lake", dirs_exist_ok=True) and None


def table(root: Path, name: str) -> list[dict[str, Any]]:
    return DeltaTable(root / name).to_pyarrow_table().to_pylist()


def counted(lake: Path) -> dict[tuple[str, datetime], int]:
    """Readings per device and hour, told from silver by plain Python: all windows, closed or not."""
    counts: dict[tuple[str, datetime], int] = {}
    for row in table(lake, "silver/weather_readings"):
        place = (row["device"], row["time"].replace(minute=0, second=0, microsecond=0))
        counts[place] = counts.get(place, 0) + 1
    return counts


def readings(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, datetime], int]:
    """The same of a gold table's rows, each of which must have a key of its own."""
    told = list(rows)
    found = {(row["device"], moment(row["window_start"])): int(row["readings"]) for row in told}
    assert len(found) == len(told), "a key comes twice"
    return found


def moment(told: datetime | str) -> datetime:
    read = datetime.fromisoformat(told) if isinstance(told, str) else told
    return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)  # Parquet's INT96 has no zone


def closed(lake: Path) -> dict[tuple[str, datetime], int]:
    """The windows that end two hours or more before the newest event: those that append mode has written."""
    counts = counted(lake)
    newest = max(row["time"] for row in table(lake, "silver/weather_readings"))
    return {
        (device, start): number
        for (device, start), number in counts.items()
        if (newest - start).total_seconds() >= 3 * 3600
    }


@pytest.mark.parametrize(
    ("sink", "mode"), [("foreachBatch", "update"), ("foreachBatch", "complete"), ("delta", "complete")]
)
def test_a_table_that_is_updated_has_every_window(
    run_weather: RunWeather, grow: Grow, tmp_path: Path, sink: str, mode: str
) -> None:
    """Half of the rows fall into windows that the second run adds to: their rows are replaced, not doubled."""
    for stage in ("half", "all"):
        grow(stage)
        run_weather(steps=GOLD, sink=sink, mode=mode)
        assert readings(table(tmp_path / "lake", f"gold/{HOURLY}")) == counted(tmp_path / "lake")


def test_the_stream_sink_of_delta_appends_closed_windows(run_weather: RunWeather, grow: Grow, tmp_path: Path) -> None:
    for stage in ("half", "all"):
        grow(stage)
        run_weather(steps=GOLD, sink="delta")
    assert readings(table(tmp_path / "lake", f"gold/{HOURLY}")) == closed(tmp_path / "lake") != {}


def test_a_new_checkpoint_over_the_old_table_skips_nothing_and_doubles_nothing(
    run_weather: RunWeather, grow: Grow, tmp_path: Path
) -> None:
    """The checkpoint is lost, then more rows come, in batches that are numbered from 0 again."""
    lake, checkpoint = tmp_path / "lake", tmp_path / "lake/_checkpoints/weather" / HOURLY
    grow("half")
    run_weather(steps=GOLD)
    before = readings(table(lake, f"gold/{HOURLY}"))
    shutil.rmtree(checkpoint)
    run_weather(steps=GOLD)
    assert readings(table(lake, f"gold/{HOURLY}")) == before == closed(lake) != {}
    grow("all")
    run_weather(steps=GOLD)
    after = readings(table(lake, f"gold/{HOURLY}"))
    assert after == closed(lake)
    assert len(after) > len(before)


def test_of_two_ages_an_older_table_is_refused_and_an_older_checkpoint_merges_again(
    run_weather: RunWeather, grow: Grow, tmp_path: Path
) -> None:
    """An older table would lack rows that are counted as merged; what is merged twice is as it was."""
    lake, backup = tmp_path / "lake", tmp_path / "backup"
    grow("half")
    run_weather(steps=GOLD, mode="update")
    shutil.copytree(lake, backup)
    grow("all")
    for _ in range(2):
        run_weather(steps=GOLD, mode="update")
    (lake / "gold").rename(tmp_path / "newer")
    shutil.copytree(backup / "gold", lake / "gold")
    with pytest.raises(
        LakehouseError, match=rf"'{HOURLY}' has .* into version \d of gold\.{HOURLY}, .* none after \d:"
    ):
        run_weather(steps=GOLD, mode="update")
    shutil.rmtree(lake / "gold")
    (tmp_path / "newer").rename(lake / "gold")
    shutil.rmtree(lake / "_checkpoints/weather" / HOURLY)
    shutil.copytree(backup / "_checkpoints/weather" / HOURLY, lake / "_checkpoints/weather" / HOURLY)
    run_weather(steps=GOLD, mode="update")
    assert readings(table(lake, f"gold/{HOURLY}")) == counted(lake)


def records(servers: str, topic: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """All keys and values of the topic's only partition."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "test"})
    place = TopicPartition(topic, 0, 0)
    end = consumer.get_watermark_offsets(place, timeout=30)[1]
    consumer.assign([place])
    found = consumer.consume(end, timeout=30) if end else []
    consumer.close()
    assert len(found) == end
    return [(json.loads(record.key()), json.loads(record.value())) for record in found]


def test_kafka_gets_each_row_under_its_key_and_a_repeat_under_the_same(
    run_weather: RunWeather, grow: Grow, broker: Broker, tmp_path: Path
) -> None:
    """A batch whose end was not noted is sent again: a compacted topic would keep one record of each key."""
    lake, servers = tmp_path / "lake", broker.bootstrap_servers
    create_topic(servers, "hourly", 1)
    grow("all")
    outward = {"sink": "kafka", "sink_options": {"kafka.bootstrap.servers": servers, "topic": "hourly"}}
    run_weather(steps=GOLD, **outward)
    sent = records(servers, "hourly")
    assert readings(value for _, value in sent) == closed(lake) != {}
    assert all(key == {name: value[name] for name in KEY} for key, value in sent)
    commits = lake / "_checkpoints/weather" / f"{HOURLY}.kafka" / "commits"
    for entry in sorted(commits.glob("*[0-9]"))[-2:]:  # of the rows, and of the batch without, that closed windows
        entry.unlink()
        (commits / f".{entry.name}.crc").unlink()
    run_weather(steps=GOLD, **outward)
    again = records(servers, "hourly")
    assert len(again) == 2 * len(sent)
    assert sorted(map(str, again)) == sorted(map(str, [*sent, *sent]))


def test_a_topic_of_another_broker_or_made_anew_is_another(
    run_weather: RunWeather, grow: Grow, broker: Broker, tmp_path: Path
) -> None:
    """It lacks the rows that are counted as sent. Also of a topic that the broker made for the first row."""
    grow("half")
    checkpoint = tmp_path / "lake/_checkpoints/weather" / f"{HOURLY}.kafka"
    with Broker(tmp_path / "broker") as first:
        outward = {"kafka.bootstrap.servers": first.bootstrap_servers, "topic": "anew"}
        for _ in range(2):
            run_weather(steps=GOLD, sink="kafka", sink_options=outward)
        admin = AdminClient({"bootstrap.servers": first.bootstrap_servers})
        admin.delete_topics(["anew"])["anew"].result()
        create_topic(first.bootstrap_servers, "anew", 1)
        with pytest.raises(LakehouseError, match=rf"topic anew, which .*ids: topic anew .*move away {checkpoint}, so"):
            run_weather(steps=GOLD, sink="kafka", sink_options=outward)
    with pytest.raises(LakehouseError, match=r"topic anew, which is another .*\(its ids: cluster "):
        run_weather(
            steps=GOLD, sink="kafka", sink_options={**outward, "kafka.bootstrap.servers": broker.bootstrap_servers}
        )


def test_a_broker_that_goes_after_the_last_row_is_a_warning(
    run_weather: RunWeather,
    grow: Grow,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The rows are written; only what was new to the sink could not be noted, and the next run does that."""
    create_topic(broker.bootstrap_servers, "goes-after", 1)
    grow("half")
    asked, true_ids = [], kafka.SINK.ids

    def ids(spark: SparkSession, outlet: Outlet) -> dict[str, str]:
        asked.append(outlet)
        if len(asked) > 1:
            raise LakehouseError("no broker at its address")
        return true_ids(spark, outlet)

    monkeypatch.setattr(kafka, "SINK", replace(kafka.SINK, ids=ids))
    outward = {"kafka.bootstrap.servers": broker.bootstrap_servers, "topic": "goes-after"}
    run_weather(steps=GOLD, sink="kafka", sink_options=outward)
    assert len(asked) == 2
    assert "what was new to its sink is noted by the next run: no broker at its address" in caplog.text


def test_event_hubs_gets_each_row(
    run_weather: RunWeather, grow: Grow, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CONNECTION_STRING", namespace.string())
    create_topic(namespace.broker.bootstrap_servers, "hourly", 1)
    outward = {"eventhubs.name": "hourly", **namespace.trust}
    grow("all")
    run_weather(steps=GOLD, sink="eventhubs", sink_options=outward)
    sent = records(namespace.broker.bootstrap_servers, "hourly")
    assert readings(value for _, value in sent) == closed(tmp_path / "lake") != {}


def of_files(folder: Path, form: str) -> list[dict[str, Any]]:
    found = sorted(folder.rglob(f"*.{form}"))
    if form == "parquet":
        return [row for file in found for row in pq.read_table(file, coerce_int96_timestamp_unit="us").to_pylist()]
    if form in ("json", "jsonl"):
        return [json.loads(line) for file in found for line in file.read_text().splitlines()]
    return [row for file in found for row in csv.DictReader(file.open())]


@pytest.mark.parametrize("form", ["parquet", "json", "csv"])
def test_files_of_each_format(run_weather: RunWeather, grow: Grow, tmp_path: Path, form: str) -> None:
    """Read by others than Spark; in two runs, the second of which adds files."""
    options = {"path": str(tmp_path / "out"), "format": form}
    for stage in ("half", "all"):
        grow(stage)
        run_weather(steps=GOLD, sink="files", sink_options=options)
    assert readings(of_files(tmp_path / "out" / HOURLY, form)) == closed(tmp_path / "lake") != {}


def test_files_in_folders_by_a_column(run_weather: RunWeather, grow: Grow, tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "out"), "format": "json", "partitionBy": "device"}
    grow("all")
    run_weather(steps=GOLD, sink="files", sink_options=options)
    folders = {folder.name for folder in (tmp_path / "out" / HOURLY).glob("device=*")}
    assert folders == {f"device={device}" for device, _ in closed(tmp_path / "lake")}
    with pytest.raises(LakehouseError, match=r"has no column 'devise' to partition by; did you mean 'device'"):
        run_weather(
            steps=GOLD, sink="files", sink_options={"path": str(tmp_path / "other"), "partitionBy": "devise"},
            root=tmp_path / "new",
        )  # fmt: skip


@pytest.mark.parametrize("mode", ["append", "update"])
def test_foreach_writes_row_by_row(run_weather: RunWeather, grow: Grow, tmp_path: Path, mode: str) -> None:
    """A repeat of a batch writes its files again: nothing is doubled, in append and in update mode."""
    lake, options = tmp_path / "lake", {"path": str(tmp_path / "out")}
    grow("all")
    run_weather(steps=GOLD, sink="foreach", mode=mode, sink_options=options)
    rows = foreach.read(tmp_path / "out" / HOURLY)
    assert readings(rows) == (closed(lake) if mode == "append" else counted(lake)) != {}
    newest = max(
        (entry for entry in (lake / "_checkpoints/weather" / f"{HOURLY}.foreach/commits").glob("[0-9]*")),
        key=lambda entry: int(entry.name),
    )
    newest.unlink()
    (newest.parent / f".{newest.name}.crc").unlink()
    stale = tmp_path / "out" / HOURLY / f"{int(newest.name):09d}-00099.jsonl"  # on a machine with more cores
    stale.write_text(json.dumps(rows[0]) + "\n")
    run_weather(steps=GOLD, sink="foreach", mode=mode, sink_options=options)
    assert sorted(map(str, foreach.read(tmp_path / "out" / HOURLY))) == sorted(map(str, rows))
    assert not list((tmp_path / "out").rglob("*.draft"))


def test_foreach_leaves_nothing_of_a_task_that_failed(tmp_path: Path) -> None:
    writer = foreach.LineFiles(str(tmp_path))
    assert writer.open(partition_id=0, epoch_id=3)
    writer.close(ValueError("the task is gone"))
    assert list(tmp_path.iterdir()) == []


def test_memory_is_a_table_of_the_session(
    run_weather: RunWeather, grow: Grow, spark: SparkSession, tmp_path: Path
) -> None:
    """And begins anew with every run, since it ends with the process."""
    grow("all")
    run_weather(steps=GOLD, sink="memory", mode="complete")
    for _ in range(2):
        rows = [row.asDict() for row in spark.table(HOURLY).collect()]
        assert {(row["device"], row["readings"]) for row in rows} == {
            (device, number) for (device, _), number in counted(tmp_path / "lake").items()
        }
        run_weather(steps=GOLD, sink="memory", mode="complete")


@pytest.mark.parametrize(
    ("sink", "options", "told"),
    [
        ("kafka", {}, r"sink 'kafka' needs --option sink\.kafka\.bootstrap\.servers"),
        ("kafka", {"kafka.bootstrap.servers": "127.0.0.1:1"}, r"sink 'kafka': no broker answers at 127\.0\.0\.1:1"),
        ("kafka", {"kafka.bootstrap.servers": "kafka.example.com:9092"}, "would travel in clear"),
        ("kafka", {"topci": "x"}, "sink 'kafka' has no option 'topci'; did you mean 'topic'"),
        ("kafka", {"kafka.sasl.jaas.config": "x"}, "is a credential"),
        ("eventhubs", {}, "needs eventhubs.connectionString"),
        ("files", {}, "sink 'files' needs --option path"),
        ("files", {"path": "out", "format": "xml"}, "there is no format 'xml'"),
        ("files", {"path": "out", "header": "si"}, "header is true or false"),
        ("foreach", {}, "sink 'foreach' needs --option path"),
        ("console", {"numRows": "many"}, "numRows is a whole number"),
        ("memory", {"path": "x"}, "sink 'memory' has no option 'path'"),
        ("delta", {"path": "x"}, "sink 'delta' has no option 'path'"),
        ("deltaa", {}, "there is no sink 'deltaa'; did you mean 'delta'"),
    ],
)
def test_what_is_wrong_is_told(run_weather: RunWeather, sink: str, options: dict[str, str], told: str) -> None:
    with pytest.raises(LakehouseError, match=told):
        run_weather(steps=GOLD, sink=sink, sink_options=options)


def test_a_topic_that_is_not_there_is_told(run_weather: RunWeather, grow: Grow, broker: Broker) -> None:
    options = {"kafka.bootstrap.servers": broker.bootstrap_servers, "topic": "no topic of this name"}
    with pytest.raises(LakehouseError, match=r"step 'weather_device_hourly' failed.*no topic of this name"):
        grow("all")
        run_weather(steps=GOLD, sink="kafka",
                    sink_options={**options, "kafka.max.block.ms": "3000"})  # fmt: skip


def test_a_checkpoint_belongs_to_its_sink_and_mode(run_weather: RunWeather, grow: Grow, tmp_path: Path) -> None:
    """In another mode, or to another folder, the rows of before would be missing; by two sinks a table's be doubled."""
    grow("half")
    run_weather(steps=GOLD)
    checkpoint = tmp_path / "lake/_checkpoints/weather" / HOURLY
    with pytest.raises(
        LakehouseError, match=rf"mode append; it cannot .*mode update: give .* move away {checkpoint}, "
    ):
        run_weather(steps=GOLD, mode="update")
    with pytest.raises(LakehouseError, match=r"went to sink foreachBatch.*cannot go on with sink delta"):
        run_weather(steps=GOLD, sink="delta")
    for folder in ("one", "two"):
        outward = {"sink": "files", "sink_options": {"path": str(tmp_path / folder)}}
        if folder == "two":
            with pytest.raises(LakehouseError, match="it cannot go on with"):
                run_weather(steps=GOLD, **outward)
        else:
            run_weather(steps=GOLD, **outward)


@pytest.mark.parametrize("sink", ["files", "foreach"])
def test_a_folder_that_another_checkpoint_has_written_is_refused(
    run_weather: RunWeather, grow: Grow, tmp_path: Path, sink: str
) -> None:
    """Batches are told apart by their numbers: a new checkpoint's first ones would be skipped, or overwrite others."""
    grow("half")
    run_weather(steps=GOLD, sink=sink, sink_options={"path": str(tmp_path / "out")})
    shutil.rmtree(tmp_path / "lake/_checkpoints/weather" / f"{HOURLY}.{sink}")
    with pytest.raises(LakehouseError, match="has what another checkpoint counts as written"):
        run_weather(steps=GOLD, sink=sink, sink_options={"path": str(tmp_path / "out")})


@pytest.mark.parametrize(("sink", "form"), [("files", "json"), ("foreach", "jsonl")])
def test_a_folder_and_a_checkpoint_of_two_ages_are_refused(
    run_weather: RunWeather, grow: Grow, tmp_path: Path, sink: str, form: str
) -> None:
    """Whichever of them came back from a backup, or is gone; a run without news, and a batch without rows, are well."""
    folder, checkpoint = tmp_path / "out" / HOURLY, tmp_path / "lake/_checkpoints/weather" / f"{HOURLY}.{sink}"
    options = {"path": str(tmp_path / "out"), **({"format": form} if sink == "files" else {})}
    run = partial(run_weather, steps=GOLD, sink=sink, sink_options=options)
    for stage in ("half", "all"):
        grow(stage)
        for _ in range(2):
            run()
        shutil.copytree(folder, tmp_path / stage / "out")
        shutil.copytree(checkpoint, tmp_path / stage / "checkpoint")
    written = of_files(folder, form)
    for part, backup, told in (
        (checkpoint, "checkpoint", rf"{folder} has batch \d, but {checkpoint} knows of none after \d: .*bring it back"),
        (folder, "out", rf"{checkpoint} has batch \d as written, but {folder} has none after \d: .*bring it back"),
        (folder, None, rf"{checkpoint} has batch \d as written, but {folder} has none: .*move away both"),
    ):
        shutil.rmtree(part)
        if backup:
            shutil.copytree(tmp_path / "half" / backup, part)
        with pytest.raises(LakehouseError, match=told):
            run()
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(tmp_path / "all" / (backup or "out"), part)
    run()
    assert of_files(folder, form) == written != []


def test_a_log_of_files_that_was_drawn_together_tells_its_newest_batch(tmp_path: Path) -> None:
    """As every tenth entry is; those before it are removed in time."""
    log = tmp_path / "_spark_metadata"
    log.mkdir()
    for entry in ("8", "9.compact", ".9.compact.crc"):
        (log / entry).touch()
    assert max(files._batches(str(tmp_path))) == 9


def test_what_a_table_lacks_is_told_and_can_be_added(spark: SparkSession, tmp_path: Path) -> None:
    """Names have no case; a column of nulls alone is none."""
    table = Table("gold", "totals", path=str(tmp_path / "totals"))

    def schema(text: str) -> T.StructType:
        return spark.createDataFrame([], text).schema

    delta.ensure(spark, table, schema("device string, total bigint"))
    wanted = schema("TOTAL bigint, `wind-speed` double, nothing void")
    new = delta.lacking(spark, table, wanted)
    assert [column.name for column in new] == ["wind-speed"]
    delta.widen(spark, table, new)
    assert delta.lacking(spark, table, wanted) == []
    assert delta.read(spark, table).columns == ["device", "total", "wind-speed"]
    delta.refuse_other_types(spark, table, schema("Device string, other int"), "rebuild")
    with pytest.raises(
        LakehouseError, match=r"gold\.totals .* Total is bigint there and double in the pipeline; rebuild"
    ):
        delta.refuse_other_types(spark, table, schema("device string, Total double"), "rebuild")
