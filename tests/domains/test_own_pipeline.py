"""A copied folder is a pipeline, as the README says: it runs, and nothing of it has a name of its pattern's."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from rich.console import Console
from typer.testing import CliRunner

from streaming_lakehouse import domains
from streaming_lakehouse.cli import app
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import SHARES
from streaming_lakehouse.local.deliver import Delivery, deliver
from streaming_lakehouse.pipeline import load_pipeline, pipeline_names
from streaming_lakehouse.progress import Board
from streaming_lakehouse.runner import Run
from streaming_lakehouse.settings import Settings
from streaming_lakehouse.triggers import parse_trigger


@pytest.fixture
def river(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Weather's folder, copied as `river` to where pipelines are looked for as well."""
    copy = tmp_path / "domains" / "river"
    shutil.copytree(Path(domains.__path__[0]) / "weather", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(domains, "__path__", [*domains.__path__, str(copy.parent)])
    yield copy
    for module in [name for name in sys.modules if name.startswith("streaming_lakehouse.domains.river")]:
        del sys.modules[module]


def test_a_copy_with_names_of_its_own_runs(spark: SparkSession, river: Path, tmp_path: Path) -> None:
    declared = river / "pipeline.py"
    declared.write_text(declared.read_text().replace("weather", "river"))
    assert {"river", "weather"} <= set(pipeline_names())
    pipeline, lake, options = load_pipeline("river"), tmp_path / "lake", {"path": str(tmp_path / "landing")}
    sound = {share: "0" for share in SHARES}
    deliver(Delivery(pipeline, 7, 0, 12_000, {**options, **sound}), "files", None)
    run = Run(pipeline, Settings(root=lake), "files", options, parse_trigger("available-now"))
    assert run.start(Board(run.chosen_steps, Console(file=io.StringIO())))
    # A reading a minute of each of 50 stations: of four hours the first is behind the watermark.
    hourly = DeltaTable(lake / "gold/river_device_hourly").to_pyarrow_table().to_pylist()
    assert [row["readings"] for row in hourly] == [60] * 50
    assert not [*lake.rglob("weather*")]


def test_a_copy_that_kept_its_patterns_name_is_refused(river: Path) -> None:
    """It would go on with the checkpoints of the other."""
    with pytest.raises(
        LakehouseError, match=r"domains/river/pipeline.py declares a pipeline 'weather'; call it 'river'"
    ):
        load_pipeline("river")
    shown = CliRunner().invoke(app, ["run", "--help"])
    assert shown.exit_code == 0
    assert "weather_device_hourly" in shown.output
