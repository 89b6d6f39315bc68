"""The notebooks run as they stand, over tables that a run has made."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from conftest import RunWeather

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def test_weather(
    run_weather: RunWeather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It tells where the records went, and its tables are not empty."""
    run_weather("generator", {"numRows": "12000", "broken": "0.05", "duplicates": "0", "late": "0"})
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(tmp_path / "lake"))
    monkeypatch.chdir(NOTEBOOKS)
    told = runpy.run_path("weather.py")
    shown = capsys.readouterr().out
    assert shown.startswith("12,000 in bronze = ")
    assert "record_is_not_empty" in shown
    assert told["hourly"].count() == 50, (
        "four hours of 50 stations end at 3:59; two hours behind that, only the first has closed"
    )
