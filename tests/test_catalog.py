"""Every step, and every sink of a workspace, with tables by name: in Spark's own catalog, with Delta."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from oracle import check, check_gold_of_silver, load_domain, read_topic
from pyspark.sql import SparkSession
from rich.console import Console

from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.cli.report import Report
from streaming_lakehouse.config.storage import LAYERS, Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import backfill as execution
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.execution.runner import run
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.session import get_session

CATALOG, PREFIX, TOPIC = "spark_catalog", "by_name_", "weather-by-name"
WEATHER = load_pipeline("weather")
# Each output mode, and Delta's streaming sink.
GOLD = (
    (("weather_device_hourly", "weather_alerts"), "append", "delta"),
    (("weather_device_sliding",), "update", "delta"),
    (("weather_region_hourly",), "complete", "delta-native"),
)
MODES = {table: mode for tables, mode, _ in GOLD for table in tables}


class CatalogStorage(Storage):
    """A catalog in a workspace; a folder replaces the volume of its checkpoints."""

    def checkpoint(self, pipeline: str, step: str) -> str:
        return str(Path.cwd() / "checkpoints" / step)


STORAGE = CatalogStorage(catalog=CATALOG, schema_prefix=PREFIX)


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the catalog's tables, which a lake by path would have too: the oracle reads it."""
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    monkeypatch.chdir(tmp_path)
    for layer in LAYERS:
        spark.sql(f"CREATE SCHEMA {CATALOG}.{PREFIX}{layer} LOCATION '{tmp_path / layer}'")
    yield tmp_path
    for layer in LAYERS:
        spark.sql(f"DROP SCHEMA {CATALOG}.{PREFIX}{layer} CASCADE")


def run_steps(
    *steps: str,
    options: Mapping[str, str] | None = None,
    sink: str = "delta",
    mode: str | None = None,
    sink_options: Mapping[str, str] | None = None,
) -> None:
    trigger = parse_trigger("available-now")
    plan = RunPlan(WEATHER, STORAGE, "kafka", options or {}, trigger, steps, sink, mode, sink_options or {})
    assert run(plan, ProgressReporter([step.name for step in plan.steps], Console(file=io.StringIO())))


def run_to_silver(broker: Broker, *, from_row: int, to_row: int) -> None:
    """Sends these rows to the topic, and runs bronze and silver."""
    server = {"kafka.bootstrap.servers": broker.bootstrap_servers}
    faults = {"late": "0.05", "duplicates": "0.05", "malformed": "0.05"}
    publish(PublishJob(WEATHER.bronze[0], 7, from_row, to_row, {**server, **faults, "topic": TOPIC}), "kafka")
    run_steps("bronze", "silver", options={**server, "subscribe": TOPIC})


def run_gold() -> None:
    for tables, mode, sink in GOLD:
        run_steps(*tables, mode=mode, sink=sink)


def forget_last_commits(lake: Path) -> None:
    """As if each step had died after its tables' last commit: it replays its last batch."""
    for log in lake.glob("checkpoints/*/commits"):
        last = max(log.glob("[0-9]*"), key=lambda entry: int(entry.name))
        last.unlink()
        (log / f".{last.name}.crc").unlink()


def test_every_step_and_sink_by_name(
    lake: Path, spark: SparkSession, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """The first batch creates each table; then each step replays its last batch and reads more; then others delete."""
    run_to_silver(broker, from_row=0, to_row=500)
    run_gold()
    forget_last_commits(lake)
    run_to_silver(broker, from_row=500, to_row=1_000)
    run_gold()
    account = check(lake, "weather", read_topic(broker.bootstrap_servers, TOPIC), MODES)["weather_readings"]
    assert min(account.valid, account.quarantined, account.duplicates, account.late) > 0

    run_sinks(lake, broker)
    hourly = spark.table(f"{CATALOG}.{PREFIX}gold.weather_device_hourly").select("device", "readings")
    files, memory = (
        spark.read.json(str(lake / "out/weather_device_hourly")),
        get_session().table("weather_device_hourly"),
    )
    assert hourly.exceptAll(files.select(*hourly.columns)).isEmpty()
    sent = read_topic(broker.bootstrap_servers, "hourly-by-name")
    assert len(sent) == hourly.count() == files.count() == memory.count() > 0

    backfill(lake)

    spark.sql(f"DELETE FROM {CATALOG}.{PREFIX}bronze.weather_readings WHERE offset = 5")
    run_to_silver(broker, from_row=1_000, to_row=1_100)
    assert "passes over a change of bronze.weather_readings: DELETE in version " in caplog.text
    assert any(" deleted since = " in str(part) for part in Report(WEATHER, STORAGE).render(gold_rows=1))

    (lake / "checkpoints").rename(lake / "lost")
    with pytest.raises(LakehouseError, match=r"checkpoint of step 'bronze.weather_readings' is missing, but bronze"):
        run_to_silver(broker, from_row=1_100, to_row=1_101)


def backfill(lake: Path) -> None:
    """A table that is complete needs to be rebuilt, which the command does not do in a catalog."""
    said: list[str] = []
    show_nowhere = partial(ProgressReporter, console=Console(file=io.StringIO()))
    execution.run(execution.Backfill(WEATHER, STORAGE), show_nowhere, said.append)
    assert re.match(r"silver.weather_readings: [1-9]\d* records admitted$", said[0])
    assert [line.split(":")[0] for line in said[1:]] == [
        "gold.weather_device_hourly",
        "gold.weather_device_sliding",
        "gold.weather_alerts",
        "gold.weather_region_hourly",
    ]
    assert "without these rows until rebuilt: rename the step's tables" in said[-1]
    weather = load_domain("weather")
    updated = tuple(gold for gold in weather.gold if gold.table != "weather_region_hourly")
    check_gold_of_silver(lake, replace(weather, gold=updated), MODES)


def run_sinks(lake: Path, broker: Broker) -> None:
    for sink, options in {
        "files": {"path": str(lake / "out"), "format": "json"},
        "kafka": {"kafka.bootstrap.servers": broker.bootstrap_servers, "topic": "hourly-by-name"},
        "memory": {},
        "console": {},
    }.items():
        run_steps("weather_device_hourly", sink=sink, sink_options=options)
