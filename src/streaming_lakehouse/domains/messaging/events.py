"""Messaging's events: what Slack sends when a message is posted, edited or deleted, and a generator of them."""

from __future__ import annotations

import math
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from pyspark.sql import types as T

from streaming_lakehouse.domains.messaging import phrases, traffic
from streaming_lakehouse.domains.messaging.silver import MAX_TEXT_CHARACTERS
from streaming_lakehouse.pipeline import Episode, Event, EventGenerator, field
from streaming_lakehouse.pipeline.synthetic import CLEAN, uniform_randoms

_MESSAGE = T.StructType([T.StructField(name, T.StringType()) for name in ("user", "text", "ts", "thread_ts")])
# Slack's names. `ts` is seconds since 1970 with six decimals, in a string, and names a message within its channel.
SCHEMA = T.StructType(
    [
        T.StructField("event_id", T.StringType()),
        T.StructField("team", T.StringType()),
        T.StructField("channel", T.StringType()),
        T.StructField("user", T.StringType()),
        T.StructField("text", T.StringType()),
        field("time", T.TimestampType(), json="ts", time="epoch_seconds"),
        T.StructField("thread_ts", T.StringType()),
        T.StructField("subtype", T.StringType()),
        T.StructField("message", _MESSAGE),
        T.StructField("previous_message", _MESSAGE),
        T.StructField("deleted_ts", T.StringType()),
    ]
)

_DELETES, _EDITS, _JOINS, _FILES = 0.008, 0.033, 0.040, 0.050  # cumulative shares of the events
_CHANGE_ROWS = 300  # an edit or delete is of a message at most so many rows before, and mostly of a recent one
_THREAD_ROWS = 40  # one row in so many may start a thread
_THREADED = 0.35  # of the messages, where their channel has a thread
_OTHER_LANGUAGES, _SYMBOLS, _PASTES = 0.08, 0.10, 0.1001  # cumulative shares of the messages
_EMOJI, _EMOTICONS = 0.055, 0.068  # cumulative shares of the messages, measured on a Slack export
_SENTENCES = 3.1  # mean beyond the first; with it half of the messages have over 85 characters and 5 % over 400
_MOODS = (0.40, 0.82)  # cumulative shares of positive and neutral messages; the rest is negative
_MOODS_IN_DROP = (0.05, 0.18)
_DROP_TRAFFIC = 0.4  # of all messages during a drop: what annoys people makes them write


class _Message(NamedTuple):
    channel: str
    user: str
    text: str
    ts: str
    thread_ts: str | None
    episode: Episode | None


def generate(row: int, seed: int) -> Event:
    """A message that is posted, edited or deleted, or a user who joins a channel.

    In half of the hours the mood of one channel falls for 10 to 20 minutes: its messages are labelled mood_drop.
    """
    kind, recency, *_ = uniform_randoms(seed, row, 3)
    if kind < _EDITS and row:
        return Event(_change(row, seed, is_delete=kind < _DELETES, recency=recency))
    message = _message(row, seed)
    event = _envelope(row, seed, message) | {"user": message.user, "text": message.text, "ts": message.ts}
    if kind < _JOINS:
        return Event(event | {"subtype": "channel_join", "text": f"<@{message.user}> has joined the channel"})
    if message.thread_ts:
        event["thread_ts"] = message.thread_ts
    if message.episode:
        return Event(event, message.episode.kind, message.episode)
    return Event(event | {"subtype": "file_share", "text": ""} if kind < _FILES else event, CLEAN)


def _envelope(row: int, seed: int, message: _Message) -> dict[str, Any]:
    return {"event_id": f"Ev{seed}-{row}", "team": "T01CHAT", "channel": message.channel}


def _change(row: int, seed: int, *, is_delete: bool, recency: float) -> dict[str, Any]:
    """The edit or delete of an earlier message, in the form that Slack gives it."""
    target = max(0, row - 1 - int(_CHANGE_ROWS * recency * recency))
    while target and uniform_randoms(seed, target, 3)[0] < _JOINS:
        target -= 1
    changed = _message(target, seed)
    previous = {"user": changed.user, "text": changed.text, "ts": changed.ts}
    if changed.thread_ts:
        previous["thread_ts"] = changed.thread_ts
    event = _envelope(row, seed, changed) | {"ts": traffic.slack_ts(row, seed), "previous_message": previous}
    if is_delete:
        return event | {"subtype": "message_deleted", "deleted_ts": changed.ts}
    return event | {"subtype": "message_changed", "message": {**previous, "text": f"{changed.text} (edited)"}}


def _message(row: int, seed: int) -> _Message:
    user_at, drop_at, thread_at, lane_at, *_ = uniform_randoms(seed, row)
    episode = traffic.mood_drop_at(row, seed)
    channel = traffic.channel_of(row, lane_at, seed)
    if episode and drop_at < _DROP_TRAFFIC:
        channel = episode.entity
    if episode and channel != episode.entity:
        episode = None
    return _Message(
        channel,
        traffic.user_of(channel, user_at),
        _text(row, seed, is_drop=episode is not None),
        traffic.slack_ts(row, seed),
        _thread(row, seed, channel) if thread_at < _THREADED else None,
        episode,
    )


def _thread(row: int, seed: int, channel: str) -> str | None:
    """The newest thread of the channel, if one of the last few roots is there."""
    newest = (row - 1) // _THREAD_ROWS
    roots = (_thread_root(number, seed) for number in range(newest, max(newest - 6, -1), -1))
    return next((ts for root_channel, ts in roots if root_channel == channel), None)


@lru_cache(256)
def _thread_root(number: int, seed: int) -> tuple[str | None, str]:
    """Channel and `ts` of the row that may start a thread; no channel where it is no ordinary message."""
    row = number * _THREAD_ROWS
    is_message = uniform_randoms(seed, row, 3)[0] >= _JOINS and not traffic.mood_drop_at(row, seed)
    channel = traffic.channel_of(row, uniform_randoms(seed, row)[3], seed) if is_message else None
    return channel, traffic.slack_ts(row, seed)


def _text(row: int, seed: int, *, is_drop: bool) -> str:
    kind, mood_at, number, emoji, which, *more = uniform_randoms(seed, row, 4)
    if kind < _PASTES and not is_drop:
        return phrases.PASTE if kind >= _SYMBOLS else phrases.choose(_unscored(kind), which)
    positive, neutral = _MOODS_IN_DROP if is_drop else _MOODS
    mood = "positive" if mood_at < positive else "neutral" if mood_at < neutral else "negative"
    sentences = [phrases.choose(phrases.BY_MOOD[mood], which)]
    for index in range(int(-math.log(1 - number) * _SENTENCES)):
        which = (7 * which + more[index % len(more)]) % 1
        sentences.append(phrases.choose(phrases.BY_MOOD[mood if which < 0.5 else "neutral"], 2 * which % 1))
    if emoji < _EMOTICONS:
        sentences.append(phrases.choose(phrases.EMOJI[mood], which) if emoji < _EMOJI else phrases.EMOTICONS[mood])
    return " ".join(sentences)


def _unscored(kind: float) -> tuple[str, ...]:
    return phrases.OTHER_LANGUAGES if kind < _OTHER_LANGUAGES else phrases.SYMBOLS


MESSAGES = EventGenerator(
    generate=generate,
    key="channel",
    time="ts",
    time_format="epoch_seconds",
    out_of_range=(
        {"event_id": ""},
        {"channel": ""},
        {"channel": "general"},
        {"channel": "C024BE91L\n"},
        {"user": ""},
        {"user": "U1'; DROP TABLE silver.messages; --"},
        {"text": "x" * (MAX_TEXT_CHARACTERS + 1)},
        {"thread_ts": "yesterday"},
        {"subtype": "message_deleted", "deleted_ts": "yesterday"},
    ),
    unknown_field=("client_msg_id", "6c9f3a52-1d5e-4f5b-8a43-0f1d2c9be771"),
    lateness=timedelta(minutes=20),
)
