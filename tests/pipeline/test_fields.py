"""Fields of an event: what a declaration says of the JSON, and what is refused."""

import pytest
from pyspark.sql import types as T

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.fields import columns, field, json_name, time_format, zone


def test_a_plain_field_is_read_under_its_own_name() -> None:
    """A pipeline needs no more than Spark's own StructField."""
    plain = T.StructField("time", T.TimestampType())
    assert (json_name(plain), time_format(plain), zone(plain)) == ("time", "iso_8601", None)
    assert field("time", T.TimestampType()) == plain


@pytest.mark.parametrize("name", ["createdAt", "id.orig_h", "offset", "value", "größe", "", "a`b", "_corrupt"])
def test_any_json_name_can_be_given(name: str) -> None:
    """The column's name is another thing."""
    declared = field("column", T.StringType(), json=name, nullable=False)
    assert (declared.name, json_name(declared), declared.nullable) == ("column", name, False)


def test_a_time_format_reaches_into_arrays_and_maps() -> None:
    """Elements have no field of their own to declare it."""
    times = T.MapType(T.StringType(), T.ArrayType(T.TimestampType()))
    assert time_format(field("times", times, time="epoch_millis")) == "epoch_millis"
    assert zone(field("times", times, zone="Europe/Berlin")) == "Europe/Berlin"


@pytest.mark.parametrize(
    ("data_type", "options", "words"),
    [
        (T.TimestampType(), {"time": "epoch_milis"}, "field 'at': there is no time format 'epoch_milis'; did you mean"),
        (T.TimestampType(), {"zone": "Europe/Berlim"}, "field 'at': there is no time zone 'Europe/Berlim'; did you"),
        (T.TimestampType(), {"zone": "../../etc/passwd"}, "there is no time zone"),
        (T.TimestampType(), {"zone": ""}, "there is no time zone"),
        (T.TimestampType(), {"time": "epoch_seconds", "zone": "UTC"}, "epoch_seconds has no zone"),
        (T.LongType(), {"time": "epoch_seconds"}, "is for timestamps, not for bigint"),
        (T.StringType(), {"zone": "UTC"}, "is for timestamps, not for string"),
    ],
)
def test_a_wrong_declaration_is_refused(data_type: T.DataType, options: dict[str, str], words: str) -> None:
    """At once, and with the field's name."""
    with pytest.raises(LakehouseError, match="field 'at'") as refused:
        field("at", data_type, **options)  # type: ignore[arg-type]
    assert words in str(refused.value)


def test_a_table_gets_columns_without_what_is_said_of_json() -> None:
    """At any depth; a comment of the user's own stays."""
    inner = T.StructType([field("b", T.TimestampType(), json="B", time="epoch_micros", nullable=False)])
    commented = T.StructField("c", T.StringType(), True, {"comment": "of the user", "json.name": "C"})
    declared = T.StructType([field("a", T.ArrayType(inner, containsNull=False), json="A"), commented])
    plain = T.StructType([T.StructField("b", T.TimestampType())])
    assert columns(declared) == T.StructType(
        [
            T.StructField("a", T.ArrayType(plain)),
            T.StructField("c", T.StringType(), True, {"comment": "of the user"}),
        ]
    )
    assert columns(declared)["a"].dataType.elementType["b"].metadata == {}
