"""Benchmarks ours against hand-written pipelines: Kafka → bronze → silver → gold, with each output verified.

Every run is a new process with a new root, over topics that were filled before. See README.md here.
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

import implementations
import psutil
from implementations import IMPLEMENTATIONS, Trial, topic_of
from report import write_report
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from topics import SEED, preload
from verification import Verifier

from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.local.java import java_home, java_version

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SIZES = (100_000, 1_000_000, 5_000_000)
LARGE = 200_000  # from this size on the oracle, which is plain Python, verifies the first run only
PACKAGES = ("pyspark", "delta-spark", "confluent-kafka", "duckdb", "deltalake", "pyarrow")


@dataclass
class Bench:
    """The runs to do and the results so far, which are saved after every run."""

    chosen: argparse.Namespace
    file: Path
    results: dict[str, Any]
    console: Console

    def plan(self) -> list[Trial]:
        """Each implementation once at the smallest size to warm up, then all sizes, each time in a random order."""
        order = random.Random(SEED)
        warm = {run["implementation"] for run in self.results["runs"]}
        cold = [implementation for implementation in self.chosen.implementations if implementation not in warm]
        plan = [Trial(0, min(self.chosen.sizes), implementation) for implementation in cold]
        for repetition in range(1, self.chosen.repetitions + 1):
            for events in self.chosen.sizes:
                shuffled = order.sample(self.chosen.implementations, k=len(self.chosen.implementations))
                plan += [Trial(repetition, events, implementation) for implementation in shuffled]
        return plan

    def run(self) -> None:
        done = {Trial(run["repetition"], run["events"], run["implementation"]) for run in self.results["runs"]}
        left = [trial for trial in self.plan() if trial not in done]
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lakehouse-bench-")))
            servers = self.chosen.bootstrap_servers or stack.enter_context(Broker(work / "broker")).bootstrap_servers
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            progress = stack.enter_context(Progress(*columns, console=self.console))
            bar = progress.add_task("", total=len(left))
            verifiers = {}
            for events in sorted({trial.events for trial in left}):
                progress.update(bar, description=f"filling the topic of {events:,} events")
                preload(servers, events, work)
                verifiers[events] = Verifier(servers, topic_of(events), is_large=events >= LARGE)
            for trial in left:
                progress.update(bar, description=f"{trial.implementation}, {trial.events:,} events")
                self._save(trial, implementations.run(trial, servers, work, verifiers[trial.events]))
                progress.advance(bar)

    def _save(self, trial: Trial, figures: Mapping[str, Any]) -> None:
        self.results["runs"].append(asdict(trial) | dict(figures))
        draft = self.file.with_suffix(".part")
        draft.write_text(json.dumps(self.results, indent=1) + "\n")
        draft.replace(self.file)
        about = f"{figures['wall_s']:.1f} s wall, {figures['cpu_s']:.1f} s CPU, {figures['peak_mib']:,} MiB"
        name = f"repetition {trial.repetition}" if trial.repetition else "warm-up"
        self.console.print(f"{name}, {trial.events:,} events, {trial.implementation}: {about}", highlight=False)


def machine() -> dict[str, Any]:
    """The hardware and versions that the figures depend on, without names."""
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


def provenance() -> dict[str, Any]:
    """When, of which commit and where results are measured."""
    return {"started_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}", "commit": commit(), "machine": machine()}


def written_by(script: str, results: Mapping[str, Any]) -> str:
    """The first sentence below the heading of results with a `provenance`."""
    about = results["machine"]
    return (
        f"Written by `{script}`: started {results['started_at']}, commit {results['commit']}, {about['cores']} cores, "
        f"Java {about['java']}, pyspark {about['pyspark']}."
    )


def latest_results() -> Path:
    files = sorted(RESULTS.glob("*cores.json"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise SystemExit("bench: there are no results yet")
    return files[-1]


def open_results(chosen: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The results to add to: with --resume those of the latest file, else a new file."""
    environment = machine()
    if chosen.resume:
        file = latest_results()
        results: dict[str, Any] = json.loads(file.read_text())
        if results["machine"] != environment:
            raise SystemExit(f"bench: {file.name} is of another machine or other versions: run without --resume")
        return file, results
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    file = RESULTS / f"{now:%Y-%m-%d}-{environment['cores']}cores.json"
    return file, {"started_at": f"{now:%Y-%m-%dT%H:%MZ}", "commit": commit(), "machine": environment, "runs": []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="EVENTS")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    parser.add_argument("--implementations", nargs="+", choices=IMPLEMENTATIONS, default=list(IMPLEMENTATIONS))
    parser.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="an existing broker instead of a new one")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted benchmark")
    parser.add_argument("--report-only", action="store_true", help="only rewrite the tables of the latest results")
    chosen = parser.parse_args()
    if chosen.report_only:
        file = latest_results()
    else:
        file, results = open_results(chosen)
        Bench(chosen, file, results, Console()).run()
    write_report(file)


if __name__ == "__main__":
    main()
