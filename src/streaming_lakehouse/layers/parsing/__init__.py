"""From a bronze record to a typed event: JSON by a schema, with every way to fail named and no field lost.

A record of more than 1 MiB is not looked at. Nor is one taken for JSON that is nested more than 999 deep, or has a
number of more than 1,000 digits or a name of more than 50,000 characters: limits of Jackson, by which Spark reads it.

A field is read when its JSON value is of its type (`leaves` says which values those are); null and missing are the
same, and enough where the field is nullable. What fails is named by the path of columns that leads to it:
`amount_is_decimal`, `address.city_is_present`, `items[2].price_is_decimal`, `tags{colour}_is_int` for a map's key.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, functions as F, types as T

from streaming_lakehouse.layers.parsing.failures import field_failures
from streaming_lakehouse.layers.parsing.readable import check_readable
from streaming_lakehouse.layers.parsing.records import (
    MAX_RECORD_BYTES,
    decoded_text,
    record_failures,
    whole_record_checks,
)
from streaming_lakehouse.layers.parsing.rescued import rescued_fields
from streaming_lakehouse.layers.parsing.typed import has_decimals, with_events, with_typed_fields
from streaming_lakehouse.layers.parsing.well_formed import is_well_formed

__all__ = [
    "MAX_RECORD_BYTES",
    "PARSING_COLUMNS",
    "check_readable",
    "record_failures",
    "with_parse_failures",
    "with_parsed_fields",
]

# What is added on the way, beside the event's fields.
PARSING_COLUMNS = (
    "_text",
    "_event",
    "_keys",
    "_fields",
    "is_well_formed",
    "parse_failures",
    "_rescued_data",
)


def with_parsed_fields(records: DataFrame, schema: T.StructType) -> DataFrame:
    """Reads `value` by `schema`, whose fields may be of every type that `check_readable` accepts.

    In: value binary, one JSON object in UTF-8. Adds: the schema's columns; `is_well_formed` boolean, true where the
    record is known to hold these fields and nothing else, each of its type. Of a record that is not well-formed no
    field can be relied on before `with_parse_failures`.
    """
    events = with_events(records.withColumn("_text", decoded_text()), schema, is_quick=True)
    typed = with_typed_fields(events, schema)
    is_sure = F.coalesce(is_well_formed(schema), F.lit(False))
    return typed.withColumn("is_well_formed", is_sure).drop("_text", "_event")


def with_parse_failures(events: DataFrame, schema: T.StructType) -> DataFrame:
    """Finds what is wrong with records that are not well-formed, or what else is in them; reads each several times.

    In: as `with_parsed_fields` gives them. Adds: `_rescued_data` string, a JSON object of the fields that the schema
    does not know, null where there are none; `parse_failures` array<string>, the names of the checks the record
    failed, at most 100 of them, null where its fields can be relied on.

    Unknown fields are rescued at any depth, where they were: `{"address":{"floor":3}}`, `{"items":[null,{"note":"x"}]}`
    for one in the second element. A number of more than 38 digits is a double there, or the string Infinity or
    -Infinity where that cannot hold it.
    """
    is_doubtful = ~F.col("is_well_formed")
    read = events.withColumn("_text", F.when(is_doubtful, decoded_text()))
    if has_decimals(schema):  # the quick reading stops at a long number
        read = with_typed_fields(with_events(read, schema, is_quick=False), schema, only_where=is_doubtful).drop(
            "_event"
        )
    read = read.withColumns(
        {
            "_keys": F.json_object_keys("_text"),
            "_fields": F.try_parse_json("_text").try_cast("map<string,variant>"),
        }
    )
    failures = F.coalesce(whole_record_checks(F.col("_text"), F.col("_keys"), F.col("_fields")), field_failures(schema))
    found = read.withColumns({"_rescued_data": rescued_fields(schema), "parse_failures": F.when(is_doubtful, failures)})
    return found.drop("_text", "_keys", "_fields")
