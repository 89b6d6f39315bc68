"""Live: from the time of an event to its row in silver and in gold, at steady rates from Kafka.

Each implementation runs in a process of its own with an empty root: a warm-up, then the minutes that are measured.
An event is visible when the commit that has its row is in the table's Delta log. See README.md here.
"""

import argparse
import itertools
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from confluent_kafka import Producer
from implementations import environment
from latency import TIMEOUT_SECONDS, reading
from run import RESULTS, provenance, written_by
from verification import GOLD

from streaming_lakehouse.local.broker import Broker, create_topic

HERE = Path(__file__).parent
IMPLEMENTATIONS = ("ours", "handwritten", "defaults", "deltars")
RATES = (200, 2_000, 10_000)
# Every reading is below 0 °C, and so has a row in gold at once.
TABLES = {"bronze": "bronze/weather_readings", "silver": "silver/weather_readings", "gold": "gold/weather_alerts"}
# Those whose rows have the event's time.
WITH_TIMES = ("silver", "gold")


def command(implementation: str, servers: str, topic: str, root: Path) -> list[str]:
    if implementation != "ours":
        script = "live_deltars.py" if implementation == "deltars" else "live_handwritten.py"
        options = ["--defaults"] if implementation == "defaults" else []
        where = ["--bootstrap-servers", servers, "--topic", topic, "--root", str(root)]
        return [sys.executable, str(HERE / script), *where, *options]
    run = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--source", "kafka", "--trigger", "default"]
    run += ["--option", f"kafka.bootstrap.servers={servers}", "--option", f"subscribe={topic}", "--root", str(root)]
    return [*run, *(word for step in ("bronze", "silver", *GOLD) for word in ("--step", step))]


@contextmanager
def running(arguments: list[str], log: Path) -> Iterator[psutil.Process]:
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, env=environment())
    try:
        yield psutil.Process(process.pid)
        assert process.poll() is None, f"it ended by itself: {log.read_text(errors='replace')[-2000:]}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_SECONDS)


def send(servers: str, topic: str, rate: int, seconds: float) -> None:
    """Readings of this moment, in bursts of a twentieth of a second."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
    started_at, number = time.monotonic(), 0
    while (elapsed := time.monotonic() - started_at) < seconds:
        while number < elapsed * rate:
            producer.produce(topic, reading(number))
            number += 1
        producer.poll(0)
        time.sleep(0.05)
    producer.flush(TIMEOUT_SECONDS)


def with_children(process: psutil.Process, figure: Callable[[psutil.Process], float]) -> float:
    """The sum of a figure over the process and those that it has started."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            total += figure(each)
    return total


def cpu_seconds(process: psutil.Process) -> float:
    return with_children(process, lambda each: sum(each.cpu_times()[:2]))  # user and system


def resident_bytes(process: psutil.Process) -> float:
    return with_children(process, lambda each: each.memory_info().rss)


def commits(table: Path) -> list[tuple[float, list[Path]]]:
    """The time of each commit with new rows, in seconds since 1970, and the files that it added."""
    found = []
    for log in sorted((table / "_delta_log").glob("*[0-9].json")):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        if added := [table / each["add"]["path"] for each in actions if each.get("add", {}).get("dataChange")]:
            found.append((log.stat().st_mtime, added))
    return found


def latencies(table: Path, start: float, end: float) -> list[float]:
    """Seconds from event to commit, of the events that happened between `start` and `end`."""
    seconds = []
    for committed_at, files in commits(table):
        for file in files if committed_at >= start else ():
            times = pq.read_table(file, columns=["time"])["time"].to_pylist()
            happened = (time.replace(tzinfo=time.tzinfo or UTC).timestamp() for time in times)
            seconds += [committed_at - each for each in happened if start <= each < end]
    return seconds


def batches(table: Path, start: float, end: float) -> dict[str, float]:
    """Commits with rows in the measured time: their number, the median time between two, and their files."""
    within = [(at, files) for at, files in commits(table) if start <= at < end]
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(within)]
    return {
        "commits": len(within),
        "interval_s": round(statistics.median(gaps), 2) if gaps else 0.0,
        "files": sum(len(files) for _, files in within),
    }


def measure(implementation: str, servers: str, work: Path, rate: int, chosen: argparse.Namespace) -> dict[str, Any]:
    topic = f"live-{implementation}-{rate}-{time.time_ns()}"
    root = work / topic
    create_topic(servers, topic, 2)
    total = chosen.warm_up + chosen.seconds
    with running(command(implementation, servers, topic, root), work / f"{topic}.log") as process:
        sender = threading.Thread(target=send, args=(servers, topic, rate, total))
        sender.start()
        time.sleep(chosen.warm_up)
        start, used = time.time(), cpu_seconds(process)
        time.sleep(chosen.seconds)
        end, used = time.time(), cpu_seconds(process) - used
        sender.join()
        time.sleep(chosen.drain)  # what is not visible by then counts as missing
    figures: dict[str, Any] = {"cpu_s_per_min": round(used / chosen.seconds * 60, 1)}
    for layer, name in TABLES.items():
        figures[layer] = batches(root / name, start, end)
        if layer in WITH_TIMES:
            seconds = latencies(root / name, start, end - 1)
            figures[layer] = summary(seconds, expected=rate * (chosen.seconds - 1)) | figures[layer]
    return figures


def summary(seconds: list[float], *, expected: float) -> dict[str, float]:
    """The percentiles of latencies, and the share of the expected rows that are missing."""
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [0.0] * 99
    return {
        "p50_s": round(percentiles[49], 2),
        "p99_s": round(percentiles[98], 2),
        "missing_share": round(max(0.0, 1 - len(seconds) / expected), 4),
    }


def write(results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "live.json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [
        "# Live",
        "",
        f"{written_by('bench/live.py', results)} {results['warm_up_s']} s of warm-up, "
        f"then {results['seconds']} s of events. Seconds from an event's time to the commit with its row.",
        "",
        "| events/s | | repetition | silver p50 | p99 | gold p50 | p99 | missing in gold | CPU s a minute "
        "| commits, s apart: bronze | silver | gold | files a minute |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in results["runs"]:
        layers = bronze, silver, gold = [run[name] for name in TABLES]
        files = sum(layer["files"] for layer in layers) * 60 / results["seconds"]
        lines.append(
            f"| {run['rate']:,} | {run['implementation']} | {run['repetition']} | {silver['p50_s']} "
            f"| {silver['p99_s']} | {gold['p50_s']} | {gold['p99_s']} | {gold['missing_share']:.1%} "
            f"| {run['cpu_s_per_min']} | {bronze['interval_s']} | {silver['interval_s']} | {gold['interval_s']} "
            f"| {files:.0f} |"
        )
    (RESULTS / "live.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES), metavar="EVENTS_PER_SECOND")
    parser.add_argument("--implementations", nargs="+", choices=IMPLEMENTATIONS, default=list(IMPLEMENTATIONS))
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument("--warm-up", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=180, metavar="SECONDS", help="measured, after the warm-up")
    parser.add_argument("--drain", type=float, default=20, metavar="SECONDS", help="to wait for the last rows")
    chosen = parser.parse_args()
    results: dict[str, Any] = {**provenance(), "warm_up_s": chosen.warm_up, "seconds": chosen.seconds, "runs": []}
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder, Broker(Path(folder) / "broker") as broker:
        for repetition in range(1, chosen.repetitions + 1):
            for rate in chosen.rates:
                for implementation in chosen.implementations:
                    found = measure(implementation, broker.bootstrap_servers, Path(folder), rate, chosen)
                    about = {"rate": rate, "implementation": implementation, "repetition": repetition}
                    results["runs"].append(about | found)
                    print(json.dumps(about | found), flush=True)
                    write(results)


if __name__ == "__main__":
    sys.exit(main())
