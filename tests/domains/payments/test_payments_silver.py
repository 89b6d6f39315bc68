"""When a payment is valid, and that nobody's account leaves silver."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession, functions as F, types as T

from streaming_lakehouse.domains.payments import silver
from streaming_lakehouse.domains.payments.events import SCHEMA
from streaming_lakehouse.pipeline.expectations import failed_expectations

NOON = datetime(2026, 1, 1, 12)
VALID: dict[str, Any] = {
    "event_id": "e",
    "mti": "0100",
    "card_token": "tok_1",
    "amount": Decimal("10.00"),
    "billing_amount": Decimal("10.00"),
    "time": NOON,
    "mcc": "5411",
    "merchant_country": "DE",
    "entry_mode": "05",
    "response_code": "00",
    "latitude_deg": 52.5,
    "longitude_deg": 13.4,
    "currency": "EUR",
    "billing_currency": "EUR",
    "account": "DE001",
}
WRONG = [
    ({}, []),
    ({"amount": Decimal("0.00"), "latitude_deg": None, "longitude_deg": None}, []),
    ({"amount": Decimal("-0.01")}, ["amount_in_range"]),
    ({"amount": None}, ["amount_in_range"]),
    ({"billing_amount": Decimal("-1")}, ["billing_amount_in_range"]),
    ({"currency": "ZZZ"}, ["currency_is_known"]),
    ({"currency": "eur", "billing_currency": None}, ["currency_is_known", "billing_currency_is_known"]),
    ({"currency": "JPY", "billing_currency": "CHF"}, []),
    ({"account": ""}, ["account_is_present"]),
    ({"card_token": None}, ["card_token_is_present"]),
    ({"card_token": "4111 1111 1111 1111"}, ["card_token_is_not_a_number"]),
    ({"mti": "0110"}, ["mti_is_known"]),
    ({"mcc": "54"}, ["mcc_is_known"]),
    ({"entry_mode": "99"}, ["entry_mode_is_known"]),
    ({"response_code": None}, ["response_code_is_present"]),
    ({"merchant_country": "D"}, ["merchant_country_is_known"]),
    ({"latitude_deg": 90.1, "longitude_deg": -180.1}, ["latitude_in_range", "longitude_in_range"]),
    ({"time": NOON + timedelta(minutes=5)}, []),
    ({"time": NOON + timedelta(minutes=5, seconds=1)}, ["time_is_not_ahead"]),
]


def payments(spark: SparkSession, *changes: dict[str, Any]) -> DataFrame:
    rows = [VALID | {"event_id": f"e{number:02d}"} | each for number, each in enumerate(changes)]
    return spark.createDataFrame([tuple(row.get(name) for name in SCHEMA.names) for row in rows], SCHEMA)


def test_each_expectation_refuses_what_it_should(spark: SparkSession) -> None:
    """Each row's violations, with records that arrived at noon."""
    arrived = F.lit(NOON)
    judged = payments(spark, *(change for change, _ in WRONG)).withColumns(
        {"source_timestamp": arrived, "ingested_at": arrived}
    )
    found = judged.select("event_id", failed_expectations(silver.EXPECTATIONS).alias("failed")).orderBy("event_id")
    assert [row["failed"] for row in found.collect()] == [failed for _, failed in WRONG]


def test_an_account_becomes_a_keyed_hash(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """HMAC-SHA-256 by the environment's salt, also one longer than a block; equal accounts stay equal."""
    accounts = ["DE001", "Zoë", "DE001"]
    for salt in ("s", "long " * 20):
        monkeypatch.setenv(silver.SALT_VARIABLE, salt)
        rows = silver.pseudonymise(payments(spark, *({"account": each} for each in accounts))).orderBy("event_id")
        expected = [hmac.new(salt.encode(), each.encode(), hashlib.sha256).hexdigest() for each in accounts]
        assert [row["account_hash"] for row in rows.collect()] == expected


def test_the_transform_gives_the_declared_columns(spark: SparkSession) -> None:
    """All of them with their types, no account, and what else a row carries."""
    given = payments(spark, {}).withColumn("_rescued_data", F.lit("{}"))
    made = silver.pseudonymise(given)
    assert "account" not in made.columns
    assert "_rescued_data" in made.columns
    columns = {field.name: field.dataType for field in made.schema}
    assert {field.name: columns[field.name] for field in silver.TRANSFORMED_SCHEMA} == {
        field.name: field.dataType for field in silver.TRANSFORMED_SCHEMA
    }
    assert isinstance(columns["amount"], T.DecimalType)


def test_codes_say_whether_the_card_was_there_and_whether_it_was_approved(spark: SparkSession) -> None:
    """Entry modes and response codes of ISO 8583."""
    rows = silver.pseudonymise(
        payments(
            spark,
            {"entry_mode": "07", "response_code": "00"},
            {"entry_mode": "81", "response_code": "51"},
            {"entry_mode": "80", "response_code": "10"},
            {"entry_mode": "10", "response_code": "43"},
        )
    ).orderBy("event_id")
    assert [(row["is_card_present"], row["is_approved"]) for row in rows.collect()] == [
        (True, True),
        (False, False),
        (True, True),
        (False, False),
    ]
