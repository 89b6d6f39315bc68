"""The hot path: what comes out is what plain Python tells from the raw records, at each trigger that it takes."""

from __future__ import annotations

import json
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

from streaming_lakehouse.checks import Wanted
from streaming_lakehouse.domains.weather.events import EVENTS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import CLEAN, Shares, records
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.local.deliver import Delivery, deliver
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.triggers import parse_trigger

ROWS, SEED = 9_000, 5
SHARES = {"duplicates": "0", "late": "0", "broken": "0.05", "unknown_fields": "0.05"}
PATIENCE_SECONDS = 120


def expected() -> dict[str, list[str]]:
    """The alerts of each reading that raises some, of all valid records: told from their JSON."""
    found = {}
    made = records(EVENTS, seed=SEED, start=0, end=ROWS, shares=Shares(0, 0, 0.05, 0.05))
    valid = (CLEAN, "unknown_field", "frost", "heat", "gale", "heavy_rain", "stuck_sensor")
    for event in (json.loads(record.value or b"") for record in made if record.label in valid):
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
    options = {"kafka.bootstrap.servers": broker.bootstrap_servers, "topic": "hot-readings", **SHARES}
    deliver(Delivery(load_pipeline("weather"), SEED, 0, ROWS, options), "kafka", None)
    return "hot-readings"


def source(broker: Broker, topic: str) -> dict[str, str]:
    return {"kafka.bootstrap.servers": broker.bootstrap_servers, "subscribe": topic}


def test_in_micro_batches_it_is_a_table(run_weather: RunWeather, broker: Broker, topic: str, tmp_path: Path) -> None:
    run_weather("kafka", source(broker, topic), steps=("hot",))
    rows = DeltaTable(tmp_path / "lake/gold/weather_alerts_now").to_pyarrow_table().to_pylist()
    assert sorted(raised(row) for row in rows) == sorted(expected().items()) != []


@pytest.mark.parametrize("trigger", ["continuous 1 second", "real-time 5 minutes", "default"])
def test_without_micro_batches_it_goes_on_to_kafka_until_it_is_stopped(
    broker: Broker, topic: str, tmp_path: Path, trigger: str
) -> None:
    out = f"hot-{trigger.split(maxsplit=1)[0]}"  # the broker makes it for the first record
    command = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--step", "hot", "--trigger", trigger]
    command += ["--source", "kafka", "--sink", "kafka", "--option", f"topic={out}", "--root", str(tmp_path / "lake")]
    given = source(broker, topic) | {"sink.kafka.bootstrap.servers": broker.bootstrap_servers}
    command += [word for name, value in given.items() for word in ("--option", f"{name}={value}")]
    log = tmp_path / "log"
    with log.open("w") as said, subprocess.Popen(command, stderr=said, text=True, start_new_session=True) as process:
        try:
            wanted, arrived = expected(), {}
            for key, row in rows_of(broker.bootstrap_servers, out, process):
                assert key == {"event_id": row["event_id"]}
                arrived |= [raised(row)]
                if len(arrived) == len(wanted):
                    break
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
    assert arrived == wanted, log.read_text()
    assert process.returncode == 0, log.read_text()
    assert "WARN" not in log.read_text()


def rows_of(
    servers: str, topic: str, process: subprocess.Popen[str]
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Keys and values as they come, until none has come for long, or none will."""
    settings = {"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "topic.metadata.refresh.interval.ms": 500})
    consumer.subscribe([topic])
    patience = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < patience:
        record = consumer.poll(0.5)
        if record is not None and record.error() is None:
            yield json.loads(record.key()), json.loads(record.value())
    consumer.close()


def test_without_micro_batches_no_step_but_the_hot_path_runs() -> None:
    wanted = Wanted(load_pipeline("weather"), "kafka", parse_trigger("continuous 1 second"), sink="kafka")
    assert wanted.chosen_steps == ("hot",)
    wanted.check()
    layers = Wanted(load_pipeline("weather"), "kafka", parse_trigger("continuous 1 second"), steps=("bronze",))
    with pytest.raises(
        LakehouseError, match=r"'bronze' \(kafka → delta, append, continuous\): .*layers-take-micro-batches"
    ):
        layers.check()
