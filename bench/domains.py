"""Every pipeline over a full topic: events per second, and the share of each step. See README.md here."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from implementations import HERE, LAYERS, STEP, environment
from run import RESULTS, provenance, written_by
from topics import SEED

from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.pipeline.discovery import pipeline_names


def fill(servers: str, pipeline: str, events: int) -> None:
    """As many events in each of the pipeline's topics."""
    command = [sys.executable, "-m", "streaming_lakehouse", "generate", pipeline, "--to", "kafka"]
    command += ["--seed", str(SEED), "--rows", str(events), "--option", f"kafka.bootstrap.servers={servers}"]
    subprocess.run([*command, "--option", "partitions=2"], env=environment(), check=True, capture_output=True)


def measure(servers: str, pipeline: str, work: Path, number: int) -> dict[str, Any]:
    """One run in a process of its own over all that is in the topics, into an empty root."""
    output, errors, root = work / "output", work / "errors", work / f"{pipeline}-{number}"
    run = [sys.executable, "-m", "streaming_lakehouse", "run", pipeline, "--source", "kafka", "--root", str(root)]
    run += ["--option", f"kafka.bootstrap.servers={servers}"]
    meter = [sys.executable, str(HERE / "resource_usage.py"), str(output), str(errors), *run]
    figures = json.loads(subprocess.run(meter, env=environment(), stdout=subprocess.PIPE, check=True).stdout)
    reported = errors.read_text(errors="replace")
    assert figures["exit_status"] == 0, reported[-2000:]
    steps = STEP.findall(reported)
    return {
        "events": sum(int(rows.replace(",", "")) for layer, _, rows, _ in steps if layer == "bronze"),
        "wall_s": figures["wall_s"],
        "cpu_s": figures["cpu_s"],
        "steps_s": {f"{layer}.{table}": float(seconds) for layer, table, _, seconds in steps},
    }


def rows(runs: list[dict[str, Any]]) -> Iterator[str]:
    """A row a pipeline, each figure the median of its runs.

    The steps of a layer run side by side and start together, so a layer takes as long as its longest.
    """
    for pipeline, group in groupby(sorted(runs, key=lambda run: run["pipeline"]), key=lambda run: run["pipeline"]):
        own = list(group)
        events, wall, cpu = (median(run[name] for run in own) for name in ("events", "wall_s", "cpu_s"))
        seconds = {step: median(run["steps_s"][step] for run in own) for step in own[0]["steps_s"]}
        layers = [max(seconds[step] for step in seconds if step.startswith(layer)) for layer in LAYERS]
        shares = " | ".join(f"{layer / sum(layers):.0%}" for layer in layers)
        longest = sorted((step for step in seconds if step.startswith("gold")), key=lambda step: -seconds[step])[:3]
        named = ", ".join(f"{step.removeprefix('gold.')} {seconds[step]:.1f} s" for step in longest)
        yield (
            f"| {pipeline} | {events:,.0f} | {wall:.1f} | {cpu:.1f} | {events / wall:,.0f} | {events / cpu:,.0f} "
            f"| {shares} | {named} |"
        )


def write(results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "domains.json").write_text(json.dumps(results, indent=1) + "\n")
    heading = [
        "# Pipelines",
        "",
        f"{written_by('bench/domains.py', results)} "
        f"Repetitions: {results['repetitions']}, of which the medians; each a new process, which starts Spark too.",
        "",
        "| pipeline | events | wall, s | CPU, s | events/s | events per CPU s | bronze | silver | gold "
        "| its longest gold tables |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    (RESULTS / "domains.md").write_text("\n".join([*heading, *rows(results["runs"])]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipelines", nargs="+", choices=pipeline_names(), default=pipeline_names())
    parser.add_argument("--events", type=int, default=200_000, metavar="N", help="in each topic of a pipeline")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    chosen = parser.parse_args()
    results: dict[str, Any] = {**provenance(), "repetitions": chosen.repetitions, "runs": []}
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder, Broker(Path(folder) / "broker") as broker:
        for pipeline in chosen.pipelines:
            fill(broker.bootstrap_servers, pipeline, chosen.events)
        for number in range(chosen.repetitions):
            for pipeline in chosen.pipelines:
                found = measure(broker.bootstrap_servers, pipeline, Path(folder), number)
                results["runs"].append({"pipeline": pipeline, **found})
                print(json.dumps(results["runs"][-1]), flush=True)
                write(results)


if __name__ == "__main__":
    sys.exit(main())
