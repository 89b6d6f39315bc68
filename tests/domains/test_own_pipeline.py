"""A copied folder is a pipeline, as the README says: it runs, and nothing of it has a name of its original."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_pipeline
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from streaming_lakehouse import domains
from streaming_lakehouse.cli.main import app
from streaming_lakehouse.cli.new import create
from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers.counts import BatchCounts
from streaming_lakehouse.pipeline.discovery import load_pipeline, pipeline_names
from streaming_lakehouse.pipeline.synthetic import FAULT_RATE_OPTIONS


@pytest.fixture
def river(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Weather's folder, copied as `river` to another folder of the package of domains."""
    copy = tmp_path / "domains" / "river"
    shutil.copytree(Path(domains.__path__[0]) / "weather", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(domains, "__path__", [*domains.__path__, str(copy.parent)])
    yield copy
    forget("river")


@pytest.fixture
def gauges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What `lakehouse new gauges` creates, in a checkout that has nothing else."""
    (tmp_path / "databricks.yml").touch()
    create("gauges", project=tmp_path)
    created = tmp_path / "src/streaming_lakehouse/domains/gauges"
    monkeypatch.setattr(domains, "__path__", [*domains.__path__, str(created.parent)])
    yield created
    forget("gauges")


def forget(pipeline: str) -> None:
    for module in [name for name in sys.modules if name.startswith(f"streaming_lakehouse.domains.{pipeline}")]:
        del sys.modules[module]


def test_a_copy_with_its_own_names_runs(spark: SparkSession, river: Path, tmp_path: Path) -> None:
    declared = river / "pipeline.py"
    declared.write_text(declared.read_text().replace("weather", "river"))
    assert {"river", "weather"} <= set(pipeline_names())
    lake, options = tmp_path / "lake", {"path": str(tmp_path / "landing")}
    no_faults = {rate: "0" for rate in FAULT_RATE_OPTIONS}
    publish(PublishJob(load_pipeline("river").bronze[0], 7, 0, 12_000, {**options, **no_faults}), "files")
    run_pipeline(lake, "files", options, pipeline="river")
    # A reading a minute of each of 50 stations: of four hours the first is behind the watermark.
    hourly = DeltaTable(lake / "gold/river_device_hourly").to_pyarrow_table().to_pylist()
    assert [row["readings"] for row in hourly] == [60] * 50
    assert not [*lake.rglob("weather*")]


def test_a_new_pipeline_runs(spark: SparkSession, gauges: Path, tmp_path: Path) -> None:
    """As it is created: every row of its generator is in one of its tables, and its gold table has windows."""
    options = {"path": str(tmp_path / "landing")}
    publish(PublishJob(load_pipeline("gauges").bronze[0], 7, 0, 5_000, options), "files")
    run_pipeline(tmp_path / "lake", "files", options, pipeline="gauges")
    tables = ("bronze/gauges_events", "silver/gauges_events", "quarantine/gauges_events")
    bronze, valid, quarantined = (DeltaTable(tmp_path / "lake" / table).to_pyarrow_table().num_rows for table in tables)
    assert bronze == 5_000 == valid + quarantined
    assert valid and quarantined
    hourly = DeltaTable(tmp_path / "lake/gold/gauges_source_hourly").to_pyarrow_table().to_pylist()
    assert hourly and all(row["level_min"] <= row["level_avg"] <= row["level_max"] for row in hourly)


RIDES = """
from datetime import timedelta
from pyspark.sql import types as T
from streaming_lakehouse.pipeline import Bronze, Pipeline, Silver, expect_not_ahead, field

NAMES = ("key", "value", "source", "partition", "offset", "headers", "delivery", "a.b")
SCHEMA = T.StructType([
    field("rideId", T.StringType()),
    field("startedAt", T.TimestampType(), zone="Europe/Berlin"),
    field("docked_at", T.TimestampType(), time="epoch_millis"),
    *(field(f"c{number}", T.StringType(), json=name) for number, name in enumerate(NAMES)),
])
PIPELINE = Pipeline("rides", Silver(
    "rides", Bronze("rides"), SCHEMA, timedelta(hours=1), (expect_not_ahead("startedAt"),),
    dedup_key=("rideId",), event_time="startedAt",
))
"""


@pytest.fixture
def rides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A pipeline over one's own files, which has no generator; the folder of its files."""
    declared = tmp_path / "domains" / "rides"
    declared.mkdir(parents=True)
    (declared / "pipeline.py").write_text(RIDES)
    monkeypatch.setattr(domains, "__path__", [*domains.__path__, str(declared.parent)])
    (tmp_path / "landing").mkdir()
    yield tmp_path / "landing"
    forget("rides")


def ride(number: int, started_at: str) -> str:
    own = {"rideId": f"r{number}", "startedAt": started_at, "docked_at": 1_780_000_000_000 + number}
    return json.dumps({**own, **{name: name.upper() for name in ("key", "value", "source", "partition", "a.b")}}) + "\n"


def test_own_files_are_read_without_a_generator(
    spark: SparkSession, rides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From the folder itself, whatever the fields are called in JSON; a file that grows afterwards is reported."""
    lake, options, file = tmp_path / "lake", {"path": str(rides)}, rides / "ride s%20ü.json"
    file.write_text(ride(1, "2026-07-01 10:00:00") + ride(2, "2026-07-01T10:00:00Z") + ride(1, "2026-07-01 10:00:00"))
    with pytest.raises(LakehouseError, match=r"step 'silver\.rides' reads .*/lake/bronze/rides, which does not exist"):
        run_pipeline(lake, "files", steps=("silver",), pipeline="rides")
    assert not lake.exists()
    progress = run_pipeline(lake, "files", options, pipeline="rides")
    assert progress.states["silver.rides"].counts == BatchCounts(valid=2, duplicates=1)
    rows = sorted(DeltaTable(lake / "silver/rides").to_pyarrow_table().to_pylist(), key=lambda row: row["rideId"])
    assert [(row["startedAt"].isoformat(), row["docked_at"].isoformat()) for row in rows] == [
        ("2026-07-01T08:00:00+00:00", "2026-05-28T20:26:40.001000+00:00"),
        ("2026-07-01T10:00:00+00:00", "2026-05-28T20:26:40.002000+00:00"),
    ]
    assert [rows[0][f"c{number}"] for number in (0, 1, 2, 3, 4, 7)] == [
        "KEY",
        "VALUE",
        "SOURCE",
        "PARTITION",
        None,
        "A.B",
    ]
    assert "changed" not in caplog.text
    with file.open("a") as grown:
        grown.write(ride(3, "2026-07-01 11:00:00"))
    (rides / "more.json").write_text(ride(4, "2026-07-01 11:00:00"))
    progress = run_pipeline(lake, "files", options, pipeline="rides", steps=("bronze",))
    assert progress.states["bronze.rides"].rows == 1
    assert "source 'files': 1 file has changed after being read, and a file is read once, by its name; " in caplog.text
    assert caplog.text.count(str(file)) == 1
    with pytest.raises(
        LakehouseError, match=r"bronze\.rides has no generator of synthetic events; choose another source"
    ):
        run_pipeline(lake, pipeline="rides")


def test_a_copy_with_the_name_of_its_original_is_refused(river: Path) -> None:
    """It would resume the original's checkpoints; the help still lists all pipelines."""
    with pytest.raises(
        LakehouseError, match=r"domains/river/pipeline.py declares a pipeline 'weather'; call it 'river'"
    ):
        load_pipeline("river")
    shown = CliRunner().invoke(app, ["run", "--help"])
    assert shown.exit_code == 0
    assert "weather_device_hourly" in shown.output
