"""A text's language and sentiment, by VADER's lexicon (Hutto & Gilbert 2014), as one Spark function."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from pyspark.sql import Column, functions as F, types as T

from streaming_lakehouse.domains.messaging.language import language

MAX_SCORED_CHARACTERS = 4_000  # Slack's advice for a message; VADER is made for short texts, and saturates on long ones
SCORE = T.StructType([T.StructField("language", T.StringType()), T.StructField("compound", T.DoubleType())])

# Slack's markup: code is not prose; a mention, a channel or a link without a label has no mood.
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_REFERENCE = re.compile(r"<[^<>|]*(?:\|([^<>]*))?>")
_LINK = re.compile(r"https?://\S+")
_EMOJI_CODE = re.compile(r":([a-z+-][a-z0-9_+-]*):")
_ESCAPES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))


class Score(NamedTuple):
    language: str | None
    compound: float | None


def score_text(text: str | None) -> Score:
    """`en` and the compound sentiment from -1 to 1 of an English text; nulls of any other, or of none.

    Of a long text the first 4,000 characters are judged.
    """
    if not text:
        return Score(None, None)
    prose = _prose(text[:MAX_SCORED_CHARACTERS])
    found = language(_EMOJI_CODE.sub(" ", prose))
    if found != "en":
        return Score(None, None)
    return Score(found, _analyzer().polarity_scores(_EMOJI_CODE.sub(_emoji_words, prose))["compound"])


def score(text: Column) -> Column:
    """`score_text` of a column: struct<language string, compound double>.

    Rows travel to Python and back by Arrow. `udf(useArrow=True)` rather than `arrow_udf`: VADER takes one text at a
    time in any case, and it is there on every runtime since Spark 3.5.
    """
    return F.udf(score_text, SCORE, useArrow=True)(text)


@cache
def _analyzer() -> Any:
    """VADER with its lexicon, which is read once in each Python worker, and not where a pipeline is only declared."""
    return import_module("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()


def _prose(text: str) -> str:
    text = _CODE.sub(" ", text)
    text = _REFERENCE.sub(lambda reference: reference[1] or " ", text)
    text = _LINK.sub(" ", text)
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text


def _emoji_words(code: re.Match[str]) -> str:
    """:slightly_smiling_face: as words, which is how VADER reads the character itself."""
    return f" {code[1].replace('_', ' ')} "
