"""Files under every name that an operating system accepts are read, or reported."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from conftest import RunWeather
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from streaming_lakehouse.errors import LakehouseError

NAMES = (
    "plain.json",
    "2026-05-01T10:00:00.json",
    "a:b",
    ":first",
    "last:",
    "file:x.json",
    "day:1/hour:2.json",
    "per%20cent.json",
    "%2F:.json",
    "a blank.json",
    "hash#.json",
    "question?.json",
    "star*.json",
    "[brackets].json",
    "{braces,here}.json",
    "back\\slash.json",
    "line\nfeed.json",
    "tab\t.json",
    "quotes'\".json",
    "-dash.json",
    "a=b.json",
    "Zürich.json",
    "東京.json",
    "😀.json",
)


def landed(tmp_path: Path, name: str | bytes, content: bytes) -> Path:
    file = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path / "landing:1" / "weather_readings"), os.fsencode(name))))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def values(tmp_path: Path) -> list[str]:
    return sorted(DeltaTable(tmp_path / "lake/bronze/weather_readings").to_pyarrow_table()["value"].to_pylist())


def test_every_name_is_read_and_one_that_java_cannot_open_is_reported(run_weather: RunWeather, tmp_path: Path) -> None:
    """A colon in a name, above all. A name that is not UTF-8 ends the run with an error, after all others were read."""
    for name in NAMES:
        landed(tmp_path, name, json.dumps(name).encode())
    run = {"path": str(tmp_path / "landing:1")}
    for name in (b"Z\xfcrich.json", b"\xff/in.json", b"_\xff", b".\xff"):
        landed(tmp_path, name, b"unread")
    with pytest.raises(LakehouseError) as reported:
        run_weather("files", run, steps=("bronze",))
    assert str(reported.value) == (
        "step 'bronze.weather_readings': source 'files': not read, since their names are not UTF-8: b'Z\\xfcrich.json' "
        f"and 1 more in {tmp_path}/landing:1/weather_readings; rename them"
    )
    assert values(tmp_path) == sorted(json.dumps(name).encode() for name in NAMES)


def test_a_damaged_file_stops_a_run_whatever_the_session_ignores(
    spark: SparkSession, run_weather: RunWeather, tmp_path: Path
) -> None:
    """Half of a compressed file would otherwise be read as all of it."""
    whole = gzip.compress(b"".join(b'{"event_id": "%d"}\n' % number for number in range(2000)))
    landed(tmp_path, "half.json.gz", whole[: len(whole) // 2])
    spark.conf.set("spark.sql.files.ignoreCorruptFiles", "true")
    with pytest.raises(LakehouseError, match=r"truncated or damaged: \S+/half\.json\.gz; replace it"):
        run_weather("files", {"path": str(tmp_path / "landing:1")}, steps=("bronze",))
