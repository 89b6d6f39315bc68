"""The runs that the JVM's class archive is built from: `python -m streaming_lakehouse.cli.cds_training FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.execution.runner import run
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.pipeline.discovery import load_pipeline

ROWS = 2_000  # enough for every step to do its work, and for the JVM to load the classes of it


def main(folder: Path) -> None:
    """Runs weather from a real broker, from files and from the generator, all in this process: one JVM, one archive."""
    weather, landing = load_pipeline("weather"), {"path": str(folder / "landing")}
    with Broker(folder / "broker") as broker:
        kafka = {"kafka.bootstrap.servers": broker.bootstrap_servers}
        for kind, options in (("kafka", kafka), ("files", landing)):
            publish(PublishJob(weather.bronze[0], 0, 0, ROWS, options), kind)
        for source, options in (("kafka", kafka), ("files", landing), ("generator", {"numRows": str(ROWS)})):
            plan = RunPlan(weather, Storage(root=folder / source), source, options, parse_trigger("available-now"))
            run(plan, ProgressReporter([step.name for step in plan.steps]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
