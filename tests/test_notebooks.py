"""The notebooks run unmodified, over the tables of a run."""

from __future__ import annotations

import runpy
import shutil
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ALL, HALF, Prepare, RunWeather
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.notebook import Lake

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def test_each_pipeline_has_one() -> None:
    """That it runs, and that its displays have rows, is in test_contract.py, for every pipeline."""
    assert {file.stem for file in NOTEBOOKS.glob("*.py")} == {"messaging", "network", "payments", "sports", "weather"}


def test_in_a_workspace_widgets_name_the_tables(spark: SparkSession) -> None:
    widgets = {"catalog": "shop", "schema_prefix": "dev_ada_"}
    created: list[str] = []
    dbutils = SimpleNamespace(
        widgets=SimpleNamespace(text=lambda name, default: created.append(name), get=widgets.__getitem__)
    )
    lake = Lake.of_notebook({"dbutils": dbutils, "display": print})
    assert lake.storage == Storage(catalog="shop", schema_prefix="dev_ada_")
    assert (created, lake.show) == (list(widgets), print)


def test_a_table_that_no_run_has_written_is_named(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(tmp_path))
    with pytest.raises(
        LakehouseError, match=rf"there is no table gold\.weather_alerts in {tmp_path}; run its pipeline"
    ):
        Lake.of_notebook({}).table("gold.weather_alerts")


def test_weather(
    run_weather: RunWeather,
    prepare: Prepare,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It prints where the records went, and its tables are not empty."""
    prepare(HALF, ALL)
    run_weather(steps=("weather_device_hourly", "weather_alerts"))
    (tmp_path / "notebooks").mkdir()
    shutil.copy(NOTEBOOKS / "weather.py", tmp_path / "notebooks")
    monkeypatch.setenv("LAKEHOUSE_ROOT", "lake")  # as for a run in the project's folder
    monkeypatch.chdir(tmp_path / "notebooks")
    names = runpy.run_path("weather.py")
    output = capsys.readouterr().out
    assert output.startswith("15,000 in bronze = ")
    assert "record_is_not_empty" in output
    readings = (
        DeltaTable(tmp_path / "lake/silver/weather_readings").to_pyarrow_table(columns=["device", "time"]).to_pylist()
    )
    hours = {(row["device"], row["time"].replace(minute=0, second=0, microsecond=0)) for row in readings}
    newest = max(row["time"] for row in readings)
    closed = [start for _, start in hours if newest - start >= timedelta(hours=1 + 2)]
    assert names["hourly"].count() == len(closed) > 0
