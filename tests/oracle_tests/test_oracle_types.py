"""Fields of every type: which JSON is of it, what it becomes, and under which name anything else fails."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from oracle import RawRecord, classify
from oracle.domain import Row, Silver
from oracle.json_types import (
    BINARY,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    FLOAT,
    INTEGER,
    LONG,
    SHORT,
    STRING,
    TIMESTAMP,
    decimal,
    timestamp,
)
from oracle.json_values import Array, Field, Map, Struct, Type
from oracle.moments import DAY, HOUR, SECOND

PRICE = decimal(5, 2)
BERLIN = timestamp(zone="Europe/Berlin")
SECONDS, MILLIS, MICROS = (timestamp(f"epoch_{unit}") for unit in ("seconds", "millis", "micros"))
ITEM = Struct((Field("price", PRICE, required=True), Field("note", STRING, json="Note")))


def read(value: str, *fields: Field) -> tuple[Row | None, list[str]]:
    """What becomes of a record that is valid but for `value`, the text of its JSON after the first fields."""
    named = (Field("event_id", STRING), Field("time", TIMESTAMP), *fields)
    silver = Silver("events", bronze="events", fields=named, watermark=HOUR)
    record = f'{{"event_id":"a","time":"2026-01-01T00:00:00Z",{value}}}'.encode()
    return classify(RawRecord(None, record, "topic", 0, 0, None), None, silver)


GOOD: list[tuple[Type, str, Any]] = [
    (STRING, '""', ""),
    (STRING, r'"\u0000\ud83d\ude00"', "\0\U0001f600"),
    (BOOLEAN, "true", True),
    (BOOLEAN, "false", False),
    (BYTE, "-128", -128),
    (BYTE, "127", 127),
    (SHORT, "-32768", -32768),
    (SHORT, "32767", 32767),
    (INTEGER, "-2147483648", -(2**31)),
    (INTEGER, "2147483647", 2**31 - 1),
    (LONG, "-9223372036854775808", -(2**63)),
    (LONG, "9223372036854775807", 2**63 - 1),
    (FLOAT, "0.1", 0.10000000149011612),
    (FLOAT, "16777217", 16777216.0),
    (FLOAT, "1.0000000596046447754", 1.0000001192092896),  # the nearest double is half-way to 1
    (FLOAT, "1.00000005960464477539", 1.0),
    (FLOAT, "1.000000178813934326171875", 1.000000238418579),  # half-way itself: to the even one
    (FLOAT, "3.4028235e38", 3.4028234663852886e38),
    (DOUBLE, "1", 1.0),
    (DOUBLE, "-1.5e3", -1500.0),
    (DOUBLE, "1e308", 1e308),
    (DOUBLE, "1e-999", 0.0),
    (PRICE, "12.5", Decimal("12.50")),
    (PRICE, "12.500", Decimal("12.50")),
    (PRICE, "-999.99", Decimal("-999.99")),
    (PRICE, "1e2", Decimal("100.00")),
    (PRICE, "0", Decimal("0.00")),
    (decimal(38, 0), "9" * 38, Decimal("9" * 38)),
    (decimal(38, 38), "-0." + "1" * 38, Decimal("-0." + "1" * 38)),
    (DATE, '"1970-01-02"', 1),
    (DATE, '"2024-02-29"', 19_782),
    (DATE, '"0000-01-01"', -719_528),
    (DATE, '"9999-12-31"', 2_932_896),
    (TIMESTAMP, '"1970-01-01T01:00:00.0000019+01:00"', 1),
    (BERLIN, '"2026-01-01T01:00:00"', 1_767_225_600 * SECOND),
    (BERLIN, '"2026-07-01 02:00:00.5"', 1_782_864_000 * SECOND + 500_000),
    (BERLIN, '"2026-01-01 00:00:00Z"', 1_767_225_600 * SECOND),
    (BERLIN, '"2026-10-25T02:30:00"', 1_792_888_200 * SECOND),  # the first of both, at +02:00
    (BERLIN, '"0000-01-01T00:53:28"', -719_528 * DAY),  # local mean time
    (timestamp(zone="America/New_York"), '"9999-12-31T23:00:00"', 253_402_300_800 * SECOND + 4 * HOUR),
    (SECONDS, "1767225600", 1_767_225_600 * SECOND),
    (SECONDS, "1767225600.25", 1_767_225_600 * SECOND + 250_000),
    (SECONDS, "-0.0000015", -2),
    (SECONDS, "1.7672256e9", 1_767_225_600 * SECOND),
    (SECONDS, '"1767225600.0000019"', 1_767_225_600 * SECOND + 1),
    (SECONDS, "253402300799", 253_402_300_799 * SECOND),
    (SECONDS, "-62167219200", -719_528 * DAY),
    (MILLIS, "1767225600001", 1_767_225_600 * SECOND + 1_000),
    (MICROS, "1", 1),
    (MICROS, "1.9", 1),
    (BINARY, '""', b""),
    (BINARY, '"AP8="', b"\x00\xff"),
    (BINARY, '"+/+/"', b"\xfb\xff\xbf"),
    (Array(LONG), "[]", []),
    (Array(LONG), "[1, null]", [1, None]),
    (Array(Array(DATE)), '[["1970-01-01"], []]', [[0], []]),
    (Map(DOUBLE), '{"a.b": 1, "": null}', {"a.b": 1.0, "": None}),
    (ITEM, '{"Note": "x", "price": 1}', {"price": Decimal("1.00"), "note": "x"}),
    (Array(ITEM), '[{"price": 2.5}]', [{"price": Decimal("2.50"), "note": None}]),
]
BAD: list[tuple[Type, str, list[str]]] = [
    (STRING, "1", ["x_is_string"]),
    (STRING, "{}", ["x_is_string"]),
    (BOOLEAN, '"true"', ["x_is_boolean"]),
    (BOOLEAN, "1", ["x_is_boolean"]),
    (BYTE, "128", ["x_is_byte"]),
    (BYTE, "-129", ["x_is_byte"]),
    (SHORT, "32768", ["x_is_short"]),
    (INTEGER, "2147483648", ["x_is_int"]),
    (INTEGER, "1.0", ["x_is_int"]),
    (INTEGER, "1e2", ["x_is_int"]),
    (INTEGER, '"1"', ["x_is_int"]),
    (INTEGER, "true", ["x_is_int"]),
    (LONG, "9223372036854775808", ["x_is_long"]),
    (FLOAT, "3.5e38", ["x_is_float"]),
    (FLOAT, '"1"', ["x_is_float"]),
    (DOUBLE, "1e309", ["x_is_double"]),
    (DOUBLE, "-" + "9" * 400, ["x_is_double"]),
    (DOUBLE, "1e99999999999999999999", ["x_is_double"]),
    (DOUBLE, '"NaN"', ["x_is_double"]),
    (PRICE, "1000", ["x_is_decimal"]),
    (PRICE, "999.995", ["x_is_decimal"]),
    (PRICE, "0.001", ["x_is_decimal"]),
    (PRICE, '"1.00"', ["x_is_decimal"]),
    (decimal(38, 0), "1" + "0" * 38, ["x_is_decimal"]),
    (DATE, '"2023-02-29"', ["x_is_date"]),
    (DATE, '"2023-2-9"', ["x_is_date"]),
    (DATE, '"2023-02-09T00:00:00Z"', ["x_is_date"]),
    (DATE, "19782", ["x_is_date"]),
    (TIMESTAMP, '"2026-01-01 00:00:00"', ["x_is_timestamp"]),
    (TIMESTAMP, '"2026-01-01T00:00:00"', ["x_is_timestamp"]),
    (TIMESTAMP, "1767225600", ["x_is_timestamp"]),
    (BERLIN, '"2026-03-29T02:30:00"', ["x_is_timestamp"]),  # clocks skip it
    (BERLIN, "1767225600", ["x_is_timestamp"]),
    (SECONDS, '"2026-01-01T00:00:00Z"', ["x_is_timestamp"]),
    (SECONDS, "253402300800", ["x_is_timestamp"]),
    (SECONDS, "-62167219201", ["x_is_timestamp"]),
    (SECONDS, "1e400", ["x_is_timestamp"]),
    (SECONDS, '" 1"', ["x_is_timestamp"]),
    (SECONDS, "true", ["x_is_timestamp"]),
    (BINARY, '"AP8"', ["x_is_binary"]),
    (BINARY, '"AP8=AP8="', ["x_is_binary"]),
    (BINARY, '"A==="', ["x_is_binary"]),
    (BINARY, '"_-_-"', ["x_is_binary"]),
    (BINARY, '"AP 8="', ["x_is_binary"]),
    (BINARY, "7", ["x_is_binary"]),
    (Array(LONG), "{}", ["x_is_array"]),
    (Array(LONG), '[1, "2", 3.5]', ["x[1]_is_long", "x[2]_is_long"]),
    (Array(LONG, required=True), "[1, null]", ["x[1]_is_present"]),
    (Array(Array(DATE)), '[[], ["today"]]', ["x[1][0]_is_date"]),
    (Map(DOUBLE), "[]", ["x_is_map"]),
    (Map(DOUBLE, required=True), '{"a b": "1", "c": null}', ["x{a b}_is_double", "x{c}_is_present"]),
    (ITEM, "[]", ["x_is_struct"]),
    (ITEM, "{}", ["x.price_is_present"]),
    (ITEM, '{"price": null, "Note": 1}', ["x.price_is_present", "x.note_is_string"]),
    (Array(ITEM), '[{"price": 1}, null, {"price": "1"}]', ["x[2].price_is_decimal"]),
    (Map(Array(ITEM)), '{"k": [{"price": 1.005}]}', ["x{k}[0].price_is_decimal"]),
]


@pytest.mark.parametrize(("type_", "value", "expected"), GOOD, ids=[f"{t.delta} {v[:40]}" for t, v, _ in GOOD])
def test_a_value_of_its_type_is_read(type_: Type, value: str, expected: Any) -> None:
    """Exactly, or rounded to what the type has."""
    row, failures = read(f'"x":{value}', Field("x", type_, required=True))
    assert failures == []
    assert row is not None
    assert (row["x"], type(row["x"]), row["_rescued_data"]) == (expected, type(expected), None)


@pytest.mark.parametrize(("type_", "value", "expected"), BAD, ids=[f"{t.delta} {v[:40]}" for t, v, _ in BAD])
def test_any_other_value_fails_with_its_path(type_: Type, value: str, expected: list[str]) -> None:
    """All that fails is named, in the order of the schema and of the elements."""
    assert read(f'"x":{value}', Field("x", type_)) == (None, expected)


def test_a_required_field_must_have_a_value_and_another_may_be_null() -> None:
    """Of each type alike; missing is as null."""
    for type_ in (STRING, LONG, PRICE, Array(LONG), Map(LONG), ITEM):
        for value in ('"x":null', '"y":0'):
            assert read(value, Field("x", type_, required=True)) == (None, ["x_is_present"])
            row, failures = read(value, Field("x", type_))
            assert (row is not None and row["x"], failures) == (None, [])


def test_a_column_is_read_from_the_json_name() -> None:
    """Dotted, and in another case than the field beside it; a failure has the column's name."""
    fields = (Field("host", STRING, json="id.orig_h"), Field("a", LONG), Field("upper", LONG, json="A"))
    row, _ = read('"id.orig_h":"h","a":1,"A":2,"host":"?"', *fields)
    assert row is not None
    assert (row["host"], row["a"], row["upper"], row["_rescued_data"]) == ("h", 1, 2, '{"host": "?"}')
    assert read('"id.orig_h":1', *fields)[1] == ["host_is_string"]


def test_unknown_fields_are_rescued_at_any_depth() -> None:
    """In the record's own shape, with nulls for elements in which all is known."""
    fields = (Field("items", Array(ITEM)), Field("by_name", Map(ITEM)), Field("one", ITEM, json="One"))
    known = '{"price":1}'
    row, failures = read(
        f'"items":[{known},null,{{"price":1,"x":1.50}}],"by_name":{{"k":{{"price":1,"note":null}},"l":{known}}},'
        f'"One":{{"price":2,"Note":"n","y":{{"z":[]}}}},"more":null',
        *fields,
    )
    assert failures == []
    assert row is not None
    assert json.loads(row["_rescued_data"]) == {
        "items": [None, None, {"x": 1.5}],
        "by_name": {"k": {"note": None}},
        "One": {"y": {"z": []}},
        "more": None,
    }
    row, _ = read(f'"items":[{known}],"by_name":{{"l":{known}}},"One":null', *fields)
    assert row is not None
    assert row["_rescued_data"] is None


def test_of_a_nested_record_100_failures_are_named() -> None:
    """A record of 1 MiB could have half a million."""
    _, failures = read(f'"x":[{",".join(["true"] * 101)}]', Field("x", Array(LONG)))
    assert failures == [f"x[{number}]_is_long" for number in range(100)]
