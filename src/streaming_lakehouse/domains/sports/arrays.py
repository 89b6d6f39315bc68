"""Expressions over arrays that read like the sentences they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import Column, functions as F

Step = Callable[[Column], Column]


def pipe(value: Column, *steps: Step) -> Column:
    """`value` passed through the steps, each of them evaluated once, however often the next one refers to it."""
    for step in steps:
        # Spark has no local variable; the only element of an array is one.
        value = F.transform(F.array(value), step)[0]
    return value


def count_where(array: Column, is_counted: Step) -> Column:
    """How many elements satisfy the predicate, an int."""
    return F.size(F.filter(array, is_counted))


def sum_of(array: Column, number: Step) -> Column:
    """The sum of an int over the elements, an int; 0 without any."""
    return F.aggregate(F.transform(array, number), F.lit(0), lambda total, each: total + each)


def is_in(value: Column, array: Column) -> Column:
    """False for a null value, and where the array has none but nulls."""
    return F.coalesce(F.array_contains(F.array_compact(array), value), F.lit(False))


def grouped_by(field: str, structs: Column, fields: Mapping[str, str]) -> Column:
    """The structs, of these fields and types, in one array for each value of `field`.

    One pass over the sorted elements: a filter for each group would pass over all of them every time.
    """

    def add(groups: Column, element: Column) -> Column:
        last = F.try_element_at(groups, F.lit(-1))
        is_member = F.coalesce(last[0][field] == element[field], F.lit(False))
        return F.when(
            is_member, F.concat(F.slice(groups, 1, F.size(groups) - 1), F.array(F.concat(last, F.array(element))))
        ).otherwise(F.concat(groups, F.array(F.array(element))))

    struct = ", ".join(f"{name}: {type_}" for name, type_ in fields.items())
    none = F.array().cast(f"array<array<struct<{struct}>>>")
    return F.aggregate(F.array_sort(structs), none, add)
