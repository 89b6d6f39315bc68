"""What messaging's silver keeps of an event: a kind, a hash, and of the text its length, language and sentiment.

The sentiment is VADER's and the lists of words are messaging's own, since they are what both are defined by.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import unicodedata
from functools import cache

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from streaming_lakehouse.domains.messaging.language import ENGLISH_WORDS, OTHER_WORDS

from .domain import Row

POSTS = (None, "file_share", "me_message", "thread_broadcast")
MARKUP = (
    (re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL), " "),  # code
    # A mention, a channel or a link, of which its label remains.
    (re.compile(r"<[^<>|]*(?:\|([^<>]*))?>"), lambda reference: reference[1] or " "),
    (re.compile(r"https?://\S+"), " "),
    (re.compile("&lt;"), "<"),
    (re.compile("&gt;"), ">"),
    (re.compile("&amp;"), "&"),
)
EMOJI = re.compile(r":([a-z+-][a-z0-9_+-]*):")


def scored_message(event: Row) -> Row:
    old, new = event["previous_message"] or {}, event["message"] or {}
    kind = {"message_changed": "edit", "message_deleted": "delete"}.get(event["subtype"], "other")
    kind = "message" if event["subtype"] in POSTS else kind
    named = {"edit": new.get("ts"), "delete": event["deleted_ts"]}.get(kind)
    text = None if kind == "delete" else first(event["text"], new.get("text"))
    language, compound = score(text) if text and kind in ("message", "edit") else (None, None)
    return {
        **{name: event[name] for name in ("event_id", "team", "channel", "time")},
        "kind": kind,
        "message_time": int(named.replace(".", "")) if named else event["time"],
        "thread_ts": first(event["thread_ts"], new.get("thread_ts"), old.get("thread_ts")),
        "user_hash": keyed_hash(first(event["user"], new.get("user"), old.get("user"))),
        "text_length": None if text is None else len(text),
        "language": language,
        "sentiment_compound": compound,
        "sentiment_label": label(compound),
    }


def first(*values: str | None) -> str | None:
    return next((value for value in values if value is not None), None)


def keyed_hash(user: str | None) -> str | None:
    key = os.environ.get("LAKEHOUSE_MESSAGING_SALT") or "development only"
    return None if user is None else hmac.new(key.encode(), user.encode(), hashlib.sha256).hexdigest()


def label(compound: float | None) -> str | None:
    if compound is None:
        return None
    return "positive" if compound >= 0.05 else "negative" if compound <= -0.05 else "neutral"


@cache
def score(text: str) -> tuple[str | None, float | None]:
    """Language and sentiment of the first 4,000 characters, both None where the language is not English."""
    prose = text[:4_000]
    for pattern, replacement in MARKUP:
        prose = pattern.sub(replacement, prose)
    if not is_english(EMOJI.sub(" ", prose)):
        return None, None
    words = EMOJI.sub(lambda code: f" {code[1].replace('_', ' ')} ", prose)
    return "en", analyzer().polarity_scores(words)["compound"]


@cache
def analyzer() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


def is_english(text: str) -> bool:
    """Of the first 200 words: 80 % of the letters are Latin, 15 % of the words English, fewer of another language."""
    words = [word.lower().replace("’", "'") for word in re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text)][:200]
    letters = [character for word in words for character in word]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    english, others = (sum(word in known for word in words) for known in (ENGLISH_WORDS, OTHER_WORDS))
    return bool(letters) and latin >= 0.8 * len(letters) and english > others and english >= 0.15 * len(words)
