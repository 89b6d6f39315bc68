"""Files that are gone when the batch that is to read them is run again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from conftest import RunWeather
from deltalake import DeltaTable

from streaming_lakehouse.errors import LakehouseError

READING = json.dumps({"event_id": "a", "device": "d", "time": "2026-05-01T10:00:00Z", "temperature_c": 5.0}).encode()


def test_a_planned_file_that_is_gone_is_named(run_weather: RunWeather, tmp_path: Path) -> None:
    """Spark would list the others, and the record would be in no table, without a word."""
    landing = tmp_path / "landing" / "weather_readings"
    landing.mkdir(parents=True)
    good, damaged = landing / "good.json", landing / "damaged.json.gz"
    good.write_bytes(READING)
    damaged.write_bytes(gzip.compress(READING * 1000)[:-20])
    options = {"path": str(tmp_path / "landing")}
    with pytest.raises(LakehouseError, match="a compressed file is truncated or damaged"):
        run_weather("files", options, steps=("bronze",))
    damaged.write_bytes(gzip.compress(READING))
    good.unlink()
    gone = rf"batch 0 is to read 1 file that cannot be found any more: {good}; restore them, or create empty ones"
    with pytest.raises(LakehouseError, match=gone):
        run_weather("files", options, steps=("bronze",))
    good.touch()
    run_weather("files", options, steps=("bronze",))
    rows = (
        DeltaTable(tmp_path / "lake" / "bronze" / "weather_readings").to_pyarrow_table(columns=["source"]).to_pylist()
    )
    assert [row["source"].rpartition("/")[2] for row in rows] == [damaged.name]
