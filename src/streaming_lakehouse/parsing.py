"""From a bronze record to a typed event: JSON by a schema, with every way to fail named and no field lost.

A record of more than 1 MiB is not looked at. Nor is one taken for JSON that is nested more than 999 deep, or has a
number of more than 1,000 digits or a name of more than 50,000 characters: limits of Jackson, by which Spark reads it.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, functions as F, types as T

RECORD_LIMIT = 1024 * 1024  # bytes; what Kafka and Event Hubs take by default, and a bound on what one row can cost

# What is added on the way, beside the event's fields.
PARSING_COLUMNS = ("_text", "_event", "_corrupt", "_keys", "_fields", "is_plain", "parse_failures", "_rescued_data")

# Strict JSON: what these would let through, other readers of the same record refuse.
_OPTIONS = {
    "columnNameOfCorruptRecord": "_corrupt",
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}
_ISO_8601 = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\z"  # $ would let a line feed follow
# As Spark gives the text of a number: one beyond a double's range in quotes.
_NUMBER = r'^(-?\d+(\.\d+)?([eE][+-]?\d+)?|"-?Infinity")\z'
_JSON_TYPES: dict[T.DataType, tuple[str, tuple[str, ...]]] = {
    T.StringType(): ("string", ("STRING",)),
    T.TimestampType(): ("timestamp", ("STRING",)),
    T.DoubleType(): ("double", ("BIGINT", "DOUBLE", "DECIMAL", "FLOAT")),
    T.LongType(): ("long", ("BIGINT",)),
    T.BooleanType(): ("boolean", ("BOOLEAN",)),
}


def with_event(records: DataFrame, schema: T.StructType) -> DataFrame:
    """Reads `value` by `schema`: fields of type string, double, bigint, boolean, or timestamp (ISO 8601 with a zone).

    In: value binary, one JSON object in UTF-8. Adds: the schema's fields; `is_plain` boolean, true where the record is
    known to hold these fields and nothing else, each of its type. Of a record that is not plain no field can be relied
    on before `with_diagnosis`.
    """
    text = F.col("value").cast("string")
    read = records.withColumn("_text", F.when(_fits(text), text)).withColumn(
        "_event", F.from_json("_text", _read_schema(schema), _OPTIONS)
    )
    typed = read.withColumns({field.name: _typed(field) for field in schema})
    return typed.withColumn("is_plain", F.coalesce(_is_plain(schema), F.lit(False))).drop("_text", "_event")


def with_diagnosis(events: DataFrame, schema: T.StructType) -> DataFrame:
    """Tells what else is in records that are not plain, or what is wrong with them, by reading each several times.

    In: as `with_event` gives them. Adds: `_rescued_data` string, a JSON object of the fields that the schema does not
    know, null where there are none, in which a number of more than 38 digits is a double, or the string Infinity or
    -Infinity where that cannot hold it; `parse_failures` array<string>, the names of the checks the record failed, null
    where its fields can be relied on.
    """
    text = F.when(~F.col("is_plain"), F.col("value").cast("string"))
    read = events.withColumn("_text", F.when(_fits(text), text)).withColumns(
        {
            "_keys": F.json_object_keys("_text"),
            "_fields": F.try_parse_json("_text").try_cast("map<string,variant>"),
        }
    )
    failures = F.when(~F.col("is_plain"), _failures(schema))
    told = read.withColumns({"_rescued_data": _unknown_fields(schema), "parse_failures": failures})
    return told.drop("_text", "_keys", "_fields")


def _fits(text: Column) -> Column:
    return (F.octet_length("value") <= RECORD_LIMIT) & F.is_valid_utf8(text)


def _read_schema(schema: T.StructType) -> T.StructType:
    """Timestamps are read as text: Spark's own reading takes `12:30` for today and a number for seconds."""
    fields = [T.StructField(f.name, T.StringType() if _is_time(f) else f.dataType) for f in schema]
    return T.StructType([*fields, T.StructField("_corrupt", T.StringType())])


def _is_time(field: T.StructField) -> bool:
    return isinstance(field.dataType, T.TimestampType)


def _typed(field: T.StructField) -> Column:
    value = F.col(f"_event.{field.name}")
    return F.when(value.rlike(_ISO_8601), value.try_cast("timestamp")) if _is_time(field) else value


def _is_plain(schema: T.StructType) -> Column:
    """True where the record is one JSON object of known fields, strings where strings belong, and nothing else.

    A field of the schema takes two quotes for its name, and two more for a string. Where the record has no further
    quote it has no further field; one closing brace, at the end, leaves no room for a second object. The count would
    be wrong for a number in a string's place, so a string that could have been one is not plain. Nor is an escaped
    surrogate, which stands for no character alone: Spark gives a question mark, and two names would become one.
    """
    text = F.col("_text")
    quotes, is_plain = F.lit(0), F.col("_event._corrupt").isNull() & ~text.contains(r"\ud") & ~text.contains(r"\uD")
    for field in schema:
        value = F.col(f"_event.{field.name}")
        if _is_time(field):
            is_plain = is_plain & (value.isNull() | F.col(field.name).isNotNull())
        is_string = isinstance(field.dataType, T.StringType)
        taken = F.when(value.isNotNull(), 4 if is_string or _is_time(field) else 2).when(_is_null(field.name), 2)
        quotes = quotes + taken.otherwise(0)
        if is_string:
            is_plain = is_plain & ~F.coalesce(_could_be_other(value), F.lit(False))
    up_to_the_last_quote = F.call_function("substring_index", text, F.lit('"'), quotes + 1)
    is_all = F.octet_length(up_to_the_last_quote) == F.octet_length(text)
    up_to_the_brace = F.octet_length(F.substring_index(text, "}", 1))
    return is_plain & is_all & (up_to_the_brace == F.octet_length(F.rtrim(text)) - 1)


def _is_null(name: str) -> Column:
    """True where the field is there and null; within a string its quotes would be escaped."""
    text = F.col("_text")
    return text.contains(f'"{name}":null') | text.contains(f'"{name}": null')


def _could_be_other(string: Column) -> Column:
    """True where a string reads like a number, a boolean, an array or an object: Spark gives these as their text."""
    # A pattern takes long, and what begins with a digit, a minus or a quote sorts before the colon: few strings do.
    is_number = (string < ":") & string.rlike(_NUMBER)
    return is_number | string.isin("true", "false") | string.startswith("[") | string.startswith("{")


def _unknown_fields(schema: T.StructType) -> Column:
    unknown = F.map_filter("_fields", lambda name, _: ~name.isin(schema.names))
    return F.when(F.size(unknown) > 0, F.to_json(unknown))


def _failures(schema: T.StructType) -> Column:
    """The first check of the record as a whole that fails, else all fields with another type than the schema's."""
    # Spark reads no further than a value's end. In brackets a lone object is an array of one, and with a number after
    # it one of two; with anything behind it, it is no array, a longer one, or in both the one that it closes itself.
    is_alone = (_length("]") == 1) & (_length(",0]") == 2)
    # What stands alone may still be an array, or have single quotes.
    is_strict = F.from_json("_text", _read_schema(T.StructType()), _OPTIONS)["_corrupt"].isNull()
    is_one_object = is_alone & F.col("_keys").isNotNull() & is_strict
    whole = (
        ("record_is_present", F.col("value").isNull()),
        ("record_is_at_most_1_mib", F.octet_length("value") > RECORD_LIMIT),
        ("record_is_utf8", F.col("_text").isNull()),
        ("record_is_not_empty", F.regexp_replace("_text", r"\s", "") == ""),
        ("record_is_one_json_object", ~F.coalesce(is_one_object, F.lit(False))),
        ("record_is_utf8", _has_lone_surrogate()),
        ("record_has_unique_keys", F.col("_fields").isNull()),  # here or within: a variant's only other demand
    )
    types = F.array_compact(F.array(*(_type_failure(field) for field in schema)))
    failures = F.when(F.size(types) > 0, types)
    for name, is_failed in reversed(whole):
        failures = F.when(is_failed, F.array(F.lit(name))).otherwise(failures)
    return failures


def _length(end: str) -> Column:
    return F.json_array_length(F.concat(F.lit("["), "_text", F.lit(end)))


def _has_lone_surrogate() -> Column:
    """True where JSON text escapes half of a character: what is left without backslashes for themselves, and pairs."""
    escapes = F.regexp_replace("_text", r"\\\\", "-")
    alone = F.regexp_replace(escapes, r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..", "")
    return alone.rlike(r"\\u[dD][89a-fA-F]")


def _type_failure(field: T.StructField) -> Column:
    name, json_types = _JSON_TYPES[field.dataType]
    found = F.schema_of_variant(F.col("_fields")[field.name])
    is_other = ~F.substring_index(found, "(", 1).isin("VOID", *json_types)  # DECIMAL(3,1)
    is_failed = F.coalesce(is_other, F.lit(False))
    if _is_time(field):
        is_failed = is_failed | (F.coalesce(found, F.lit("VOID")).startswith("STRING") & F.col(field.name).isNull())
    return F.when(is_failed, F.lit(f"{field.name}_is_{name}"))
