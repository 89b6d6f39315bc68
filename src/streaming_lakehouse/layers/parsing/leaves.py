"""Readers of single values: how each type is read from JSON, and which values are of the type.

| type | JSON values |
|---|---|
| string | strings |
| boolean | true, false |
| byte, short, int, long | numbers without a fraction or an exponent, in the type's range; 1.0 is none |
| float, double | numbers in the type's range, rounded to the nearest that it has |
| decimal(p,s) | numbers of at most 38 digits it holds exactly, as 12.500; with an exponent, as exactly as a double |
| date | strings `yyyy-MM-dd` |
| timestamp | by the field's time format: strings of ISO 8601, or numbers since 1970, which may be in strings |
| binary | strings of base64 (RFC 4648, section 4) with its padding |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column, functions as F, types as T

from streaming_lakehouse.layers.parsing import times
from streaming_lakehouse.pipeline.fields import time_format, zone

_MAX_DIGITS = 38  # of Spark's decimals
_INFINITY = float("inf")
_NUMBERS = ("BIGINT", "DOUBLE", "DECIMAL", "FLOAT")
# As Spark gives the text of a number: one beyond a double's range in quotes.
_NUMBER = r'^(-?\d+(\.\d+)?([eE][+-]?\d+)?|"-?Infinity")\z'


@dataclass(frozen=True)
class Leaf:
    """How values of one type are read.

    `read_as` is the type in from_json, from which `convert` makes the column's value, null where it is none of the
    type; without `convert` they are the same. A variant of one of `json_types` is such a value; one of `checked_types`
    is where `is_valid` says so, given it and its type as `schema_of_variant` writes it. `is_quoted` where JSON has it
    in quotes. `is_sure` is asked of values that were read without a look at their JSON: false where that may have been
    of another type.
    """

    name: str
    read_as: T.DataType
    json_types: tuple[str, ...] = ()
    checked_types: tuple[str, ...] = ()
    is_quoted: bool = False
    convert: Callable[[Column], Column] | None = None
    is_valid: Callable[[Column, Column], Column] | None = None
    is_sure: Callable[[Column], Column] | None = None


def leaf_of(data_type: T.DataType, field: T.StructField) -> Leaf | None:
    """The reader of a type, within `field`; None where the type has none."""
    if isinstance(data_type, T.DecimalType):
        return _decimal(data_type)
    if isinstance(data_type, T.TimestampType):
        return _timestamp(field)
    return _LEAVES.get(type(data_type))


def decimal_scale(data_type: T.DecimalType) -> int:
    """The digits after the point to which from_json reads a decimal: more than it has, so as to see others."""
    return _MAX_DIGITS - (data_type.precision - data_type.scale)


def _decimal(data_type: T.DecimalType) -> Leaf:
    def convert(number: Column) -> Column:
        exact = number.try_cast(data_type)
        return F.when(exact == number, exact)

    def is_valid(variant: Column, found: Column) -> Column:
        exact = variant.try_cast(data_type)
        is_exponential = found == "DOUBLE"  # or of too many digits
        is_short = ~F.col("_text").rlike(f"[0-9.]{{{_MAX_DIGITS + 1}}}")
        scale = F.coalesce(F.regexp_extract(found, r",(\d+)\)", 1).try_cast("int"), F.lit(0))
        is_same = exact.cast("double") == variant.try_cast("double")
        return exact.isNotNull() & F.when(is_exponential, is_same & is_short).otherwise(scale <= data_type.scale)

    read_as = T.DecimalType(_MAX_DIGITS, decimal_scale(data_type))
    return Leaf("decimal", read_as, checked_types=_NUMBERS, convert=convert, is_valid=is_valid)


def _timestamp(field: T.StructField) -> Leaf:
    written, of_zone = time_format(field), zone(field)

    def convert(text: Column) -> Column:
        if written != "iso_8601":
            return times.epoch_timestamp(text, written)
        return times.local_timestamp(text, of_zone) if of_zone else times.zoned_timestamp(text)

    is_iso = written == "iso_8601"
    json_types = ("STRING",) if is_iso else ("STRING", *_NUMBERS)
    return Leaf("timestamp", T.StringType(), (), json_types, is_iso, convert, _of_text(convert))


def _of_text(convert: Callable[[Column], Column]) -> Callable[[Column, Column], Column]:
    return lambda variant, _: convert(variant.try_cast("string")).isNotNull()


def _integer(name: str, read_as: T.DataType, column_type: str) -> Leaf:
    def is_valid(variant: Column, _: Column) -> Column:
        return variant.try_cast(column_type).isNotNull()

    is_wider = read_as.simpleString() != column_type
    convert = (lambda number: number.try_cast(column_type)) if is_wider else None
    return Leaf(name, read_as, checked_types=("BIGINT",), convert=convert, is_valid=is_valid)


def _real(name: str, read_as: T.DataType) -> Leaf:
    def is_finite(number: Column) -> Column:
        return F.abs(number) < _INFINITY

    def is_valid(variant: Column, _: Column) -> Column:
        return is_finite(variant.try_cast("double").cast(read_as))

    # A decimal's 38 digits are in the range of both.
    return Leaf(name, read_as, ("DECIMAL", "BIGINT", "FLOAT"), ("DOUBLE",), is_valid=is_valid, is_sure=is_finite)


def _bytes_of_base64(text: Column) -> Column:
    is_base64 = text.rlike(r"^[A-Za-z0-9+/]*={0,2}\z") & (F.length(text) % 4 == 0)
    return F.when(is_base64, F.unbase64(text))


def _is_surely_string(text: Column) -> Column:
    """False where a string reads like a number, a boolean, an array or an object: Spark gives these as their text."""
    # A pattern takes long, and what begins with a digit, a minus or a quote sorts before the colon: few strings do.
    is_number = (text < ":") & text.rlike(_NUMBER)
    return ~(is_number | text.isin("true", "false") | text.startswith("[") | text.startswith("{"))


_STRING = Leaf("string", T.StringType(), ("STRING",), is_quoted=True, is_sure=_is_surely_string)
_BINARY = Leaf(
    "binary",
    T.StringType(),
    checked_types=("STRING",),
    is_quoted=True,
    convert=_bytes_of_base64,
    is_valid=_of_text(_bytes_of_base64),
    is_sure=lambda value: _is_surely_string(F.base64(value)),
)
_DATE = Leaf("date", T.StringType(), (), ("STRING",), True, times.date, _of_text(times.date))
_LEAVES: dict[type[T.DataType], Leaf] = {
    T.StringType: _STRING,
    T.BooleanType: Leaf("boolean", T.BooleanType(), ("BOOLEAN",)),
    # Jackson takes a byte to be one from -128 to 255.
    T.ByteType: _integer("byte", T.ShortType(), "tinyint"),
    T.ShortType: _integer("short", T.ShortType(), "smallint"),
    T.IntegerType: _integer("int", T.IntegerType(), "int"),
    T.LongType: Leaf("long", T.LongType(), ("BIGINT",)),
    T.FloatType: _real("float", T.FloatType()),
    T.DoubleType: _real("double", T.DoubleType()),
    T.DateType: _DATE,
    T.BinaryType: _BINARY,
}
LEAF_NAMES = (*(leaf.name for leaf in _LEAVES.values()), "decimal", "timestamp")
