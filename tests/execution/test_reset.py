"""`lakehouse reset` rebuilds a step and those after it, and archives what was there."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import Prepare, RunWeather, run_pipeline
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession, functions as F
from support.cli import command
from support.weather import declare, weather_with

from streaming_lakehouse.checkpointing import archive
from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.domains.weather import gold
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.discovery import DOMAINS_VARIABLE, load_pipeline

HOURLY = "gold.weather_device_hourly"
SALES = ("bronze.shop_sales", "shop_orders", "shop_payments", "shop_customer_products")
# As in test_recovery, which shares the lake.
DATA = {"numRows": "18000", "seed": "7", "late": "0", "duplicates": "0.05", "malformed": "0.05"}
NO_FAULTS = {"late": "0", "malformed": "0", "duplicates": "0"}


def half_hourly(readings: DataFrame) -> DataFrame:
    return gold._measures_per_window(readings, F.window("time", "30 minutes"))


def content(table: Path, *without: str) -> list[str]:
    return sorted(map(repr, DeltaTable(table).to_pyarrow_table().drop_columns(list(without)).to_pylist()))


def windows(table: Path) -> tuple[int, set[timedelta]]:
    rows = DeltaTable(table).to_pyarrow_table(columns=["window_start", "window_end"]).to_pylist()
    return len(rows), {row["window_end"] - row["window_start"] for row in rows}


def test_a_changed_transform_is_refused_until_its_table_is_rebuilt(
    run_weather: RunWeather,
    prepare: Prepare,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A reading a minute of each of 50 stations: of 360 minutes the watermark has passed 239."""
    lake = tmp_path / "lake"
    table = lake / "gold/weather_device_hourly"
    prepare(DATA)
    run_weather(steps=(HOURLY,))
    before = content(table)
    assert windows(table) == (3 * 50, {timedelta(hours=1)})

    declare(monkeypatch, weather_with(gold={"weather_device_hourly": {"transform": half_hourly}}))
    with pytest.raises(LakehouseError) as refused:
        run_weather(steps=(HOURLY,))
    words = ["lakehouse", "reset", "weather", "--step", HOURLY, "--root", str(lake)]
    assert f"step '{HOURLY}': its transform has changed: " in str(refused.value)
    assert f"rebuild with: {' '.join(words)} (or" in str(refused.value)
    command(*words[1:], status=1)  # nobody confirms it
    assert "nothing was changed" in capsys.readouterr().err
    assert content(table) == before

    command(*words[1:], "--yes")
    archived = next((lake / "_archive/weather").iterdir())
    assert f"archive {table} as {archived / 'gold/weather_device_hourly'}\n" in capsys.readouterr().out
    assert windows(table) == (7 * 50, {timedelta(minutes=30)})
    assert content(archived / "gold/weather_device_hourly") == before
    assert (archived / "_checkpoints/weather" / HOURLY / "offsets/0").exists()
    assert not (lake / "_reset/weather").exists()


def test_a_silver_table_is_rebuilt_with_all_that_depends_on_it(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the table that shares its quarantine; their new checkpoints resume, also that of custom state.

    Every third record is an order, one after it its payment, except of every eighth order.
    """
    monkeypatch.setenv(DOMAINS_VARIABLE, "support.domains")
    lake, options = tmp_path / "lake", {"path": str(tmp_path / "landing"), **NO_FAULTS}

    def run_with(start: int, end: int) -> None:
        publish(PublishJob(load_pipeline("shop").bronze_table("shop_sales"), 11, start, end, options), "files")
        run_pipeline(lake, "files", {"path": options["path"]}, pipeline="shop", steps=SALES)

    run_with(0, 1_200)
    tables = {str(log.parent): content(log.parent, *arrival(log.parent)) for log in lake.glob("*/*/_delta_log")}
    command("reset", "shop", "--step", "shop_orders", "--root", str(lake), "--yes")
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("rebuild")] == [
        "silver.shop_orders", "silver.shop_payments", "gold.shop_customer_products",
    ]  # fmt: skip
    assert {table: content(Path(table), *arrival(Path(table))) for table in tables} == tables
    run_with(1_200, 2_400)
    orders = DeltaTable(lake / "silver/shop_orders").to_pyarrow_table().to_pylist()
    assert (len(orders), DeltaTable(lake / "silver/shop_payments").count()) == (800, 700)
    bought = defaultdict(set)
    for order in orders:
        bought[order["customer"]].add(order["product"])
    counted = DeltaTable(lake / "gold/shop_customer_products").to_pyarrow_table().to_pylist()
    assert {row["customer"]: row["products"] for row in counted} == {each: len(bought[each]) for each in bought}


def arrival(table: Path) -> tuple[str, ...]:
    return () if table.parent.name == "gold" else ("ingested_at",)


def test_a_run_waits_for_a_reset_that_was_interrupted(
    run_weather: RunWeather, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command finishes it; what cannot be rebuilt from a table that is there is refused."""
    lake = tmp_path / "lake"
    (lake / "new").mkdir(parents=True)
    archive.begin(archive.journal(lake, "weather"), [(lake / "new", lake / "gold/weather_device_hourly")])
    with pytest.raises(LakehouseError, match=rf"was interrupted .*: lakehouse reset weather --step {HOURLY} --root"):
        run_weather(steps=(HOURLY,))
    words = ("reset", "weather", "--root", str(lake), "--step")
    command(*words, HOURLY)
    assert "finished the moves" in capsys.readouterr().out
    assert (lake / "gold/weather_device_hourly").is_dir()
    (lake / "silver/weather_readings").mkdir(parents=True)
    command(*words, "silver", "--yes", status=1)
    assert (
        f"{lake / 'bronze/weather_readings'}, from which the tables would be rebuilt, is missing"
        in capsys.readouterr().err
    )
    assert (lake / "silver/weather_readings").is_dir()
    command(*words, "bronze", status=1)
    assert "bronze.weather_readings has every record as it was received" in capsys.readouterr().err
