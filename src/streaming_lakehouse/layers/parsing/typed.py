"""From JSON text to typed columns: what from_json reads, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator

from pyspark.sql import Column, DataFrame, functions as F, types as T

from streaming_lakehouse.layers.parsing.leaves import decimal_scale, leaf_of
from streaming_lakehouse.layers.parsing.records import STRICT
from streaming_lakehouse.pipeline.fields import columns, json_name


def with_events(records: DataFrame, schema: T.StructType, *, is_quick: bool) -> DataFrame:
    """Adds `_event`, what from_json reads of `_text`, and in it `_corrupt`, null where it read all of the record.

    A quick reading stops at a number so long that a decimal of the schema would be rounded.
    """
    corrupt = _corrupt_name(schema)
    options = {**STRICT, "columnNameOfCorruptRecord": corrupt}
    if is_quick and has_decimals(schema):
        options["maxNumLen"] = str(max(exact_digits(schema), 1))
    read_type = _read_type(schema)
    assert isinstance(read_type, T.StructType)
    with_corrupt = T.StructType([*read_type.fields, T.StructField(corrupt, T.StringType())])
    event = F.from_json("_text", with_corrupt, options)
    named = _distinctly_named(with_corrupt)
    if named != with_corrupt:  # a cast goes by position
        event = event.cast(named)
    return records.withColumn("_event", event)


def with_typed_fields(events: DataFrame, schema: T.StructType, only_where: Column | None = None) -> DataFrame:
    """Adds the schema's columns from `_event`; with `only_where` it replaces them in such rows."""
    typed = {
        field.name: _typed(raw(F.col("_event"), schema, n), field.dataType, field) for n, field in enumerate(schema)
    }
    if only_where is not None:
        typed = {name: F.when(only_where, value).otherwise(F.col(name)) for name, value in typed.items()}
    return events.withColumns(typed)


def raw(struct: Column, schema: T.StructType, number: int) -> Column:
    """What from_json read of a field; `struct` is `_event` or a struct in it."""
    return struct.getField(_distinct_names([json_name(field) for field in schema])[number])


def is_corrupt(schema: T.StructType) -> Column:
    """True where from_json could not read all of the record."""
    names = _distinct_names([*(json_name(field) for field in schema), _corrupt_name(schema)])
    return F.col("_event").getField(names[-1]).isNotNull()


def has_decimals(schema: T.StructType) -> bool:
    return any(True for _ in _decimals(schema))


def exact_digits(schema: T.StructType) -> int:
    """Digits that a number may have for from_json to read every decimal of the schema without rounding."""
    return min(decimal_scale(each) for each in _decimals(schema))


def _decimals(data_type: T.DataType) -> Iterator[T.DecimalType]:
    if isinstance(data_type, T.DecimalType):
        yield data_type
    for child in _children(data_type):
        yield from _decimals(child)


def _children(data_type: T.DataType) -> list[T.DataType]:
    if isinstance(data_type, T.ArrayType):
        return [data_type.elementType]
    if isinstance(data_type, T.MapType):
        return [data_type.valueType]
    return [field.dataType for field in data_type] if isinstance(data_type, T.StructType) else []


def _corrupt_name(schema: T.StructType) -> str:
    names = {json_name(field).upper().lower() for field in schema}
    name = "_corrupt"
    while name in names:
        name += "_"
    return name


def _read_type(data_type: T.DataType, field: T.StructField | None = None) -> T.DataType:
    """The type in from_json, with the names of JSON."""
    if isinstance(data_type, T.ArrayType):
        return T.ArrayType(_read_type(data_type.elementType, field))
    if isinstance(data_type, T.MapType):
        return T.MapType(T.StringType(), _read_type(data_type.valueType, field))
    if isinstance(data_type, T.StructType):
        return T.StructType([T.StructField(json_name(each), _read_type(each.dataType, each)) for each in data_type])
    assert field is not None
    leaf = leaf_of(data_type, field)
    assert leaf is not None  # check_readable() has refused it
    return leaf.read_as


def _distinctly_named(data_type: T.DataType) -> T.DataType:
    if isinstance(data_type, T.ArrayType):
        return T.ArrayType(_distinctly_named(data_type.elementType))
    if isinstance(data_type, T.MapType):
        return T.MapType(data_type.keyType, _distinctly_named(data_type.valueType))
    if isinstance(data_type, T.StructType):
        types = [_distinctly_named(field.dataType) for field in data_type]
        return T.StructType(list(map(T.StructField, _distinct_names(data_type.names), types)))
    return data_type


def _distinct_names(names: list[str]) -> list[str]:
    """The names of a struct's fields in an expression: in JSON they may differ in case alone, which Spark's may not."""
    is_distinct = len({name.upper().lower() for name in names}) == len(names)
    return names if is_distinct else [f"{name}_{number}" for number, name in enumerate(names)]


def _typed(value: Column, data_type: T.DataType, field: T.StructField) -> Column:
    """The column's value; null where from_json read something that is none of the type."""
    if not _is_converted(data_type, field):
        return value.cast(columns(T.StructType([field]))[0].dataType) if _children(data_type) else value
    if isinstance(data_type, T.ArrayType):
        element = data_type.elementType
        return F.transform(value, lambda each: _typed(each, element, field))
    if isinstance(data_type, T.MapType):
        of_value = data_type.valueType
        return F.transform_values(value, lambda _, each: _typed(each, of_value, field))
    if isinstance(data_type, T.StructType):
        fields = [
            _typed(raw(value, data_type, n), each.dataType, each).alias(each.name) for n, each in enumerate(data_type)
        ]
        return F.when(value.isNotNull(), F.struct(*fields))
    leaf = leaf_of(data_type, field)
    assert leaf is not None
    assert leaf.convert is not None
    return leaf.convert(value)


def _is_converted(data_type: T.DataType, field: T.StructField) -> bool:
    """True where casts alone do not make the column's value of what from_json read."""
    if isinstance(data_type, T.StructType):
        return any(_is_converted(each.dataType, each) for each in data_type)
    if children := _children(data_type):
        return any(_is_converted(child, field) for child in children)
    leaf = leaf_of(data_type, field)
    return leaf is not None and leaf.convert is not None
