"""Endurance: an hour live from Kafka at a steady rate. Latencies, CPU, memory, files and logs, a row each ten minutes.

Delta keeps the files that it has compacted until VACUUM, and its log's entries for 30 days, so what is on disk grows.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import live
import psutil
from deltalake import DeltaTable
from run import RESULTS, provenance, written_by

from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.local.java import java_home

# A collection of the whole heap, which leaves what is in use: each sample asks for one.
_FULL_COLLECTION = re.compile(r"Pause Full .* \d+M->(\d+)M\(\d+M\)")
_ROOT, _LOG = "lake", "gc.log"
_WARM_UP_S, _DRAIN_S = 60, 30


def size(folder: Path) -> tuple[int, float]:
    """The number of files below a folder, and their MiB."""
    sizes = []
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a temporary one, renamed meanwhile
            sizes.append(file.stat().st_size if file.is_file() else 0)
    return len(sizes), round(sum(sizes) / 2**20, 1)


def heap_in_use(process: psutil.Process, log: Path) -> int | None:
    """MiB after a collection of the whole heap; None without a JDK, whose jcmd asks for one."""
    jcmd = java_home() / "bin" / "jcmd"
    if not jcmd.is_file():
        return None
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            if child.name() == "java":
                subprocess.run([str(jcmd), str(child.pid), "GC.run"], capture_output=True, check=True)
    found = _FULL_COLLECTION.findall(log.read_text())
    return int(found[-1]) if found else None


def sample(process: psutil.Process, folder: Path) -> dict[str, Any]:
    """What the process and its tables have used so far."""
    root = folder / _ROOT
    found: dict[str, Any] = {
        "at": time.time(),
        "cpu_s": live.cpu_seconds(process),
        "heap_mib": heap_in_use(process, folder / _LOG),
        "resident_mib": round(live.resident_bytes(process) / 2**20),
        "checkpoint_files": size(root / "_checkpoints")[0],
    }
    for layer, name in live.TABLES.items():
        log_files, log_mib = size(root / name / "_delta_log")
        found[layer] = {
            "files": len(DeltaTable(root / name).file_uris()),
            "disk_mib": size(root / name)[1],
            "log_files": log_files,
            "log_mib": log_mib,
        }
    return found


def interval(before: dict[str, Any], after: dict[str, Any], root: Path, rate: int) -> dict[str, Any]:
    """The figures of the time between two samples: latencies and commits within it, the rest at its end."""
    start, end = before["at"], after["at"]
    figures: dict[str, Any] = {"cpu_s_per_min": round((after["cpu_s"] - before["cpu_s"]) / (end - start) * 60, 1)}
    figures |= {name: after[name] for name in ("heap_mib", "resident_mib", "checkpoint_files")}
    for layer, name in live.TABLES.items():
        found = live.batches(root / name, start, end)
        figures[layer] = {"commits": found["commits"], "interval_s": found["interval_s"]} | after[layer]
        if layer in live.WITH_TIMES:
            seconds = live.latencies(root / name, start, end)
            figures[layer] |= live.summary(seconds, expected=rate * (end - start))
    return figures


def write(results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "endurance.json").write_text(json.dumps(results, indent=1) + "\n")
    about = f"{written_by('bench/endurance.py', results)} {results['rate']} events a second."
    per_table = ("commits, s apart", "files", "MiB on disk", "log files", "MiB of log")
    columns = ["minutes", "silver p50", "p99", "gold p50", "p99", "missing in gold", "CPU s a minute"]
    columns += ["MiB of heap in use", "MiB resident", "checkpoints' files"]
    columns += [f"{layer}: {title}" for layer in live.TABLES for title in per_table]
    lines = [
        "# Endurance",
        "",
        f"{about} Seconds from an event's time to the commit with its row; files are those that a reader of the table "
        "needs.",
        "",
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
    ]
    for number, row in enumerate(results["intervals"]):
        start, end = (round((number + more) * results["every_min"], 1) for more in (0, 1))
        cells = [f"{start} to {end}"]
        cells += [row[layer][name] for layer in live.WITH_TIMES for name in ("p50_s", "p99_s")]
        cells += [f"{row['gold']['missing_share']:.1%}"]
        cells += [row[name] for name in ("cpu_s_per_min", "heap_mib", "resident_mib", "checkpoint_files")]
        names = ("interval_s", "files", "disk_mib", "log_files", "log_mib")
        cells += [row[layer][name] for layer in live.TABLES for name in names]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    (RESULTS / "endurance.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=200, metavar="EVENTS_PER_SECOND")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=10, metavar="MINUTES", help="a row of the table")
    chosen = parser.parse_args()
    results: dict[str, Any] = {**provenance(), "rate": chosen.rate, "every_min": chosen.every}
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as work, Broker(Path(work) / "broker") as broker:
        folder = Path(work)
        create_topic(broker.bootstrap_servers, "live", 2)
        command = live.command("ours", broker.bootstrap_servers, "live", folder / _ROOT)
        collections = f"LAKEHOUSE_JAVA_OPTIONS=-Xlog:gc:file={folder / _LOG}"
        with live.running(["env", collections, *command], folder / "run.log") as process:
            endless = (broker.bootstrap_servers, "live", chosen.rate, float("inf"))
            threading.Thread(target=live.send, args=endless, daemon=True).start()
            time.sleep(_WARM_UP_S)
            samples = [sample(process, folder)]
            while len(samples) <= chosen.minutes / chosen.every:
                time.sleep(samples[-1]["at"] + chosen.every * 60 - time.time())
                samples.append(sample(process, folder))
                print(json.dumps(samples[-1]), flush=True)
            time.sleep(_DRAIN_S)  # until the last events are visible
        pairs = itertools.pairwise(samples)  # computed now, when it disturbs nothing
        results["intervals"] = [interval(*pair, folder / _ROOT, chosen.rate) for pair in pairs]
    write(results)


if __name__ == "__main__":
    sys.exit(main())
