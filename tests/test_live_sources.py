"""Sources without an end: a run takes what comes until it is stopped, and refuses what it could not keep."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import RunWeather
from deltalake import DeltaTable

from streaming_lakehouse.domains.weather.events import EVENTS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import Shares, records
from streaming_lakehouse.local.ports import free_port

COMMAND = (sys.executable, "-m", "streaming_lakehouse")
SOUND = {name: "0" for name in ("duplicates", "late", "broken", "unknown_fields")}
PATIENCE_SECONDS = 120


def words(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("--option", f"{name}={value}")]


@contextmanager
def running(root: Path, source: str, options: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Bronze alone, every second, until the test has seen enough."""
    command = [*COMMAND, "run", "weather", "--source", source, "--step", "bronze", "--trigger", "1 second"]
    process = subprocess.Popen(
        [*command, *words(options), "--root", str(root)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def stopped_after(process: subprocess.Popen[str], rows: int) -> str:
    """Stops the run when so many rows are in bronze; what it says then."""
    assert process.stderr is not None
    seen = 0
    for line in process.stderr:
        found = re.search(r"bronze: batch \d+: ([\d,]+) rows?", line)
        seen += int(found[1].replace(",", "")) if found else 0
        if seen >= rows:
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    assert seen >= rows
    return said


def bronze(root: Path) -> list[dict[str, object]]:
    return DeltaTable(root / "bronze" / "weather_readings").to_pyarrow_table().to_pylist()


def sound(rows: int) -> list[bytes | None]:
    return [record.value for record in records(EVENTS, seed=5, start=0, end=rows, shares=Shares(0, 0, 0, 0))]


def test_lines_of_a_socket(tmp_path: Path) -> None:
    """What `generate --to socket` serves is in bronze, each line once and under a place of its own."""
    port = {"port": str(free_port())}
    served = [*COMMAND, "generate", "weather", "--to", "socket", "--seed", "5", "--rows", "300"]
    with subprocess.Popen([*served, *words({**port, **SOUND})], stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            assert server.stderr.readline().startswith(f"waiting for a run at 127.0.0.1:{port['port']}")
            with running(tmp_path, "socket", port) as process:
                said = stopped_after(process, 300)
            assert server.wait(PATIENCE_SECONDS) == 0
        finally:
            server.kill()
    assert "bronze: stopped after" in said
    rows = bronze(tmp_path)
    assert sorted(row["value"] for row in rows) == sorted(sound(300))  # type: ignore[type-var]
    assert len({(row["source"], row["partition"], row["offset"]) for row in rows}) == 300


def test_a_socket_cannot_be_gone_on_from(tmp_path: Path) -> None:
    """Its lines are gone when a run has ended: a second run on the same root would hide that."""
    offsets = tmp_path / "lake" / "_checkpoints" / "weather" / "bronze" / "offsets"
    offsets.mkdir(parents=True)
    (offsets / "0").touch()
    with running(tmp_path / "lake", "socket", {}) as process:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "source 'socket' keeps nothing" in said


def test_nobody_listens(tmp_path: Path) -> None:
    with running(tmp_path, "socket", {"port": str(free_port())}) as process:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "nobody listens at 127.0.0.1" in said


@pytest.mark.parametrize("source", ["socket", "rate", "rate-micro-batch"])
def test_a_source_without_an_end_is_not_taken_whole(run_weather: RunWeather, source: str) -> None:
    """Spark would make one batch of what is there at once, which is nothing, and end."""
    with pytest.raises(LakehouseError, match=rf"\({source} → delta, .*this source has no end"):
        run_weather(source)


@pytest.mark.parametrize(("source", "pace"), [("rate", "rowsPerSecond"), ("rate-micro-batch", "rowsPerBatch")])
def test_numbers_of_a_clockwork_become_events(tmp_path: Path, source: str, pace: str) -> None:
    """Row by row what the generator makes of the same seed."""
    with running(tmp_path, source, {pace: "100", "seed": "5", **SOUND}) as process:
        stopped_after(process, 200)
    rows = sorted(bronze(tmp_path), key=lambda row: row["offset"])  # type: ignore[arg-type, return-value]
    assert [row["offset"] for row in rows] == list(range(len(rows)))
    assert [row["value"] for row in rows] == sound(len(rows))
