"""Spark's exceptions in one line: what Spark really says for what a user can get wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import RunWeather
from deltalake import DeltaTable
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, functions as F, types as T

from streaming_lakehouse.domains.weather import pipeline as weather
from streaming_lakehouse.domains.weather.gold import device_hourly
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.failures import explained
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.settings import Table
from streaming_lakehouse.sinks import delta
from streaming_lakehouse.sources.delta import stream


def failure(spark: SparkSession, form: str, options: dict[str, str], path: str | None = None) -> str:
    reader = spark.readStream.format(form).options(**options)
    with pytest.raises(PySparkException) as failed:
        rows = (reader.load(path) if path else reader.load()).writeStream.format("noop")
        rows.trigger(availableNow=True).start().awaitTermination()
    return explained(failed.value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("startingOffsets", "bogus", "--option startingOffsets takes earliest, latest, or"),
        ("startingOffsets", '{"t":{"0":"a"}}', "--option startingOffsets takes earliest, latest, or"),
        ("startingOffsetsByTimestamp", "bogus", "--option startingOffsetsByTimestamp takes"),
        ("startingTimestamp", "bogus", "--option startingTimestamp takes milliseconds since 1970, not bogus"),
        ("startingOffsetsByTimestampStrategy", "x", "StartingOffsetsByTimestampStrategy takes error or latest, not X"),
        ("assign", "bogus", "--option assign takes"),
        ("assign", '{"t": "0"}', "--option assign takes"),
        ("maxOffsetsPerTrigger", "abc", 'one --option has the value "abc" and takes a whole number'),
        ("minPartitions", "abc", 'one --option has the value "abc" and takes a whole number'),
        ("failOnDataLoss", "maybe", 'one --option has the value "maybe" and takes true or false'),
        ("maxTriggerDelay", "abc", "takes a number with its unit, e.g. 50s, 15m or 7d, not abc"),
        ("kafka.request.timeout.ms", "abc", "--option kafka.request.timeout.ms cannot be abc: Not a number"),
        ("kafka.sasl.mechanism", "X", "Kafka's client cannot be made with these --option kafka.…: "),
    ],
)
def test_a_value_that_kafka_does_not_take(spark: SparkSession, name: str, value: str, told: str) -> None:
    """Before any broker is asked; the line names the option, or at least the value, and what would be right."""
    options = {"kafka.bootstrap.servers": f"127.0.0.1:{free_port()}", name: value}
    options |= {} if name == "assign" else {"subscribe": "t"}
    options |= {"minOffsetsPerTrigger": "5"} if name == "maxTriggerDelay" else {}
    options |= {"kafka.security.protocol": "SASL_PLAINTEXT"} if name == "kafka.sasl.mechanism" else {}
    assert told.lower() in failure(spark, "kafka", options).lower()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("maxFilesPerTrigger", "0", "--option maxFilesPerTrigger must be a positive integer, not '0'"),
        ("cleanSource", "x", "--option cleanSource takes archive, delete or off, not x"),
        ("cleanSource", "archive", "Archive mode must be used with 'sourceArchiveDir' option."),
        ("recursiveFileLookup", "x", 'one --option has the value "x" and takes true or false'),
    ],
)
def test_a_value_that_files_do_not_take(spark: SparkSession, tmp_path: Path, name: str, value: str, told: str) -> None:
    """Nothing of Spark's frame around it is left."""
    assert failure(spark, "text", {name: value}, str(tmp_path)) == told


def test_what_python_raised_is_the_line_below_its_frames(spark: SparkSession, tmp_path: Path) -> None:
    """Of an exception that came of another, too; and a text without frames keeps its first line."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            raise KeyError("within")
        except KeyError as error:
            raise ValueError("the moon\nis down") from error

    with pytest.raises(PySparkException) as failed:
        spark.range(1).mapInArrow(work, "id long").collect()
    assert explained(failed.value) == "ValueError: the moon"

    def batch(_: DataFrame, number: int) -> None:
        raise ValueError(f"of batch {number}")

    rows = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load().writeStream.foreachBatch(batch)
    with pytest.raises(PySparkException) as failed:
        rows.option("checkpointLocation", str(tmp_path)).start().awaitTermination()
    assert explained(failed.value) == "ValueError: of batch 0"
    assert explained(PySparkException("The moon\nis down")) == "The moon"


def test_what_spark_puts_around_a_message_is_left_out() -> None:
    """Ids of the query and codes tell a user nothing."""
    framed = (
        "[STREAM_FAILED] Query [id = 8ff8c549-01a9, runId = 4899e77a-a961] terminated with exception: The moon is "
        "down SQLSTATE: XXKST\n=== Streaming Query ===\nIdentifier: [id = 8ff8c549-01a9]\nLakehouseError: of the plan"
    )
    assert explained(PySparkException(framed)) == "The moon is down"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            lambda rows: device_hourly(rows).withColumn("note", F.lit("new")),
            r"gold\.weather_device_hourly lacks what its transform gives now: note",
        ),
        (
            lambda rows: device_hourly(rows).withColumn("device", F.lit(1)),
            "step 'weather_device_hourly' failed: device is of another type than in the table",
        ),
        (
            lambda rows: device_hourly(rows.dropDuplicatesWithinWatermark(["event_id"])),
            "step 'weather_device_hourly' failed: the state in its checkpoint is of other aggregates",
        ),
    ],
    ids=["column", "type", "state"],
)
def test_a_transform_that_was_changed_is_told(
    run_weather: RunWeather,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: Callable[[DataFrame], DataFrame],
    told: str,
) -> None:
    """What the line advises helps: made anew, the table is of all that silver has."""
    run_weather(options={"numRows": "3000"})
    hourly, *others = weather.PIPELINE.gold
    changed_pipeline = replace(weather.PIPELINE, gold=(replace(hourly, transform=changed), *others))
    monkeypatch.setattr(weather, "PIPELINE", changed_pipeline)
    with pytest.raises(LakehouseError, match=f"{told}.*move .*away"):
        run_weather(options={"numRows": "15000"})
    shutil.rmtree(tmp_path / "lake/gold/weather_device_hourly")
    shutil.rmtree(tmp_path / "lake/_checkpoints/weather/weather_device_hourly")
    run_weather(options={"numRows": "15000"})
    table = DeltaTable(tmp_path / "lake/gold/weather_device_hourly")
    assert sum(table.to_pyarrow_table()["readings"].to_pylist()) > 3_000


def test_a_table_that_gets_a_column_under_a_stream_is_told(spark: SparkSession, tmp_path: Path) -> None:
    """As silver may, widened by a run of its own, under a gold table that another process keeps."""
    table = Table("silver", "events", path=str(tmp_path / "events"))
    delta.ensure(spark, table, T.StructType([T.StructField("id", T.LongType())]))
    query = (
        stream(spark, table).writeStream.format("noop").option("checkpointLocation", str(tmp_path / "check")).start()
    )
    query.processAllAvailable()
    delta.widen(spark, table, [T.StructField("name", T.StringType())])
    with pytest.raises(PySparkException) as failed:
        query.processAllAvailable()
        query.awaitTermination(30)
    assert explained(failed.value).startswith("the table it reads has got other columns since; start again")
