"""Moments as microseconds since the epoch in UTC, and the texts and numbers that JSON writes them in.

Integers, so that no time zone and no year outside 1..9999 can interfere.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CYCLE = 146_097 * DAY  # of the Gregorian calendar, 400 years
FARTHEST_ZONE = 18 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"epoch_seconds": SECOND, "epoch_millis": 1000, "epoch_micros": 1}

YEAR_0, YEAR_10000 = -62_167_219_200 * SECOND, 253_402_300_800 * SECOND

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:(Z)|([+-])(\d\d):(\d\d))?", re.ASCII
)
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,19})(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)


def micros_of(moment: datetime) -> int:
    """Microseconds since the epoch; a moment without a zone is UTC."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def moment_of(micros: int) -> datetime:
    """The moment in UTC, without a zone."""
    return datetime(1970, 1, 1) + timedelta(microseconds=micros)


def _micros_of_clock(*parts: str) -> int | None:
    """The moment of year, month, day, hour, minute and second in UTC; None where there is no such."""
    year, month, day, hour, minute, second = map(int, parts)
    cycles = 0 if year else 1  # a year 0 is as long as the year 400, which datetime knows
    try:
        moment = datetime(year + 400 * cycles, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return micros_of(moment) - cycles * CYCLE


def parse_time(text: Any, zone: str | None = None) -> int | None:
    """Microseconds since the epoch of `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`; None for anything else.

    There may be a space for the T. With a `zone` a time without one is one there: the earlier one where clocks show it
    twice, and none where they skip it.
    """
    match = _TIME.fullmatch(text) if type(text) is str else None
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, utc, sign, ahead_hours, ahead_minutes = match.groups()
    clock = _micros_of_clock(year, month, day, hour, minute, second)
    if clock is None:
        return None
    micros = clock + int((fraction or "")[:6].ljust(6, "0"))
    if sign:
        return _without_offset(micros, sign, int(ahead_hours), int(ahead_minutes))
    if utc:
        return micros
    return None if zone is None else _without_zone(micros, zone)


def _without_offset(clock: int, sign: str, hours: int, minutes: int) -> int | None:
    ahead = hours * HOUR + minutes * MINUTE
    if minutes > 59 or ahead > FARTHEST_ZONE:
        return None
    return clock - ahead if sign == "+" else clock + ahead


def _without_zone(clock: int, zone: str) -> int | None:
    """The moment at which clocks in the zone show what clocks in UTC show at `clock`."""
    # Where datetime ends: the rules of a zone have the calendar's cycle, before the first of them nothing changes.
    cycles = (clock < _SECOND_YEAR) - (clock >= _LAST_YEAR)
    shown = EPOCH + timedelta(microseconds=clock + cycles * CYCLE)
    moment = shown.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    is_shown = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=UTC) == shown
    return micros_of(moment) - cycles * CYCLE if is_shown else None


def parse_epoch(number: Any, unit: str) -> int | None:
    """Microseconds since the epoch of a number, or a string of one, of seconds, milliseconds or microseconds.

    None beyond the years 0 to 9999. Fractions of a microsecond are cut off; a number that is not written as a whole one
    has the precision of a double, a string all its digits.
    """
    if type(number) is int or (type(number) is str and _NUMBER.fullmatch(number)):
        exact = Decimal(number)
    elif type(number) is Decimal:
        exact = Decimal(repr(float(number)))
    else:
        return None
    if not abs(exact) < YEAR_10000:
        return None
    micros = floor(exact * UNITS[unit])
    return micros if YEAR_0 <= micros < YEAR_10000 else None


def parse_date(text: Any) -> int | None:
    """Days since the epoch of `YYYY-MM-DD`; None for anything else."""
    match = _DATE.fullmatch(text) if type(text) is str else None
    midnight = _micros_of_clock(*match.groups(), "0", "0", "0") if match else None
    return None if midnight is None else midnight // DAY


_SECOND_YEAR, _LAST_YEAR = micros_of(datetime(2, 1, 1)), micros_of(datetime(9999, 1, 1))
