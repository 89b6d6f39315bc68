"""What `lakehouse show` prints, held against the tables themselves."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import RunWeather
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from rich.console import Console

from streaming_lakehouse import cli
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.report import Account, Report, _Fitting
from streaming_lakehouse.settings import Settings


def shown(root: Path, *, width: int = 200) -> str:
    screen = Console(file=io.StringIO(), width=width)
    for part in Report(load_pipeline("weather"), Settings(root=root)).parts(gold_rows=1):
        screen.print(part)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_it_tells_where_each_record_went(run_weather: RunWeather, tmp_path: Path) -> None:
    """The sum holds, with rows that wait for silver; a table without rows says so, and why."""
    lake = tmp_path / "lake"
    run_weather("generator", {"numRows": "3000", "duplicates": "0.1", "broken": "0.1", "late": "0"})
    valid, reasons = (DeltaTable(lake / layer / "weather_readings") for layer in ("silver", "quarantine"))
    failed = [names for row in reasons.to_pyarrow_table().to_pylist() for names in row["failed_expectations"]]
    repeated = failed.count("is_first_delivery")
    told = shown(lake)
    account = f"3,000 rows in = {valid.count():,} valid + {reasons.count() - repeated} quarantined"
    assert f"{account} + {repeated} duplicates + 0 late" in told
    assert repeated > 0
    assert "no rows yet; a window is written when the watermark has passed its end" in told
    run_weather("generator", {"numRows": "4000"}, steps=("bronze",))
    assert "+ 1,000 not yet in silver" in shown(lake)
    assert "the quarantine table holds the quarantined, the duplicates and the late" in told


def test_without_tables_it_says_how_to_make_some(spark: object, tmp_path: Path) -> None:
    """Not an empty table."""
    with pytest.raises(LakehouseError, match=rf"'weather' has no tables yet in {tmp_path}; .*lakehouse run weather"):
        shown(tmp_path)


@pytest.mark.parametrize("width", [200, 14])
def test_a_value_is_shown_as_it_is(width: int) -> None:
    """Brackets are not rich's markup, and no control character reaches the terminal; beside or below one another."""
    screen = Console(file=io.StringIO(), width=width)
    screen.print(_Fitting(["a", "[b]", "c", "d"], [["[/x]", "[red]", "\x1b[2J", "é"]]))
    assert isinstance(screen.file, io.StringIO)
    told = screen.file.getvalue()
    for value in ("[b]", "[/x]", "[red]", "é"):
        assert value in told
    assert "\x1b" not in told


def test_rows_that_are_in_two_places_are_an_error(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tables are shown first, and then it is said by how much they hold too much."""
    for layer, number in (("bronze", 2), ("silver", 5)):
        times = [(datetime(2026, 1, 1, hour, tzinfo=UTC),) for hour in range(number)]
        table = spark.createDataFrame(times, "time timestamp")
        table.write.format("delta").save(str(tmp_path / layer / "weather_readings"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["show", "weather", "--root", str(tmp_path)])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert "silver.weather_readings" in said.out
    assert "2 rows in = 5 valid + 0 quarantined + 0 duplicates + 0 late - 3 too many" in said.out
    assert "silver and quarantine hold 3 rows more than bronze" in said.err
    assert said.err.count("\n") == 1


def test_rows_that_wait_are_no_error() -> None:
    """Silver comes after bronze."""
    Account(rows_in=5, valid=1, quarantined=1, duplicates=1, late=1).check()
