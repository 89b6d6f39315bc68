"""Fields that a schema does not know, at any depth: nothing that was sent is lost."""

from __future__ import annotations

from pyspark.sql import Column, functions as F, types as T

from streaming_lakehouse.layers.parsing.failures import bound
from streaming_lakehouse.pipeline.fields import json_name


def rescued_fields(schema: T.StructType) -> Column:
    """The unknown fields as a JSON object of the record's shape, a string; null where there are none.

    In: `_fields`, the record's fields as variants.
    """
    unknown = _of_fields(F.col("_fields"), schema)
    return F.when(F.size(unknown) > 0, F.to_json(unknown))


def _of_fields(fields: Column, schema: T.StructType) -> Column:
    """The unknown ones of a struct's fields and what is unknown within the known ones, a map of variants."""
    names = [json_name(field) for field in schema]
    unknown = F.map_filter(fields, lambda name, _: ~name.isin(names))
    nested = [
        F.struct(
            F.lit(json_name(field)).alias("key"), _of_value(fields[json_name(field)], field.dataType).alias("value")
        )
        for field in schema
        if _has_struct(field.dataType)
    ]
    if not nested:
        return unknown
    found = F.filter(F.array(*nested), lambda each: each["value"].isNotNull())
    return F.map_concat(unknown, F.map_from_entries(found))


def _of_value(value: Column, data_type: T.DataType) -> Column:
    """What is unknown within a variant, as a variant; null where there is nothing, or it has another type."""
    if isinstance(data_type, T.StructType):
        unknown = bound(value.try_cast("map<string,variant>"), lambda fields: _of_fields(fields, data_type))
        return _object(unknown)
    if isinstance(data_type, T.MapType):
        of_value = data_type.valueType
        found = F.transform_values(value.try_cast("map<string,variant>"), lambda _, each: _of_value(each, of_value))
        return _object(F.map_filter(found, lambda _, each: each.isNotNull()))
    assert isinstance(data_type, T.ArrayType)
    element = data_type.elementType
    elements = F.transform(value.try_cast("array<variant>"), lambda each: _of_value(each, element))
    return bound(elements, lambda all_: F.when(F.exists(all_, Column.isNotNull), F.to_variant_object(all_)))


def _object(fields: Column) -> Column:
    return bound(fields, lambda entries: F.when(F.size(entries) > 0, F.to_variant_object(entries)))


def _has_struct(data_type: T.DataType) -> bool:
    if isinstance(data_type, T.ArrayType):
        return _has_struct(data_type.elementType)
    return _has_struct(data_type.valueType) if isinstance(data_type, T.MapType) else isinstance(data_type, T.StructType)
