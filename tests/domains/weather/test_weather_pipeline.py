"""Weather end to end, from each source; an oracle that knows no Spark confirms every row of every table."""

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
from oracle import Account, RawRecord, check, load_domain, read_files, read_topic
from pyspark.sql import SparkSession, types as T
from support.weather import WEATHER, declare, weather_with

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers import validation
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.pipeline.synthetic import FaultRates, generate_records
from streaming_lakehouse.sources.envelope import BRONZE

FAULTS = {"late": "0.05", "duplicates": "0.05", "malformed": "0.05"}
LAYERS = ("bronze", "silver", "weather_device_hourly")


def send(broker: Broker, topic: str, start: int, end: int) -> None:
    options = {"kafka.bootstrap.servers": broker.bootstrap_servers, "topic": topic, "partitions": "2", **FAULTS}
    publish(PublishJob(WEATHER.bronze[0], 7, start, end, options), "kafka")


def kafka_options(broker: Broker, topic: str) -> dict[str, str]:
    return {"kafka.bootstrap.servers": broker.bootstrap_servers, "subscribe": topic}


def confirmed(lake: Path, raw: list[RawRecord], *, has_gold: bool = True) -> Account:
    """The oracle's counts, once it has confirmed every row of the lake."""
    domain = load_domain("weather")
    return check(lake, domain if has_gold else replace(domain, gold=()), raw)["weather_readings"]


def parts(account: Account) -> tuple[int, int, int, int]:
    return account.valid, account.quarantined, account.duplicates, account.late


def versions(root: Path) -> dict[str, int]:
    return {str(log.parent.relative_to(root)): DeltaTable(log.parent).version() for log in root.glob("*/*/_delta_log")}


def test_from_kafka_in_three_runs(broker: Broker, run_weather: RunWeather, tmp_path: Path) -> None:
    """Over a growing topic: late rows and duplicates occur across the runs, and each row is accounted for.

    One more run, without new records, succeeds, and no empty commits accumulate.
    """
    for start, end in ((0, 6_000), (6_000, 12_000), (12_000, 20_000)):
        send(broker, "three-runs", start, end)
        run_weather("kafka", {**kafka_options(broker, "three-runs"), "maxOffsetsPerTrigger": "4000"})
    account = confirmed(tmp_path / "lake", read_topic(broker.bootstrap_servers, "three-runs"))
    assert account.rows_in == 20_000 == sum(parts(account))
    assert min(parts(account)) > 0, "the data must have some of each, or the check proves little"
    before = versions(tmp_path / "lake")
    progress = run_weather("kafka", kafka_options(broker, "three-runs"))
    assert versions(tmp_path / "lake") == before
    assert {state.rows for state in progress.states.values()} == {0}


def test_an_empty_topic_is_no_error(broker: Broker, run_weather: RunWeather, tmp_path: Path) -> None:
    """Every step succeeds without a record, and the tables that later steps read exist."""
    create_topic(broker.bootstrap_servers, "empty", 1)
    run_weather("kafka", kafka_options(broker, "empty"))
    assert DeltaTable(tmp_path / "lake" / "bronze" / "weather_readings").schema().fields
    assert DeltaTable(tmp_path / "lake" / "silver" / "weather_readings").schema().fields


def test_pathological_records_are_quarantined_and_the_stream_continues(
    broker: Broker, run_weather: RunWeather, tmp_path: Path
) -> None:
    """10 MB, 10,000 brackets, tombstones and bytes that are no text, among valid readings."""
    from confluent_kafka import Producer

    create_topic(broker.bootstrap_servers, "pathological", 1)
    valid = [
        record.value for record in generate_records(READINGS, seed=1, start=0, end=50, rates=FaultRates(0, 0, 0, 0))
    ]
    first = valid[0] or b""
    malformed = [b'{"x":"' + b"y" * 10_000_000 + b'"}', first[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"]
    malformed += [None, b"", b"\xff\xfe", b"[]", first.replace(b'"temperature_c":', b'"temperature_c":"hot","x":')]
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 16_000_000})
    for value in [*valid[:25], *malformed, *valid[25:]]:
        producer.produce("pathological", value, b"k")
    assert producer.flush(30) == 0
    run_weather("kafka", kafka_options(broker, "pathological"), steps=LAYERS)
    account = confirmed(tmp_path / "lake", read_topic(broker.bootstrap_servers, "pathological"), has_gold=False)
    assert parts(account) == (50, 7, 0, 0)


def test_from_files_in_two_runs(run_weather: RunWeather, tmp_path: Path) -> None:
    """Plain and compressed files; half-written files are ignored, and a file that is copied is all duplicates.

    A copied file with its old modification time, in a subfolder, is read as any other; readings from before 1970, which
    Spark's watermark cannot represent, are accounted for. As a pattern, the folder's name would match another folder.
    """
    landing = tmp_path / "landing [1]{*}"
    unrelated = tmp_path / "landing 1*" / "weather_readings" / "unrelated.jsonl"
    unrelated.parent.mkdir(parents=True)
    unrelated.write_text("{}\n")
    folder = landing / "weather_readings"
    options = {"path": str(landing)}
    publish(PublishJob(WEATHER.bronze[0], 7, 0, 4_000, {**options, **FAULTS, "rowsPerFile": "1500"}), "files")
    readings = [
        {"event_id": time, "device": "d", "time": time} for time in ("1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z")
    ]
    old = folder / "2020" / "old.jsonl"
    old.parent.mkdir()
    old.write_text("".join(json.dumps(reading) + "\n" for reading in readings), "utf-8-sig")
    os.utime(old, (0, 0))
    for half in (".more.jsonl.part", "more.jsonl._COPYING_"):
        (folder / half).write_bytes(b'{"event_id":"ha')
    run_weather("files", options, steps=("bronze", "silver"))
    publish(PublishJob(WEATHER.bronze[0], 7, 4_000, 8_000, {**options, **FAULTS, "compression": "gzip"}), "files")
    (folder / "again.jsonl.bz2").write_bytes(bz2.compress(sorted(folder.glob("seed7-*.jsonl"))[0].read_bytes()))
    run_weather("files", {**options, "maxFilesPerTrigger": "1"}, steps=("bronze", "silver"))
    account = confirmed(tmp_path / "lake", read_files(folder), has_gold=False)
    assert account.rows_in == 9_502
    assert account.duplicates + account.late > 1_300


def declare_field(monkeypatch: pytest.MonkeyPatch, field: T.StructField, **changes: object) -> None:
    """Declares weather with this field beside its own."""
    schema = T.StructType([*WEATHER.silver[0].schema.fields, field])
    declare(monkeypatch, weather_with(silver={"schema": schema, **changes}))


def test_a_new_field_is_added_to_existing_tables(
    run_weather: RunWeather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Older rows have nulls in the new column; a changed type or key is refused before anything is written."""
    folder = tmp_path / "landing" / "weather_readings"
    folder.mkdir(parents=True)

    def arrives(name: str, time: str, **fields: object) -> None:
        reading = {"event_id": name, "device": "d", "time": time, "temperature_c": 10, **fields}
        (folder / f"{name}.jsonl").write_text(json.dumps(reading) + "\n")
        run_weather("files", {"path": str(folder.parent)}, steps=LAYERS)

    def silver() -> list[tuple[object, ...]]:
        rows = DeltaTable(tmp_path / "lake/silver/weather_readings").to_pyarrow_table().to_pylist()
        return sorted((row["event_id"], row.get("battery_v"), row["_rescued_data"]) for row in rows)

    arrives("a", "2026-01-01T00:10:00Z", battery_v=3.5)
    declare_field(monkeypatch, T.StructField("battery_v", T.DoubleType()))
    arrives("b", "2026-01-01T00:20:00Z", battery_v=3.6)
    arrives("c", "2026-01-01T05:00:00Z", battery_v=3.7)
    assert silver() == [("a", None, '{"battery_v":3.5}'), ("b", 3.6, None), ("c", 3.7, None)]
    assert caplog.text.count("silver.weather_readings: added columns that are new in the pipeline: battery_v") == 1
    hourly = DeltaTable(tmp_path / "lake/gold/weather_device_hourly").to_pyarrow_table().to_pylist()
    assert [row["readings"] for row in hourly] == [2]

    before = versions(tmp_path / "lake")
    declare_field(monkeypatch, T.StructField("battery_v", T.StringType()))
    message = "battery_v is double in the table and string in the pipeline; restore the column's type, or rebuild with"
    with pytest.raises(LakehouseError, match=message):
        arrives("d", "2026-01-01T05:01:00Z", battery_v="low")
    declare_field(monkeypatch, T.StructField("number", T.StringType()), dedup_key=("number",))
    with pytest.raises(LakehouseError, match=r"silver\.weather_readings': its key was event_id and is number: "):
        arrives("e", "2026-01-01T05:02:00Z", number="5")
    # A checkpoint of before definitions were recorded, or one whose definition was removed as the refusal offers.
    metadata.definition_marker(str(tmp_path / "lake/_checkpoints/weather/silver.weather_readings")).unlink()
    with pytest.raises(LakehouseError, match=r"silver\.weather_readings has no column number; rebuild with: "):
        arrives("f", "2026-01-01T05:03:00Z", number="6")
    assert versions(tmp_path / "lake") == before


def test_from_the_generator_in_batches_that_resume(run_weather: RunWeather, tmp_path: Path) -> None:
    """A second run with more rows resumes at the offset where the first one ended."""
    options = {**FAULTS, "seed": "7", "maxRowsPerTrigger": "2500"}
    for rows in ("6000", "9000"):
        run_weather("generator", {**options, "numRows": rows}, steps=("bronze", "silver"))
    records = generate_records(READINGS, seed=7, start=0, end=9_000, rates=FaultRates.from_options(FAULTS))
    lake = tmp_path / "lake"
    stamps = DeltaTable(lake / "bronze" / "weather_readings").to_pyarrow_table(columns=["offset", "source_timestamp"])
    times = dict(zip(stamps["offset"].to_pylist(), stamps["source_timestamp"].to_pylist(), strict=True))
    raw = [
        RawRecord(record.key, record.value, "generator:seed=7", 0, row, times[row])
        for row, record in enumerate(records)
    ]
    assert confirmed(lake, raw, has_gold=False).rows_in == 9_000


def test_bronze_and_silver_have_the_metadata_of_the_source(
    broker: Broker, run_weather: RunWeather, spark: SparkSession, tmp_path: Path
) -> None:
    """Key, headers, timestamp, partition and offset; the columns are the declared ones."""
    from confluent_kafka import Producer

    create_topic(broker.bootstrap_servers, "headers", 1)
    value = next(iter(generate_records(READINGS, seed=1, start=0, end=1, rates=FaultRates(0, 0, 0, 0)))).value
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
    assert silver.schema == validation.schema(WEATHER.silver[0])


def test_a_truncated_gzip_file_stops_the_run_and_is_named(run_weather: RunWeather, tmp_path: Path) -> None:
    """Its rows would be lost silently; once it is replaced the run resumes and nothing is missing."""
    landing = tmp_path / "landing"
    publish(PublishJob(WEATHER.bronze[0], 7, 0, 500, {"path": str(landing), "compression": "gzip"}), "files")
    file = next((landing / "weather_readings").glob("*.gz"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    message = rf"'bronze\.weather_readings' failed: a compressed file is truncated.*{file.name}"
    with pytest.raises(LakehouseError, match=message):
        run_weather("files", {"path": str(landing)}, steps=("bronze", "silver"))
    file.write_bytes(whole)
    run_weather("files", {"path": str(landing)}, steps=("bronze", "silver"))
    account = confirmed(tmp_path / "lake", read_files(landing / "weather_readings"), has_gold=False)
    assert account.rows_in == len(gzip.decompress(whole).splitlines())
