"""`lakehouse backfill` brings late, historical and wrongly refused records into tables that are in use.

Whatever it has done, gold must be what plain Python computes of all rows that silver has.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import RunWeather, run_pipeline
from deltalake import DeltaTable
from oracle import check_gold_of_silver, load_domain
from pyspark.sql import SparkSession
from support.cli import command
from support.domains.shop.truth import DOMAIN as SHOP, MODES
from support.weather import declare, weather_with

from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.domains.weather import silver as weather_silver
from streaming_lakehouse.execution.backfill import BackfillRun
from streaming_lakehouse.layers.backfill import GoldBackfill, SilverBackfill, joined
from streaming_lakehouse.pipeline.discovery import DOMAINS_VARIABLE, load_pipeline

pytestmark = pytest.mark.usefixtures("few_rows")

ROWS = 6_000  # a reading a minute of each of 50 stations: two hours
FAULTS = {"late": "0.05", "duplicates": "0.02", "malformed": "0.05"}
DATA = {"seed": "7", **FAULTS}
READINGS, HOURLY = "weather_readings", "weather_device_hourly"


def run_rows(lake: Path, rows: int) -> None:
    run_pipeline(lake, options={**DATA, "numRows": str(rows)})


@pytest.fixture(scope="module")
def late_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of weather; the second and the third quarantine late records."""
    lake = tmp_path_factory.mktemp("late") / "lake"
    for number in range(1, 4):
        run_rows(lake, number * ROWS)
    return lake


@pytest.fixture
def lake(late_lake: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(late_lake, tmp_path / "lake"))


@pytest.fixture
def hourly_lake(lake: Path) -> Path:
    """With one gold table, as if the others had never run: they need not follow."""
    for gold in load_pipeline("weather").gold:
        if gold.table != HOURLY:
            shutil.rmtree(lake / "gold" / gold.table)
            shutil.rmtree(lake / "_checkpoints/weather" / f"gold.{gold.table}")
    return lake


def records(lake: Path, table: str) -> list[dict[str, object]]:
    return DeltaTable(lake / table).to_pyarrow_table().to_pylist()


def ids(rows: list[dict[str, object]]) -> set[tuple[object, ...]]:
    return {(row["source"], row["partition"], row["offset"]) for row in rows}


def refused_for(lake: Path, reason: str) -> set[tuple[object, ...]]:
    return ids([row for row in records(lake, f"quarantine/{READINGS}") if row["failed_expectations"] == [reason]])


def backfilled(lake: Path) -> set[tuple[object, ...]]:
    return ids([row for row in records(lake, f"silver/{READINGS}") if row["backfilled_at"]])


def check_hourly(lake: Path) -> None:
    weather = load_domain("weather")
    check_gold_of_silver(lake, replace(weather, gold=tuple(gold for gold in weather.gold if gold.table == HOURLY)))


def check_records(lake: Path) -> None:
    """Each of bronze's records is in one of the two tables, once."""
    silver, quarantine = records(lake, f"silver/{READINGS}"), records(lake, f"quarantine/{READINGS}")
    assert len(silver) + len(quarantine) == DeltaTable(lake / "bronze" / READINGS).count()
    assert len(ids(silver) | ids(quarantine)) == len(silver) + len(quarantine)
    assert len({row["event_id"] for row in silver}) == len(silver)


def test_late_records_enter_silver_and_closed_windows(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the streams go on: what was backfilled does not come to them, and what they have open is right."""
    late = refused_for(lake, "is_on_time")
    assert len(late) > 100
    command("backfill", "weather", "--root", str(lake))
    assert f"silver.weather_readings: {len(late)} records admitted\n" in capsys.readouterr().out
    assert backfilled(lake) == late
    assert refused_for(lake, "is_on_time") == set()
    check_records(lake)
    check_gold_of_silver(lake, "weather")

    command("backfill", "weather", "--root", str(lake))
    assert "silver.weather_readings: 0 records admitted\n" in capsys.readouterr().out
    run_rows(lake, 5 * ROWS)
    assert backfilled(lake) == late
    assert refused_for(lake, "is_on_time"), "the run must have refused some more"
    check_records(lake)
    check_gold_of_silver(lake, "weather")


def test_one_that_was_interrupted_is_finished_by_the_next(
    hourly_lake: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before silver gets its rows, after that, and before gold follows; a run in between warns."""
    lake = hourly_lake
    late = refused_for(lake, "is_on_time")

    def die(*_: object) -> None:
        if name == "append" or backfilled(lake):  # else there is nothing to finish yet
            raise KeyboardInterrupt

    def shown() -> str:
        command("show", "weather", "--root", str(lake))
        return " ".join(capsys.readouterr().out.split())

    for place, name in ((SilverBackfill, "append"), (SilverBackfill, "remove_admitted"), (GoldBackfill, "apply")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, die)
            command("backfill", "weather", "--root", str(lake), status=130)
        assert backfilled(lake) == (set() if name == "append" else late)
    assert f"to finish it: lakehouse backfill weather --root {lake}" in shown()
    run_pipeline(lake, options={**DATA, "numRows": str(4 * ROWS)}, steps=("bronze",))
    assert f"to finish it: lakehouse backfill weather --root {lake}" in caplog.text
    command("backfill", "weather", "--root", str(lake))
    assert f"finishing a backfill that was interrupted: {len(late)} records admitted\n" in capsys.readouterr().out
    assert late < backfilled(lake)
    check_records(lake)
    check_hourly(lake)
    run_pipeline(lake, options={**DATA, "numRows": str(5 * ROWS)}, steps=("bronze",))
    assert f" + {ROWS:,} not yet in silver (" in shown(), "what backfills move is not deleted"


def test_history_comes_from_a_second_source_once(
    hourly_lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its records are as old as those that the lake began with, so that all but the newest are late."""
    lake = hourly_lake
    history, before = tmp_path / "history", DeltaTable(lake / "bronze" / READINGS).count()
    publish(PublishJob(load_pipeline("weather").bronze[0], 8, 0, ROWS, {"path": str(history), **FAULTS}), "files")
    words = ["backfill", "weather", "--root", str(lake), "--source", "files", "--option", f"path={history}"]
    command(*words)
    assert DeltaTable(lake / "bronze" / READINGS).count() == before + ROWS
    assert len(backfilled(lake)) > 0.8 * ROWS
    check_records(lake)
    check_hourly(lake)

    rows = DeltaTable(lake / "silver" / READINGS).count()
    command(*words)
    assert DeltaTable(lake / "bronze" / READINGS).count() == before + ROWS
    assert DeltaTable(lake / "silver" / READINGS).count() == rows
    run_pipeline(lake, options={**DATA, "numRows": str(4 * ROWS)}, steps=("bronze", "silver", HOURLY))
    check_records(lake)
    check_hourly(lake)


def test_records_that_an_expectation_refused_enter_once_it_is_changed(
    hourly_lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those whose windows are open wait; those that another expectation refuses stay, with that one as the reason."""
    lake = hourly_lake
    chosen = {
        (row["source"], row["partition"], row["offset"]): row["failed_expectations"]
        for row in records(lake, f"quarantine/{READINGS}")
        if "rain_in_range" in row["failed_expectations"]
    }
    expectations = tuple(each for each in weather_silver.EXPECTATIONS if each.name != "rain_in_range")
    declare(monkeypatch, weather_with(silver={"expectations": expectations}))
    command("backfill", "weather", "--reason", "rain_in_range", "--root", str(lake))
    left = refused_for(lake, "rain_in_range")
    shown = capsys.readouterr().out
    assert f"{len(left)} records too new: give the command again when a run has read an event after 2026-" in shown
    assert left and backfilled(lake)
    assert {each for each, reasons in chosen.items() if reasons == ["rain_in_range"]} == left | backfilled(lake)
    check_records(lake)
    check_hourly(lake)


def test_tables_without_a_reach_are_rebuilt(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two bronze and three silver tables; joins, sessions, custom state, tables in update and in complete mode."""
    monkeypatch.setenv(DOMAINS_VARIABLE, "support.domains")
    lake, landing = tmp_path / "lake", {"path": str(tmp_path / "landing")}
    for start in (0, 2_000):
        for bronze in load_pipeline("shop").bronze:
            publish(PublishJob(bronze, 11, start, start + 2_000, {**landing, "late": "0.05"}), "files")
        run_pipeline(lake, "files", landing, pipeline="shop")
    run_pipeline(
        lake,
        pipeline="shop",
        steps=("shop_visit_sessions",),
        sink="files",
        sink_options={"path": str(tmp_path / "out")},
    )
    command("backfill", "shop", "--root", str(lake))
    shown = capsys.readouterr().out
    assert "rebuilt; the old tables and checkpoints are in" in shown
    for table in ("shop_orders", "shop_payments", "shop_visits"):
        assert [row for row in records(lake, f"silver/{table}") if row["backfilled_at"]], table
    assert (lake / "_checkpoints/shop/gold.shop_visit_sessions.files/commits/0").exists(), "nothing is sent again"
    check_gold_of_silver(lake, SHOP, MODES)


def test_a_folder_within_that_of_the_pipeline_is_refused(
    run_weather: RunWeather, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its records are in bronze under the same file and line, so that each would be there twice."""
    landing = tmp_path / "landing"
    old = landing / READINGS / "2025"
    publish(PublishJob(load_pipeline("weather").bronze[0], 8, 0, 10, {"path": str(landing), **FAULTS}), "files")
    run_weather("files", {"path": str(landing)}, steps=("bronze",))
    old.mkdir()
    (old / "a.json").write_text("{}")
    words = ["backfill", "weather", "--root", str(tmp_path / "lake"), "--source", "files", "--option", f"path={old}"]
    command(*words, status=1)
    assert f"bronze.weather_readings reads source files, path {old} itself" in capsys.readouterr().err


def test_a_run_that_died_since_the_layers_caught_up_is_finished_first(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it has half written, a replay would take for all of its batch."""
    commits = lake / "_checkpoints/weather/silver.weather_readings/commits"
    for entry in ("2", ".2.crc"):
        (commits / entry).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(BackfillRun, "_run", lambda *_: None)
        command("backfill", "weather", "--root", str(lake), status=1)
    assert "a run of step 'silver.weather_readings' was interrupted meanwhile" in capsys.readouterr().err
    assert backfilled(lake) == set()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--root", "{empty}"],
            "no run has written bronze.weather_readings in {empty}; run pipeline 'weather' from its",
        ),
        (["--source", "generator", "--option", "seed=7"], "reads source generator, seed 7 itself"),
        (["--option", "path=history"], "--option path is of a source, and none is given; add --source NAME"),
        (["--table", "weather"], "--table is of a source, and none is given; add --source NAME"),
        (
            ["--source", "generator", "--table", "weather"],
            "no bronze table 'weather'; did you mean 'weather_readings'?",
        ),
        (["--reason", "is_first_delivery"], "a duplicate is in silver already"),
        (["--reason", "rain_range"], "no record is in quarantine for 'rain_range'; did you mean 'rain_in_range'?"),
        (["--source", "file"], "no source 'file'"),
        (["--source", "files", "--option", "path={missing}"], "source 'files': there is no folder"),
    ],
)
def test_what_is_refused(
    lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    """In one line, before a record is read."""
    given = [word.format(empty=tmp_path / "empty", missing=tmp_path / "missing") for word in words]
    root = [] if "--root" in given else ["--root", str(lake)]
    command("backfill", "weather", *given, *root, status=1)
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("lakehouse: ")]
    assert message.format(empty=tmp_path / "empty") in line


def test_spans_are_joined_where_they_touch_and_over_the_smallest_gaps() -> None:
    assert joined([(5, 6), (0, 2), (2, 3)]) == [(0, 3), (5, 6)]
    many = [(10 * number, 10 * number + 5) for number in range(66)] + [(1_000, 1_001), (1_002, 1_003)]
    assert len(joined(many)) == 64
    assert (1_000, 1_003) in joined(many)
    assert joined([]) == []
