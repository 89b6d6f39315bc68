"""How long an alert takes on the hot path: from the event's sending to the alert's arrival, at three triggers.

A producer sends readings that are all alerts at a steady rate, a consumer takes the alerts; both have this process's
clock. See README.md here.
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
from contenders import environment
from run import RESULTS, commit, machine

from streaming_lakehouse.local.broker import Broker, create_topic

TRIGGERS = {"micro-batch": "default", "continuous": "continuous 1 second", "real-time": "real-time 5 minutes"}
WARM_UP_SECONDS = 20  # a cold JVM's first thousands of rows say little of a path that runs for weeks
PATIENCE_SECONDS = 120


def reading(number: int) -> bytes:
    """A reading in the frost: each is one alert."""
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
    """The command, as a user types it."""
    command = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--step", "hot", "--trigger", trigger]
    command += ["--source", "kafka", "--option", f"kafka.bootstrap.servers={servers}"]
    command += ["--option", f"subscribe={topics[0]}", "--sink", "kafka", "--option", f"topic={topics[1]}"]
    command += ["--option", f"sink.kafka.bootstrap.servers={servers}", "--root", str(root)]
    with (root.parent / f"{root.name}.log").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment())
    try:
        yield
        assert process.poll() is None, "the hot path ended by itself"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)


def latencies(servers: str, topics: tuple[str, str], events: int, rate: int) -> list[float]:
    """Milliseconds from sending to arrival of each event after the warm-up; all of them must arrive."""
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
    began = time.perf_counter()
    for number in range(events):
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        sent[f"e{number}"] = time.perf_counter()
        producer.produce(topic, reading(number))
        producer.poll(0)
    producer.flush(PATIENCE_SECONDS)


def receive(servers: str, topic: str, events: int, arrived: dict[str, float]) -> None:
    settings = {
        "bootstrap.servers": servers,
        "group.id": topic,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 5,
    }
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    last = time.perf_counter()
    while len(arrived) < events and time.perf_counter() - last < PATIENCE_SECONDS:
        record = consumer.poll(0.1)
        if record is not None and record.error() is None:
            last = time.perf_counter()
            arrived.setdefault(json.loads(record.value())["event_id"], last)
    consumer.close()


def measured(servers: str, work: Path, name: str, events: int, rate: int) -> dict[str, Any]:
    topics = (f"readings-{name}", f"alerts-{name}")
    for topic in topics:
        create_topic(servers, topic, 1)
    with hot_path(servers, topics, TRIGGERS[name], work / name):
        taken = sorted(latencies(servers, topics, events, rate))
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    return {
        "events": len(taken),
        "p50_ms": round(cuts[49], 1),
        "p99_ms": round(cuts[98], 1),
        "most_ms": round(taken[-1]),
    }


def write(results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latency.json").write_text(json.dumps(results, indent=1) + "\n")
    rows = [
        f"| {name} | `{TRIGGERS[name]}` | {found['events']:,} | {found['p50_ms']:,.1f} | {found['p99_ms']:,.1f} "
        f"| {found['most_ms']:,} |"
        for name, found in results["triggers"].items()
    ]
    machine = results["machine"]
    (RESULTS / "latency.md").write_text(
        "# Latency of the hot path\n\n"
        f"Made by `bench/latency.py`: begun {results['began']}, commit {results['commit']}, {machine['cores']} cores, "
        f"Java {machine['java']}, pyspark {machine['pyspark']}. {results['rate']:,} events a second over loopback, "
        f"each an alert; after {WARM_UP_SECONDS} s of warm-up.\n\n"
        "| | trigger | events | p50, ms | p99, ms | most, ms |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, metavar="N", help="after the warm-up, at each trigger")
    parser.add_argument("--rate", type=int, default=500, metavar="N", help="events a second")
    chosen = parser.parse_args()
    results: dict[str, Any] = {"began": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}", "commit": commit()}
    results |= {"machine": machine(), "rate": chosen.rate, "triggers": {}}
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder, Broker(Path(folder) / "broker") as broker:
        for name in TRIGGERS:
            found = measured(broker.bootstrap_servers, Path(folder), name, chosen.events, chosen.rate)
            results["triggers"][name] = found
            print(f"{name}: {found}", flush=True)
    write(results)


if __name__ == "__main__":
    sys.exit(main())
