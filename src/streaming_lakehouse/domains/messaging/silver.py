"""When an event of messaging is valid, and what silver keeps of it: no text, and no user but as a keyed hash."""

from __future__ import annotations

import os
from datetime import timedelta
from hashlib import sha256

from pyspark.sql import Column, DataFrame, functions as F, types as T

from streaming_lakehouse.domains.messaging.sentiment import score
from streaming_lakehouse.pipeline import expect_not_ahead, expect_or_quarantine

# Slack delivers an event again at once, after 1 and after 5 minutes, and then gives up (Events API).
WATERMARK = timedelta(minutes=10)

SALT_VARIABLE = "LAKEHOUSE_MESSAGING_SALT"
DEVELOPMENT_SALT = "development only"  # for synthetic users: with it anybody can compute the hash of a known user

MAX_TEXT_CHARACTERS = 65_536  # Slack cuts a text at 40,000
POSITIVE_FROM, NEGATIVE_TO = 0.05, -0.05  # compound sentiment (VADER's README)

MESSAGE, EDIT, DELETE, OTHER = "message", "edit", "delete", "other"
# Subtypes of what a person posts; all that are not named, such as channel_join and bot_message, are OTHER.
_POSTS = ("file_share", "me_message", "thread_broadcast")
# \z at the end: $ would let a line feed follow.
_ID = r"RLIKE r'^[A-Z][A-Z0-9]{1,29}\z'"
_TS = r"RLIKE r'^[0-9]{1,11}[.][0-9]{6}\z'"

# Types of Slack's ids: C, D or G and letters and digits for a channel, U or W for a user.
EXPECTATIONS = (
    expect_or_quarantine("channel_is_present", "channel <> ''"),
    expect_or_quarantine("channel_is_an_id", f"channel IS NULL OR channel {_ID}"),
    expect_or_quarantine(
        "user_is_present",
        f"coalesce(subtype, '{_POSTS[0]}') NOT IN {_POSTS} OR coalesce(user, '') <> ''",
    ),
    expect_or_quarantine(
        "user_is_an_id",
        f"(user IS NULL OR user {_ID}) AND (message.user IS NULL OR message.user {_ID})"
        f" AND (previous_message.user IS NULL OR previous_message.user {_ID})",
    ),
    expect_or_quarantine("text_in_range", f"char_length(coalesce(text, message.text, '')) <= {MAX_TEXT_CHARACTERS}"),
    expect_or_quarantine(
        "changed_message_is_known",
        f"CASE subtype WHEN 'message_changed' THEN message.ts {_TS} WHEN 'message_deleted' THEN deleted_ts {_TS}"
        " ELSE true END",
    ),
    expect_or_quarantine("thread_is_known", f"thread_ts IS NULL OR thread_ts {_TS}"),
    expect_not_ahead(),
)

SCHEMA = T.StructType(
    [
        T.StructField("event_id", T.StringType()),
        T.StructField("team", T.StringType()),
        T.StructField("channel", T.StringType()),
        T.StructField("time", T.TimestampType()),
        T.StructField("kind", T.StringType()),
        T.StructField("message_time", T.TimestampType()),
        T.StructField("thread_ts", T.StringType()),
        T.StructField("user_hash", T.StringType()),
        T.StructField("text_length", T.IntegerType()),
        T.StructField("language", T.StringType()),
        T.StructField("sentiment_compound", T.DoubleType()),
        T.StructField("sentiment_label", T.StringType()),
    ]
)


def to_scored_messages(events: DataFrame) -> DataFrame:
    """Events with their sentiment and a hashed user instead of text and user.

    In: the columns of `events.SCHEMA`. Out: event_id, team, channel string; time timestamp; kind string: message, edit,
    delete, or other (a user who joins, a bot); message_time timestamp: when the message that is posted, edited or
    deleted was posted, which names it within its channel; thread_ts string; user_hash string: `keyed_hash` of the
    message's author; text_length int, characters, null without a text; language string, en or null; sentiment_compound
    double, -1 to 1, null unless the language is en and a person wrote the text; sentiment_label string: positive,
    neutral, negative or null. Other columns, such as those of the record, remain.
    """
    kind = _kind()
    user = F.coalesce("user", "message.user", "previous_message.user")
    text = F.when(F.col("kind") != DELETE, F.coalesce("text", "message.text"))
    named = events.withColumn("kind", kind).withColumns(
        {
            "message_time": _message_time(),
            "thread_ts": F.coalesce("thread_ts", "message.thread_ts", "previous_message.thread_ts"),
            "user_hash": keyed_hash(user, salt()),
            "text_length": F.char_length(text),
            "_score": score(F.when(F.col("kind").isin(MESSAGE, EDIT), text)),
        }
    )
    scored = named.withColumns({"language": F.col("_score.language"), "sentiment_compound": F.col("_score.compound")})
    labelled = scored.withColumn("sentiment_label", sentiment_label(F.col("sentiment_compound")))
    return labelled.drop("_score", "user", "text", "message", "previous_message", "deleted_ts", "subtype")


def sentiment_label(compound: Column) -> Column:
    """positive, neutral or negative; null where there is no sentiment."""
    return (
        F.when(compound >= POSITIVE_FROM, "positive")
        .when(compound <= NEGATIVE_TO, "negative")
        .when(compound.isNotNull(), "neutral")
    )


def salt() -> str:
    """The key of the users' hashes: LAKEHOUSE_MESSAGING_SALT, or one for development."""
    return os.environ.get(SALT_VARIABLE) or DEVELOPMENT_SALT


def keyed_hash(value: Column, key: str) -> Column:
    """HMAC-SHA-256 (RFC 2104) of a string in UTF-8, in hexadecimal; null for null.

    A hash with the key in front of the value would do for random ids of fixed length only.
    """
    secret = key.encode()
    padded = (sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    inner = F.sha2(F.concat(F.lit(_xor(padded, 0x36)), F.encode(value, "UTF-8")), 256)
    return F.sha2(F.concat(F.lit(_xor(padded, 0x5C)), F.unhex(inner)), 256)


def _xor(block: bytes, byte: int) -> bytearray:
    return bytearray(each ^ byte for each in block)


def _kind() -> Column:
    subtype = F.col("subtype")
    return (
        F.when(subtype.isNull() | subtype.isin(*_POSTS), MESSAGE)
        .when(subtype == "message_changed", EDIT)
        .when(subtype == "message_deleted", DELETE)
        .otherwise(OTHER)
    )


def _message_time() -> Column:
    changed = F.when(F.col("kind") == EDIT, F.col("message.ts")).when(F.col("kind") == DELETE, F.col("deleted_ts"))
    micros = (changed.try_cast("decimal(20,6)") * 1_000_000).try_cast("bigint")
    return F.coalesce(F.timestamp_micros(micros), F.col("time"))
