"""The implementations that the benchmark compares, and one measured and verified run of each."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verification import GOLD, Verifier

from streaming_lakehouse.local.java import java_home

HERE = Path(__file__).parent
LAYERS = ("bronze", "silver", "gold")
IMPLEMENTATIONS = ("ours", "handwritten", "defaults", "duckdb")
# The line of a step that has ended: its layer, table, rows and seconds.
STEP = re.compile(r"^\S+ (\w+)\.(\w+): done: ([\d,]+) rows? in [\d,]+ batch(?:es)?, ([\d.]+) s\b", re.MULTILINE)


@dataclass(frozen=True)
class Trial:
    """One run of the benchmark; repetition 0 is the warm-up."""

    repetition: int
    events: int
    implementation: str

    @property
    def topic(self) -> str:
        return topic_of(self.events)


def topic_of(events: int) -> str:
    return f"weather-{events}"


def environment() -> dict[str, str]:
    """This process's environment without LAKEHOUSE_ variables, except the cache; the same Java for all."""
    common = {n: value for n, value in os.environ.items() if n == "LAKEHOUSE_CACHE" or not n.startswith("LAKEHOUSE_")}
    return common | {"JAVA_HOME": str(java_home()), "PYSPARK_PYTHON": sys.executable}


def run(trial: Trial, servers: str, work: Path, verifier: Verifier) -> dict[str, Any]:
    """Runs the implementation, verifies its tables, and returns the figures."""
    root, output, errors = work / "root", work / "output", work / "errors"
    shutil.rmtree(root, ignore_errors=True)
    os.sync()  # flushes the writes of the run before
    meter = [sys.executable, str(HERE / "resource_usage.py"), str(output), str(errors), *_command(trial, servers, root)]
    finished = subprocess.run(meter, env=environment(), stdout=subprocess.PIPE, check=True, cwd=work)
    figures: dict[str, Any] = json.loads(finished.stdout)
    with _stop_if_wrong(trial, errors):
        assert figures.pop("exit_status") == 0, "it failed"
        rows = verifier.check(root)
    figures["first_commit_s"] = round(_commits(root, "bronze")[0] - figures.pop("started_at"), 3)
    figures["events_per_s"] = round(trial.events / figures["wall_s"])
    figures["layers_s"] = _layers(trial, output.read_text(), errors.read_text(errors="replace"))
    figures["batches"] = {layer: len(_commits(root, layer)) for layer in ("bronze", "silver")}
    shutil.rmtree(root)
    return figures | {"rows": rows}


def _command(trial: Trial, servers: str, root: Path) -> list[str]:
    if trial.implementation == "ours":
        command = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--source", "kafka"]
        command += ["--option", f"kafka.bootstrap.servers={servers}", "--option", f"subscribe={trial.topic}"]
        steps = ("bronze", "silver", *GOLD)
        return [*command, *(word for step in steps for word in ("--step", step)), "--root", str(root)]
    script = {
        "handwritten": ["handwritten.py"],
        "defaults": ["handwritten.py", "--defaults"],
        "duckdb": ["duckdb_baseline.py"],
    }[trial.implementation]
    options = ["--bootstrap-servers", servers, "--topic", trial.topic, "--root", str(root)]
    return [sys.executable, str(HERE / script[0]), *script[1:], *options]


@contextmanager
def _stop_if_wrong(trial: Trial, errors: Path) -> Iterator[None]:
    """Ends the benchmark if a table is wrong: the time of a wrong result means nothing."""
    try:
        yield
    except (AssertionError, OSError) as error:
        output = "\n".join(errors.read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(f"bench: {trial}: {error}\nits standard error:\n{output}") from error


def _commits(root: Path, layer: str) -> list[float]:
    """The time of each commit with rows in the table's log, in seconds since the epoch."""
    logs = sorted((root / layer / "weather_readings" / "_delta_log").glob("*.json"))
    return [log.stat().st_mtime for log in logs if '"add":' in log.read_text()]


def _layers(trial: Trial, output: str, errors: str) -> dict[str, float]:
    """Seconds in each layer, as reported by the implementation."""
    if trial.implementation != "ours":
        reported = json.loads(output.splitlines()[-1])
        return {layer: reported[layer] for layer in LAYERS}
    layers = dict.fromkeys(LAYERS, 0.0)
    for layer, _, _, seconds in STEP.findall(errors):
        # The gold tables run in parallel and start at the same time: gold takes as long as its longest.
        layers[layer] = max(layers[layer], float(seconds))
    return {layer: round(seconds, 3) for layer, seconds in layers.items()}
