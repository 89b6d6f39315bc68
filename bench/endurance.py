"""Endurance: an hour live from Kafka at a steady rate. Latencies, CPU, memory, files and logs, a row each ten minutes.

Files that Delta has compacted stay on disk until VACUUM, and its log keeps commits for 30 days: both are counted apart
from those that a reader needs.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import live
import psutil
from deltalake import DeltaTable
from run import RESULTS, provenance, written_by

from streaming_lakehouse.local.broker import Broker, create_topic

# A collection of G1: the heap before it, after it, and its size.
_PAUSE = re.compile(r"\[(\d+)ms\].* Pause .* \d+M->(\d+)M\(\d+M\)")
_MIB = 2**20
_ROOT, _LOG = "lake", "gc.log"
_WARM_UP_S, _DRAIN_S = 60, 20


def heap_after_collections(log: Path, start_ms: float, end_ms: float) -> list[int]:
    """MiB that each garbage collection has left, of those between two times since the JVM's start."""
    found = [(int(at), int(left)) for at, left in _PAUSE.findall(log.read_text())]
    return [left for at, left in found if start_ms <= at < end_ms]


def size(folder: Path) -> tuple[int, float]:
    """The number of files below a folder, and their MiB."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes) / _MIB


def sample(process: psutil.Process, root: Path) -> dict[str, Any]:
    """What the process and its tables have used so far."""
    family = [process, *process.children(recursive=True)]
    found: dict[str, Any] = {
        "at": time.time(),
        "cpu_s": live.cpu_seconds(process),
        "resident_mib": round(sum(each.memory_info().rss for each in family) / _MIB),
        "checkpoint_files": size(root / "_checkpoints")[0],
    }
    for layer, name in live.TABLES.items():
        entries, mib = size(root / name / "_delta_log")
        found[layer] = {
            "files": len(DeltaTable(root / name).file_uris()),
            "log_entries": entries,
            "log_mib": round(mib, 1),
        }
    return found


def interval(
    before: dict[str, Any], after: dict[str, Any], folder: Path, started_at: float, rate: int
) -> dict[str, Any]:
    """The figures of the time between two samples."""
    root, log, start, end = folder / _ROOT, folder / _LOG, before["at"], after["at"]
    heap = heap_after_collections(log, (start - started_at) * 1000, (end - started_at) * 1000)
    figures = {
        "minutes": round((end - started_at) / 60, 1),
        "cpu_s_per_min": round((after["cpu_s"] - before["cpu_s"]) / (end - start) * 60, 1),
        "resident_mib": after["resident_mib"],
        "heap_after_gc_mib": round(statistics.median(heap)) if heap else None,
        "checkpoint_files": after["checkpoint_files"],
    }
    for layer, name in live.TABLES.items():
        figures[layer] = live.batches(root / name, start, end) | after[layer]
        if layer in live.WITH_TIMES:
            seconds = live.latencies(root / name, start, end)
            figures[layer] |= live.summary(seconds, expected=rate * (end - start))
    return figures


def write(results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "endurance.json").write_text(json.dumps(results, indent=1) + "\n")
    layers = [
        ("commits, s apart", "interval_s"),
        ("files", "files"),
        ("log entries", "log_entries"),
        ("MiB", "log_mib"),
    ]
    columns = ["until minute", "silver p50", "p99", "gold p50", "p99", "CPU s a minute", "resident MiB"]
    columns += ["heap after GC", "checkpoints' files"]
    columns += [f"{layer}: {title}" if not i else title for layer in live.TABLES for i, (title, _) in enumerate(layers)]
    about = f"{written_by('bench/endurance.py', results)} {results['rate']} events a second."
    lines = [
        "# Endurance",
        "",
        f"{about} Seconds from an event's time to the commit with its row; of the tables, the files that a reader "
        "needs, and the log's files.",
        "",
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
    ]
    for row in results["intervals"]:
        cells = [row["minutes"]]
        cells += [row[layer][name] for layer in live.WITH_TIMES for name in ("p50_s", "p99_s")]
        cells += [row[name] for name in ("cpu_s_per_min", "resident_mib", "heap_after_gc_mib", "checkpoint_files")]
        cells += [row[layer][name] for layer in live.TABLES for _, name in layers]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    (RESULTS / "endurance.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=200, metavar="EVENTS_PER_SECOND")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=10, metavar="MINUTES", help="a row of the table")
    chosen = parser.parse_args()
    results: dict[str, Any] = {**provenance(), "rate": chosen.rate, "intervals": []}
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder, Broker(Path(folder) / "broker") as broker:
        root, log = Path(folder) / _ROOT, Path(folder) / _LOG
        create_topic(broker.bootstrap_servers, "live", 2)
        command = live.command("ours", broker.bootstrap_servers, "live", root)
        collections = f"LAKEHOUSE_JAVA_OPTIONS=-Xlog:gc:file={log}:uptimemillis"
        started_at = time.time()
        with live.running(["env", collections, *command], Path(folder) / "run.log") as process:
            endless = (broker.bootstrap_servers, "live", chosen.rate, float("inf"))
            threading.Thread(target=live.send, args=endless, daemon=True).start()
            time.sleep(_WARM_UP_S)
            before = sample(process, root)
            for _ in range(round(chosen.minutes / chosen.every)):
                time.sleep(chosen.every * 60)
                after = sample(process, root)
                time.sleep(_DRAIN_S)  # until the last events of this time are visible
                results["intervals"].append(interval(before, after, Path(folder), started_at, chosen.rate))
                print(json.dumps(results["intervals"][-1]), flush=True)
                write(results)
                before = after


if __name__ == "__main__":
    sys.exit(main())
