"""The quick check: is a record surely what from_json read of it, and nothing else?

Quotes and braces are counted. A field of the schema takes two quotes for its name, and two more for a string; an object
takes one closing brace. Where the record has no further quote it has no further field; no further brace, and one at its
end, leave no room for a second object. What was read never counts for more than the record has, so that one thing
cannot hide another: a value that may have been of another type, a null that may be missing, are not sure.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, functions as F, types as T

from streaming_lakehouse.layers.parsing.leaves import Leaf, leaf_of
from streaming_lakehouse.layers.parsing.typed import exact_digits, has_decimals, is_corrupt, raw
from streaming_lakehouse.pipeline.fields import json_name

_BRACE = 1 << 21  # what a brace counts; quotes count one each, and a record of 1 MiB has fewer of them
_NEGATIVE_EXPONENT = r"[:\[,]\s*-?[0-9.]+[eE]-"


def is_well_formed(schema: T.StructType) -> Column:
    """True where the record is one JSON object of known fields, each of its type, and nothing else.

    In: `_text`, `_event`, and the schema's columns. Null where it is not known.
    """
    # An escaped surrogate stands for no character alone: Spark gives a question mark, and two names would become one.
    text = F.col("_text")
    is_read = ~is_corrupt(schema) & ~text.contains(r"\ud") & ~text.contains(r"\uD")
    if has_decimals(schema):
        is_read = is_read & _has_exact_decimals(schema)
    if all(leaf_of(field.dataType, field) for field in schema):
        return _is_flat_record(schema, is_read)
    taken = reduce(Column.__add__, (_field_taken(F.col(f"`{each.name}`"), each) for each in schema), _count(_BRACE))
    quotes, braces = taken.bitwiseAND(_BRACE - 1).cast("int"), F.shiftright(taken, 21).cast("int")
    return is_read & _has_no_quote_after(quotes) & _ends_with_brace(braces)


def _has_exact_decimals(schema: T.StructType) -> Column:
    """True where from_json rounded no decimal: long numbers it has refused, but an exponent adds digits as well."""
    text = F.col("_text")
    is_suspicious = (text.contains("e-") | text.contains("E-")) & text.rlike(_NEGATIVE_EXPONENT)
    return ~is_suspicious if exact_digits(schema) else F.lit(False)


def _has_no_quote_after(quotes: Column) -> Column:
    up_to_the_last = F.call_function("substring_index", F.col("_text"), F.lit('"'), quotes + 1)
    return F.octet_length(up_to_the_last) == F.octet_length("_text")


def _ends_with_brace(number: Column) -> Column:
    """True where this closing brace is the last character, but for spaces."""
    up_to_the_brace = F.octet_length(F.call_function("substring_index", F.col("_text"), F.lit("}"), number))
    return up_to_the_brace == F.octet_length(F.rtrim("_text")) - 1


def _is_flat_record(schema: T.StructType, is_read: Column) -> Column:
    """In a record without further objects a null of the schema's fields can be found in the text, and counts."""
    quotes, is_sure = F.lit(0), is_read
    for number, field in enumerate(schema):
        leaf = leaf_of(field.dataType, field)
        assert leaf is not None
        value, read = F.col(f"`{field.name}`"), raw(F.col("_event"), schema, number)
        if leaf.convert:
            is_sure = is_sure & (read.isNull() | value.isNotNull())
        if not field.nullable:
            is_sure = is_sure & value.isNotNull()
        taken = F.when(read.isNotNull(), _quotes(leaf, read)).when(_is_explicit_null(json_name(field)), 2)
        quotes = quotes + taken.otherwise(0)
        if leaf.is_sure:
            of_type = leaf.is_sure(value)
            if isinstance(field.dataType, T.StringType):
                of_type = of_type | _is_quoted_in_text(json_name(field), value)
            is_sure = is_sure & F.coalesce(of_type, F.lit(True))
    return is_sure & _has_no_quote_after(quotes) & _ends_with_brace(F.lit(1))


def _quotes(leaf: Leaf, read: Column) -> Column:
    """Those of the field's name and of its value."""
    if not leaf.is_quoted and isinstance(leaf.read_as, T.StringType):
        # A number since 1970, or a string of one. Spark writes a number's fraction with an exponent from 10^7 on.
        is_string = read.contains(".") & ~read.contains("E") & (F.instr(read, ".") > 9)
        return F.when(is_string, 4).otherwise(2)
    return F.lit(4 if leaf.is_quoted else 2)


def _is_quoted_in_text(name: str, value: Column) -> Column:
    """True where the text has the name with this string: that of a code such as "0100", which reads like a number.

    Were the field a number, this would be a second one of its name, and its quotes would be too many.
    """
    if '"' in name or "\\" in name:
        return F.lit(False)
    written = (F.concat(F.lit(f'"{name}":{space}"'), value, F.lit('"')) for space in ("", " "))
    return reduce(Column.__or__, map(F.col("_text").contains, written))


def _is_explicit_null(name: str) -> Column:
    """True where the field is there and null; within a string its quotes would be escaped."""
    text = F.col("_text")
    if '"' in name or "\\" in name:
        return F.lit(False)
    return text.contains(f'"{name}":null') | text.contains(f'"{name}": null')


def _field_taken(value: Column, field: T.StructField) -> Column:
    """What the field takes of quotes and braces, with its name; null where that is not sure."""
    taken = _count(2) + _taken(value, field.dataType, field)
    return F.when(value.isNull(), _count(0) if field.nullable else _not_sure()).otherwise(taken)


def _taken(value: Column, data_type: T.DataType, field: T.StructField) -> Column:
    """What a value that is not null takes."""
    if isinstance(data_type, T.StructType):
        fields = (_field_taken(value.getField(each.name), each) for each in data_type)
        return reduce(Column.__add__, fields, _count(_BRACE))
    if isinstance(data_type, T.ArrayType):
        return _elements_taken(value, data_type.elementType, data_type.containsNull, field)
    if isinstance(data_type, T.MapType):
        within = _elements_taken(F.map_values(value), data_type.valueType, data_type.valueContainsNull, field)
        taken = _count(_BRACE) + F.size(value).cast("bigint") * 2 + within
        # from_json takes a key as often as it comes.
        return F.when(F.size(F.array_distinct(F.map_keys(value))) == F.size(value), taken)
    leaf = leaf_of(data_type, field)
    assert leaf is not None
    quotes = _count(2 if leaf.is_quoted else 0)
    return F.when(leaf.is_sure(value), quotes) if leaf.is_sure else quotes


def _elements_taken(elements: Column, data_type: T.DataType, nullable: bool, field: T.StructField) -> Column:
    of_null = _count(0) if nullable else _not_sure()

    def add(total: Column, each: Column) -> Column:
        return total + F.when(each.isNull(), of_null).otherwise(_taken(each, data_type, field))

    return F.aggregate(elements, _count(0), add)


def _count(number: int) -> Column:
    return F.lit(number).cast("bigint")


def _not_sure() -> Column:
    return F.lit(None).cast("bigint")
