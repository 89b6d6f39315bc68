"""The hot path: its rows are those that plain Python computes from the raw records, with each of its triggers."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from conftest import RunWeather
from deltalake import DeltaTable
from oracle import read_topic

from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import compatibility
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.pipeline.synthetic import CLEAN, FaultRates, generate_records

ROWS, SEED = 9_000, 5
RATES = {"duplicates": "0", "late": "0", "malformed": "0.05", "unknown_fields": "0.05"}
TIMEOUT_SECONDS = 120


def expected() -> dict[str, list[str]]:
    """The alerts of each valid reading that raises some, computed from the JSON of the records."""
    found = {}
    records = generate_records(READINGS, seed=SEED, start=0, end=ROWS, rates=FaultRates(0, 0, 0.05, 0.05))
    valid = (CLEAN, "unknown_field", "frost", "heat", "gale", "heavy_rain", "stuck_sensor")
    for event in (json.loads(record.value or b"") for record in records if record.label in valid):
        alerts = {
            "frost": event["temperature_c"] <= 0,
            "heat": event["temperature_c"] >= 35,
            "gale": event["wind_speed_m_s"] >= 17.2,
        }
        if any(alerts.values()):
            found[event["event_id"]] = [alert for alert, is_raised in alerts.items() if is_raised]
    return found


def raised(row: dict[str, Any]) -> tuple[str, list[str]]:
    return row["event_id"], [alert["alert"] for alert in row["alerts"]]


@pytest.fixture(scope="module")
def topic(broker: Broker) -> str:
    options = {"kafka.bootstrap.servers": broker.bootstrap_servers, "topic": "hot-readings", **RATES}
    publish(PublishJob(load_pipeline("weather").bronze[0], SEED, 0, ROWS, options), "kafka")
    return "hot-readings"


def source(broker: Broker, topic: str) -> dict[str, str]:
    return {"kafka.bootstrap.servers": broker.bootstrap_servers, "subscribe": topic}


def test_in_micro_batches_it_is_a_table(run_weather: RunWeather, broker: Broker, topic: str, tmp_path: Path) -> None:
    """A new checkpoint over the table replaces rows instead of adding them again."""
    for _ in range(2):
        run_weather("kafka", source(broker, topic), steps=("hot",))
        rows = DeltaTable(tmp_path / "lake/gold/weather_alerts_now").to_pyarrow_table().to_pylist()
        assert sorted(raised(row) for row in rows) == sorted(expected().items()) != []
        shutil.rmtree(tmp_path / "lake/_checkpoints/weather/hot.weather_alerts_now")


def test_micro_batches_write_to_kafka_until_they_are_stopped(
    run_weather: RunWeather, broker: Broker, topic: str
) -> None:
    """Each row once, under its key."""
    servers = {"kafka.bootstrap.servers": broker.bootstrap_servers}
    sink = {"sink": "kafka", "sink_options": {**servers, "topic": "hot-default"}}
    run_weather("kafka", source(broker, topic), steps=("hot",), trigger="default", stop_after=ROWS, **sink)
    sent = [
        (json.loads(record.key), json.loads(record.value)) for record in read_topic(*servers.values(), "hot-default")
    ]
    assert all(key == {"event_id": row["event_id"]} for key, row in sent)
    assert sorted(raised(row) for _, row in sent) == sorted(expected().items())


@pytest.mark.parametrize("trigger", ["continuous 1 second", "real-time 5 minutes"])
def test_without_micro_batches_it_writes_to_kafka_until_it_is_stopped(
    broker: Broker, topic: str, tmp_path: Path, trigger: str
) -> None:
    out = f"hot-{trigger.split(maxsplit=1)[0]}"  # the broker creates it for the first record
    command = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--step", "hot", "--trigger", trigger]
    command += ["--source", "kafka", "--sink", "kafka", "--option", f"topic={out}", "--root", str(tmp_path / "lake")]
    options = source(broker, topic) | {"sink.kafka.bootstrap.servers": broker.bootstrap_servers}
    command += [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stderr=stderr, text=True, start_new_session=True) as process,
    ):
        try:
            wanted, arrived = expected(), {}
            for key, row in rows_of(broker.bootstrap_servers, out, process):
                assert key == {"event_id": row["event_id"]}
                arrived |= [raised(row)]
                if len(arrived) == len(wanted):
                    break
            process.send_signal(signal.SIGINT)
            process.wait(TIMEOUT_SECONDS)
        finally:
            process.kill()
    assert arrived == wanted, log.read_text()
    assert process.returncode == 0, log.read_text()
    output = log.read_text()
    assert "stopping, once more to end at once\n" in output
    assert output.endswith(f"hot.weather_alerts_now: stopped, {len(wanted):,} rows sent\n")
    assert "WARN" not in output and "ERROR" not in output


def rows_of(
    servers: str, topic: str, process: subprocess.Popen[str]
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Keys and values as they arrive, until the process ends or the timeout is over."""
    settings = {"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "topic.metadata.refresh.interval.ms": 500})
    consumer.subscribe([topic])
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        record = consumer.poll(0.5)
        if record is not None and record.error() is None:
            yield json.loads(record.key()), json.loads(record.value())
    consumer.close()


def plan(*selectors: str, sink: str = "kafka") -> RunPlan:
    trigger = parse_trigger("continuous 1 second")
    return RunPlan(load_pipeline("weather"), Storage(root=Path()), "kafka", {}, trigger, selectors, sink)


def test_without_micro_batches_only_the_hot_path_runs() -> None:
    """It is the default with such a trigger; a layer is refused."""
    assert [step.name for step in plan().steps] == ["hot.weather_alerts_now"]
    compatibility.validate(plan(), "local")
    message = r"'bronze\.weather_readings' \(kafka → delta, append, continuous\): .*layers-need-micro-batches"
    with pytest.raises(LakehouseError, match=message):
        compatibility.validate(plan("bronze", sink="kafka"), "local")
