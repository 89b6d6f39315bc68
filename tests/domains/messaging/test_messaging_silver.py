"""What silver makes of Slack's events, and which of them are valid."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession, functions as F, types as T

from streaming_lakehouse.domains.messaging import events, silver
from streaming_lakehouse.pipeline.expectations import failed_expectations

pytestmark = pytest.mark.usefixtures("few_rows")

POSTED = datetime(2026, 1, 1, 10, 0, 0, 120)
CHANGED = datetime(2026, 1, 1, 10, 3)
TS = "1767261600.000120"  # POSTED as Slack writes it
MESSAGE = {
    "event_id": "Ev1",
    "team": "T1TEAM",
    "channel": "C1CHAT",
    "user": "U1USER",
    "text": "I love it, this is great",
    "time": POSTED,
}
OLD = {"user": "U1USER", "text": "I hate it, this is bad", "ts": TS, "thread_ts": "1767261000.000001"}
CHANGE = {"event_id": "Ev2", "team": "T1TEAM", "channel": "C1CHAT", "time": CHANGED, "previous_message": OLD}
EDIT = {**CHANGE, "subtype": "message_changed", "message": {**OLD, "text": "I love it, this is great"}}
DELETE = {**CHANGE, "subtype": "message_deleted", "deleted_ts": TS}


def events_of(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Parsed events as the transform gets them; `source` stands for the columns of the record."""
    schema = T.StructType([*events.SCHEMA.fields, T.StructField("source", T.StringType())])
    return spark.createDataFrame([{**row, "source": "topic"} for row in rows], schema)


def scored(spark: SparkSession, *rows: dict[str, Any]) -> list[Row]:
    return silver.to_scored_messages(events_of(spark, *rows)).collect()


def failures(spark: SparkSession, row: dict[str, Any]) -> list[str]:
    arrived = F.lit(datetime(2026, 1, 1, 12))
    envelope = events_of(spark, row).withColumns({"source_timestamp": arrived, "ingested_at": arrived})
    found: list[str] = envelope.select(failed_expectations(silver.EXPECTATIONS)).first()[0]
    return found


def test_a_message_an_edit_and_a_delete_name_the_same_message(spark: SparkSession) -> None:
    """All three have the time of the message, its author's hash, and only what stands after them has a sentiment."""
    message, edit, delete = scored(spark, MESSAGE, EDIT, DELETE)
    assert [row["kind"] for row in (message, edit, delete)] == ["message", "edit", "delete"]
    assert {row["message_time"] for row in (message, edit, delete)} == {POSTED}
    assert [row["time"] for row in (message, edit, delete)] == [POSTED, CHANGED, CHANGED]
    assert len({row["user_hash"] for row in (message, edit, delete)}) == 1
    assert [row["thread_ts"] for row in (message, edit, delete)] == [None, OLD["thread_ts"], OLD["thread_ts"]]
    assert [row["text_length"] for row in (message, edit, delete)] == [24, 24, None]
    assert message["sentiment_compound"] == edit["sentiment_compound"] == 0.8519
    assert [row["sentiment_label"] for row in (message, edit, delete)] == ["positive", "positive", None]
    assert [row["language"] for row in (message, edit, delete)] == ["en", "en", None]


def test_neither_user_nor_text_is_in_silver(spark: SparkSession) -> None:
    """The schema is the declared one, beside the record's columns, and no value holds the user or the text."""
    for row in scored(spark, MESSAGE, EDIT, DELETE):
        assert {*silver.SCHEMA.names, "source"} == set(row.asDict())
        assert not {"U1USER", "love", "hate"} & set(str(row).replace("'", " ").split())


def test_texts_without_sentiment(spark: SparkSession) -> None:
    """Empty, emoji alone, another language, and what a bot writes."""
    texts = ["", "👍", "Das ist ein großartiger Tag"]
    rows = scored(spark, *({**MESSAGE, "text": text} for text in texts), {**MESSAGE, "subtype": "bot_message"})
    assert [row["text_length"] for row in rows] == [0, 1, 27, 24]
    assert [row["kind"] for row in rows] == ["message", "message", "message", "other"]
    assert {(row["language"], row["sentiment_compound"], row["sentiment_label"]) for row in rows} == {(None,) * 3}


def test_labels_turn_at_vaders_marks(spark: SparkSession) -> None:
    """±0.05 count as positive and negative."""
    compounds = spark.createDataFrame([(0.05,), (0.0499,), (-0.0499,), (-0.05,), (None,)], "compound double")
    labels = [row[0] for row in compounds.select(silver.sentiment_label(F.col("compound"))).collect()]
    assert labels == ["positive", "neutral", "neutral", "negative", None]


@pytest.mark.parametrize("key", ["", "k", "a salt of ordinary length", "ä" * 40, "x" * 64, "x" * 65])
def test_the_hash_is_hmac_sha_256(spark: SparkSession, key: str) -> None:
    """As Python's hmac computes it, for keys shorter and longer than a block, and any user name."""
    users = ["U1USER", "", "U1'; DROP TABLE silver.messages; --", "ü👍"]
    names = spark.createDataFrame([(user,) for user in users], "user string").coalesce(1)
    hashed = [row[0] for row in names.select(silver.keyed_hash(F.col("user"), key)).collect()]
    assert hashed == [hmac.new(key.encode(), user.encode(), hashlib.sha256).hexdigest() for user in users]


def test_the_salt_comes_from_the_environment(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read when the transform builds its plan; without it there is one for development."""
    monkeypatch.setenv("LAKEHOUSE_MESSAGING_SALT", "of production")
    [salted] = scored(spark, MESSAGE)
    monkeypatch.delenv("LAKEHOUSE_MESSAGING_SALT")
    [unsalted] = scored(spark, MESSAGE)
    assert salted["user_hash"] == hmac.new(b"of production", b"U1USER", hashlib.sha256).hexdigest()
    assert unsalted["user_hash"] == hmac.new(b"development only", b"U1USER", hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, []),
        ({"text": ""}, []),
        ({"text": "x" * 65_536}, []),
        ({"text": "👍" * 65_536}, []),
        ({"text": "x" * 65_537}, ["text_in_range"]),
        ({"text": "x" * 1_000_000}, ["text_in_range"]),
        ({"user": "U1'; DROP TABLE silver.messages; --"}, ["user_is_an_id"]),
        ({"user": "n/a"}, ["user_is_an_id"]),
        ({"user": None}, ["user_is_present"]),
        ({"user": None, "subtype": "bot_message"}, []),
        ({"channel": None}, ["channel_is_present"]),
        ({"channel": "general"}, ["channel_is_an_id"]),
        ({"thread_ts": "yesterday"}, ["thread_is_known"]),
        ({"time": datetime(2026, 1, 1, 13, 0, 1)}, ["time_is_not_ahead"]),
        (EDIT, []),
        (DELETE, []),
        ({**EDIT, "message": {**OLD, "user": "a' OR '1'='1"}}, ["user_is_an_id"]),
        ({**EDIT, "message": None}, ["changed_message_is_known"]),
        ({**EDIT, "message": {**OLD, "text": "x" * 65_537}, "text": None}, ["text_in_range"]),
        ({**DELETE, "deleted_ts": None}, ["changed_message_is_known"]),
        ({**DELETE, "deleted_ts": "1767261600"}, ["changed_message_is_known"]),
    ],
)
def test_expectations(spark: SparkSession, change: dict[str, Any], failed: list[str]) -> None:
    """Each names what is wrong, and lets everything else pass."""
    base = {} if "subtype" in change and change["subtype"].startswith("message_") else MESSAGE
    assert failures(spark, {**base, **change}) == failed
