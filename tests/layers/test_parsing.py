"""From a record's bytes to a typed event: what is kept, what fails, and under which name."""

import json
from datetime import datetime

import pytest
from oracle import RawRecord, classify
from oracle.weather import READINGS
from pyspark.sql import SparkSession, types as T

from streaming_lakehouse.domains.weather.events import SCHEMA
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers.parsing import (
    MAX_RECORD_BYTES,
    check_readable,
    record_failures,
    with_parse_failures,
    with_parsed_fields,
)
from streaming_lakehouse.pipeline.fields import columns, field

pytestmark = pytest.mark.usefixtures("few_rows")

READING = {
    "event_id": "a",
    "device": "d",
    "time": "2026-01-01T00:00:00.000Z",
    "temperature_c": 1.5,
    "humidity_pct": None,
    "pressure_hpa": 1000,
    "wind_speed_m_s": 0.0,
    "rain_mm": 0,
}


def reading(**changes: object) -> bytes:
    return json.dumps({**READING, **changes}).encode()


def nested(depth: int) -> bytes:
    return b'{"event_id":"a","x":' + b"[" * depth + b"]" * depth + b"}"


# What cannot be read, and why: (record, names of the failures).
BROKEN = [
    (None, ["record_is_present"]),
    (b"", ["record_is_not_empty"]),
    (b" \r\t", ["record_is_not_empty"]),
    (b'{"event_id":"\xff\xfe"}', ["record_is_utf8"]),
    (b'{"event_id":"\\ud800"}', ["record_is_utf8"]),
    (b'{"event_id":"\\udC00\\ud800"}', ["record_is_utf8"]),
    (b'{"event_id":"\\ud83d\\ud83d\\ude00"}', ["record_is_utf8"]),
    (b'{"event_id":"\\ud83d\\\\\\ude00"}', ["record_is_utf8"]),
    (b'{"x":{"\\uD800":1,"\\uD801":1}}', ["record_is_utf8"]),
    (b'{"event_id":"\\\\\\ud800"}', ["record_is_utf8"]),
    (reading(x="y" * MAX_RECORD_BYTES), ["record_is_at_most_1_mib"]),
    (reading(x="y" * 10_000_000), ["record_is_at_most_1_mib"]),
    (reading()[:-5], ["record_is_one_json_object"]),
    (reading() + b" junk", ["record_is_one_json_object"]),
    (reading() + b" 12", ["record_is_one_json_object"]),
    (reading() + b"}", ["record_is_one_json_object"]),
    (reading() + reading(), ["record_is_one_json_object"]),
    (reading() + b"," + reading(), ["record_is_one_json_object"]),
    (reading() + b"{}", ["record_is_one_json_object"]),
    (reading() + b"]", ["record_is_one_json_object"]),
    (reading() + b"] junk", ["record_is_one_json_object"]),
    (reading() + b",0]", ["record_is_one_json_object"]),
    (b"[" + reading() + b"]", ["record_is_one_json_object"]),
    (b"null", ["record_is_one_json_object"]),
    (b"5", ["record_is_one_json_object"]),
    (b"{'event_id':'a'}", ["record_is_one_json_object"]),
    (b'{"temperature_c":NaN}', ["record_is_one_json_object"]),
    (b'{"x":Infinity}', ["record_is_one_json_object"]),
    (nested(10_000), ["record_is_one_json_object"]),
    (nested(999), ["record_is_one_json_object"]),
    (b'{"x":' + b"1" * 1001 + b"}", ["record_is_one_json_object"]),
    (b'{"' + b"x" * 50_001 + b'":1}', ["record_is_one_json_object"]),
    (b'{"event_id":"a","event_id":"b"}', ["record_has_unique_keys"]),
    (b'{"x":1,"x":2}', ["record_has_unique_keys"]),
    (b'{"x":[{"y":1,"y":2}]}', ["record_has_unique_keys"]),
    (b'{"event_id":"a","rain_mm":null,"rain_mm":null}', ["record_has_unique_keys"]),
    (b'{"event_id":"a","rain_mm":1.5,"rain_mm":null}', ["record_has_unique_keys"]),
    (reading(event_id=5), ["event_id_is_string"]),
    (reading(event_id=5, rain_mm=None), ["event_id_is_string"]),
    (reading(event_id=5, device='"event_id":"5"'), ["event_id_is_string"]),
    (reading(event_id=5, device='"event_id": "5"', x="5"), ["event_id_is_string"]),
    (b'{"event_id":5,"event_id":"5"}', ["record_has_unique_keys"]),
    (b'{"event_id":1e999}', ["event_id_is_string"]),
    (b'{"event_id":-1e999,"x":5}', ["event_id_is_string"]),
    (reading(device={"q": 1}), ["device_is_string"]),
    (reading(device=True), ["device_is_string"]),
    (reading(temperature_c="12.5"), ["temperature_c_is_double"]),
    (reading(temperature_c=True), ["temperature_c_is_double"]),
    (reading(temperature_c=[1]), ["temperature_c_is_double"]),
    (reading(humidity_pct="x", rain_mm="y", zz=1), ["humidity_pct_is_double", "rain_mm_is_double"]),
    (reading(time="12:30"), ["time_is_timestamp"]),
    (reading(time="2026-01-01T00:00:00Z\n"), ["time_is_timestamp"]),
    (reading(time="2026-01-01T00:00:00+18:01"), ["time_is_timestamp"]),
    (reading(time="2026-13-01T00:00:00Z"), ["time_is_timestamp"]),
    (reading(time="2026-01-01T00:00:00"), ["time_is_timestamp"]),
    (reading(time="2026-01-01"), ["time_is_timestamp"]),
    (reading(time=1767225600), ["time_is_timestamp"]),
]


def parsed(spark: SparkSession, value: bytes | None) -> dict[str, object]:
    records = spark.createDataFrame([(None if value is None else bytearray(value),)], "value binary")
    row = with_parse_failures(with_parsed_fields(records, SCHEMA), SCHEMA).first()
    assert row is not None
    return row.asDict()


@pytest.fixture(scope="module")
def diagnoses(spark: SparkSession) -> list[tuple[bool, list[str]]]:
    rows = [(number, None if value is None else bytearray(value)) for number, (value, _) in enumerate(BROKEN)]
    records = spark.createDataFrame(rows, "number int, value binary").coalesce(1)
    found = with_parse_failures(with_parsed_fields(records, SCHEMA), SCHEMA).orderBy("number").collect()
    return [(row["is_well_formed"], row["parse_failures"]) for row in found]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_record_is_named(diagnoses: list[tuple[bool, list[str]]], number: int) -> None:
    """Each way to be broken has its name, and is never taken for a plain record."""
    assert diagnoses[number] == (False, BROKEN[number][1])


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_the_oracle_gives_it_the_same_name(number: int) -> None:
    """It reads JSON with other means."""
    value, failures = BROKEN[number]
    assert classify(RawRecord(None, value, "topic", 0, 0, None), None, READINGS)[1] == failures


def test_a_reading_is_typed_and_plain(spark: SparkSession) -> None:
    """A record of known fields alone is read at once; an integer is a double, a null a null."""
    event = parsed(spark, b'{"event_id":"a","device":"d","time":"2026-01-01T00:00:00Z","temperature_c":1}')
    assert event["is_well_formed"] is True
    assert (event["event_id"], event["temperature_c"], event["rain_mm"]) == ("a", 1.0, None)
    assert event["time"] == datetime(2026, 1, 1)


@pytest.mark.parametrize("colon", [":", ": "])
def test_a_field_that_is_null_is_as_plain_as_one_that_is_missing(spark: SparkSession, colon: str) -> None:
    """Stations send nulls all the time: such a record need not be read again."""
    record = f'{{"event_id"{colon}"a","humidity_pct"{colon}null,"time"{colon}null,"rain_mm"{colon}0}}'
    event = parsed(spark, record.encode())
    assert event["is_well_formed"] is True
    assert (event["event_id"], event["humidity_pct"], event["time"], event["rain_mm"]) == ("a", None, None, 0.0)


@pytest.mark.parametrize("code", ["0100", "5411", "-1e3", "true"])
def test_a_code_of_digits_is_plain(spark: SparkSession, code: str) -> None:
    """Records full of codes, such as those of payments, need not be read again."""
    event = parsed(spark, reading(event_id=code, device=code))
    assert (event["is_well_formed"], event["event_id"], event["device"]) == (True, code, code)


@pytest.mark.parametrize(
    "record",
    [
        {"event_id": "a", "rain_mm": None, "x": 1},
        {"event_id": 'a "rain_mm":null', "x": 1},
        {"event_id": '"rain_mm":null', "device": '"rain_mm": null', "x": 1},
        {"event_id": "true", "x": 1},
        {"event_id": "-5.0e3", "x": 1},
        {"event_id": "[5]", "x": 1},
    ],
)
def test_nothing_hides_a_field_that_the_schema_does_not_know(spark: SparkSession, record: dict[str, object]) -> None:
    """Not a null beside it, nor a string that looks like one, or like a number or an array."""
    event = parsed(spark, json.dumps(record, separators=(",", ":")).encode())
    assert (event["is_well_formed"], event["parse_failures"]) == (False, None)
    assert (event["event_id"], event["_rescued_data"]) == (record["event_id"], '{"x":1}')


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        (reading(event_id='a"b'), {"event_id": 'a"b'}),
        (reading(event_id="5"), {"event_id": "5"}),
        (reading(event_id="{x}"), {"event_id": "{x}"}),
        (reading(event_id="\U0001f600"), {"event_id": "\U0001f600"}),
        (reading(event_id=r"\ud800"), {"event_id": r"\ud800"}),
        (reading(device="caf\u00e9"), {"device": "caf\u00e9"}),
        (reading() + b"\r", {"rain_mm": 0.0}),
        (reading(time="2026-01-01T01:30:00+01:30"), {"time": datetime(2026, 1, 1)}),
        (reading(time="2026-01-01T00:00:00.123456789Z"), {"time": datetime(2026, 1, 1, 0, 0, 0, 123456)}),
        (b"{}", {"event_id": None}),
    ],
)
def test_an_unusual_record_is_read_all_the_same(spark: SparkSession, value: bytes, fields: dict[str, object]) -> None:
    """What is not plain at first sight but sound is not held against the record."""
    event = parsed(spark, value)
    assert event["parse_failures"] is None
    assert event["_rescued_data"] is None
    assert {name: event[name] for name in fields} == fields


@pytest.mark.parametrize("value", [b"[" * 998 + b"]" * 998, b"1" * 1000, b"-0." + b"1" * 1000])
def test_at_the_limit_a_record_is_read(spark: SparkSession, value: bytes) -> None:
    event = parsed(spark, b'{"event_id":"a","x":' + value + b"}")
    assert (event["event_id"], event["parse_failures"]) == ("a", None)


def test_a_field_the_schema_does_not_know_is_rescued_with_its_type(spark: SparkSession) -> None:
    """Nothing that was sent is lost: numbers stay numbers, nested objects whole."""
    event = parsed(spark, reading(firmware="2.1", n={"z": [1, 2.5, "x"]}, ok=True))
    assert event["parse_failures"] is None
    assert json.loads(str(event["_rescued_data"])) == {"firmware": "2.1", "n": {"z": [1, 2.5, "x"]}, "ok": True}


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        ("1" * 38, int("1" * 38)),
        ("1" * 39, float("1" * 39)),
        ("0." + "1" * 38, float("0." + "1" * 38)),
        ("1e308", 1e308),
        ("-1e999", "-Infinity"),
        ("1" * 400, "Infinity"),
    ],
)
def test_a_rescued_number_is_exact_up_to_38_digits(spark: SparkSession, number: str, kept: object) -> None:
    """And the oracle says the same."""
    value = reading(x=0).replace(b'"x": 0', b'"x": ' + number.encode())
    rescued = str(parsed(spark, value)["_rescued_data"])
    assert json.loads(rescued) == {"x": kept}
    row, _ = classify(RawRecord(None, value, "topic", 0, 0, None), None, READINGS)
    assert row is not None
    assert json.loads(str(row["_rescued_data"])) == {"x": kept}


@pytest.mark.parametrize("case_sensitive", ["false", "true"])
def test_names_of_any_spelling_are_read(spark: SparkSession, case_sensitive: str) -> None:
    """Dots, backticks, names that differ in case alone or are those of our envelope, at any depth, in any session."""
    inner = T.StructType([field("lower", T.LongType(), json="a.b"), field("upper", T.LongType(), json="A.B")])
    schema = T.StructType(
        [
            field("inner", T.ArrayType(inner), json="id.orig_h"),
            field("tick", T.StringType(), json="`x`"),
            field("quote", T.StringType(), json='"q"'),
            field("corrupt", T.StringType(), json="_corrupt"),
            field("payload", T.StringType(), json="value"),
            field("Straße", T.LongType()),
        ]
    )
    value = rb'{"id.orig_h":[{"a.b":1,"A.B":2}],"`x`":"t","\"q\"":"q","_corrupt":"c","value":"v","Stra\u00dfe":3}'
    records = spark.createDataFrame([(bytearray(value), 7)], "value binary, offset int")
    before = spark.conf.get("spark.sql.caseSensitive")
    spark.conf.set("spark.sql.caseSensitive", case_sensitive)
    try:
        row = with_parse_failures(with_parsed_fields(records, schema), schema).first()
    finally:
        spark.conf.set("spark.sql.caseSensitive", str(before))
    assert row is not None
    assert (row["parse_failures"], row["_rescued_data"], row["offset"]) == (None, None, 7)
    assert [tuple(each) for each in row["inner"]] == [(1, 2)]
    assert (row["tick"], row["quote"], row["corrupt"], row["payload"], row["Straße"]) == ("t", "q", "c", "v", 3)


NESTED = T.StructType(
    [
        field("event_id", T.StringType(), nullable=False),
        field("amount", T.DecimalType(10, 2)),
        field("address", T.StructType([field("city", T.StringType(), json="City"), field("floor", T.ByteType())])),
        field("items", T.ArrayType(T.StructType([field("sku", T.StringType()), field("at", T.TimestampType())]))),
        field("tags", T.MapType(T.StringType(), T.StringType())),
    ]
)


@pytest.mark.parametrize(
    ("record", "is_quick"),
    [
        ('{"event_id":"a","amount":1.25,"address":{"City":"B","floor":3},"items":[],"tags":{"a":"b"}}', True),
        ('{"event_id": "a", "items": [{"sku": "s", "at": "2026-01-01T00:00:00Z"}, null], "tags": {"k": null}}', True),
        ('{"event_id":"a","amount":1e2}', True),
        ('{"event_id":"x4e-1","amount":1.5}', True),
        ('{"event_id":"a","address":{"City":null}}', False),
        ('{"event_id":"a","tags":{"k":"5"}}', False),
        ('{"event_id":"a","amount":1e-2}', False),
        ('{"event_id":"a\\"","amount":1}', False),
    ],
)
def test_a_nested_record_is_read_at_once_where_nothing_is_doubtful(
    spark: SparkSession, record: str, is_quick: bool
) -> None:
    """One that could hide something is read a second time, and is as good."""
    records = spark.createDataFrame([(bytearray(record.encode()),)], "value binary")
    row = with_parse_failures(with_parsed_fields(records, NESTED), NESTED).first()
    assert row is not None
    assert (row["is_well_formed"], row["parse_failures"], row["_rescued_data"]) == (is_quick, None, None)


def test_the_columns_are_those_of_the_table(spark: SparkSession) -> None:
    """All nullable, with the columns' names at every depth, and without what is said of JSON."""
    records = spark.createDataFrame([], "value binary")
    parsed = with_parse_failures(with_parsed_fields(records, NESTED), NESTED).select(*NESTED.names)
    assert parsed.schema.simpleString() == columns(NESTED).simpleString()
    assert not any(each.metadata for each in parsed.schema)


def test_of_very_many_failures_a_hundred_are_named(spark: SparkSession) -> None:
    """A record of 1 MiB has room for a hundred thousand."""
    schema = T.StructType([field("counts", T.ArrayType(T.IntegerType()))])
    value = b'{"counts":[' + b",".join([b'"x"'] * 10_000) + b"]}"
    records = spark.createDataFrame([(bytearray(value),)], "value binary")
    row = with_parse_failures(with_parsed_fields(records, schema), schema).first()
    assert row is not None
    assert row["parse_failures"] == [f"counts[{n}]_is_int" for n in range(100)]


def test_a_record_can_be_checked_without_a_schema(spark: SparkSession) -> None:
    """For records that no table takes: only what every record must be."""
    values = [b'{"any":{"thing":1}}', b'{"event_id":5}', b"{", b"", None, b"[]", b'{"a":1,"a":2}', b"{}x", b'"\xff"']
    rows = [(number, None if value is None else bytearray(value)) for number, value in enumerate(values)]
    records = spark.createDataFrame(rows, "number int, value binary")
    found = records.select("number", record_failures().alias("failures")).orderBy("number").collect()
    assert [row["failures"] for row in found] == [
        None,
        None,
        ["record_is_one_json_object"],
        ["record_is_not_empty"],
        ["record_is_present"],
        ["record_is_one_json_object"],
        ["record_has_unique_keys"],
        ["record_is_one_json_object"],
        ["record_is_utf8"],
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            [field("at", T.TimestampNTZType())],
            "silver.t: at has the type timestamp_ntz, which cannot be read from JSON",
        ),
        (
            [field("a", T.ArrayType(T.StructType([field("v", T.VariantType())])))],
            "silver.t: a[].v has the type variant",
        ),
        ([field("m", T.MapType(T.IntegerType(), T.StringType()))], "silver.t: the keys of m are of type int"),
        ([field("m", T.MapType(T.StringType(), T.NullType()))], "silver.t: m{} has the type void"),
        ([field("a", T.StringType()), field("A", T.StringType(), json="b")], "the columns 'a' and 'A' have one name"),
        (
            [field("a", T.StringType(), json="x"), field("x", T.StringType())],
            "'a' and 'x' are read from one JSON field",
        ),
        ([field("s", T.StructType([field("b", T.StringType(), json="x")] * 2))], "the columns 's.b' and 's.b'"),
        ([field("id.orig_h", T.StringType())], "'id.orig_h' cannot be a column's name"),
        ([field("s", T.StructType([]))], "silver.t: the struct s has no fields"),
        ([], "silver.t: its schema has no fields"),
    ],
)
def test_a_schema_that_cannot_be_read_is_refused(fields: list[T.StructField], words: str) -> None:
    """Before Spark starts, with the table, the field and its type."""
    with pytest.raises(LakehouseError) as refused:
        check_readable(T.StructType(fields), "silver.t")
    assert words in str(refused.value)


def test_the_types_there_are_are_named() -> None:
    """Whoever is refused learns what to use."""
    with pytest.raises(LakehouseError, match=r"there are: binary, boolean, .*, timestamp, and array, map and struct"):
        check_readable(T.StructType([field("at", T.DayTimeIntervalType())]), "silver.t")
    check_readable(SCHEMA, "silver.t")
    check_readable(NESTED, "silver.t")
