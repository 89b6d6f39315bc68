"""Gold tables written to each sink, in each mode: the rows are those of the table, and a restart resumes exactly."""

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

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from conftest import ALL, HALF, Prepare, RunWeather
from deltalake import DeltaTable
from pyspark.sql import SparkSession, types as T
from support.fake_eventhubs import Namespace

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.sinks import QueryConfig, WriteRequest, delta, files, foreach, kafka

HOURLY = "weather_device_hourly"
STEP = f"gold.{HOURLY}"
STAGES = {"half": (HALF,), "all": (HALF, ALL)}
GOLD = (HOURLY,)
KEY = ("device", "window_start")


AdvanceTo = Callable[[str], None]


@pytest.fixture
def advance_to(prepare: Prepare) -> AdvanceTo:
    """Advances bronze and silver of the test's lake to half or all of the rows; gold is left unchanged."""
    return lambda stage: prepare(*STAGES[stage])


def table(root: Path, name: str) -> list[dict[str, Any]]:
    return DeltaTable(root / name).to_pyarrow_table().to_pylist()


def count_per_window(lake: Path) -> dict[tuple[str, datetime], int]:
    """Readings per device and hour, counted from silver in plain Python: all windows, closed or not."""
    counts: dict[tuple[str, datetime], int] = {}
    for row in table(lake, "silver/weather_readings"):
        window = (row["device"], row["time"].replace(minute=0, second=0, microsecond=0))
        counts[window] = counts.get(window, 0) + 1
    return counts


def windows_of(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, datetime], int]:
    """Readings per device and hour in the rows of a gold table; the keys must be unique."""
    written = list(rows)
    found = {(row["device"], utc(row["window_start"])): int(row["readings"]) for row in written}
    assert len(found) == len(written), "a key comes twice"
    return found


def utc(value: datetime | str) -> datetime:
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)  # Parquet's INT96 has no zone


def closed_windows(lake: Path) -> dict[tuple[str, datetime], int]:
    """The windows that end two hours or more before the newest event: those that append mode writes."""
    counts = count_per_window(lake)
    newest = max(row["time"] for row in table(lake, "silver/weather_readings"))
    return {
        (device, start): number
        for (device, start), number in counts.items()
        if (newest - start).total_seconds() >= 3 * 3600
    }


@pytest.mark.parametrize(("sink", "mode"), [("delta", "update"), ("delta", "complete"), ("delta-native", "complete")])
def test_a_table_that_is_updated_has_every_window(
    run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path, sink: str, mode: str
) -> None:
    """Half of the windows get more readings in the second run: their rows are replaced, not duplicated."""
    for stage in ("half", "all"):
        advance_to(stage)
        run_weather(steps=GOLD, sink=sink, mode=mode)
        assert windows_of(table(tmp_path / "lake", f"gold/{HOURLY}")) == count_per_window(tmp_path / "lake")


def test_the_native_sink_of_delta_appends_closed_windows(
    run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path
) -> None:
    for stage in ("half", "all"):
        advance_to(stage)
        run_weather(steps=GOLD, sink="delta-native")
    assert windows_of(table(tmp_path / "lake", f"gold/{HOURLY}")) == closed_windows(tmp_path / "lake") != {}


@pytest.mark.parametrize(("sink", "name_in_0_1"), [("delta", "foreachBatch"), ("delta-native", "delta")])
def test_a_checkpoint_of_version_0_1_resumes_under_the_new_name(
    run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path, sink: str, name_in_0_1: str
) -> None:
    """Also after a kill between the last batch's write and its commit: the batch is not written again."""
    lake, checkpoint = tmp_path / "lake", tmp_path / "lake/_checkpoints/weather" / STEP
    advance_to("half")
    run_weather(steps=GOLD, sink=sink)
    before = windows_of(table(lake, f"gold/{HOURLY}"))
    recorded = json.loads((checkpoint / "sink.json").read_text())
    (checkpoint / "sink.json").write_text(json.dumps({**recorded, "sink": name_in_0_1}))
    last = metadata.latest_commit_batch(str(checkpoint))
    for entry in (str(last), f".{last}.crc"):
        (checkpoint / "commits" / entry).unlink()
    run_weather(steps=GOLD)
    assert windows_of(table(lake, f"gold/{HOURLY}")) == before == closed_windows(lake) != {}
    advance_to("all")
    run_weather(steps=GOLD)
    assert windows_of(table(lake, f"gold/{HOURLY}")) == closed_windows(lake) != before


def test_a_new_checkpoint_over_the_old_table_skips_and_duplicates_nothing(
    run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path
) -> None:
    """The checkpoint is lost, then more rows arrive, in batches that are numbered from 0 again."""
    lake, checkpoint = tmp_path / "lake", tmp_path / "lake/_checkpoints/weather" / STEP
    advance_to("half")
    run_weather(steps=GOLD)
    before = windows_of(table(lake, f"gold/{HOURLY}"))
    shutil.rmtree(checkpoint)
    run_weather(steps=GOLD)
    assert windows_of(table(lake, f"gold/{HOURLY}")) == before == closed_windows(lake) != {}
    advance_to("all")
    run_weather(steps=GOLD)
    after = windows_of(table(lake, f"gold/{HOURLY}"))
    assert after == closed_windows(lake)
    assert len(after) > len(before)


def test_an_older_table_is_refused_and_an_older_checkpoint_merges_again(
    run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path
) -> None:
    """An older table would lack rows that the checkpoint has as merged; merging rows twice changes nothing."""
    lake, backup = tmp_path / "lake", tmp_path / "backup"
    advance_to("half")
    run_weather(steps=GOLD, mode="update")
    shutil.copytree(lake, backup)
    advance_to("all")
    for _ in range(2):
        run_weather(steps=GOLD, mode="update")
    (lake / "gold").rename(tmp_path / "newer")
    shutil.copytree(backup / "gold", lake / "gold")
    with pytest.raises(LakehouseError, match=rf"'{STEP}' has .* into version \d of gold\.{HOURLY}, .* none after \d:"):
        run_weather(steps=GOLD, mode="update")
    shutil.rmtree(lake / "gold")
    (tmp_path / "newer").rename(lake / "gold")
    shutil.rmtree(lake / "_checkpoints/weather" / STEP)
    shutil.copytree(backup / "_checkpoints/weather" / STEP, lake / "_checkpoints/weather" / STEP)
    run_weather(steps=GOLD, mode="update")
    assert windows_of(table(lake, f"gold/{HOURLY}")) == count_per_window(lake)


def records(servers: str, topic: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """All keys and values of the topic's only partition."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "test"})
    partition = TopicPartition(topic, 0, 0)
    end = consumer.get_watermark_offsets(partition, timeout=30)[1]
    consumer.assign([partition])
    found = consumer.consume(end, timeout=30) if end else []
    consumer.close()
    assert len(found) == end
    return [(json.loads(record.key()), json.loads(record.value())) for record in found]


def test_kafka_gets_each_row_under_its_key_also_in_a_replayed_batch(
    run_weather: RunWeather, advance_to: AdvanceTo, broker: Broker, tmp_path: Path
) -> None:
    """A batch that is not in the commit log is sent again: a compacted topic retains one record per key."""
    lake, servers = tmp_path / "lake", broker.bootstrap_servers
    create_topic(servers, "hourly", 1)
    advance_to("all")
    to_kafka = {"sink": "kafka", "sink_options": {"kafka.bootstrap.servers": servers, "topic": "hourly"}}
    run_weather(steps=GOLD, **to_kafka)
    sent = records(servers, "hourly")
    assert windows_of(value for _, value in sent) == closed_windows(lake) != {}
    assert all(key == {name: value[name] for name in KEY} for key, value in sent)
    commits = lake / "_checkpoints/weather" / f"{STEP}.kafka" / "commits"
    for entry in sorted(commits.glob("*[0-9]"))[-2:]:  # the batch with rows, and the one without, which closed windows
        entry.unlink()
        (commits / f".{entry.name}.crc").unlink()
    run_weather(steps=GOLD, **to_kafka)
    again = records(servers, "hourly")
    assert len(again) == 2 * len(sent)
    assert sorted(map(str, again)) == sorted(map(str, [*sent, *sent]))


def test_a_recreated_topic_and_one_of_another_cluster_are_refused(
    run_weather: RunWeather, advance_to: AdvanceTo, broker: Broker, tmp_path: Path
) -> None:
    """It lacks the rows that the checkpoint has as sent; also a topic that the broker created for the first row."""
    advance_to("half")
    checkpoint = tmp_path / "lake/_checkpoints/weather" / f"{STEP}.kafka"
    with Broker(tmp_path / "broker") as first:
        sink_options = {"kafka.bootstrap.servers": first.bootstrap_servers, "topic": "recreated"}
        for _ in range(2):
            run_weather(steps=GOLD, sink="kafka", sink_options=sink_options)
        admin = AdminClient({"bootstrap.servers": first.bootstrap_servers})
        admin.delete_topics(["recreated"])["recreated"].result()
        create_topic(first.bootstrap_servers, "recreated", 1)
        refused = rf"topic recreated, which .*\(topic recreated .*archive {checkpoint}, so"
        with pytest.raises(LakehouseError, match=refused):
            run_weather(steps=GOLD, sink="kafka", sink_options=sink_options)
    with pytest.raises(LakehouseError, match=r"topic recreated, which was recreated .*\(cluster "):
        run_weather(
            steps=GOLD, sink="kafka", sink_options={**sink_options, "kafka.bootstrap.servers": broker.bootstrap_servers}
        )


def test_a_broker_that_fails_after_the_last_row_is_a_warning(
    run_weather: RunWeather,
    advance_to: AdvanceTo,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The rows are written; only the new topic's id could not be recorded, which the next run does."""
    create_topic(broker.bootstrap_servers, "goes-after", 1)
    advance_to("half")
    requests, real_fingerprint = [], kafka.SINK.fingerprint

    def fingerprint(spark: SparkSession, request: WriteRequest) -> dict[str, str]:
        requests.append(request)
        if len(requests) > 1:
            raise LakehouseError("no broker at its address")
        return real_fingerprint(spark, request)

    monkeypatch.setattr(kafka, "SINK", replace(kafka.SINK, fingerprint=fingerprint))
    sink_options = {"kafka.bootstrap.servers": broker.bootstrap_servers, "topic": "goes-after"}
    run_weather(steps=GOLD, sink="kafka", sink_options=sink_options)
    assert len(requests) == 2
    assert "the id of its topic will be recorded by the next run: no broker at its address" in caplog.text


def test_event_hubs_gets_each_row(
    run_weather: RunWeather,
    advance_to: AdvanceTo,
    namespace: Namespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CONNECTION_STRING", namespace.string())
    create_topic(namespace.broker.bootstrap_servers, "hourly", 1)
    sink_options = {"eventhubs.name": "hourly", **namespace.trust}
    advance_to("all")
    run_weather(steps=GOLD, sink="eventhubs", sink_options=sink_options)
    sent = records(namespace.broker.bootstrap_servers, "hourly")
    assert windows_of(value for _, value in sent) == closed_windows(tmp_path / "lake") != {}


def of_files(folder: Path, form: str) -> list[dict[str, Any]]:
    found = sorted(folder.rglob(f"*.{form}"))
    if form == "parquet":
        return [row for file in found for row in pq.read_table(file, coerce_int96_timestamp_unit="us").to_pylist()]
    if form in ("json", "jsonl"):
        return [json.loads(line) for file in found for line in file.read_text().splitlines()]
    return [row for file in found for row in csv.DictReader(file.open())]


@pytest.mark.parametrize("form", ["parquet", "json", "csv"])
def test_files_of_each_format(run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path, form: str) -> None:
    """Read without Spark; in two runs, the second of which adds files."""
    options = {"path": str(tmp_path / "out"), "format": form}
    for stage in ("half", "all"):
        advance_to(stage)
        run_weather(steps=GOLD, sink="files", sink_options=options)
    assert windows_of(of_files(tmp_path / "out" / HOURLY, form)) == closed_windows(tmp_path / "lake") != {}


def as_after_a_run_without_rows(lake: Path) -> None:
    """Silver has a checkpoint and no table: gold may run over it."""
    (lake / "_checkpoints/weather/silver.weather_readings").mkdir(parents=True)


STRINGS = (
    *(
        "plain",
        'a",b',
        " lead",
        "trail ",
        "\tlead",
        "trail\t",
        'st"1',
        '"quoted"',
        '"',
        ",",
        "\\",
        "end\\",
        '\\"',
        "#hash",
    ),
    *(
        "a\nb",
        "a\rb",
        "a\r\nb",
        "\n",
        "\r",
        " ",
        "it's",
        "a;b|c",
        "NULL",
        "\\N",
        "\ufeffbom",
        "\u2028",
        "\u00a0",
        "ü東🙂",
    ),
    *("", None),
)
MOMENT = datetime(2026, 5, 1, 10, 0, 0, 123456, tzinfo=UTC)


def written(spark: SparkSession, folder: Path, rows: list[Any], columns: list[str], options: dict[str, str]) -> Path:
    """The file that the sink makes of these rows, which a stream reads from a table."""
    spark.createDataFrame(rows).coalesce(1).write.format("delta").save(str(folder / "in"))
    query = QueryConfig("rows", str(folder / "checkpoint"), parse_trigger("available-now"))
    request = WriteRequest(Table("gold", "rows", path="unused"), (), query, {"path": str(folder / "out"), **options})
    stream = spark.readStream.format("delta").load(str(folder / "in")).toDF(*columns)
    files.start(stream, request).awaitTermination()
    (file,) = (folder / "out/rows").glob("part-*")
    return file


@pytest.mark.parametrize("separator", [",", "\t"])
def test_every_string_in_csv_is_read_as_it_is_in_the_table(spark: SparkSession, tmp_path: Path, separator: str) -> None:
    """By Python, pandas and DuckDB, with the separator as the only option; DuckDB distinguishes "" from a null."""
    rows = [(number, text, MOMENT) for number, text in enumerate(STRINGS)]
    columns = ["number", 'a "text"', "at,"]
    file = written(spark, tmp_path, rows, columns, {"format": "csv", "sep": separator})
    with file.open(newline="", encoding="utf-8") as lines:
        header, *by_python = list(csv.reader(lines, delimiter=separator))
    by_pandas = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False)
    by_duckdb = duckdb.sql(f"FROM read_csv('{file}', all_varchar=true, allow_quoted_nulls=false)").fetchall()
    assert header == list(by_pandas.columns) == columns
    texts = [text or "" for text in STRINGS]
    assert [row[1] for row in by_python] == list(by_pandas['a "text"']) == texts
    assert [row[1] for row in by_duckdb] == list(STRINGS)
    assert {row[2] for row in by_python} == {"2026-05-01T10:00:00.123456Z"}


def test_a_null_in_the_only_column_of_a_csv_file_is_a_row(spark: SparkSession, tmp_path: Path) -> None:
    """Spark would write no line for it."""
    file = written(spark, tmp_path, [("a",), (None,), ("",)], ["text"], {"format": "csv"})
    assert file.read_text() == '"text"\n"a"\n""\n""\n'


def test_json_keeps_microseconds(spark: SparkSession, tmp_path: Path) -> None:
    """And the key of a row in Kafka: two rows of one millisecond would have the same."""
    file = written(spark, tmp_path, [(MOMENT,)], ["at"], {"format": "json"})
    assert json.loads(file.read_text()) == {"at": "2026-05-01T10:00:00.123456Z"}
    key = spark.createDataFrame([(MOMENT,)], "at timestamp").select(kafka.to_json_column("at")).collect()[0][0]
    assert json.loads(key) == {"at": "2026-05-01T10:00:00.123456Z"}


def test_files_in_folders_by_a_column(run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "out"), "format": "json", "partitionBy": "device"}
    advance_to("all")
    run_weather(steps=GOLD, sink="files", sink_options=options)
    folders = {folder.name for folder in (tmp_path / "out" / HOURLY).glob("device=*")}
    assert folders == {f"device={device}" for device, _ in closed_windows(tmp_path / "lake")}
    as_after_a_run_without_rows(tmp_path / "new")
    with pytest.raises(LakehouseError, match=r"has no column 'devise' to partition by; did you mean 'device'"):
        run_weather(
            steps=GOLD, sink="files", sink_options={"path": str(tmp_path / "other"), "partitionBy": "devise"},
            root=tmp_path / "new",
        )  # fmt: skip


@pytest.mark.parametrize("mode", ["append", "update"])
def test_foreach_writes_row_by_row(run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path, mode: str) -> None:
    """A replayed batch writes its files again: no row is duplicated, in append and in update mode."""
    lake, options = tmp_path / "lake", {"path": str(tmp_path / "out")}
    advance_to("all")
    run_weather(steps=GOLD, sink="foreach", mode=mode, sink_options=options)
    rows = foreach.read(tmp_path / "out" / HOURLY)
    assert windows_of(rows) == (closed_windows(lake) if mode == "append" else count_per_window(lake)) != {}
    newest = max(
        (entry for entry in (lake / "_checkpoints/weather" / f"{STEP}.foreach/commits").glob("[0-9]*")),
        key=lambda entry: int(entry.name),
    )
    newest.unlink()
    (newest.parent / f".{newest.name}.crc").unlink()
    stale = tmp_path / "out" / HOURLY / f"{int(newest.name):09d}-00099.jsonl"  # on a machine with more cores
    stale.write_text(json.dumps(rows[0]) + "\n")
    run_weather(steps=GOLD, sink="foreach", mode=mode, sink_options=options)
    assert sorted(map(str, foreach.read(tmp_path / "out" / HOURLY))) == sorted(map(str, rows))
    assert not list((tmp_path / "out").rglob("*.draft"))


def test_foreach_removes_the_file_of_a_failed_task(tmp_path: Path) -> None:
    writer = foreach.JsonLinesWriter(str(tmp_path))
    assert writer.open(partition_id=0, epoch_id=3)
    writer.close(ValueError("the task is gone"))
    assert list(tmp_path.iterdir()) == []


def test_memory_is_a_table_of_the_session(
    run_weather: RunWeather, advance_to: AdvanceTo, spark: SparkSession, tmp_path: Path
) -> None:
    """And starts from scratch with every run, since it ends with the process."""
    advance_to("all")
    run_weather(steps=GOLD, sink="memory", mode="complete")
    for _ in range(2):
        rows = [row.asDict() for row in spark.table(HOURLY).collect()]
        assert {(row["device"], row["readings"]) for row in rows} == {
            (device, number) for (device, _), number in count_per_window(tmp_path / "lake").items()
        }
        run_weather(steps=GOLD, sink="memory", mode="complete")


@pytest.mark.parametrize(
    ("sink", "options", "message"),
    [
        ("kafka", {}, r"sink 'kafka' needs --option sink\.kafka\.bootstrap\.servers"),
        (
            "kafka",
            {"kafka.bootstrap.servers": "127.0.0.1:1"},
            r"sink 'kafka': no broker is reachable at 127\.0\.0\.1:1",
        ),
        ("kafka", {"kafka.bootstrap.servers": "kafka.example.com:9092"}, "would be sent in plaintext"),
        ("kafka", {"topci": "x"}, "sink 'kafka' has no option 'topci'; did you mean 'topic'"),
        ("kafka", {"kafka.sasl.jaas.config": "x"}, "is a credential"),
        ("eventhubs", {}, "needs eventhubs.connectionString"),
        ("files", {}, "sink 'files' needs --option path"),
        ("files", {"path": "out", "format": "xml"}, "there is no format 'xml'"),
        ("files", {"path": "out", "header": "si"}, "header is true or false"),
        ("foreach", {}, "sink 'foreach' needs --option path"),
        ("console", {"numRows": "many"}, "numRows is an integer"),
        ("memory", {"path": "x"}, "sink 'memory' has no option 'path'"),
        ("delta", {"path": "x"}, "sink 'delta' has no option 'path'"),
        ("deltaa", {}, "there is no sink 'deltaa'; did you mean 'delta'"),
        ("foreachBatch", {}, "the sink 'foreachBatch' is called 'delta' since version 0.2"),
    ],
)
def test_invalid_options_are_refused(
    run_weather: RunWeather, tmp_path: Path, sink: str, options: dict[str, str], message: str
) -> None:
    as_after_a_run_without_rows(tmp_path / "lake")
    with pytest.raises(LakehouseError, match=message):
        run_weather(steps=GOLD, sink=sink, sink_options=options)


def test_a_missing_topic_is_reported(run_weather: RunWeather, advance_to: AdvanceTo, broker: Broker) -> None:
    options = {"kafka.bootstrap.servers": broker.bootstrap_servers, "topic": "no topic of this name"}
    with pytest.raises(LakehouseError, match=rf"step '{STEP}' failed.*no topic of this name"):
        advance_to("all")
        run_weather(steps=GOLD, sink="kafka",
                    sink_options={**options, "kafka.max.block.ms": "3000"})  # fmt: skip


def test_a_checkpoint_belongs_to_its_sink_and_mode(
    run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path
) -> None:
    """In another mode or folder earlier rows would be missing; with two sinks the table's would be duplicated."""
    advance_to("half")
    run_weather(steps=GOLD)
    checkpoint = tmp_path / "lake/_checkpoints/weather" / STEP
    with pytest.raises(LakehouseError, match=rf"mode append; it cannot .*mode update: use .* archive {checkpoint}, "):
        run_weather(steps=GOLD, mode="update")
    with pytest.raises(LakehouseError, match=r"has written to sink delta,.*cannot resume with sink delta-native"):
        run_weather(steps=GOLD, sink="delta-native")
    for folder in ("one", "two"):
        to_files = {"sink": "files", "sink_options": {"path": str(tmp_path / folder)}}
        if folder == "two":
            with pytest.raises(LakehouseError, match="it cannot resume with"):
                run_weather(steps=GOLD, **to_files)
        else:
            run_weather(steps=GOLD, **to_files)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark would compute the batch, and print Java's stack traces."""
    query = QueryConfig("hourly", None, parse_trigger("available-now"), "append")
    request = WriteRequest(Table("gold", HOURLY), KEY, query, {"path": str(tmp_path / "out" / "below")})
    files.check(request)
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
        with pytest.raises(LakehouseError, match=rf"sink 'files': {tmp_path} cannot be written; make it writable, or"):
            files.check(request)
    (tmp_path / "out").touch()
    with pytest.raises(LakehouseError, match=rf"sink 'files': {tmp_path}/out is a file, not a folder; give another"):
        files.check(request)
    assert (tmp_path / "out").is_file()


@pytest.mark.parametrize("sink", ["files", "foreach"])
def test_a_folder_that_another_checkpoint_has_written_is_refused(
    run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path, sink: str
) -> None:
    """Batches are identified by their numbers: a new checkpoint's first ones would be skipped, or overwrite others."""
    advance_to("half")
    run_weather(steps=GOLD, sink=sink, sink_options={"path": str(tmp_path / "out")})
    shutil.rmtree(tmp_path / "lake/_checkpoints/weather" / f"{STEP}.{sink}")
    with pytest.raises(LakehouseError, match="has the output of another checkpoint"):
        run_weather(steps=GOLD, sink=sink, sink_options={"path": str(tmp_path / "out")})


@pytest.mark.parametrize(("sink", "form"), [("files", "json"), ("foreach", "jsonl")])
def test_a_folder_and_a_checkpoint_out_of_sync_are_refused(
    run_weather: RunWeather, advance_to: AdvanceTo, tmp_path: Path, sink: str, form: str
) -> None:
    """Whichever was restored from a backup, or is gone; a run without new rows, and a batch without rows, are fine."""
    folder, checkpoint = tmp_path / "out" / HOURLY, tmp_path / "lake/_checkpoints/weather" / f"{STEP}.{sink}"
    options = {"path": str(tmp_path / "out"), **({"format": form} if sink == "files" else {})}
    run = partial(run_weather, steps=GOLD, sink=sink, sink_options=options)
    for stage in ("half", "all"):
        advance_to(stage)
        for _ in range(2):
            run()
        shutil.copytree(folder, tmp_path / stage / "out")
        shutil.copytree(checkpoint, tmp_path / stage / "checkpoint")
    written = of_files(folder, form)
    for part, backup, message in (
        (checkpoint, "checkpoint", rf"{folder} has batch \d, but {checkpoint} has none after \d: .*restore the newer"),
        (folder, "out", rf"{checkpoint} has batch \d as written, but {folder} has none after \d: .*restore the newer"),
        (folder, None, rf"{checkpoint} has batch \d as written, but {folder} has none: .*archive both"),
    ):
        shutil.rmtree(part)
        if backup:
            shutil.copytree(tmp_path / "half" / backup, part)
        with pytest.raises(LakehouseError, match=message):
            run()
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(tmp_path / "all" / (backup or "out"), part)
    run()
    assert of_files(folder, form) == written != []


def test_the_last_batch_is_read_from_a_compacted_file_log(tmp_path: Path) -> None:
    """Every tenth entry is compacted; those before it are removed later."""
    log = tmp_path / "_spark_metadata"
    log.mkdir()
    for entry in ("8", "9.compact", ".9.compact.crc"):
        (log / entry).touch()
    assert max(files._logged_batches(str(tmp_path))) == 9


def test_missing_columns_are_found_and_added(spark: SparkSession, tmp_path: Path) -> None:
    """Names are case-insensitive; a column of NullType is ignored."""
    table = Table("gold", "totals", path=str(tmp_path / "totals"))

    def schema(text: str) -> T.StructType:
        return spark.createDataFrame([], text).schema

    delta.create_if_missing(spark, table, schema("device string, total bigint"))
    wanted = schema("TOTAL bigint, `wind-speed` double, nothing void")
    new = delta.missing_columns(spark, table, wanted)
    assert [column.name for column in new] == ["wind-speed"]
    delta.add_columns(spark, table, new)
    assert delta.missing_columns(spark, table, wanted) == []
    assert delta.read(spark, table).columns == ["device", "total", "wind-speed"]
    delta.check_column_types(spark, table, schema("Device string, other int"), "rebuild")
    with pytest.raises(
        LakehouseError, match=r"gold\.totals .* Total is bigint in the table and double in the pipeline; rebuild"
    ):
        delta.check_column_types(spark, table, schema("device string, Total double"), "rebuild")
