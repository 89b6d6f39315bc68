"""Latency of the hot path, from sending an event to receiving its alert, with three triggers.

A producer sends readings that all cause an alert, at a steady rate; a consumer receives the alerts. Both use the clock
of this process. See README.md here.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer
from implementations import environment
from run import RESULTS, provenance, written_by

from streaming_lakehouse.local.broker import Broker, create_topic

TRIGGERS = {"micro-batch": "default", "continuous": "continuous 1 second", "real-time": "real-time 5 minutes"}
WARM_UP_SECONDS = 20  # the first thousands of rows of a cold JVM do not represent a path that runs for weeks
TIMEOUT_SECONDS = 120


def reading(number: int) -> bytes:
    """A reading below 0 °C: each causes one alert."""
    return json.dumps(
        {
            "event_id": f"e{number}",
            "device": f"station-{number % 50:03d}",
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
            "temperature_c": -5.5,
            "humidity_pct": 60.0,
            "pressure_hpa": 1010.0,
            "wind_speed_m_s": 3.0,
            "rain_mm": 0.0,
        }
    ).encode()


@contextmanager
def hot_path(servers: str, topics: tuple[str, str], trigger: str, root: Path) -> Iterator[None]:
    """Runs the hot path with the CLI."""
    command = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--step", "hot", "--trigger", trigger]
    command += ["--source", "kafka", "--option", f"kafka.bootstrap.servers={servers}"]
    command += ["--option", f"subscribe={topics[0]}", "--sink", "kafka", "--option", f"topic={topics[1]}"]
    command += ["--option", f"sink.kafka.bootstrap.servers={servers}", "--root", str(root)]
    with (root.parent / f"{root.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
    try:
        yield
        assert process.poll() is None, "the hot path ended by itself"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(TIMEOUT_SECONDS)


def latencies(servers: str, topics: tuple[str, str], events: int, rate: int) -> list[float]:
    """Milliseconds from sending an event to receiving its alert, for each after the warm-up; all must arrive."""
    warm_up = WARM_UP_SECONDS * rate
    sent: dict[str, float] = {}
    arrived: dict[str, float] = {}
    receiver = threading.Thread(target=receive, args=(servers, topics[1], warm_up + events, arrived))
    receiver.start()
    send(servers, topics[0], warm_up + events, rate, sent)
    receiver.join()
    lost = sent.keys() - arrived.keys()
    assert not lost, f"{len(lost)} of {len(sent)} alerts have not arrived"
    measured = [f"e{number}" for number in range(warm_up, warm_up + events)]
    return [(arrived[name] - sent[name]) * 1000 for name in measured]


def send(servers: str, topic: str, events: int, rate: int, sent: dict[str, float]) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
    started_at = time.perf_counter()
    for number in range(events):
        time.sleep(max(0.0, started_at + number / rate - time.perf_counter()))
        sent[f"e{number}"] = time.perf_counter()
        producer.produce(topic, reading(number))
        producer.poll(0)
    producer.flush(TIMEOUT_SECONDS)


def receive(servers: str, topic: str, events: int, arrived: dict[str, float]) -> None:
    config = {
        "bootstrap.servers": servers,
        "group.id": topic,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 5,
    }
    consumer = Consumer(config)
    consumer.subscribe([topic])
    last = time.perf_counter()
    while len(arrived) < events and time.perf_counter() - last < TIMEOUT_SECONDS:
        record = consumer.poll(0.1)
        if record is not None and record.error() is None:
            last = time.perf_counter()
            arrived.setdefault(json.loads(record.value())["event_id"], last)
    consumer.close()


def measure(servers: str, work: Path, name: str, events: int, rate: int) -> dict[str, Any]:
    topics = (f"readings-{name}", f"alerts-{name}")
    for topic in topics:
        create_topic(servers, topic, 1)
    with hot_path(servers, topics, TRIGGERS[name], work / name):
        measured = sorted(latencies(servers, topics, events, rate))
    percentiles = statistics.quantiles(measured, n=100, method="inclusive")
    return {
        "events": len(measured),
        "p50_ms": round(percentiles[49], 1),
        "p99_ms": round(percentiles[98], 1),
        "max_ms": round(measured[-1]),
    }


def write(results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latency.json").write_text(json.dumps(results, indent=1) + "\n")
    rows = [
        f"| {name} | `{TRIGGERS[name]}` | {found['events']:,} | {found['p50_ms']:,.1f} | {found['p99_ms']:,.1f} "
        f"| {found['max_ms']:,} |"
        for name, found in results["triggers"].items()
    ]
    (RESULTS / "latency.md").write_text(
        "# Latency of the hot path\n\n"
        f"{written_by('bench/latency.py', results)} "
        f"{results['rate']:,} events per second over loopback, each with an alert; "
        f"after {WARM_UP_SECONDS} s of warm-up.\n\n"
        "| | trigger | events | p50, ms | p99, ms | max, ms |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, metavar="N", help="after the warm-up, with each trigger")
    parser.add_argument("--rate", type=int, default=500, metavar="N", help="events per second")
    chosen = parser.parse_args()
    results: dict[str, Any] = {**provenance(), "rate": chosen.rate, "triggers": {}}
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder, Broker(Path(folder) / "broker") as broker:
        for name in TRIGGERS:
            found = measure(broker.bootstrap_servers, Path(folder), name, chosen.events, chosen.rate)
            results["triggers"][name] = found
            print(f"{name}: {found}", flush=True)
    write(results)


if __name__ == "__main__":
    sys.exit(main())
