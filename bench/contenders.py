"""Who takes part in the benchmark, and one measured and checked run of any of them."""

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

from verified import Verifier

from streaming_lakehouse.local.java import java_home

HERE = Path(__file__).parent
LAYERS = ("bronze", "silver", "gold")
CONTENDERS = ("ours", "handwritten", "defaults", "limit")
_STEP = re.compile(r"^\S+ (\w+): done: [\d,]+ rows? in [\d,]+ batch(?:es)?, ([\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """One run of the plan; repetition 0 is the warm-up."""

    repetition: int
    events: int
    contender: str

    @property
    def topic(self) -> str:
        return topic_of(self.events)


def topic_of(events: int) -> str:
    return f"weather-{events}"


def environment() -> dict[str, str]:
    """This process's, without settings of ours but the cache, and with the same Java for everyone."""
    kept = {n: value for n, value in os.environ.items() if n == "LAKEHOUSE_CACHE" or not n.startswith("LAKEHOUSE_")}
    return kept | {"JAVA_HOME": str(java_home()), "PYSPARK_PYTHON": sys.executable}


def run(place: Place, servers: str, work: Path, verifier: Verifier) -> dict[str, Any]:
    """Runs the contender, checks what it wrote, and only then tells the figures."""
    root, output, errors = work / "root", work / "output", work / "errors"
    shutil.rmtree(root, ignore_errors=True)
    os.sync()  # what the run before has left to write is not this one's
    meter = [sys.executable, str(HERE / "measured.py"), str(output), str(errors), *_command(place, servers, root)]
    answer = subprocess.run(meter, env=environment(), stdout=subprocess.PIPE, check=True, cwd=work)
    figures: dict[str, Any] = json.loads(answer.stdout)
    with _refused(place, errors):
        assert figures.pop("exit_status") == 0, "it failed"
        rows = verifier.check(root)
    figures["first_commit_s"] = round(_commits(root, "bronze")[0] - figures.pop("began_at"), 3)
    figures["events_per_s"] = round(place.events / figures["wall_s"])
    figures["layers_s"] = _layers(place, output.read_text(), errors.read_text(errors="replace"))
    figures["batches"] = {layer: len(_commits(root, layer)) for layer in ("bronze", "silver")}
    shutil.rmtree(root)
    return figures | {"rows": rows}


def _command(place: Place, servers: str, root: Path) -> list[str]:
    if place.contender == "ours":
        command = [sys.executable, "-m", "streaming_lakehouse", "run", "weather", "--source", "kafka"]
        command += ["--option", f"kafka.bootstrap.servers={servers}", "--option", f"subscribe={place.topic}"]
        return [*command, "--root", str(root)]
    script = {
        "handwritten": ["handwritten.py"],
        "defaults": ["handwritten.py", "--defaults"],
        "limit": ["duckdb_limit.py"],
    }[place.contender]
    ends = ["--bootstrap-servers", servers, "--topic", place.topic, "--root", str(root)]
    return [sys.executable, str(HERE / script[0]), *script[1:], *ends]


@contextmanager
def _refused(place: Place, errors: Path) -> Iterator[None]:
    """A wrong output ends the benchmark: a time without the right tables means nothing."""
    try:
        yield
    except (AssertionError, OSError) as difference:
        said = "\n".join(errors.read_text(errors="replace").splitlines()[-20:])
        raise SystemExit(f"bench: {place}: {difference}\nit said on standard error:\n{said}") from difference


def _commits(root: Path, layer: str) -> list[float]:
    """When each commit with rows stood in the table's log, in seconds since the epoch."""
    logs = sorted((root / layer / "weather_readings" / "_delta_log").glob("*.json"))
    return [log.stat().st_mtime for log in logs if '"add":' in log.read_text()]


def _layers(place: Place, output: str, errors: str) -> dict[str, float]:
    """Seconds in each layer, as the contender itself tells them."""
    if place.contender != "ours":
        told = json.loads(output.splitlines()[-1])
        return {layer: told[layer] for layer in LAYERS}
    layers = dict.fromkeys(LAYERS, 0.0)
    for step, seconds in _STEP.findall(errors):
        layer = step if step in layers else "gold"
        # The gold tables run side by side and are started within moments: gold takes as long as its longest.
        layers[layer] = max(layers[layer], float(seconds))
    return {layer: round(seconds, 3) for layer, seconds in layers.items()}
