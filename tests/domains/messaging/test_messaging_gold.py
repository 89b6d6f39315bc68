"""Messaging's gold tables: rows written by hand, a day's generated chat against plain Python, and streams."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from oracle import messaging_gold as reference
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from support.settings import ROCKSDB

from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.domains.messaging import events, gold, silver

pytestmark = pytest.mark.usefixtures("few_rows")

NOON = datetime(2026, 1, 1, 12)
# The rows of 6 to 11 o'clock, in which there are mood drops.
GENERATED = range(4_000, 13_000)

TABLES: dict[str, Callable[[DataFrame], DataFrame]] = {
    "channel_sentiment": gold.channel_sentiment,
    "conversations": gold.conversations,
    "mood_alerts": lambda messages: gold.mood_alerts(messages, output_mode="append"),
}


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


@pytest.fixture(scope="module", autouse=True)
def coordinator(spark: SparkSession) -> None:
    """In a batch, too, transformWithState reports to the state stores' coordinator, which comes with `streams`."""
    assert spark.streams is not None


def messages(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Silver rows of one channel, with `at` the minute after noon and `of` the minute of the message."""
    made = [
        {
            "event_id": f"Ev{number}",
            "channel": row.get("channel", "C1"),
            "time": at(row["at"]),
            "kind": row.get("kind", "message"),
            "message_time": at(row.get("of", row["at"])),
            "thread_ts": row.get("thread"),
            "user_hash": row.get("user", "u"),
            "sentiment_compound": row.get("compound"),
        }
        for number, row in enumerate(rows)
    ]
    return spark.createDataFrame(made, silver.SCHEMA)


def test_a_windows_mood(spark: SparkSession) -> None:
    """Mean and negative share of the scored messages; one without a sentiment counts as a message alone."""
    rows = [{"at": 0, "compound": 0.5}, {"at": 4.99, "compound": -0.05}, {"at": 2}, {"at": 5}]
    first, second = gold.channel_sentiment(messages(spark, *rows)).orderBy("window_start").collect()
    assert tuple(first) == ("C1", at(0), at(5), 3, 2, 0.225, 0.5)
    assert tuple(second) == ("C1", at(5), at(10), 1, 0, None, None)


def test_edits_and_deletes_count_until_the_windows_end(spark: SparkSession) -> None:
    """The last edit holds, a delete is final whatever the clocks say, and changes in a later window do nothing."""
    edit, delete = {"kind": "edit", "compound": -0.4}, {"kind": "delete"}
    cases = {
        "C0 edited": ([{"at": 3, **edit}], (1, -0.4)),
        "C1 edited twice": ([{"at": 3, **edit}, {"at": 2, **edit, "compound": 0.1}], (1, -0.4)),
        "C2 edited into another language": ([{"at": 3, "kind": "edit"}], (1, None)),
        "C3 deleted": ([{"at": 3, **delete}], None),
        "C4 deleted by a slow clock": ([{"at": 2, **delete}, {"at": 3, **edit}], None),
        "C5 deleted before it was posted": ([{"at": 0.99, **delete}], None),
        "C6 edited later": ([{"at": 5, **edit}], (1, 0.8)),
        "C7 deleted later": ([{"at": 5, **delete}], (1, 0.8)),
        "C8 joined": ([{"at": 1, "kind": "other"}], (1, 0.8)),
    }
    rows = [
        row
        for channel, (changes, _) in cases.items()
        for row in (
            {"channel": channel, "at": 1, "compound": 0.8},
            *({"channel": channel, "of": 1, **change} for change in changes),
        )
    ]
    windows = gold.channel_sentiment(messages(spark, *rows)).collect()
    found = {row["channel"]: (row["messages"], row["sentiment_mean"]) for row in windows}
    assert found == {channel: expected for channel, (_, expected) in cases.items() if expected}
    assert {row["window_start"] for row in windows} == {at(0)}


def test_conversations_end_after_ten_minutes_and_are_apart_by_thread(spark: SparkSession) -> None:
    """Of the channel itself and of a thread within; ten minutes to the microsecond do not end one."""
    rows = [
        {"at": 0, "user": "a", "compound": 0.2},
        {"at": 9, "user": "b", "compound": -0.4},
        {"at": 18.5, "user": "a"},
        {"at": 9.5, "user": "c", "thread": "1.000000", "compound": 0.9},
        {"at": 19, "kind": "edit", "of": 18.5, "compound": 0.9},
        {"at": 28.75, "user": "a", "compound": 0.1},
        {"at": 38.75, "user": "d", "compound": 0.3},
    ]
    found = gold.conversations(messages(spark, *rows)).orderBy("window_start", "thread_ts").collect()
    assert [tuple(row) for row in found] == [
        ("C1", None, at(0), at(28.5), 1_110.0, 3, 2, -0.1, -0.4),
        ("C1", "1.000000", at(9.5), at(19.5), 0.0, 1, 1, 0.9, 0.9),
        ("C1", None, at(28.75), at(48.75), 600.0, 2, 2, 0.2, 0.3),
    ]


def test_a_fall_of_the_mood_is_an_alert(spark: SparkSession) -> None:
    """Six windows of six messages at 0.2 ± 0.3, then a window at -0.5: the limit is 0.2 - 4 * 0.3 / sqrt(6)."""
    ordinary = [{"at": minute / 6 * 5, "compound": 0.5 if minute % 2 else -0.1} for minute in range(36)]
    fallen = [{"at": 30 + minute / 2, "compound": -0.5} for minute in range(6)]
    [alert] = gold.mood_alerts(messages(spark, *ordinary, *fallen), output_mode="append").collect()
    assert tuple(alert)[:5] == ("C1", at(30), at(35), 6, -0.5)
    assert alert["recent_level"] == pytest.approx(0.2)
    assert alert["sentiment_limit"] == pytest.approx(0.2 - 4 * 0.3 / 6**0.5)


@pytest.fixture(scope="module")
def chat(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Silver of a generated chat in a Delta table of two commits, in neither of which the rows are in order."""
    path = str(tmp_path_factory.mktemp("silver") / "messages")
    names = {name: name for name in events.SCHEMA.names if name != "time"}
    rows = [events.generate(row, 12).fields for row in GENERATED]
    parsed = [
        {**{name: row.get(name) for name in names}, "time": datetime.fromtimestamp(float(row["ts"]), UTC)}
        for row in rows
    ]
    for start, end in ((0, 4_000), (4_000, len(parsed))):
        commit = spark.createDataFrame(sorted(parsed[start:end], key=lambda row: row["event_id"][::-1]), events.SCHEMA)
        silver.to_scored_messages(commit).coalesce(1).write.format("delta").mode("append").save(path)
    return path


@pytest.fixture(scope="module")
def computed(spark: SparkSession, chat: str) -> dict[str, list[Row]]:
    """The rows of each table by one batch over the whole chat."""
    rows = spark.read.format("delta").load(chat).cache()
    return {table: transform(rows).collect() for table, transform in TABLES.items()}


@pytest.fixture(scope="module")
def streamed(spark: SparkSession, chat: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, StreamingQuery]:
    """One query a table that has read the chat commit by commit, side by side; it writes to the folder in its name."""
    started = {}
    for table, transform in TABLES.items():
        stream = spark.readStream.format("delta").option("maxFilesPerTrigger", 1).load(chat)
        folder = tmp_path_factory.mktemp(table)
        watermarked = stream.withWatermark("time", f"{silver.WATERMARK.total_seconds()} seconds")
        writer = transform(watermarked).writeStream.format("delta").outputMode("append").queryName(str(folder / "gold"))
        writer = writer.option("checkpointLocation", str(folder / "checkpoint")).trigger(availableNow=True)
        with applied(spark, ROCKSDB if table == "mood_alerts" else {}):
            started[table] = writer.start(str(folder / "gold"))
    for query in started.values():
        query.awaitTermination()
    return started


def comparable(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """In one order, and sentiments to nine digits: plain Python adds floats."""
    rounded = [tuple(round(value, 9) if isinstance(value, float) else value for value in row.values()) for row in rows]
    return sorted(rounded, key=str)


@pytest.mark.parametrize("table", TABLES)
def test_a_generated_chat_gives_what_plain_python_gives(
    spark: SparkSession, chat: str, computed: dict[str, list[Row]], table: str
) -> None:
    """Thousands of rows with threads, edits, deletes, languages and mood drops."""
    rows = [row.asDict() for row in spark.read.format("delta").load(chat).collect()]
    expected = getattr(reference, table)(rows)
    found = [row.asDict() for row in computed[table]]
    assert comparable(found) == comparable(expected)
    assert len(found) >= 2


@pytest.mark.parametrize("table", TABLES)
def test_a_stream_gives_what_a_batch_gives(
    spark: SparkSession,
    chat: str,
    computed: dict[str, list[Row]],
    streamed: dict[str, StreamingQuery],
    table: str,
) -> None:
    """In append mode every row of a closed window is the same to the last digit, and no row is dropped as late."""
    query = streamed[table]
    times = spark.read.format("delta").load(chat).select("time").collect()
    watermark = max(row["time"] for row in times) - silver.WATERMARK
    closed = [tuple(row) for row in computed[table] if row["window_end"] <= watermark]
    written = [tuple(row) for row in spark.read.format("delta").load(query.name).collect()]
    assert sorted(written, key=str) == sorted(closed, key=str)
    batches = [batch for batch in query.recentProgress if batch["numInputRows"]]
    assert len(batches) == 2
    assert sum(state["numRowsDroppedByWatermark"] for batch in batches for state in batch["stateOperators"]) == 0
