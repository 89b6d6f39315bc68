"""Weather end to end, from each source; every row of every table is confirmed by an oracle that knows no Spark."""

from __future__ import annotations

import bz2
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import RunWeather
from deltalake import DeltaTable
from oracle import Account, RawRecord, check, read_files, read_topic
from pyspark.sql import DataFrame, SparkSession, types as T

from streaming_lakehouse.domains.weather import pipeline as weather
from streaming_lakehouse.domains.weather.events import EVENTS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import Shares, records
from streaming_lakehouse.layers.silver import schema as silver_schema
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.local.deliver import Delivery, deliver
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.sources.envelope import BRONZE

WEATHER = load_pipeline("weather")
DISORDER = {"late": "0.05", "duplicates": "0.05", "broken": "0.05"}


def send(broker: Broker, topic: str, start: int, end: int) -> None:
    options = {"kafka.bootstrap.servers": broker.bootstrap_servers, "topic": topic, "partitions": "2", **DISORDER}
    deliver(Delivery(WEATHER, 7, start, end, options), "kafka", None)


def kafka_options(broker: Broker, topic: str) -> dict[str, str]:
    return {"kafka.bootstrap.servers": broker.bootstrap_servers, "subscribe": topic}


def parts(account: Account) -> tuple[int, int, int, int]:
    return account.valid, account.quarantined, account.duplicates, account.late


def versions(root: Path) -> dict[str, int]:
    return {str(log.parent.relative_to(root)): DeltaTable(log.parent).version() for log in root.glob("*/*/_delta_log")}


def test_from_kafka_in_three_runs(broker: Broker, run_weather: RunWeather, tmp_path: Path) -> None:
    """Three runs over a growing topic: late and repeated rows appear between them, and each row is accounted for."""
    for start in (0, 8_000, 20_000):
        send(broker, "three-runs", start, start + 12_000 if start else 8_000)
        run_weather("kafka", {**kafka_options(broker, "three-runs"), "maxOffsetsPerTrigger": "5000"})
    account = check(tmp_path / "lake", read_topic(broker.bootstrap_servers, "three-runs"))
    assert account.rows_in == 32_000 == sum(parts(account))
    assert min(parts(account)) > 0, "the data must hold some of everything, or the check proves little"


def test_a_run_without_news_writes_nothing(broker: Broker, run_weather: RunWeather, tmp_path: Path) -> None:
    """Exit status 0, and no empty commits pile up."""
    send(broker, "no-news", 0, 2_000)
    run_weather("kafka", kafka_options(broker, "no-news"))
    before = versions(tmp_path / "lake")
    board = run_weather("kafka", kafka_options(broker, "no-news"))
    assert versions(tmp_path / "lake") == before
    assert {state.rows for state in board.states.values()} == {0}


def test_an_empty_topic_is_no_fault(broker: Broker, run_weather: RunWeather, tmp_path: Path) -> None:
    """With nothing to read yet every step ends well, and what a later step reads is there."""
    create_topic(broker.bootstrap_servers, "empty", 1)
    run_weather("kafka", kafka_options(broker, "empty"))
    assert DeltaTable(tmp_path / "lake" / "bronze" / "weather_readings").schema().fields
    assert DeltaTable(tmp_path / "lake" / "silver" / "weather_readings").schema().fields


def test_monstrous_records_are_quarantined_and_the_stream_lives(
    broker: Broker, run_weather: RunWeather, tmp_path: Path
) -> None:
    """10 MB, 10,000 brackets, tombstones and bytes that are no text, between sound readings."""
    from confluent_kafka import Producer

    create_topic(broker.bootstrap_servers, "monsters", 1)
    sound = [record.value for record in records(EVENTS, seed=1, start=0, end=50, shares=Shares(0, 0, 0, 0))]
    first = sound[0] or b""
    monsters = [b'{"x":"' + b"y" * 10_000_000 + b'"}', first[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"]
    monsters += [None, b"", b"\xff\xfe", b"[]", first.replace(b'"temperature_c":', b'"temperature_c":"hot","x":')]
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 16_000_000})
    for value in [*sound[:25], *monsters, *sound[25:]]:
        producer.produce("monsters", value, b"k")
    assert producer.flush(30) == 0
    run_weather("kafka", kafka_options(broker, "monsters"))
    account = check(tmp_path / "lake", read_topic(broker.bootstrap_servers, "monsters"))
    assert parts(account) == (50, 7, 0, 0)


def test_from_files_half_of_them_between_two_runs(run_weather: RunWeather, tmp_path: Path) -> None:
    """Plain and packed files; half-written ones are passed over, and a file that comes twice is all repeats.

    A file that kept its old time when it was copied, in a folder below, counts as any other; and readings from before
    1970, which no watermark can be behind of, are accounted for. The folder's name would match another as a pattern.
    """
    landing = tmp_path / "landing [1]{*}"
    stranger = tmp_path / "landing 1*" / "weather_readings" / "stranger.jsonl"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("{}\n")
    folder = landing / "weather_readings"
    options = {"path": str(landing)}
    deliver(Delivery(WEATHER, 7, 0, 4_000, {**options, **DISORDER, "rowsPerFile": "1500"}), "files", None)
    readings = [
        {"event_id": time, "device": "d", "time": time} for time in ("1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z")
    ]
    old = folder / "2020" / "old.jsonl"
    old.parent.mkdir()
    old.write_text("".join(json.dumps(reading) + "\n" for reading in readings), "utf-8-sig")
    os.utime(old, (0, 0))
    for half in (".more.jsonl.part", "more.jsonl._COPYING_"):
        (folder / half).write_bytes(b'{"event_id":"ha')
    run_weather("files", options)
    deliver(Delivery(WEATHER, 7, 4_000, 8_000, {**options, **DISORDER, "compression": "gzip"}), "files", None)
    (folder / "again.jsonl.bz2").write_bytes(bz2.compress(sorted(folder.glob("seed7-*.jsonl"))[0].read_bytes()))
    run_weather("files", {**options, "maxFilesPerTrigger": "1"})
    account = check(tmp_path / "lake", read_files(folder))
    assert account.rows_in == 9_502
    assert account.duplicates + account.late > 1_300


def declared_with(monkeypatch: pytest.MonkeyPatch, field: T.StructField, **changes: str) -> None:
    """Weather as it would be with this field beside its own."""
    schema = T.StructType([*WEATHER.silver.schema.fields, field])
    silver = replace(WEATHER.silver, schema=schema, **changes)  # type: ignore[arg-type]
    monkeypatch.setattr(weather, "PIPELINE", replace(WEATHER, silver=silver))


def test_a_pipeline_that_gains_a_field_goes_on_over_its_tables(
    run_weather: RunWeather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What came before has nulls in the new column; where that would not do, the run is refused before it writes."""
    folder = tmp_path / "landing" / "weather_readings"
    folder.mkdir(parents=True)

    def arrives(name: str, time: str, **fields: object) -> None:
        reading = {"event_id": name, "device": "d", "time": time, "temperature_c": 10, **fields}
        (folder / f"{name}.jsonl").write_text(json.dumps(reading) + "\n")
        run_weather("files", {"path": str(folder.parent)})

    def silver() -> list[tuple[object, ...]]:
        rows = DeltaTable(tmp_path / "lake/silver/weather_readings").to_pyarrow_table().to_pylist()
        return sorted((row["event_id"], row.get("battery_v"), row["_rescued_data"]) for row in rows)

    arrives("a", "2026-01-01T00:10:00Z", battery_v=3.5)
    declared_with(monkeypatch, T.StructField("battery_v", T.DoubleType()))
    arrives("b", "2026-01-01T00:20:00Z", battery_v=3.6)
    arrives("c", "2026-01-01T05:00:00Z", battery_v=3.7)
    assert silver() == [("a", None, '{"battery_v":3.5}'), ("b", 3.6, None), ("c", 3.7, None)]
    assert caplog.text.count("silver.weather_readings has got what is new in the pipeline: battery_v") == 1
    hourly = DeltaTable(tmp_path / "lake/gold/weather_device_hourly").to_pyarrow_table().to_pylist()
    assert [row["readings"] for row in hourly] == [2]

    before = versions(tmp_path / "lake")
    declared_with(monkeypatch, T.StructField("battery_v", T.StringType()))
    with pytest.raises(LakehouseError, match="battery_v is double there and string in the pipeline; give it back its"):
        arrives("d", "2026-01-01T05:01:00Z", battery_v="low")
    declared_with(monkeypatch, T.StructField("number", T.StringType()), key="number")
    with pytest.raises(LakehouseError, match=r"silver\.weather_readings has no column number; rebuild: move away"):
        arrives("e", "2026-01-01T05:02:00Z", number="5")
    assert versions(tmp_path / "lake") == before


def test_from_the_generator_in_batches_that_resume(run_weather: RunWeather, tmp_path: Path) -> None:
    """A second run with more rows goes on at the offset where the first one ended."""
    options = {**DISORDER, "seed": "7", "maxRowsPerTrigger": "2500"}
    run_weather("generator", {**options, "numRows": "6000"})
    run_weather("generator", {**options, "numRows": "9000"})
    made = records(EVENTS, seed=7, start=0, end=9_000, shares=Shares.of(DISORDER))
    lake = tmp_path / "lake"
    stamps = DeltaTable(lake / "bronze" / "weather_readings").to_pyarrow_table(columns=["offset", "source_timestamp"])
    times = dict(zip(stamps["offset"].to_pylist(), stamps["source_timestamp"].to_pylist(), strict=True))
    raw = [
        RawRecord(record.key, record.value, "generator:seed=7", 0, row, times[row]) for row, record in enumerate(made)
    ]
    assert check(lake, raw).rows_in == 9_000


def closed(rows: DataFrame, until: str) -> list[tuple[object, ...]]:
    """The rows of windows that had closed by then; the last bits of a sum depend on the order of addition."""
    end = "window_end" if "window_end" in rows.columns else "time"
    found = rows.where(f"{end} <= '{until}'").collect()
    return sorted(tuple(str(round(cell, 9) if isinstance(cell, float) else cell) for cell in row) for row in found)


def test_a_batch_over_silver_gives_what_was_streamed(
    run_weather: RunWeather, spark: SparkSession, tmp_path: Path
) -> None:
    """The same functions, run once over all of silver, give the closed windows of every gold table."""
    for rows in ("9000", "18000"):
        run_weather("generator", {"numRows": rows, "duplicates": "0.05", "late": "0.05"})
    lake = tmp_path / "lake"
    silver = spark.read.format("delta").load(str(lake / "silver" / "weather_readings"))
    until = str(silver.selectExpr("max(time) - interval 2 hours").collect()[0][0])
    for gold in WEATHER.gold:
        streamed = spark.read.format("delta").load(str(lake / "gold" / gold.table))
        whole = closed(gold.transform(silver), until)
        assert closed(streamed, until) == whole
        assert len(whole) > 100


def test_the_number_of_shuffle_partitions_stays_with_the_checkpoint(
    run_weather: RunWeather, spark: SparkSession, tmp_path: Path
) -> None:
    """On a machine with more cores a stateful query goes on with the number it began with."""
    run_weather("generator", {"numRows": "4000"})
    checkpoint = tmp_path / "lake" / "_checkpoints" / "weather" / "weather_device_hourly"
    begun = spark.conf.get("spark.sql.shuffle.partitions")
    try:
        spark.conf.set("spark.sql.shuffle.partitions", "7")
        run_weather("generator", {"numRows": "8000"})
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", str(begun))
    newest = max(checkpoint.glob("offsets/[0-9]*"), key=lambda path: int(path.name))
    assert json.loads(newest.read_text().splitlines()[1])["conf"]["spark.sql.shuffle.partitions"] == begun
    parts = [path for path in (checkpoint / "state" / "0").iterdir() if path.name.isdigit()]
    assert len(parts) == int(str(begun))


def test_bronze_and_silver_keep_what_the_source_told(
    broker: Broker, run_weather: RunWeather, spark: SparkSession, tmp_path: Path
) -> None:
    """Key, headers, timestamp, partition and offset; the columns are the declared ones."""
    from confluent_kafka import Producer

    create_topic(broker.bootstrap_servers, "headers", 1)
    value = next(iter(records(EVENTS, seed=1, start=0, end=1, shares=Shares(0, 0, 0, 0)))).value
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce("headers", value, b"key", headers=[("trace", b"1"), ("trace", b"2")], timestamp=1767225600123)
    assert producer.flush(30) == 0
    run_weather("kafka", kafka_options(broker, "headers"), steps=("bronze", "silver"))
    bronze = spark.read.format("delta").load(str(tmp_path / "lake" / "bronze" / "weather_readings"))
    row = bronze.collect()[0]
    assert (bytes(row["key"]), bytes(row["value"])) == (b"key", value)
    assert [(header["key"], bytes(header["value"])) for header in row["headers"]] == [("trace", b"1"), ("trace", b"2")]
    assert row["source_timestamp"].isoformat() == "2026-01-01T00:00:00.123000"
    silver = spark.read.format("delta").load(str(tmp_path / "lake" / "silver" / "weather_readings"))
    assert bronze.schema == BRONZE
    assert silver.schema == silver_schema(WEATHER.silver)


def test_a_gzip_file_that_is_cut_off_stops_the_run_and_is_named(run_weather: RunWeather, tmp_path: Path) -> None:
    """Its rows would be lost in silence; put in whole, the run goes on and nothing is missing."""
    from streaming_lakehouse.errors import LakehouseError

    landing = tmp_path / "landing"
    deliver(Delivery(WEATHER, 7, 0, 500, {"path": str(landing), "compression": "gzip"}), "files", None)
    file = next((landing / "weather_readings").glob("*.gz"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LakehouseError, match=rf"'bronze' failed: a compressed file is cut off.*{file.name}"):
        run_weather("files", {"path": str(landing)})
    file.write_bytes(whole)
    run_weather("files", {"path": str(landing)})
    account = check(tmp_path / "lake", read_files(landing / "weather_readings"))
    assert account.rows_in == len(gzip.decompress(whole).splitlines())
