"""What `lakehouse show` prints, held against the tables themselves."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from conftest import RunWeather
from deltalake import DeltaTable
from rich.console import Console

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.report import Report
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


def test_without_tables_it_says_how_to_make_some(spark: object, tmp_path: Path) -> None:
    """Not an empty table."""
    with pytest.raises(LakehouseError, match=r"'weather' has no tables yet.*lakehouse run"):
        shown(tmp_path)
