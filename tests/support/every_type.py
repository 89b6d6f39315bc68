"""A schema with a field of every type, and records written by hand, each with what must become of it."""

from __future__ import annotations

from dataclasses import dataclass, field as dataclass_field
from typing import Any

from pyspark.sql import types as T

from streaming_lakehouse.pipeline.fields import field

STRING, INT, DOUBLE, DATE, TIMESTAMP = T.StringType(), T.IntegerType(), T.DoubleType(), T.DateType(), T.TimestampType()

ADDRESS = T.StructType(
    [field("city", STRING, json="City", nullable=False), field("zip", STRING), field("since", DATE, json="id.since")]
)
ITEM = T.StructType(
    [
        field("sku", STRING, nullable=False),
        field("price", T.DecimalType(8, 2), json="unitPrice"),
        field("quantity", T.ShortType(), nullable=False),
        field("attributes", T.MapType(STRING, T.ArrayType(DOUBLE, containsNull=False))),
    ]
)
STATION = T.StructType(
    [field("lat", DOUBLE, nullable=False), field("seen_at", TIMESTAMP, json="seen", time="epoch_seconds")]
)

SCHEMA = T.StructType(
    [
        field("event_id", STRING, json="eventId", nullable=False),
        field("at", TIMESTAMP, json="@timestamp", nullable=False),
        field("note", STRING),
        field("is_gift", T.BooleanType(), json="isGift"),
        field("tiny", T.ByteType()),
        field("small", T.ShortType()),
        field("count", INT),
        field("total", T.LongType()),
        field("ratio", T.FloatType()),
        field("score", DOUBLE),
        field("amount", T.DecimalType(10, 2)),
        field("fine", T.DecimalType(38, 18), json="fine.value"),
        field("day", DATE),
        field("local_at", TIMESTAMP, json="localTime", zone="Europe/Berlin"),
        field("seconds_at", TIMESTAMP, json="ts", time="epoch_seconds"),
        field("millis_at", TIMESTAMP, json="offset", time="epoch_millis"),
        field("micros_at", TIMESTAMP, json="partition", time="epoch_micros"),
        field("payload", T.BinaryType(), json="value"),
        field("names", T.ArrayType(STRING)),
        field("numbers", T.ArrayType(INT, containsNull=False)),
        field("times", T.ArrayType(TIMESTAMP), time="epoch_millis"),
        field("tags", T.MapType(STRING, INT)),
        field("labels", T.MapType(STRING, STRING, valueContainsNull=False), json="key"),
        field("address", ADDRESS),
        field("items", T.ArrayType(ITEM, containsNull=False)),
        field("grid", T.ArrayType(T.ArrayType(INT))),
        field("stations", T.MapType(STRING, STATION)),
        field("lower_id", INT, json="id"),
        field("upper_id", INT, json="ID"),
        field("größe", DOUBLE),
    ]
)


@dataclass(frozen=True)
class Case:
    """A record and what must become of it: a row and unknown fields, or the reasons why it is none.

    `row` has the columns that are not null; a timestamp as ISO 8601 in UTC with microseconds, a date as yyyy-MM-dd, a
    decimal as its digits, binary as base64.
    """

    value: bytes | None
    row: dict[str, Any] = dataclass_field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    rescued: dict[str, Any] | None = None


_START = '{"eventId":"e-1","@timestamp":"2026-01-01T00:00:00Z"'
_ROW = {"event_id": "e-1", "at": "2026-01-01T00:00:00.000000Z"}

START = _START.encode()  # of most records


def good(fields: str = "", /, rescued: dict[str, Any] | None = None, **row: Any) -> Case:
    """A record of a key, a time and `fields`, and what these become."""
    return Case((_START + ("," if fields else "") + fields + "}").encode(), _ROW | row, (), rescued)


def bad(fields: str, *reasons: str) -> Case:
    return Case((_START + "," + fields + "}").encode(), {}, reasons)


def raw(value: str | bytes | None, *reasons: str) -> Case:
    """A record that has not even a key and a time."""
    return Case(value.encode() if isinstance(value, str) else value, {}, reasons)


WHOLE = [
    raw(None, "record_is_present"),
    raw("", "record_is_not_empty"),
    raw("null", "record_is_one_json_object"),
    raw("[" + _START + "}]", "record_is_one_json_object"),
    raw(_START + '}{"note":"b"}', "record_is_one_json_object"),
    raw(_START + ',"address":{"City":"B"}', "record_is_one_json_object"),
    raw(_START + ',"address":{"City":"B"}}}', "record_is_one_json_object"),
    raw(_START + ',"address":{"City":"B"}} x}', "record_is_one_json_object"),
    raw(_START + ',"tags":{"a":1,}}', "record_is_one_json_object"),
    raw(_START + ',"numbers":[1,,2]}', "record_is_one_json_object"),
    raw(_START + ',"numbers":[1,2}', "record_is_one_json_object"),
    raw(_START + ',"count":01}', "record_is_one_json_object"),
    raw(_START + ',"count":+1}', "record_is_one_json_object"),
    raw(_START + ',"score":NaN}', "record_is_one_json_object"),
    raw(_START + ',"score":.5}', "record_is_one_json_object"),
    raw(_START + ',"address":{\'City\':"B"}}', "record_is_one_json_object"),
    raw((_START + ',"note":"').encode() + b'\xc3"}', "record_is_utf8"),
    raw(_START + ',"address":{"City":"\\udfff"}}', "record_is_utf8"),
    raw(_START + ',"address":{"City":"A","City":"B"}}', "record_has_unique_keys"),
    raw(_START + ',"address":{"City":"A","City":null}}', "record_has_unique_keys"),
    raw(_START + ',"tags":{"a":1,"a":1}}', "record_has_unique_keys"),
    raw(_START + ',"tags":{"a":null,"a":null}}', "record_has_unique_keys"),
    raw(_START + ',"items":[{"sku":"a","quantity":1,"quantity":1}]}', "record_has_unique_keys"),
    raw(_START + ',"note":"a","\\u006eote":"b"}', "record_has_unique_keys"),
]

REQUIRED = [
    good(),
    raw("{}", "event_id_is_present", "at_is_present"),
    raw('{"eventId":null,"@timestamp":null}', "event_id_is_present", "at_is_present"),
    raw('{"eventid":"e-1","@timestamp":"2026-01-01T00:00:00Z"}', "event_id_is_present"),
    raw('{"event_id":"e-1","@timestamp":"2026-01-01T00:00:00Z"}', "event_id_is_present"),
    raw('{"eventId":"e-1","at":"2026-01-01T00:00:00Z"}', "at_is_present"),
    raw('{"eventId":1,"@timestamp":"2026-01-01"}', "event_id_is_string", "at_is_timestamp"),
    raw('{"eventId":"e-1","@timestamp":"2026-01-01 00:00:00"}', "at_is_timestamp"),
    raw('{"eventId":"e-1","@timestamp":1767225600}', "at_is_timestamp"),
    Case(b'{"event\\u0049d":"e-1","@timestamp":"2026-01-01T01:00:00+01:00"}', _ROW),
    Case(b' { "eventId" : "e-1" , "@timestamp" : "2026-01-01T00:00:00Z" } ', _ROW),
    Case(b'{"eventId": "", "@timestamp": "2026-01-01T00:00:00Z"}', _ROW | {"event_id": ""}),
]

STRINGS = [
    good('"note":""', note=""),
    good('"note":null'),
    good('"note": null'),
    good('"note":"null"', note="null"),
    good('"note":"5"', note="5"),
    good('"note":"true"', note="true"),
    good('"note":"{\\"a\\":1}"', note='{"a":1}'),
    good('"note":"[]"', note="[]"),
    good('"note":"}"', note="}"),
    good('"note":"a\\nb\\u0000"', note="a\nb\0"),
    good('"note":"\\ud83d\\ude00 größer 日本"', note="\U0001f600 größer 日本"),
    bad('"note":5', "note_is_string"),
    bad('"note":1e400', "note_is_string"),
    bad('"note":true', "note_is_string"),
    bad('"note":{"a":1}', "note_is_string"),
    bad('"note":[]', "note_is_string"),
]

BOOLEANS = [
    good('"isGift":true', is_gift=True),
    good('"isGift":false', is_gift=False),
    good('"isGift":null'),
    bad('"isGift":"true"', "is_gift_is_boolean"),
    bad('"isGift":1', "is_gift_is_boolean"),
    bad('"isGift":{}', "is_gift_is_boolean"),
]

INTEGERS = [
    good('"tiny":-128', tiny=-128),
    good('"tiny":127', tiny=127),
    bad('"tiny":-129', "tiny_is_byte"),
    bad('"tiny":128', "tiny_is_byte"),
    bad('"tiny":255', "tiny_is_byte"),
    bad('"tiny":256', "tiny_is_byte"),
    bad('"tiny":300', "tiny_is_byte"),
    bad('"tiny":1.0', "tiny_is_byte"),
    bad('"tiny":"1"', "tiny_is_byte"),
    good('"small":-32768', small=-32768),
    good('"small":32767', small=32767),
    bad('"small":-32769', "small_is_short"),
    bad('"small":32768', "small_is_short"),
    bad('"small":[1]', "small_is_short"),
    good('"count":-2147483648', count=-2147483648),
    good('"count":2147483647', count=2147483647),
    good('"count":-0', count=0),
    bad('"count":-2147483649', "count_is_int"),
    bad('"count":2147483648', "count_is_int"),
    bad('"count":1.0', "count_is_int"),
    bad('"count":1.5', "count_is_int"),
    bad('"count":1e2', "count_is_int"),
    bad('"count":1e400', "count_is_int"),
    bad('"count":true', "count_is_int"),
    good('"total":-9223372036854775808', total=-9223372036854775808),
    good('"total":9223372036854775807', total=9223372036854775807),
    bad('"total":-9223372036854775809', "total_is_long"),
    bad('"total":9223372036854775808', "total_is_long"),
    bad('"total":1E2', "total_is_long"),
    bad('"total":123456789012345678901234567890123456789012', "total_is_long"),
    bad('"tiny":300,"small":"x","count":null,"total":1.0', "tiny_is_byte", "small_is_short", "total_is_long"),
]

REALS = [
    good('"ratio":0.5', ratio=0.5),
    good('"ratio":1', ratio=1.0),
    good('"ratio":16777217', ratio=16777216.0),
    good('"ratio":3.4028234663852886e38', ratio=3.4028235e38),
    good('"ratio":1e-60', ratio=0.0),
    bad('"ratio":3.5e38', "ratio_is_float"),
    bad('"ratio":-1e39', "ratio_is_float"),
    bad('"ratio":1e400', "ratio_is_float"),
    bad('"ratio":"0.5"', "ratio_is_float"),
    good('"score":0.1', score=0.1),
    good('"score":-0.0', score=-0.0),
    good('"score":1.7976931348623157e308', score=1.7976931348623157e308),
    good('"score":5e-324', score=5e-324),
    good('"score":1e-400', score=0.0),
    good('"score":12345678901234567890', score=12345678901234567890.0),
    good('"score":12345678901234567890123456789012345678901234567890', score=1.2345678901234567e49),
    bad('"score":1e309', "score_is_double"),
    bad('"score":-1e400', "score_is_double"),
    bad('"score":"Infinity"', "score_is_double"),
    bad('"score":"1.5"', "score_is_double"),
    bad('"score":false', "score_is_double"),
    good('"größe":1.85', größe=1.85),
    bad('"größe":"groß"', "größe_is_double"),
]

DECIMALS = [
    good('"amount":12.5', amount="12.50"),
    good('"amount":12.500', amount="12.50"),
    good('"amount":12', amount="12.00"),
    good('"amount":0', amount="0.00"),
    good('"amount":-0.01', amount="-0.01"),
    good('"amount":99999999.99', amount="99999999.99"),
    good('"amount":-99999999.99', amount="-99999999.99"),
    good('"amount":1e2', amount="100.00"),
    good('"amount":1.5E-1', amount="0.15"),
    good('"amount":0E-8', amount="0.00"),
    good('"amount":0.010000000000000000000000000000000000', amount="0.01"),
    bad('"amount":12.345', "amount_is_decimal"),
    bad('"amount":0.001', "amount_is_decimal"),
    bad('"amount":1e-3', "amount_is_decimal"),
    bad('"amount":4e-31', "amount_is_decimal"),
    bad('"amount":100000000', "amount_is_decimal"),
    bad('"amount":99999999.995', "amount_is_decimal"),
    bad('"amount":1e400', "amount_is_decimal"),
    bad('"amount":1.0000000000000000000000000000000001', "amount_is_decimal"),
    bad('"amount":1.00000000000000000000000000000000000000001', "amount_is_decimal"),
    bad('"amount":"12.50"', "amount_is_decimal"),
    bad('"amount":true', "amount_is_decimal"),
    good('"fine.value":0.123456789012345678', fine="0.123456789012345678"),
    good('"fine.value":12345678901234567890.123456789012345678', fine="12345678901234567890.123456789012345678"),
    good('"fine.value":-1e-18', fine="-0.000000000000000001"),
    good('"fine.value":1e19', fine="10000000000000000000.000000000000000000"),
    bad('"fine.value":0.1234567890123456789', "fine_is_decimal"),
    bad('"fine.value":1e-19', "fine_is_decimal"),
    bad('"fine.value":123456789012345678901', "fine_is_decimal"),
    bad('"fine.value":12345678901234567890.1234567890123456789', "fine_is_decimal"),
    good('"fine":{"value":1}', rescued={"fine": {"value": 1}}),
    good(
        '"amount":1.25,"x":0.10000000000000000000000000000000001',
        amount="1.25",
        rescued={"x": 0.1},
    ),
]

DATES = [
    good('"day":"2026-01-31"', day="2026-01-31"),
    good('"day":"2024-02-29"', day="2024-02-29"),
    good('"day":"2000-02-29"', day="2000-02-29"),
    good('"day":"0000-02-29"', day="0000-02-29"),
    good('"day":"0001-01-01"', day="0001-01-01"),
    good('"day":"1582-10-10"', day="1582-10-10"),
    good('"day":"9999-12-31"', day="9999-12-31"),
    bad('"day":"2023-02-29"', "day_is_date"),
    bad('"day":"1900-02-29"', "day_is_date"),
    bad('"day":"2026-04-31"', "day_is_date"),
    bad('"day":"2026-00-10"', "day_is_date"),
    bad('"day":"2026-1-1"', "day_is_date"),
    bad('"day":"10000-01-01"', "day_is_date"),
    bad('"day":"-0001-01-01"', "day_is_date"),
    bad('"day":"20260101"', "day_is_date"),
    bad('"day":"2026-01-01T00:00:00Z"', "day_is_date"),
    bad('"day":"2026-01-01\\n"', "day_is_date"),
    bad('"day":" 2026-01-01"', "day_is_date"),
    bad('"day":"٢٠٢٦-٠١-٠١"', "day_is_date"),
    bad('"day":""', "day_is_date"),
    bad('"day":20454', "day_is_date"),
]

# Berlin's clocks: 2 h is followed by 3 h on 29 March 2026, and 3 h by 2 h on 25 October.
LOCAL_TIMES = [
    good('"localTime":"2026-01-01T00:00:00"', local_at="2025-12-31T23:00:00.000000Z"),
    good('"localTime":"2026-07-01 12:00:00"', local_at="2026-07-01T10:00:00.000000Z"),
    good('"localTime":"2026-07-01 12:00:00.1234567"', local_at="2026-07-01T10:00:00.123456Z"),
    good('"localTime":"2026-07-01T12:00:00+05:30"', local_at="2026-07-01T06:30:00.000000Z"),
    good('"localTime":"2026-07-01 12:00:00Z"', local_at="2026-07-01T12:00:00.000000Z"),
    good('"localTime":"2026-03-29T01:59:59.999999"', local_at="2026-03-29T00:59:59.999999Z"),
    good('"localTime":"2026-03-29T03:00:00"', local_at="2026-03-29T01:00:00.000000Z"),
    good('"localTime":"2026-03-29T02:30:00+01:00"', local_at="2026-03-29T01:30:00.000000Z"),
    good('"localTime":"2026-10-25T02:30:00"', local_at="2026-10-25T00:30:00.000000Z"),
    good('"localTime":"2026-10-25T03:00:00"', local_at="2026-10-25T02:00:00.000000Z"),
    good('"localTime":"9999-12-31T23:59:59"', local_at="9999-12-31T22:59:59.000000Z"),
    bad('"localTime":"2026-03-29T02:00:00"', "local_at_is_timestamp"),
    bad('"localTime":"2026-03-29 02:59:59.999999"', "local_at_is_timestamp"),
    bad('"localTime":"2026-01-01T24:00:00"', "local_at_is_timestamp"),
    bad('"localTime":"2026-06-30T23:59:60"', "local_at_is_timestamp"),
    bad('"localTime":"2026-02-30T00:00:00"', "local_at_is_timestamp"),
    bad('"localTime":"2026-01-01T00:00"', "local_at_is_timestamp"),
    bad('"localTime":"2026-01-01"', "local_at_is_timestamp"),
    bad('"localTime":"2026-01-01  00:00:00"', "local_at_is_timestamp"),
    bad('"localTime":"2026-01-01T00:00:00 Europe/Berlin"', "local_at_is_timestamp"),
    bad('"localTime":1767225600', "local_at_is_timestamp"),
]

EPOCHS = [
    good('"ts":0', seconds_at="1970-01-01T00:00:00.000000Z"),
    good('"ts":1767225600', seconds_at="2026-01-01T00:00:00.000000Z"),
    good('"ts":1767225600.5', seconds_at="2026-01-01T00:00:00.500000Z"),
    good('"ts":1.7672256005E9', seconds_at="2026-01-01T00:00:00.500000Z"),
    good('"ts":"1767225600"', seconds_at="2026-01-01T00:00:00.000000Z"),
    good('"ts":"1355517523.000005"', seconds_at="2012-12-14T20:38:43.000005Z"),
    good('"ts":1355517523.000005', seconds_at="2012-12-14T20:38:43.000005Z"),
    good('"ts":"1355517523.0000059"', seconds_at="2012-12-14T20:38:43.000005Z"),
    good('"ts":-1', seconds_at="1969-12-31T23:59:59.000000Z"),
    good('"ts":-0.0000001', seconds_at="1969-12-31T23:59:59.999999Z"),
    good('"ts":253402300799', seconds_at="9999-12-31T23:59:59.000000Z"),
    good('"ts":-62167219200', seconds_at="0000-01-01T00:00:00.000000Z"),
    bad('"ts":253402300800', "seconds_at_is_timestamp"),
    bad('"ts":-62167219201', "seconds_at_is_timestamp"),
    bad('"ts":1767225600000', "seconds_at_is_timestamp"),
    bad('"ts":1e400', "seconds_at_is_timestamp"),
    bad('"ts":"1e999999999"', "seconds_at_is_timestamp"),
    bad('"ts":"1e-999999999"', "seconds_at_is_timestamp"),
    bad('"ts":""', "seconds_at_is_timestamp"),
    bad('"ts":" 5"', "seconds_at_is_timestamp"),
    bad('"ts":"+5"', "seconds_at_is_timestamp"),
    bad('"ts":"007"', "seconds_at_is_timestamp"),
    bad('"ts":"0x10"', "seconds_at_is_timestamp"),
    bad('"ts":"2026-01-01T00:00:00Z"', "seconds_at_is_timestamp"),
    bad('"ts":true', "seconds_at_is_timestamp"),
    bad('"ts":[0]', "seconds_at_is_timestamp"),
    good('"offset":1767225600123', millis_at="2026-01-01T00:00:00.123000Z"),
    good('"offset":"1767225600123"', millis_at="2026-01-01T00:00:00.123000Z"),
    good('"offset":1767225600123.4567', millis_at="2026-01-01T00:00:00.123456Z"),
    bad('"offset":1767225600123456', "millis_at_is_timestamp"),
    good('"partition":1767225600123456', micros_at="2026-01-01T00:00:00.123456Z"),
    good('"partition":"1767225600123456.9"', micros_at="2026-01-01T00:00:00.123456Z"),
    good('"partition":253402300799999999', micros_at="9999-12-31T23:59:59.999999Z"),
    bad('"partition":253402300800000000', "micros_at_is_timestamp"),
]

BINARIES = [
    good('"value":"aGVsbG8="', payload="aGVsbG8="),
    good('"value":"aGVsbA=="', payload="aGVsbA=="),
    good('"value":"/+8="', payload="/+8="),
    good('"value":""', payload=""),
    good('"value":"1234"', payload="1234"),
    good('"value":"true"', payload="true"),
    good('"value":"1234","x":5', payload="1234", rescued={"x": 5}),
    bad('"value":"aGVsbG8"', "payload_is_binary"),
    bad('"value":"aGVsb"', "payload_is_binary"),
    bad('"value":"aGVs\\nbG8="', "payload_is_binary"),
    bad('"value":"aGVs-_8="', "payload_is_binary"),
    bad('"value":"a==="', "payload_is_binary"),
    bad('"value":"===="', "payload_is_binary"),
    bad('"value":"a=aa"', "payload_is_binary"),
    bad('"value":1234', "payload_is_binary"),
    bad('"value":true', "payload_is_binary"),
]

ARRAYS = [
    good('"names":[]', names=[]),
    good('"names":null'),
    good('"names":["a",null,""]', names=["a", None, ""]),
    good('"names":["5","true","[x"]', names=["5", "true", "[x"]),
    bad('"names":["a",5]', "names[1]_is_string"),
    bad('"names":[["a"]]', "names[0]_is_string"),
    bad('"names":"a"', "names_is_array"),
    bad('"names":{}', "names_is_array"),
    bad('"names":{"0":"a"}', "names_is_array"),
    good('"numbers":[1,-2]', numbers=[1, -2]),
    good('"numbers":[]', numbers=[]),
    bad('"numbers":[1,null]', "numbers[1]_is_present"),
    bad('"numbers":[2147483648,"x",3,null]', "numbers[0]_is_int", "numbers[1]_is_int", "numbers[3]_is_present"),
    good('"times":[0,"1000",null]', times=["1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:01.000000Z", None]),
    bad('"times":[0,"1970-01-01"]', "times[1]_is_timestamp"),
    good('"grid":[[1,2],[],null,[null]]', grid=[[1, 2], [], None, [None]]),
    bad('"grid":[[1],[2,"x"]]', "grid[1][1]_is_int"),
    bad('"grid":[[1],2]', "grid[1]_is_array"),
]

MAPS = [
    good('"tags":{}', tags={}),
    good('"tags":{"a":1,"b":null}', tags={"a": 1, "b": None}),
    good('"tags":{"größe":1,"":2,"a.b":3}', tags={"größe": 1, "": 2, "a.b": 3}),
    good('"tags":{"\\"":1}', tags={'"': 1}),
    bad('"tags":{"a":"x"}', "tags{a}_is_int"),
    bad('"tags":{"a":1,"b{c}":2.5}', "tags{b{c}}_is_int"),
    bad('"tags":[]', "tags_is_map"),
    bad('"tags":"a"', "tags_is_map"),
    good('"key":{"a":"x"}', labels={"a": "x"}),
    bad('"key":{"a":null}', "labels{a}_is_present"),
    bad('"key":{"a":5}', "labels{a}_is_string"),
    good(
        '"stations":{"n":{"lat":52.5,"seen":"1.5"},"s":null}',
        stations={"n": {"lat": 52.5, "seen_at": "1970-01-01T00:00:01.500000Z"}, "s": None},
    ),
    bad('"stations":{"n":{"seen":0}}', "stations{n}.lat_is_present"),
    bad('"stations":{"n":{"lat":"x","seen":"x"}}', "stations{n}.lat_is_double", "stations{n}.seen_at_is_timestamp"),
    bad('"stations":{"n":5}', "stations{n}_is_struct"),
    good('"stations":{"n":{"lat":1,"alt":2}}', {"stations": {"n": {"alt": 2}}}, stations={"n": {"lat": 1.0}}),
]

STRUCTS = [
    good('"address":{"City":"Berlin"}', address={"city": "Berlin"}),
    good('"address": {"City": "Berlin", "zip": null}', address={"city": "Berlin"}),
    good(
        '"address":{"id.since":"2024-02-29","zip":"10115","City":"Berlin"}',
        address={"city": "Berlin", "zip": "10115", "since": "2024-02-29"},
    ),
    good('"address":null'),
    bad('"address":{}', "address.city_is_present"),
    bad('"address":{"City":null}', "address.city_is_present"),
    bad('"address":{"city":"Berlin"}', "address.city_is_present"),
    bad('"address":{"City":5,"zip":10115}', "address.city_is_string", "address.zip_is_string"),
    bad('"address":{"City":"B","id.since":"2023-02-29"}', "address.since_is_date"),
    bad('"address":"Berlin"', "address_is_struct"),
    bad('"address":["Berlin"]', "address_is_struct"),
    bad('"address":[{"City":"Berlin"}]', "address_is_struct"),
    bad('"address":5,"count":"x"', "count_is_int", "address_is_struct"),
]

ITEMS = [
    good('"items":[]', items=[]),
    good(
        '"items":[{"sku":"a","unitPrice":1.5,"quantity":2},{"sku":"b","quantity":0,"attributes":{"w":[1,2.5],"h":[]}}]',
        items=[
            {"sku": "a", "price": "1.50", "quantity": 2},
            {"sku": "b", "quantity": 0, "attributes": {"w": [1.0, 2.5], "h": []}},
        ],
    ),
    good('"items":[{"sku":"a","quantity":1,"unitPrice":null}]', items=[{"sku": "a", "quantity": 1}]),
    bad('"items":[null]', "items[0]_is_present"),
    bad('"items":[{}]', "items[0].sku_is_present", "items[0].quantity_is_present"),
    bad(
        '"items":[{"sku":"a","quantity":1},{"sku":"b","quantity":1},{"sku":"c","quantity":1,"unitPrice":1.005}]',
        "items[2].price_is_decimal",
    ),
    bad('"items":[{"sku":"a","quantity":1,"unitPrice":1000000}]', "items[0].price_is_decimal"),
    bad('"items":[{"sku":"a","quantity":40000}]', "items[0].quantity_is_short"),
    bad('"items":[{"sku":"a","quantity":1,"attributes":{"w":[1,null]}}]', "items[0].attributes{w}[1]_is_present"),
    bad('"items":[{"sku":"a","quantity":1,"attributes":{"w":1}}]', "items[0].attributes{w}_is_array"),
    bad('"items":[{"sku":"a","quantity":1,"attributes":{"w":["x"]}}]', "items[0].attributes{w}[0]_is_double"),
    bad('"items":{"sku":"a","quantity":1}', "items_is_array"),
    bad('"items":[[{"sku":"a","quantity":1}]]', "items[0]_is_struct"),
    bad(
        '"items":["a",{"sku":1,"quantity":"1"}]',
        "items[0]_is_struct",
        "items[1].sku_is_string",
        "items[1].quantity_is_short",
    ),
]

NAMES = [
    good('"id":1,"ID":2', lower_id=1, upper_id=2),
    good('"ID":2', upper_id=2),
    good('"Id":3', {"Id": 3}),
    good('"_corrupt":"x"', {"_corrupt": "x"}),
    good('"event_id":"x","_event":1', {"event_id": "x", "_event": 1}),
    good('"value":null,"key":null,"offset":null,"partition":null'),
]

UNKNOWN = [
    good('"x":1', {"x": 1}),
    good('"x":null', {"x": None}),
    good('"x":{"y":[{"z":null}]}', {"x": {"y": [{"z": None}]}}),
    good('"x":"","note":"n"', {"x": ""}, note="n"),
    good('"":0', {"": 0}),
    good('"note":"5","x":5', {"x": 5}, note="5"),
    good('"address":{"City":"B","floor":3}', {"address": {"floor": 3}}, address={"city": "B"}),
    good('"address":{"City":"B","floor":null}', {"address": {"floor": None}}, address={"city": "B"}),
    good('"address":{"City":"B","note":null}', {"address": {"note": None}}, address={"city": "B"}),
    good('"address":{"City":"7","n":7}', {"address": {"n": 7}}, address={"city": "7"}),
    good(
        '"x":1,"address":{"City":"B","geo":{"lat":1.5}},"tags":{"a":1}',
        {"x": 1, "address": {"geo": {"lat": 1.5}}},
        address={"city": "B"},
        tags={"a": 1},
    ),
    good(
        '"items":[{"sku":"a","quantity":1},{"sku":"b","quantity":1,"note":"x"},{"sku":"c","quantity":1}]',
        {"items": [None, {"note": "x"}, None]},
        items=[{"sku": sku, "quantity": 1} for sku in "abc"],
    ),
    good('"names":["5"],"x":5', {"x": 5}, names=["5"]),
    good('"tags":{"a":1},"x":{}', {"x": {}}, tags={"a": 1}),
]

CASES = [
    *WHOLE,
    *REQUIRED,
    *STRINGS,
    *BOOLEANS,
    *INTEGERS,
    *REALS,
    *DECIMALS,
    *DATES,
    *LOCAL_TIMES,
    *EPOCHS,
    *BINARIES,
    *ARRAYS,
    *MAPS,
    *STRUCTS,
    *ITEMS,
    *NAMES,
    *UNKNOWN,
]
