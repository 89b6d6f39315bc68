"""Messaging: events of chat channels, what silver keeps of them, and the tables of messaging_gold."""

from __future__ import annotations

import re
from collections.abc import Callable

from .domain import Domain, Expectation, Gold, Row, Silver, not_ahead, present
from .json_types import DOUBLE, INTEGER, LONG, STRING, TIMESTAMP, timestamp
from .json_values import Field, Struct
from .messaging_gold import channel_sentiment, conversations, mood_alerts
from .messaging_text import POSTS, scored_message
from .moments import HOUR, MINUTE
from .windows import window_end, with_datetimes

MESSAGE = Struct(tuple(Field(name, STRING) for name in ("user", "text", "ts", "thread_ts")))
FIELDS = (
    *(Field(name, STRING) for name in ("event_id", "team", "channel", "user", "text")),
    Field("time", timestamp("epoch_seconds"), json="ts"),
    *(Field(name, STRING) for name in ("thread_ts", "subtype")),
    *(Field(name, MESSAGE) for name in ("message", "previous_message")),
    Field("deleted_ts", STRING),
)
SCORED = (
    *(Field(name, STRING) for name in ("event_id", "team", "channel")),
    Field("time", TIMESTAMP),
    Field("kind", STRING),
    Field("message_time", TIMESTAMP),
    *(Field(name, STRING) for name in ("thread_ts", "user_hash")),
    Field("text_length", INTEGER),
    Field("language", STRING),
    Field("sentiment_compound", DOUBLE),
    Field("sentiment_label", STRING),
)


def is_id(text: str | None) -> bool:
    return text is None or re.fullmatch("[A-Z][A-Z0-9]{1,29}", text) is not None


def is_ts(text: str | None) -> bool:
    return text is not None and re.fullmatch("[0-9]{1,11}[.][0-9]{6}", text) is not None


def within_message(row: Row, name: str) -> str | None:
    text: str | None = (row["message"] or {}).get(name)
    return text


def users_are_ids(row: Row) -> bool:
    return all(is_id(each and each["user"]) for each in (row, row["message"], row["previous_message"]))


def text_is_short(row: Row) -> bool:
    text = within_message(row, "text") if row["text"] is None else row["text"]
    return len(text or "") <= 65_536


def changed_message_is_known(row: Row) -> bool:
    named = {"message_changed": within_message(row, "ts"), "message_deleted": row["deleted_ts"]}
    return row["subtype"] not in named or is_ts(named[row["subtype"]])


RULES: dict[str, Callable[[Row], bool]] = {
    "channel_is_present": present("channel"),
    "channel_is_an_id": lambda row: is_id(row["channel"]),
    "user_is_present": lambda row: row["subtype"] not in POSTS or bool(row["user"]),
    "user_is_an_id": users_are_ids,
    "text_in_range": text_is_short,
    "changed_message_is_known": changed_message_is_known,
    "thread_is_known": lambda row: row["thread_ts"] is None or is_ts(row["thread_ts"]),
    "time_is_not_ahead": not_ahead("time", HOUR),
}
MESSAGES = Silver(
    "messaging_messages",
    bronze="messaging_messages",
    fields=FIELDS,
    expectations=tuple(Expectation(name, is_met) for name, is_met in RULES.items()),
    watermark=10 * MINUTE,
    transform=scored_message,
    transformed=SCORED,
)
WINDOW = {"window_start": TIMESTAMP, "window_end": TIMESTAMP}
SENTIMENT = {
    **{"channel": STRING, **WINDOW, "messages": LONG, "scored_messages": LONG},
    **dict.fromkeys(("sentiment_mean", "negative_share"), DOUBLE),
}
CONVERSATION = {
    **{"channel": STRING, "thread_ts": STRING, **WINDOW, "duration_s": DOUBLE, "messages": LONG, "participants": LONG},
    **dict.fromkeys(("sentiment_mean", "sentiment_last"), DOUBLE),
}
ALERT = {
    **{"channel": STRING, **WINDOW, "messages": LONG},
    **dict.fromkeys(("sentiment_mean", "recent_level", "sentiment_limit"), DOUBLE),
}
INPUTS = ("silver/messaging_messages",)
KEY = ("channel", "window_start")
TIMES = ("time", "message_time")
DOMAIN = Domain(
    "messaging",
    silver=(MESSAGES,),
    gold=(
        Gold(
            "messaging_channel_sentiment", KEY, SENTIMENT, INPUTS, with_datetimes(channel_sentiment, *TIMES), window_end
        ),
        Gold(
            "messaging_conversations",
            ("channel", "thread_ts", "window_start"),
            CONVERSATION,
            INPUTS,
            with_datetimes(conversations, *TIMES),
            window_end,
        ),
        Gold("messaging_mood_alerts", KEY, ALERT, INPUTS, with_datetimes(mood_alerts, *TIMES), window_end),
    ),
)
