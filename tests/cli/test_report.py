"""The output of `lakehouse show`, compared with the tables themselves."""

from __future__ import annotations

import io
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import Prepare, RunWeather
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from rich.console import Console

from streaming_lakehouse import cli
from streaming_lakehouse.cli.report import Reconciliation, Report, _ResponsiveTable
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.discovery import load_pipeline


def printed(root: Path, *, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    for part in Report(load_pipeline("weather"), Storage(root=root)).render(gold_rows=1):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_record_is_accounted_for(run_weather: RunWeather, prepare: Prepare, tmp_path: Path) -> None:
    """The sum is right, also with records that wait for silver; a gold table without rows says why."""
    lake = tmp_path / "lake"
    options = {"numRows": "3000", "duplicates": "0.1", "malformed": "0.1", "late": "0"}
    prepare(options)
    run_weather(steps=("weather_device_hourly",))
    valid, rejected = (DeltaTable(lake / layer / "weather_readings") for layer in ("silver", "quarantine"))
    reasons = [name for row in rejected.to_pyarrow_table().to_pylist() for name in row["failed_expectations"]]
    duplicates = reasons.count("is_first_delivery")
    output = printed(lake)
    total = f"3,000 rows in = {valid.count():,} valid + {rejected.count() - duplicates} quarantined"
    assert f"{total} + {duplicates} duplicates + 0 late" in output
    assert duplicates > 0
    for reason, number in Counter(reasons).items():
        assert re.search(rf"^{reason} +{number}$", output, re.MULTILINE)
    assert "are written by the next run" not in output
    assert "no rows yet; a window is written when the watermark has passed its end" in output
    run_weather("generator", {**options, "numRows": "4000"}, steps=("bronze",))
    assert "+ 1,000 not yet in silver" in printed(lake)
    # A run that was stopped after its last batch with rows, which has closed windows.
    hourly = lake / "_checkpoints/weather/gold.weather_device_hourly"
    for log in ("offsets", "commits"):
        max((hourly / log).glob("[0-9]*"), key=lambda entry: int(entry.name)).unlink()
    waiting = "gold.weather_device_hourly: the next run writes the windows that have closed"
    assert waiting in printed(lake)
    assert "the quarantine table holds the quarantined, the duplicates and the late" in output


def test_without_tables_the_error_names_the_run_command(spark: object, tmp_path: Path) -> None:
    """Instead of an empty table."""
    with pytest.raises(LakehouseError, match=rf"'weather' has no tables yet in {tmp_path}; .*lakehouse run weather"):
        printed(tmp_path)


@pytest.mark.parametrize("width", [200, 14])
def test_a_value_is_printed_unmodified(width: int) -> None:
    """Brackets are not rich's markup, and no control character reaches the terminal; also in a narrow one."""
    console = Console(file=io.StringIO(), width=width)
    console.print(_ResponsiveTable(["a", "[b]", "c", "d"], [["[/x]", "[red]", "\x1b[2J", "é"]]))
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    for value in ("[b]", "[/x]", "[red]", "é"):
        assert value in output
    assert "\x1b" not in output


@pytest.mark.parametrize(("rows", "width"), [(1, 40), (2, 80), (9, 40), (9, 80)])
def test_the_name_of_a_column_is_never_cut(rows: int, width: int) -> None:
    """Names of similar columns differ at their ends."""
    names = ["temperature_daily_minimum_c", "temperature_daily_maximum_c", "device"]
    console = Console(file=io.StringIO(), width=width)
    console.print(_ResponsiveTable(names, [["-12.5", "31.0", f"station-{n:0>30}"] for n in range(rows)]))
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert "…" not in output and all(name in output for name in names)
    assert output.count("-12.5") == rows and max(map(len, output.splitlines())) <= width


def test_more_rows_than_bronze_has_are_an_error(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the tables are printed; the error says how many rows there are too many."""
    for layer, number in (("bronze", 2), ("silver", 5)):
        times = [(datetime(2026, 1, 1, hour, tzinfo=UTC),) for hour in range(number)]
        table = spark.createDataFrame(times, "time timestamp")
        table.write.format("delta").save(str(tmp_path / layer / "weather_readings"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["show", "weather", "--root", str(tmp_path)])
    output = capsys.readouterr()
    assert ended.value.code == 1
    assert "silver.weather_readings" in output.out
    assert "2 rows in = 5 valid + 0 quarantined + 0 duplicates + 0 late - 3 too many" in output.out
    assert "silver and quarantine hold 3 rows more than bronze" in output.err
    assert output.err.count("\n") == 1


def test_rows_that_wait_for_silver_are_no_error() -> None:
    """Silver runs after bronze."""
    Reconciliation(rows_in=5, valid=1, quarantined=1, duplicates=1, late=1).check()
