"""The slow check: which fields of a record are not of their types, each by its path."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from pyspark.sql import Column, functions as F, types as T

from streaming_lakehouse.layers.parsing.leaves import leaf_of
from streaming_lakehouse.pipeline.fields import json_name

MAX_FAILURES = 100  # of one record: an array of 1 MiB has a hundred thousand elements that can all fail alike


def field_failures(schema: T.StructType) -> Column:
    """The names of the failures in the order of the schema, an array<string>; null where there are none.

    In: `_fields`, the record's fields as variants.
    """
    failures = F.array_compact(_of_fields(F.col("_fields"), schema, None))
    if not all(leaf_of(field.dataType, field) for field in schema):
        failures = F.slice(failures, 1, MAX_FAILURES)
    return F.when(F.size(failures) > 0, failures)


def _of_fields(fields: Column, schema: T.StructType, path: Column | str | None) -> Column:
    """The failures of a struct's fields, an array<string> with nulls; `fields` is a map of variants."""
    found: list[Column] = []
    for is_leaf, group in groupby(schema, lambda field: bool(leaf_of(field.dataType, field))):
        values = [(fields[json_name(each)], each, _join(path, each.name)) for each in group]
        if is_leaf:
            found.append(
                F.array(*(_of_leaf(value, each.dataType, each, each.nullable, at) for value, each, at in values))
            )
        else:
            found += [_of_nested(value, each.dataType, each, each.nullable, at) for value, each, at in values]
    return F.concat(*found)


def _of_value(value: Column, data_type: T.DataType, field: T.StructField, nullable: bool, path: Column | str) -> Column:
    """The failures of a variant, an array<string> with nulls. A path is text, or a column within arrays and maps."""
    if leaf_of(data_type, field):
        return F.array(_of_leaf(value, data_type, field, nullable, path))
    return _of_nested(value, data_type, field, nullable, path)


def _of_leaf(value: Column, data_type: T.DataType, field: T.StructField, nullable: bool, path: Column | str) -> Column:
    """The failure of a single value, a string; null where there is none."""
    leaf = leaf_of(data_type, field)
    assert leaf is not None
    found = F.schema_of_variant(value)  # such as DECIMAL(3,1); null where the field is missing
    json_type = F.substring_index(found, "(", 1)
    wrong = _named(path, f"_is_{leaf.name}")
    # Spark evaluates the type anew in each condition: the most frequent one is the first.
    conditions = [(json_type.isin(*leaf.json_types), _no_name())] if leaf.json_types else []
    if leaf.is_valid:
        is_valid = F.coalesce(leaf.is_valid(value, found), F.lit(False))
        conditions.append((json_type.isin(*leaf.checked_types), F.when(~is_valid, wrong)))
    conditions.append((json_type != "VOID", wrong))
    failure = _no_name() if nullable else _named(path, "_is_present")
    for is_met, name in reversed(conditions):
        failure = F.when(is_met, name).otherwise(failure)
    return failure


def _no_name() -> Column:
    return F.lit(None).cast("string")


def _of_nested(
    value: Column, data_type: T.DataType, field: T.StructField, nullable: bool, path: Column | str
) -> Column:
    absent = F.array().cast("array<string>") if nullable else F.array(_named(path, "_is_present"))
    is_absent = value.isNull() | F.is_variant_null(value)
    return F.when(is_absent, absent).otherwise(_within(value, data_type, field, path))


def _within(value: Column, data_type: T.DataType, field: T.StructField, path: Column | str) -> Column:
    """The failures of a variant that should be a struct, an array or a map."""
    if isinstance(data_type, T.StructType):
        within = bound(value.try_cast("map<string,variant>"), lambda fields: _of_fields(fields, data_type, path))
        return F.coalesce(within, F.array(_named(path, "_is_struct")))
    if isinstance(data_type, T.ArrayType):
        element, nullable = data_type.elementType, data_type.containsNull
        within = F.transform(
            value.try_cast("array<variant>"),
            lambda each, n: _of_value(each, element, field, nullable, _named(path, "[", n.cast("string"), "]")),
        )
        return F.coalesce(F.flatten(within), F.array(_named(path, "_is_array")))
    assert isinstance(data_type, T.MapType)
    of_value, nullable = data_type.valueType, data_type.valueContainsNull
    within = F.transform(
        F.map_entries(value.try_cast("map<string,variant>")),
        lambda each: _of_value(each["value"], of_value, field, nullable, _named(path, "{", each["key"], "}")),
    )
    return F.coalesce(F.flatten(within), F.array(_named(path, "_is_map")))


def bound(value: Column, then: Callable[[Column], Column]) -> Column:
    """`then(value)`, null where `value` is; evaluates `value` once, however often `then` uses it."""
    return F.get(F.transform(F.when(value.isNotNull(), F.array(value)), then), F.lit(0))


def _join(path: Column | str | None, name: str) -> Column | str:
    if path is None:
        return name
    return f"{path}.{name}" if isinstance(path, str) else _named(path, f".{name}")


def _named(path: Column | str, *rest: Column | str) -> Column:
    if isinstance(path, str) and all(isinstance(part, str) for part in rest):
        return F.lit("".join((path, *rest)))  # type: ignore[arg-type]
    parts = (F.lit(part) if isinstance(part, str) else part for part in (path, *rest))
    return F.concat(*parts)
