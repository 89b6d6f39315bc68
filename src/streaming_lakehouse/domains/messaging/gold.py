"""Messaging's gold tables: the mood of channels, their conversations, and alerts where a mood falls."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame, functions as F

from streaming_lakehouse.domains.messaging import mood
from streaming_lakehouse.domains.messaging.silver import DELETE, EDIT, MESSAGE, NEGATIVE_TO

WINDOW = timedelta(minutes=5)
SESSION_GAP = "10 minutes"


def channel_sentiment(messages: DataFrame) -> DataFrame:
    """The mood per channel and tumbling 5 minutes, of the window's messages as they stand at its end.

    An edit or delete counts where it comes in the window of its message. A later one is in silver only: a window that
    was written does not change.
    In: the columns of silver. Out: channel string, window_start and window_end timestamp (end exclusive), messages
    bigint, scored_messages bigint (those with a sentiment), sentiment_mean double (-1 to 1, null without a scored
    message), negative_share double (0 to 1, of the scored messages, null without one).
    """
    return _sums_per_window(messages).select(
        "channel",
        "window_start",
        "window_end",
        "messages",
        "scored_messages",
        _mean("compound_sum", "scored_messages").alias("sentiment_mean"),
        _mean("negative_messages", "scored_messages").alias("negative_share"),
    )


def mood_alerts(messages: DataFrame, *, output_mode: str) -> DataFrame:
    """One row each time the mood of a channel falls below its own recent level; see `mood.judge` for when it does.

    In: the columns of silver. Out: channel string, window_start and window_end timestamp of the first window of low
    mood, messages bigint (those with a sentiment), sentiment_mean, recent_level and sentiment_limit double (-1 to 1):
    the window's mean, the channel's mean before it, and the mean from which on it is a fall.
    """
    windows = _sums_per_window(messages).where("scored_messages > 0")
    scored = windows.select(
        "channel",
        "window_end",  # the column with the watermark
        F.unix_millis("window_start").alias("window_start_ms"),
        F.unix_millis("window_end").alias("window_end_ms"),
        F.col("scored_messages").alias("messages"),
        F.col("compound_sum").cast("double").alias("compound_sum"),
        F.col("compound_square_sum").cast("double").alias("compound_square_sum"),
    )
    alerts = scored.groupBy("channel").transformWithState(
        statefulProcessor=mood.MoodProcessor(),
        outputStructType=mood.ALERT,
        outputMode=output_mode,
        timeMode="EventTime",
    )
    return alerts.select(
        "channel",
        F.timestamp_millis("window_start_ms").alias("window_start"),
        F.timestamp_millis("window_end_ms").alias("window_end"),
        "messages",
        "sentiment_mean",
        "recent_level",
        "sentiment_limit",
    )


def conversations(messages: DataFrame) -> DataFrame:
    """Messages of a channel and thread with at most 10 minutes between them.

    What was posted counts as it was posted: an edit is no message, and a delete does not shorten a conversation.
    In: the columns of silver. Out: channel string, thread_ts string (null outside of threads), window_start timestamp
    (of the first message), window_end timestamp (10 minutes after the last), duration_s double (from the first message
    to the last), messages and participants bigint, sentiment_mean double (-1 to 1) and sentiment_last double (of the
    last scored message), both null where no message has a sentiment.
    """
    compound = F.col("sentiment_compound")
    order = F.when(compound.isNotNull(), F.struct("time", "event_id"))
    posted = messages.where(F.col("kind") == MESSAGE)
    sessions = posted.groupBy("channel", "thread_ts", F.session_window("time", SESSION_GAP).alias("window")).agg(
        (F.unix_micros(F.max("time")) - F.unix_micros(F.min("time"))).alias("duration_us"),
        F.count("*").alias("messages"),
        F.size(F.collect_set("user_hash")).cast("bigint").alias("participants"),
        F.sum(_exact(compound)).alias("compound_sum"),
        F.count(compound).alias("scored_messages"),
        F.max_by(compound, order).alias("sentiment_last"),
    )
    return sessions.select(
        "channel",
        "thread_ts",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        (F.col("duration_us") / 1_000_000).alias("duration_s"),
        "messages",
        "participants",
        _mean("compound_sum", "scored_messages").alias("sentiment_mean"),
        "sentiment_last",
    )


def _sums_per_window(messages: DataFrame) -> DataFrame:
    """Sums over the messages of a channel and window, each in its last version."""
    compound = F.col("sentiment_compound")
    windows = (
        _last_versions(messages)
        .where(~F.col("is_deleted"))
        .groupBy("channel", "window")
        .agg(
            F.count("*").alias("messages"),
            F.count(compound).alias("scored_messages"),
            F.sum(_exact(compound)).alias("compound_sum"),
            F.sum(_exact(compound) * _exact(compound)).alias("compound_square_sum"),
            F.count_if(compound <= NEGATIVE_TO).alias("negative_messages"),
        )
    )
    return windows.withColumns({"window_start": F.col("window.start"), "window_end": F.col("window.end")})


def _last_versions(messages: DataFrame) -> DataFrame:
    """One row a message: how its window's edits and deletes leave it. A delete is final, whatever the clocks say."""
    kind, window_s = F.col("kind"), int(WINDOW.total_seconds())
    window_number = F.floor(F.unix_seconds("time") / window_s)
    is_of_window = kind.isin(MESSAGE, EDIT, DELETE) & (
        F.floor(F.unix_seconds("message_time") / window_s) == window_number
    )
    version = F.struct(kind == DELETE, kind == EDIT, "time", "event_id")
    last = F.max_by(F.struct((kind == DELETE).alias("is_deleted"), "sentiment_compound"), version)
    per_message = (
        messages.where(is_of_window)
        .groupBy("channel", F.unix_micros("message_time").alias("message_us"), F.window("time", f"{window_s} seconds"))
        .agg(last.alias("last"))
    )
    return per_message.select("channel", "window", "last.*")


def _exact(compound: Column) -> Column:
    """VADER rounds to four decimals, so that a sum of decimals is exact: the same in any order and any batches."""
    return compound.cast("decimal(5,4)")


def _mean(total: str, number: str) -> Column:
    """A double; null where there is nothing to divide by."""
    return F.col(total).cast("double") / F.nullif(F.col(number), F.lit(0))
