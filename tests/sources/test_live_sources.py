"""Unbounded sources: a run reads them until it is stopped, and refuses what it could not guarantee."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RunWeather
from deltalake import DeltaTable

from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.pipeline.synthetic import FaultRates, generate_records

BRONZE = "bronze.weather_readings"
COMMAND = (sys.executable, "-m", "streaming_lakehouse")
NO_FAULTS = {name: "0" for name in ("duplicates", "late", "malformed", "unknown_fields")}
TIMEOUT_SECONDS = 120


def words(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("--option", f"{name}={value}")]


def bronze(root: Path) -> list[dict[str, object]]:
    return DeltaTable(root / "bronze" / "weather_readings").to_pyarrow_table().to_pylist()


def values(rows: int) -> list[bytes | None]:
    return [
        record.value for record in generate_records(READINGS, seed=5, start=0, end=rows, rates=FaultRates(0, 0, 0, 0))
    ]


def test_lines_of_a_socket(run_weather: RunWeather, tmp_path: Path) -> None:
    """Bronze has each line that `generate --to socket` serves once, with a record id of its own."""
    port = {"port": str(free_port())}
    serve = [*COMMAND, "generate", "weather", "--to", "socket", "--seed", "5", "--rows", "300"]
    with subprocess.Popen([*serve, *words({**port, **NO_FAULTS})], stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            assert server.stderr.readline().startswith(f"waiting for a run at 127.0.0.1:{port['port']}")
            progress = run_weather("socket", port, steps=("bronze",), trigger="1 second", stop_after=300)
            assert server.wait(TIMEOUT_SECONDS) == 0
        finally:
            server.kill()
    assert not progress.states[BRONZE].is_done
    rows = bronze(tmp_path / "lake")
    assert sorted(row["value"] for row in rows) == sorted(values(300))  # type: ignore[type-var]
    assert len({(row["source"], row["partition"], row["offset"]) for row in rows}) == 300


def test_a_socket_cannot_be_resumed(run_weather: RunWeather, tmp_path: Path) -> None:
    """Lines from between two runs are lost: a second run on the same root would hide that."""
    offsets = tmp_path / "lake" / "_checkpoints" / "weather" / BRONZE / "offsets"
    offsets.mkdir(parents=True)
    (offsets / "0").touch()
    with pytest.raises(LakehouseError, match="source 'socket' cannot be replayed"):
        run_weather("socket", steps=("bronze",), trigger="1 second")


def test_an_unreachable_socket_is_reported(run_weather: RunWeather) -> None:
    with pytest.raises(LakehouseError, match=r"source 'socket': 127\.0\.0\.1:\d+ is unreachable"):
        run_weather("socket", {"port": str(free_port())}, steps=("bronze",), trigger="1 second")


@pytest.mark.parametrize("source", ["socket", "rate", "rate-micro-batch"])
def test_an_unbounded_source_is_refused_with_available_now(run_weather: RunWeather, source: str) -> None:
    """Spark would process what is available at once, which is nothing, and end."""
    with pytest.raises(LakehouseError, match=rf"\({source} → delta, .*this source is unbounded"):
        run_weather(source)


@pytest.mark.parametrize(("source", "pace"), [("rate", "rowsPerSecond"), ("rate-micro-batch", "rowsPerBatch")])
def test_numbers_of_a_rate_source_become_events(
    run_weather: RunWeather, tmp_path: Path, source: str, pace: str
) -> None:
    """Row by row those of the generator with the same seed."""
    options = {pace: "100", "seed": "5", **NO_FAULTS}
    run_weather(source, options, steps=("bronze",), trigger="1 second", stop_after=200)
    rows = sorted(bronze(tmp_path / "lake"), key=lambda row: row["offset"])  # type: ignore[arg-type, return-value]
    assert len(rows) >= 200
    assert [row["offset"] for row in rows] == list(range(len(rows)))
    assert [row["value"] for row in rows] == values(len(rows))
