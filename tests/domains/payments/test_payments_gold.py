"""Payments' gold tables on real Spark: values worked out by hand, plain Python as the reference, and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from oracle import payments_gold as reference
from pyspark.sql import DataFrame, SparkSession
from support.settings import ROCKSDB

from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.domains.payments import gold, silver
from streaming_lakehouse.domains.payments.events import SCHEMA, generate

pytestmark = pytest.mark.usefixtures("few_rows")

NOON = datetime(2026, 1, 1, 12)
ROWS, SEED = 12_000, 41


@pytest.fixture
def rocksdb(spark: SparkSession) -> Iterator[None]:
    """What `transformWithState` needs: the engine sets it for every run."""
    with applied(spark, ROCKSDB):
        # Before the first query a batch finds no state store coordinator: it is started with the query manager.
        assert spark.streams is not None
        yield


def transactions(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Silver rows of one German account at noon, with what is given instead."""
    usual = {"mti": "0100", "time": NOON, "billing_currency": "EUR", "account": "DE1", "response_code": "00"}
    usual |= {"entry_mode": "05", "card_token": "card", "mcc": "5411"}
    made = [usual | {"event_id": f"e{number}"} | row for number, row in enumerate(rows)]
    return silver.pseudonymise(
        spark.createDataFrame([tuple(row.get(name) for name in SCHEMA.names) for row in made], SCHEMA)
    )


def amount(text: str, **others: Any) -> dict[str, Any]:
    return {"billing_amount": Decimal(text)} | others


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return [generate(row, SEED).fields for row in range(ROWS)]


def to_silver(spark: SparkSession, events: list[dict[str, Any]]) -> DataFrame:
    """The generator's events as silver has them."""
    rows = [
        event
        | {name: Decimal(str(event[name])) for name in ("amount", "billing_amount")}
        | {"time": datetime.fromisoformat(event["time"]).replace(tzinfo=None)}
        for event in events
    ]
    return silver.pseudonymise(
        spark.createDataFrame([tuple(row[name] for name in SCHEMA.names) for row in rows], SCHEMA)
    )


def plain(rows: DataFrame) -> list[dict[str, Any]]:
    """Spark's rows as the reference has them, with times in microseconds."""
    return [{name: _micros(value) for name, value in row.asDict().items()} for row in rows.collect()]


def _micros(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return value


def test_velocity_counts_in_ten_windows(spark: SparkSession) -> None:
    """Three authorisations, one of them declined, and a reversal: the window that holds them all, and the edges."""
    rows = transactions(
        spark,
        amount("10.00", time=NOON),
        amount("2.50", time=NOON + timedelta(minutes=4, seconds=59)),
        amount("99.00", time=NOON + timedelta(minutes=9, seconds=59), response_code="51"),
        amount("10.00", time=NOON + timedelta(minutes=5), mti="0400"),
    )
    windows = {row["window_start"]: row for row in gold.account_velocity(rows).collect()}
    assert len(windows) == 19
    assert min(windows) == NOON - timedelta(minutes=9)
    all_of_it = windows[NOON]
    assert all_of_it["window_end"] == NOON + timedelta(minutes=10)
    assert (all_of_it["authorisations"], all_of_it["declines"]) == (3, 1)
    assert (all_of_it["approved_amount"], all_of_it["reversed_amount"]) == (Decimal("12.50"), Decimal("10.00"))
    last = windows[NOON + timedelta(minutes=5)]
    assert (last["authorisations"], last["declines"], last["approved_amount"]) == (1, 1, Decimal("0.00"))


def test_velocity_adds_up_no_two_currencies(spark: SparkSession) -> None:
    """An account that is billed in two has a row for each."""
    rows = transactions(spark, amount("1.00"), amount("5.00", billing_currency="CHF"))
    windows = gold.account_velocity(rows).where(f"window_start = timestamp'{NOON}'")
    assert {row["billing_currency"]: row["approved_amount"] for row in windows.collect()} == {
        "EUR": Decimal("1.00"),
        "CHF": Decimal("5.00"),
    }


def test_velocity_is_the_reference(spark: SparkSession, events: list[dict[str, Any]]) -> None:
    """On generated payments, to the cent."""
    key = ("account_hash", "billing_currency", "window_start")
    found = {tuple(row[name] for name in key): row for row in plain(gold.account_velocity(to_silver(spark, events)))}
    expected = reference.account_velocity(reference.silver_rows(events))
    assert found == {tuple(row[name] for name in key): row for row in expected}


@pytest.mark.usefixtures("rocksdb")
def test_unusual_transactions_are_the_reference(spark: SparkSession, events: list[dict[str, Any]]) -> None:
    """On generated payments, as a batch: the same transactions with the same reasons and measures."""
    rows = gold.unusual_transactions(to_silver(spark, events), output_mode="append")
    found = {row["event_id"]: row for row in plain(rows)}
    expected = {row["event_id"]: row for row in reference.unusual_transactions(reference.silver_rows(events))}
    assert len(expected) > 20
    assert found.keys() == expected.keys()
    for event_id, row in expected.items():
        assert found[event_id] == row | {
            measure: row[measure] and pytest.approx(row[measure], rel=1e-6)
            for measure in ("amount_deviations", "speed_km_h")
        }


@pytest.mark.usefixtures("rocksdb")
@pytest.mark.parametrize(
    ("transform", "closed"),
    [
        (gold.account_velocity, "window_end <= timestamp'{watermark}'"),
        (partial(gold.unusual_transactions, output_mode="append"), "time <= timestamp'{watermark}'"),
    ],
    ids=["velocity", "unusual"],
)
def test_a_stream_gives_what_a_batch_gives(
    spark: SparkSession,
    events: list[dict[str, Any]],
    tmp_path: Path,
    transform: Callable[[DataFrame], DataFrame],
    closed: str,
) -> None:
    """In append mode, over four micro-batches of two runs: all rows that the watermark has passed."""
    cuts = [events[start : start + 1_000] for start in range(0, 4_000, 1_000)]
    for run in (cuts[:2], cuts[2:]):
        for cut in run:
            to_silver(spark, cut).coalesce(1).write.mode("append").parquet(str(tmp_path / "silver"))
        _run(spark, transform, tmp_path)
    batch = spark.read.parquet(str(tmp_path / "silver"))
    newest = batch.agg({"time": "max"}).collect()[0][0]
    expected = transform(batch).where(closed.format(watermark=newest - silver.WATERMARK)).collect()
    streamed = spark.read.parquet(str(tmp_path / "gold")).collect()
    assert expected
    assert sorted(map(str, streamed)) == sorted(map(str, expected))


def _run(spark: SparkSession, transform: Callable[[DataFrame], DataFrame], folder: Path) -> None:
    rows = spark.readStream.schema(spark.read.parquet(str(folder / "silver")).schema).option("maxFilesPerTrigger", 1)
    query = (
        transform(rows.parquet(str(folder / "silver")).withWatermark("time", f"{silver.WATERMARK.seconds} seconds"))
        .writeStream.format("parquet")
        .option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True)
        .start(str(folder / "gold"))
    )
    query.awaitTermination()


def test_the_hot_path_stops_what_one_look_is_enough_for(spark: SparkSession) -> None:
    """A risky amount at a risky merchant online, per currency; a card reported stolen, whatever it buys."""
    online = {"entry_mode": "81", "mcc": "6051"}
    rows = transactions(
        spark,
        amount("1000.00", event_id="risky", **online),
        amount("999.99", **online),
        amount("1000.00", **online | {"mcc": "5411"}),
        amount("1000.00", **online | {"entry_mode": "05"}),
        amount("1000.00", response_code="51", **online),
        amount("1000.00", mti="0400", **online),
        amount("1000.00", billing_currency="SEK", **online),
        amount("1000000.00", billing_currency="JPY", **online),
        amount("1.00", event_id="stolen", response_code="43"),
    )
    alerts = gold.authorisations_to_stop(rows)
    assert {row["event_id"]: row["alerts"] for row in alerts.collect()} == {
        "risky": ["risky_amount"],
        "stolen": ["lost_or_stolen_card"],
    }
    assert "account" not in alerts.columns
