"""Ours against hand-written pipelines: Kafka → bronze → silver → gold, side by side, each output checked.

Every run is a process of its own, with a root of its own, over topics that were filled before. See README.md here.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import contenders
import psutil
from contenders import CONTENDERS, Place, topic_of
from report import write_report
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from topics import SEED, preload
from verified import Verifier

from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.local.java import java_home, java_version

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SIZES = (100_000, 1_000_000, 5_000_000)
LARGE = 200_000  # from here on the oracle, which is plain Python, checks the first run only
PACKAGES = ("pyspark", "delta-spark", "confluent-kafka", "duckdb", "deltalake", "pyarrow")


@dataclass
class Bench:
    """What is to be run, and what came out of it so far: saved after every run."""

    chosen: argparse.Namespace
    file: Path
    results: dict[str, Any]
    console: Console

    def plan(self) -> list[Place]:
        """Each contender once at the smallest size to warm up, then size by size in an order of its own each time."""
        order = random.Random(SEED)
        warm = {run["contender"] for run in self.results["runs"]}
        cold = [contender for contender in self.chosen.contenders if contender not in warm]
        plan = [Place(0, min(self.chosen.sizes), contender) for contender in cold]
        for repetition in range(1, self.chosen.repetitions + 1):
            for events in self.chosen.sizes:
                shuffled = order.sample(self.chosen.contenders, k=len(self.chosen.contenders))
                plan += [Place(repetition, events, contender) for contender in shuffled]
        return plan

    def run(self) -> None:
        done = {Place(run["repetition"], run["events"], run["contender"]) for run in self.results["runs"]}
        left = [place for place in self.plan() if place not in done]
        with ExitStack() as held:
            work = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="lakehouse-bench-")))
            servers = self.chosen.bootstrap_servers or held.enter_context(Broker(work / "broker")).bootstrap_servers
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            progress = held.enter_context(Progress(*columns, console=self.console))
            bar = progress.add_task("", total=len(left))
            verifiers = {}
            for events in sorted({place.events for place in left}):
                progress.update(bar, description=f"filling the topic of {events:,} events")
                preload(servers, events, work)
                verifiers[events] = Verifier(servers, topic_of(events), is_large=events >= LARGE)
            for place in left:
                progress.update(bar, description=f"{place.contender}, {place.events:,} events")
                self._keep(place, contenders.run(place, servers, work, verifiers[place.events]))
                progress.advance(bar)

    def _keep(self, place: Place, figures: Mapping[str, Any]) -> None:
        self.results["runs"].append(asdict(place) | dict(figures))
        draft = self.file.with_suffix(".part")
        draft.write_text(json.dumps(self.results, indent=1) + "\n")
        draft.replace(self.file)
        about = f"{figures['wall_s']:.1f} s wall, {figures['cpu_s']:.1f} s CPU, {figures['peak_mib']:,} MiB"
        name = f"repetition {place.repetition}" if place.repetition else "warm-up"
        self.console.print(f"{name}, {place.events:,} events, {place.contender}: {about}", highlight=False)


def machine() -> dict[str, Any]:
    """What the figures depend on; nothing that names the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "os": f"{platform.system()} {platform.machine()}",
        "java": java_version(java_home()),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    described = [git, "-C", str(HERE), "describe", "--always", "--exclude=*", "--dirty"]
    return subprocess.run(described, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def newest() -> Path:
    files = sorted(RESULTS.glob("*cores.json"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise SystemExit("bench: there are no results yet")
    return files[-1]


def opened(chosen: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The results to add to: those of the newest file where the benchmark is resumed, else a new file's."""
    about = machine()
    if chosen.resume:
        file = newest()
        results: dict[str, Any] = json.loads(file.read_text())
        if results["machine"] != about:
            raise SystemExit(f"bench: {file.name} was made on another machine or with other versions: start anew")
        return file, results
    RESULTS.mkdir(exist_ok=True)
    began = datetime.now(UTC)
    file = RESULTS / f"{began:%Y-%m-%d}-{about['cores']}cores.json"
    return file, {"began": f"{began:%Y-%m-%dT%H:%MZ}", "commit": commit(), "machine": about, "runs": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="EVENTS")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="a broker to use instead of one's own")
    parser.add_argument("--resume", action="store_true", help="go on with the newest results, where they stopped")
    parser.add_argument("--report-only", action="store_true", help="write the tables of the newest results anew")
    chosen = parser.parse_args()
    if chosen.report_only:
        file = newest()
    else:
        file, results = opened(chosen)
        Bench(chosen, file, results, Console()).run()
    write_report(file)


if __name__ == "__main__":
    main()
