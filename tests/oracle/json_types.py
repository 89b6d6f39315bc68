"""The types of single values: which JSON values are of one, and what they are in Python.

Timestamps are microseconds and dates days since 1970, so that no year is out of reach; a number is exact or of its
type's precision, and never out of its range.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from fractions import Fraction
from functools import partial
from typing import Any

import pyarrow as pa

from .json_text import to_double
from .moments import parse_date, parse_epoch, parse_time


@dataclass(frozen=True)
class Scalar:
    """`delta` is the type's name in a Delta schema; `read_value` gives None for a JSON value of another type."""

    name: str
    delta: str
    arrow: pa.DataType
    read_value: Callable[[Any], Any]

    def read(self, value: Any, path: str, failures: list[str]) -> Any:
        found = self.read_value(value)
        if found is None:
            failures.append(f"{path}_is_{self.name}")
        return found

    def unknown(self, value: Any) -> None:
        """Nothing within a single value is unknown."""


def _string(value: Any) -> str | None:
    return value if type(value) is str else None


def _boolean(value: Any) -> bool | None:
    return value if type(value) is bool else None


def _integer(value: Any, bits: int) -> int | None:
    """1.0 is none: a number without a fraction and an exponent."""
    return value if type(value) is int and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) else None


def _double(value: Any) -> float | None:
    """The nearest double."""
    double = to_double(value) if type(value) in (int, Decimal, float) else math.inf
    return None if math.isinf(double) else double


def _float(value: Any) -> float | None:
    """The nearest float of 32 bits."""
    double = _double(value)
    try:
        if double is None or (near := _as_float(double)) == double:
            return double
        # Where the nearest double is half-way between two floats, it is the number itself that says which is nearer.
        exact, other = Fraction(value), 2 * double - near
        is_nearer = _as_float(other) == other and abs(exact - Fraction(other)) < abs(exact - Fraction(near))
        return other if is_nearer else near
    except OverflowError:
        return None


def _as_float(double: float) -> float:
    found: float = struct.unpack("<f", struct.pack("<f", double))[0]
    return found


def _decimal(value: Any, precision: int, scale: int) -> Decimal | None:
    """Exact or not at all: neither rounded nor cut off."""
    if type(value) not in (int, Decimal):
        return None
    exact = Context(prec=precision, traps=[Inexact, InvalidOperation])
    try:
        return Decimal(value).quantize(Decimal(1).scaleb(-scale), context=exact)
    except (Inexact, InvalidOperation):
        return None


def _binary(value: Any) -> bytes | None:
    """Base64 of RFC 4648, section 4, with its padding."""
    if type(value) is not str or len(value) % 4:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


STRING = Scalar("string", "string", pa.string(), _string)
BOOLEAN = Scalar("boolean", "boolean", pa.bool_(), _boolean)
BYTE = Scalar("byte", "byte", pa.int8(), partial(_integer, bits=8))
SHORT = Scalar("short", "short", pa.int16(), partial(_integer, bits=16))
INTEGER = Scalar("int", "integer", pa.int32(), partial(_integer, bits=32))
LONG = Scalar("long", "long", pa.int64(), partial(_integer, bits=64))
FLOAT = Scalar("float", "float", pa.float32(), _float)
DOUBLE = Scalar("double", "double", pa.float64(), _double)
DATE = Scalar("date", "date", pa.int32(), parse_date)
BINARY = Scalar("binary", "binary", pa.binary(), _binary)


def decimal(precision: int, scale: int) -> Scalar:
    read = partial(_decimal, precision=precision, scale=scale)
    return Scalar("decimal", f"decimal({precision},{scale})", pa.decimal128(precision, scale), read)


def timestamp(written: str = "iso_8601", zone: str | None = None) -> Scalar:
    """`written` as ISO 8601 or as a number of `epoch_seconds`, `epoch_millis` or `epoch_micros`.

    `zone`: that of an ISO 8601 time without one, which otherwise is none.
    """
    read = partial(parse_time, zone=zone) if written == "iso_8601" else partial(parse_epoch, unit=written)
    return Scalar("timestamp", "timestamp", pa.int64(), read)


TIMESTAMP = timestamp()
