"""What the JVM's class archive learns from: a run from each source, `python -m streaming_lakehouse.training FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.local.deliver import Delivery, deliver
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.progress import Board
from streaming_lakehouse.runner import Run
from streaming_lakehouse.settings import Settings
from streaming_lakehouse.triggers import parse_trigger

ROWS = 2_000  # enough for every step to do its work, and for the JVM to meet the classes of it


def main(folder: Path) -> None:
    """Runs weather from a real broker, from files and from the generator, all in this process: one JVM, one archive."""
    weather, landing = load_pipeline("weather"), {"path": str(folder / "landing")}
    with Broker(folder / "broker") as broker:
        kafka = {"kafka.bootstrap.servers": broker.bootstrap_servers}
        for kind, options in (("kafka", kafka), ("files", landing)):
            deliver(Delivery(weather, 0, 0, ROWS, options), kind, None)
        for source, options in (("kafka", kafka), ("files", landing), ("generator", {"numRows": str(ROWS)})):
            settings = Settings(root=folder / source)
            run = Run(weather, settings, source, options, parse_trigger("available-now"))
            run.start(Board(weather.steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
