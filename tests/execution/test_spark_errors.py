"""Spark's exceptions in one line, with the real ones for a user's mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import ALL, HALF, Prepare, RunWeather
from deltalake import DeltaTable
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, functions as F, types as T
from support.weather import declare, weather_with

from streaming_lakehouse import cli
from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.domains.weather.gold import device_hourly
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution.spark_errors import to_user_message
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.sinks import delta
from streaming_lakehouse.sources.delta import read_stream

HOURLY = "gold.weather_device_hourly"
REBUILD = rf"rebuild with: lakehouse reset weather --step {HOURLY} --root \S+$"


def failure(spark: SparkSession, form: str, options: dict[str, str], path: str | None = None) -> str:
    reader = spark.readStream.format(form).options(**options)
    with pytest.raises(PySparkException) as failed:
        rows = (reader.load(path) if path else reader.load()).writeStream.format("noop")
        rows.trigger(availableNow=True).start().awaitTermination()
    return to_user_message(failed.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("startingOffsets", "bogus", "--option startingOffsets takes earliest, latest, or"),
        ("startingOffsets", '{"t":{"0":"a"}}', "--option startingOffsets takes earliest, latest, or"),
        ("startingOffsetsByTimestamp", "bogus", "--option startingOffsetsByTimestamp takes"),
        ("startingTimestamp", "bogus", "--option startingTimestamp takes milliseconds since 1970, not bogus"),
        ("startingOffsetsByTimestampStrategy", "x", "StartingOffsetsByTimestampStrategy takes error or latest, not X"),
        ("assign", "bogus", "--option assign takes"),
        ("assign", '{"t": "0"}', "--option assign takes"),
        ("maxOffsetsPerTrigger", "abc", 'one --option has the value "abc" and takes an integer'),
        ("minPartitions", "abc", 'one --option has the value "abc" and takes an integer'),
        ("failOnDataLoss", "maybe", 'one --option has the value "maybe" and takes true or false'),
        ("maxTriggerDelay", "abc", "takes a number with its unit, e.g. 50s, 15m or 7d, not abc"),
        ("kafka.request.timeout.ms", "abc", "--option kafka.request.timeout.ms cannot be abc: Not a number"),
        ("kafka.sasl.mechanism", "X", "Kafka's client cannot be created with these --option kafka.…: "),
    ],
)
def test_an_invalid_option_of_kafka(spark: SparkSession, name: str, value: str, message: str) -> None:
    """Before any connection; the line names the option, or at least the value, and what is valid."""
    options = {"kafka.bootstrap.servers": f"127.0.0.1:{free_port()}", name: value}
    options |= {} if name == "assign" else {"subscribe": "t"}
    options |= {"minOffsetsPerTrigger": "5"} if name == "maxTriggerDelay" else {}
    options |= {"kafka.security.protocol": "SASL_PLAINTEXT"} if name == "kafka.sasl.mechanism" else {}
    assert message.lower() in failure(spark, "kafka", options).lower()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("maxFilesPerTrigger", "0", "--option maxFilesPerTrigger must be a positive integer, not '0'"),
        ("cleanSource", "x", "--option cleanSource takes archive, delete or off, not x"),
        ("cleanSource", "archive", "Archive mode must be used with 'sourceArchiveDir' option."),
        ("recursiveFileLookup", "x", 'one --option has the value "x" and takes true or false'),
    ],
)
def test_an_invalid_option_of_files(spark: SparkSession, tmp_path: Path, name: str, value: str, message: str) -> None:
    """Without Spark's wrapper."""
    assert failure(spark, "text", {name: value}, str(tmp_path)) == message


def test_a_python_error_is_the_line_below_its_traceback(spark: SparkSession, tmp_path: Path) -> None:
    """Also of an exception with a cause; of a text without a traceback it is the first line."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            raise KeyError("within")
        except KeyError as error:
            raise ValueError("the moon\nis down") from error

    with pytest.raises(PySparkException) as failed:
        spark.range(1).mapInArrow(work, "id long").collect()
    assert to_user_message(failed.value) == "ValueError: the moon"

    def batch(_: DataFrame, number: int) -> None:
        raise ValueError(f"of batch {number}")

    rows = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load().writeStream.foreachBatch(batch)
    with pytest.raises(PySparkException) as failed:
        rows.option("checkpointLocation", str(tmp_path)).start().awaitTermination()
    assert to_user_message(failed.value) == "ValueError: of batch 0"
    assert to_user_message(PySparkException("The moon\nis down")) == "The moon"


def test_a_table_that_cannot_be_written_is_named(run_weather: RunWeather, tmp_path: Path) -> None:
    """Delta's exception comes through a Python one, from foreachBatch."""
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "bronze").touch()
    with pytest.raises(LakehouseError) as failed:
        run_weather(options={"numRows": "1"}, steps=("bronze",))
    assert f"cannot write to {tmp_path}/lake/bronze/weather_readings/_delta_log; make it writable" in str(failed.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("java.io.FileNotFoundException: /a/b.parquet (Read-only file system)", "/a/b.parquet cannot be opened: Read-"),
        (
            "java.io.FileNotFoundException: /a/b.json (Permission denied)",
            "/a/b.json cannot be opened: Permission denied",
        ),
        ("java.io.FileNotFoundException: /a/b.json (Too many open files)", "/a/b.json cannot be opened: Too many open"),
        ("java.io.FileNotFoundException: /a/b.json (No such file or directory)", "that the query reads is gone: /a/b."),
        (
            "java.io.FileNotFoundException: File file:/a/b.json does not exist",
            "that the query reads is gone: file:/a/b.",
        ),
        (
            "java.io.IOException: Mkdirs failed to create file:/a/b (exists=false)",
            "cannot write to /a/b; make it writable",
        ),
        ("java.nio.file.FileSystemException: /a/b: Read-only file system", "cannot write to /a/b; make it writable"),
        ("java.nio.file.AccessDeniedException: /a/b", "no permission for /a/b; correct this, then start again"),
        ("java.io.IOException: Permission denied: /a/b: cannot be listed", "no permission for /a/b; correct this"),
        (
            "Traceback (most recent call last):\n  File\npy4j.protocol.Py4JJavaError: An error occurred while calling "
            "o1.save.\n: java.lang.IllegalStateException: The moon is down\n\tat a.b",
            "java.lang.IllegalStateException: The moon is down",
        ),
    ],
)
def test_what_the_operating_system_refuses_is_named_with_its_reason(text: str, message: str) -> None:
    """And no file is said to be gone that is there."""
    assert message in to_user_message(PySparkException(text))


def test_sparks_wrapper_around_a_message_is_removed() -> None:
    """The query's ids and the SQLSTATE are of no use to a user."""
    wrapped = (
        "[STREAM_FAILED] Query [id = 8ff8c549-01a9, runId = 4899e77a-a961] terminated with exception: The moon is "
        "down SQLSTATE: XXKST\n=== Streaming Query ===\nIdentifier: [id = 8ff8c549-01a9]\nLakehouseError: of the plan"
    )
    assert to_user_message(PySparkException(wrapped)) == "The moon is down"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            lambda rows: device_hourly(rows).withColumn("note", F.lit("new")),
            rf"gold\.weather_device_hourly lacks columns that its transform now returns: note; {REBUILD}",
        ),
        (
            lambda rows: device_hourly(rows).withColumn("device", F.lit(1)),
            rf"step '{HOURLY}' failed: device has another type than in the table, .*; {REBUILD}",
        ),
        (
            lambda rows: device_hourly(rows.dropDuplicatesWithinWatermark(["event_id"])),
            rf"step '{HOURLY}' failed: the state in its checkpoint belongs to other aggregations, .*; {REBUILD}",
        ),
    ],
    ids=["column", "type", "state"],
)
def test_a_changed_transform_is_reported(
    run_weather: RunWeather,
    prepare: Prepare,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: Callable[[DataFrame], DataFrame],
    message: str,
) -> None:
    """The remedy works: the rebuilt table has all rows of silver whose windows have closed.

    The checkpoint is one of a version that recorded no definition, by which the change would be refused.
    """
    prepare(HALF)
    run_weather(steps=(HOURLY,))
    metadata.definition_marker(str(tmp_path / "lake/_checkpoints/weather" / HOURLY)).unlink()
    table = tmp_path / "lake/gold/weather_device_hourly"
    before = readings(table)
    prepare(HALF, ALL)
    declare(monkeypatch, weather_with(gold={"weather_device_hourly": {"transform": changed}}))
    with pytest.raises(LakehouseError, match=message) as failed:
        run_weather(steps=(HOURLY,))
    cli.main([*str(failed.value).partition("rebuild with: lakehouse ")[2].split(), "--yes"])
    assert readings(table) > before > 0


def readings(table: Path) -> int:
    return sum(DeltaTable(table).to_pyarrow_table()["readings"].to_pylist())


def test_a_new_column_in_the_table_of_a_running_stream_is_reported(spark: SparkSession, tmp_path: Path) -> None:
    """As when one process adds columns to silver while another runs gold."""
    table = Table("silver", "events", path=str(tmp_path / "events"))
    delta.create_if_missing(spark, table, T.StructType([T.StructField("id", T.LongType())]))
    query = (
        read_stream(spark, table)
        .writeStream.format("noop")
        .option("checkpointLocation", str(tmp_path / "check"))
        .start()
    )
    query.processAllAvailable()
    delta.add_columns(spark, table, [T.StructField("name", T.StringType())])
    with pytest.raises(PySparkException) as failed:
        query.processAllAvailable()
        query.awaitTermination(30)
    assert to_user_message(failed.value).startswith("the columns of the table it reads have changed; start again")
