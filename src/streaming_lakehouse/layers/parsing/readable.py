"""The schemas that can be read: checked before Spark starts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from pyspark.sql import types as T

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers.parsing.leaves import LEAF_NAMES, leaf_of
from streaming_lakehouse.pipeline.fields import json_name

# A dot or a backtick would need quoting in every expression, the others Delta does not take.
_NOT_IN_COLUMN_NAMES = re.compile(r"[.`\s,;{}()=]")


def check_readable(schema: T.StructType, table: str) -> None:
    """Raises LakehouseError, with the table and the field, for a schema that no record can be read by.

    That is a type without a reader, two fields of a struct with one name, a column name that a table cannot have, or a
    struct without fields.
    """
    _check_struct(schema, table, "")


def _check_struct(schema: T.StructType, table: str, path: str) -> None:
    if not schema.fields:
        raise LakehouseError(f"{table}: {f'the struct {path[:-1]}' if path else 'its schema'} has no fields")
    if twice := _twice(field.name.lower() for field in schema):
        names = [field.name for field in schema if field.name.lower() == twice]
        raise LakehouseError(
            f"{table}: the columns {_all(names, path)} have one name, for Spark does not distinguish upper and lower "
            "case; rename one, and give its name in the record with json="
        )
    if twice := _twice(json_name(field) for field in schema):
        names = [field.name for field in schema if json_name(field) == twice]
        raise LakehouseError(f"{table}: the columns {_all(names, path)} are read from one JSON field, {twice!r}")
    for field in schema:
        name = f"{path}{field.name}"
        if not field.name or _NOT_IN_COLUMN_NAMES.search(field.name):
            raise LakehouseError(
                f"{table}: {name!r} cannot be a column's name; choose one without spaces and .,;`{{}}()=, and give the "
                "name in the record with json="
            )
        _check_type(field.dataType, field, table, name)


def _check_type(data_type: T.DataType, field: T.StructField, table: str, path: str) -> None:
    if isinstance(data_type, T.StructType):
        _check_struct(data_type, table, f"{path}.")
    elif isinstance(data_type, T.ArrayType):
        _check_type(data_type.elementType, field, table, f"{path}[]")
    elif isinstance(data_type, T.MapType):
        if not isinstance(data_type.keyType, T.StringType):
            raise LakehouseError(
                f"{table}: the keys of {path} are of type {data_type.keyType.simpleString()}; those of JSON are strings"
            )
        _check_type(data_type.valueType, field, table, f"{path}{{}}")
    elif leaf_of(data_type, field) is None:
        raise LakehouseError(
            f"{table}: {path} has the type {data_type.simpleString()}, which cannot be read from JSON; there are: "
            f"{', '.join(sorted(LEAF_NAMES))}, and array, map and struct of these"
        )


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, number in Counter(names).items() if number > 1), None)


def _all(names: list[str], path: str) -> str:
    return " and ".join(repr(f"{path}{name}") for name in names)
