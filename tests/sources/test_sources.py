"""Options of sources are checked before Spark starts, and have the same meaning on Databricks."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from streaming_lakehouse.config.redaction import redact
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.sources import ReadRequest, files, get_source, kafka
from streaming_lakehouse.sources.generator import GeneratorConfig
from streaming_lakehouse.sources.generator_datasource import FORMAT, GeneratorReader

SERVERS = "kafka.bootstrap.servers"
DEFAULTS = {"maxFileAge": "36500d", "recursiveFileLookup": "true"}


def request(**options: str) -> ReadRequest:
    return ReadRequest("weather", load_pipeline("weather").bronze[0], options, parse_trigger("available-now"))


@pytest.mark.parametrize(
    ("source", "option", "value", "message"),
    [
        ("kafka", "maxOffsetsPerTrigger", "abc", "maxOffsetsPerTrigger is an integer of at least 1, not 'abc'"),
        ("kafka", "maxoffsetspertrigger", "0", "of at least 1, not '0'"),
        ("kafka", "failOnDataLoss", "maybe", "failOnDataLoss is true or false, not 'maybe'"),
        ("kafka", "kafka.ssl.keystore.key", "-----BEGIN canary", "LAKEHOUSE_KAFKA_SSL_KEYSTORE_KEY"),
        ("files", "cloudFiles.clientSecret", "canary", "LAKEHOUSE_CLOUD_FILES_CLIENT_SECRET"),
        ("files", "cloudFiles.privateKey", "-----BEGIN canary", "LAKEHOUSE_CLOUD_FILES_PRIVATE_KEY"),
        ("files", "maxFilesPerTrigger", "-1", "maxFilesPerTrigger is an integer"),
        ("generator", "maxRowsPerTrigger", "0", "maxRowsPerTrigger is an integer of at least 1, not '0'"),
        ("generator", "numRows", "1e6", "numRows is an integer of at least 0"),
    ],
)
def test_an_invalid_value_is_reported_with_its_option(source: str, option: str, value: str, message: str) -> None:
    """Without the value of a credential."""
    with pytest.raises(LakehouseError) as refused:
        get_source(source).check({option: value})
    assert message in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("option", "value"), [("rowsPerSecond", "fast"), ("rowsPerSecond", ""), ("late", "2"), ("Late", "x")]
)
def test_an_invalid_rate_is_refused(option: str, value: str) -> None:
    with pytest.raises(LakehouseError, match="generator"):
        get_source("generator").address(request(**{option: value}))


def test_a_runtime_of_spark_4_0_has_all_sources_but_the_generator() -> None:
    """It lacks one module, as the runtime of serverless jobs does; only the generator fails."""
    script = (
        "import sys; sys.modules['pyspark.sql.streaming.datasource'] = None; "
        "from streaming_lakehouse.sources import get_source; print(get_source('files').name); "
        "get_source('generator').read(None, None)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout == "files\n"
    assert "LakehouseError: source 'generator' needs a newer Spark than this runtime has" in result.stderr


def test_a_query_that_starts_leaves_the_map_that_another_serializes(spark: SparkSession) -> None:
    """Streams of the generator share the environment of its Python workers, a Java map, which their tasks contain."""
    stream = get_source("generator").read(spark, request(numRows="1"))
    manager: Any = spark._jsparkSession.sessionState().dataSourceManager()
    environment = manager.lookupDataSource(FORMAT).dataSourceCls().envVars()
    names = set(environment)
    stream.writeStream.format("noop").trigger(availableNow=True).start().awaitTermination()
    assert set(environment) == names


def test_zero_rows_are_zero_rows() -> None:
    """And not the default number."""
    reader = GeneratorReader(GeneratorConfig.from_options("weather", "weather_readings", {"numRows": "0"}))
    reader.prepareForTriggerAvailableNow()
    assert reader.latestOffset({"row": 0}, reader.getDefaultReadLimit()) == {"row": 0}


def test_a_remote_server_without_tls_is_refused() -> None:
    """Also if another one is local, and would have been used first."""
    servers = f"127.0.0.1:{free_port()},broker.example.com:9092"
    with pytest.raises(LakehouseError, match=r"broker\.example\.com:9092 is not on this machine"):
        kafka.check_reachable("source 'kafka'", {SERVERS: servers})


def test_the_address_of_records() -> None:
    """It identifies what the offsets refer to; the broker's address is no part of it."""
    assert kafka.address(request(**{SERVERS: "127.0.0.1:1"})) == {"subscribe": "weather-readings"}
    assert kafka.address(request(SUBSCRIBE="mine")) == {"subscribe": "mine"}
    assert get_source("generator").address(request(numRows="5")) == {"seed": "0"}


def test_a_missing_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `~` expanded, as in every path."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LakehouseError, match=rf"there is no folder {tmp_path}/landing/weather_readings"):
        files.address(request(path="~/landing"))
    (tmp_path / "landing" / "weather_readings").mkdir(parents=True)
    assert files.address(request(path="~/landing/")) == {"path": f"{tmp_path}/landing/weather_readings"}


def test_options_of_the_file_stream_are_translated_for_auto_loader() -> None:
    """Auto Loader would silently ignore an option by Spark's name."""
    spark = {"MaxFilesPerTrigger": "5", "cleanSource": "archive", "sourceArchiveDir": "/a", "pathGlobFilter": "*.gz"}
    assert files._auto_loader_options({**spark, "cloudFiles.inferColumnTypes": "false"}) == {
        "cloudFiles.format": "text",
        "cloudFiles.maxFilesPerTrigger": "5",
        "cloudFiles.cleanSource": "MOVE",
        "cloudFiles.cleanSource.moveDestination": "/a",
        "cloudFiles.inferColumnTypes": "false",
        "pathGlobFilter": "*.gz",
    }
    with pytest.raises(LakehouseError, match="no option 'latestFirst'"):
        files._auto_loader_options({"latestFirst": "true"})


def test_credentials_of_auto_loader_are_resolved(workspace: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, or by reference; the environment's options for Kafka are left out."""
    monkeypatch.setenv("LAKEHOUSE_CLOUD_FILES_CLIENT_SECRET", "canary-0815")
    monkeypatch.setenv("LAKEHOUSE_KAFKA_SASL_PASSWORD", "canary-4711")
    options = {"cloudFiles.connectionString": "{{secrets/ours/queue}}", "cloudFiles.privateKeyId": "k-1"}
    get_source("files").check(options)
    assert files._auto_loader_options(options) == {
        "cloudFiles.format": "text",
        "cloudFiles.clientSecret": "canary-0815",
        "cloudFiles.connectionString": "canary-of-queue",
        "cloudFiles.privateKeyId": "k-1",
    }
    assert redact("refused: canary-0815, canary-of-queue") == "refused: ***, ***"


def test_options_of_auto_loader_without_effect_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert files._spark_options({"cloudFiles.useNotifications": "true"}) == DEFAULTS
    assert "cloudFiles.useNotifications has an effect on Databricks only" in caplog.text
    assert files._spark_options({"maxfileage": "1d"}) == {"recursiveFileLookup": "true", "maxfileage": "1d"}
