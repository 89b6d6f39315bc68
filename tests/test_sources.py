"""What a source is told is checked before Spark starts, and means on Databricks what it means here."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.sources import Request, files, find_source, kafka
from streaming_lakehouse.sources.generator import Plan
from streaming_lakehouse.sources.generator_stream import GeneratorReader
from streaming_lakehouse.triggers import parse_trigger
from streaming_lakehouse.unseen import redacted

SERVERS = "kafka.bootstrap.servers"
DEFAULTS = {"maxFileAge": "36500d", "recursiveFileLookup": "true"}


def request(**options: str) -> Request:
    return Request(load_pipeline("weather"), options, parse_trigger("available-now"))


@pytest.mark.parametrize(
    ("source", "option", "value", "told"),
    [
        ("kafka", "maxOffsetsPerTrigger", "abc", "maxOffsetsPerTrigger is a whole number from 1 on, not 'abc'"),
        ("kafka", "maxoffsetspertrigger", "0", "from 1 on, not '0'"),
        ("kafka", "failOnDataLoss", "maybe", "failOnDataLoss is true or false, not 'maybe'"),
        ("kafka", "kafka.ssl.keystore.key", "-----BEGIN canary", "LAKEHOUSE_KAFKA_SSL_KEYSTORE_KEY"),
        ("files", "cloudFiles.clientSecret", "canary", "LAKEHOUSE_CLOUD_FILES_CLIENT_SECRET"),
        ("files", "cloudFiles.privateKey", "-----BEGIN canary", "LAKEHOUSE_CLOUD_FILES_PRIVATE_KEY"),
        ("files", "maxFilesPerTrigger", "-1", "maxFilesPerTrigger is a whole number"),
        ("generator", "maxRowsPerTrigger", "0", "maxRowsPerTrigger is a whole number from 1 on, not '0'"),
        ("generator", "numRows", "1e6", "numRows is a whole number from 0 on"),
    ],
)
def test_a_value_that_cannot_be_meant_is_told_with_its_option(source: str, option: str, value: str, told: str) -> None:
    """A credential is not repeated."""
    with pytest.raises(LakehouseError) as refused:
        find_source(source).check({option: value})
    assert told in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("option", "value"), [("rowsPerSecond", "fast"), ("rowsPerSecond", ""), ("late", "2"), ("Late", "x")]
)
def test_a_rate_or_a_share_that_is_none(option: str, value: str) -> None:
    with pytest.raises(LakehouseError, match="generator"):
        find_source("generator").place(request(**{option: value}))


def test_a_runtime_of_spark_4_0_has_all_sources_but_the_generator() -> None:
    """It lacks one module, as the runtime of serverless jobs does; only who wants the generator is told."""
    script = (
        "import sys; sys.modules['pyspark.sql.streaming.datasource'] = None; "
        "from streaming_lakehouse.sources import find_source; print(find_source('files').name); "
        "find_source('generator').read(None, None)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert told.stdout == "files\n"
    assert "LakehouseError: source 'generator' needs a newer Spark than this runtime has" in told.stderr


def test_no_rows_are_no_rows() -> None:
    """And not as many as are made where no number is given."""
    reader = GeneratorReader(Plan.of("weather", {"numRows": "0"}))
    reader.prepareForTriggerAvailableNow()
    assert reader.latestOffset({"row": 0}, reader.getDefaultReadLimit()) == {"row": 0}


def test_no_server_is_spoken_to_in_clear_that_is_not_on_this_machine() -> None:
    """Also where another one is, and would have answered first."""
    servers = f"127.0.0.1:{free_port()},broker.example.com:9092"
    with pytest.raises(LakehouseError, match=r"broker\.example\.com:9092 is not on this machine"):
        kafka.check_servers("source 'kafka'", {SERVERS: servers})


def test_the_place_of_records() -> None:
    """What a checkpoint's offsets count; where the broker stands is no part of it."""
    assert kafka.place(request(**{SERVERS: "127.0.0.1:1"})) == {"subscribe": "weather-readings"}
    assert kafka.place(request(SUBSCRIBE="mine")) == {"subscribe": "mine"}
    assert find_source("generator").place(request(numRows="5")) == {"seed": "0"}


def test_a_missing_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `~` for the home folder, as everywhere."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LakehouseError, match=rf"there is no folder {tmp_path}/landing/weather_readings"):
        files.place(request(path="~/landing"))
    (tmp_path / "landing" / "weather_readings").mkdir(parents=True)
    assert files.place(request(path="~/landing/")) == {"path": f"{tmp_path}/landing/weather_readings"}


def test_options_of_the_file_stream_are_auto_loaders_on_databricks() -> None:
    """Auto Loader passes over an option by Spark's name without a word."""
    spark = {"MaxFilesPerTrigger": "5", "cleanSource": "archive", "sourceArchiveDir": "/a", "pathGlobFilter": "*.gz"}
    assert files._of_auto_loader({**spark, "cloudFiles.inferColumnTypes": "false"}) == {
        "cloudFiles.format": "text",
        "cloudFiles.maxFilesPerTrigger": "5",
        "cloudFiles.cleanSource": "MOVE",
        "cloudFiles.cleanSource.moveDestination": "/a",
        "cloudFiles.inferColumnTypes": "false",
        "pathGlobFilter": "*.gz",
    }
    with pytest.raises(LakehouseError, match="no option 'latestFirst'"):
        files._of_auto_loader({"latestFirst": "true"})


def test_credentials_of_auto_loader_come_from_where_the_refusal_says(
    workspace: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable, or by the reference; and nothing that the environment holds for Kafka comes with them."""
    monkeypatch.setenv("LAKEHOUSE_CLOUD_FILES_CLIENT_SECRET", "canary-0815")
    monkeypatch.setenv("LAKEHOUSE_KAFKA_SASL_PASSWORD", "canary-4711")
    given = {"cloudFiles.connectionString": "{{secrets/ours/queue}}", "cloudFiles.privateKeyId": "k-1"}
    find_source("files").check(given)
    assert files._of_auto_loader(given) == {
        "cloudFiles.format": "text",
        "cloudFiles.clientSecret": "canary-0815",
        "cloudFiles.connectionString": "canary-of-queue",
        "cloudFiles.privateKeyId": "k-1",
    }
    assert redacted("refused: canary-0815, canary-of-queue") == "refused: ***, ***"


def test_options_of_auto_loader_are_told_of_where_they_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert files._of_spark({"cloudFiles.useNotifications": "true"}) == DEFAULTS
    assert "cloudFiles.useNotifications counts on Databricks only" in caplog.text
    assert files._of_spark({"maxfileage": "1d"}) == {"recursiveFileLookup": "true", "maxfileage": "1d"}
