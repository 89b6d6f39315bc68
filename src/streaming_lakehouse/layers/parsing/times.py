"""Dates and times as JSON writes them, and the moments they are."""

from __future__ import annotations

from pyspark.sql import Column, functions as F

# \z at the end: $ would let a line feed follow.
_DATE = r"^\d{4}-\d\d-\d\d\z"
_LOCAL = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?\z"
_ZONED = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\z"
# A number as JSON has it. More digits, or an exponent of more, would keep a decimal busy for long.
_EPOCH = r"^-?(0|[1-9]\d{0,19})(\.\d{1,40})?([eE][+-]?\d{1,3})?\z"
_MICROS = {"epoch_seconds": 1_000_000, "epoch_millis": 1_000, "epoch_micros": 1}
_YEAR_0, _YEAR_9999 = -62_167_219_200_000_000, 253_402_300_799_999_999  # microseconds: what ISO 8601 can write as well


def date(text: Column) -> Column:
    """The date of `yyyy-MM-dd`; null for anything else."""
    return F.when(text.rlike(_DATE), text.try_cast("date"))


def zoned_timestamp(text: Column) -> Column:
    """The moment of an ISO 8601 time, with T or a space, with a zone; null for anything else.

    RFC 3339 allows the space. Digits beyond microseconds are cut off.
    """
    return F.when(text.rlike(_ZONED), text.try_cast("timestamp"))


def local_timestamp(text: Column, zone: str) -> Column:
    """The moment of an ISO 8601 time, with T or a space, with a zone or in `zone`; null for anything else.

    Where clocks are set back and an hour comes twice, it is the first of both. A time that clocks skip when they are
    set forward is none.
    """
    clock = F.concat(text, F.lit("Z")).try_cast("timestamp")
    moment = F.to_utc_timestamp(clock, zone)
    is_shown = F.from_utc_timestamp(moment, zone) == clock
    return F.when(text.rlike(_ZONED), text.try_cast("timestamp")).when(text.rlike(_LOCAL), F.when(is_shown, moment))


def epoch_timestamp(text: Column, time_format: str) -> Column:
    """The moment that many seconds, milliseconds or microseconds after 1970, in the years 0 to 9999, else null.

    `text` is a number, or a string that reads like one. Fractions of a microsecond are cut off, as they are in ISO
    8601; a number with a fraction has the precision of a double, a string all its digits.
    """
    number = F.when(text.rlike(_EPOCH), text.try_cast("decimal(38,18)"))
    micros = F.floor(number * F.lit(_MICROS[time_format]))
    return F.when(micros.between(_YEAR_0, _YEAR_9999), F.timestamp_micros(micros.cast("bigint")))
