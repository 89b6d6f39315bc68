"""Fields of every type: 200 records written by hand, each as a row of the right values or with the right reasons."""

import json
import math
import random
import re
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession, functions as F
from support.every_type import CASES, SCHEMA, START, Case

from streaming_lakehouse.layers.parsing import with_parse_failures, with_parsed_fields

pytestmark = pytest.mark.usefixtures("few_rows")

# All values as text that is the same on every machine: Python has no year 0, and its times are the machine's.
TEXT = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "dateFormat": "yyyy-MM-dd", "ignoreNullFields": "true"}


class Number(str):
    """A number as JSON writes it: a decimal's digits count, a double's do not."""


@pytest.fixture(scope="module")
def results(spark: SparkSession) -> list[Row]:
    """What becomes of all cases, in one batch."""
    rows = [(number, None if case.value is None else bytearray(case.value)) for number, case in enumerate(CASES)]
    records = spark.createDataFrame(rows, "number int, value binary").coalesce(1)
    parsed = with_parse_failures(with_parsed_fields(records, SCHEMA), SCHEMA)
    columns = F.to_json(F.struct(*(F.col(f"`{name}`") for name in SCHEMA.names)), TEXT).alias("columns")
    return (
        parsed.select("is_well_formed", "parse_failures", "_rescued_data", columns, "number")
        .orderBy("number")
        .collect()
    )


def same(expected: Any, found: Any) -> bool:
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and {name for name, value in expected.items() if value is not None} <= found.keys() <= expected.keys()
            and all(same(expected[name], value) for name, value in found.items())
        )
    if isinstance(expected, list):
        return isinstance(found, list) and len(expected) == len(found) and all(map(same, expected, found))
    if isinstance(found, Number):
        if isinstance(expected, float):
            return (float(found), math.copysign(1, float(found))) == (expected, math.copysign(1, expected))
        return not isinstance(expected, bool) and Decimal(expected).as_tuple() == Decimal(found).as_tuple()
    return type(expected) is type(found) and bool(expected == found)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{number}" for number in range(len(CASES))])
def test_a_record_becomes_what_it_says(results: list[Row], number: int) -> None:
    """The reasons against it, or all its columns, and the fields that the schema does not know."""
    case: Case = CASES[number]
    found = results[number]
    assert tuple(found["parse_failures"] or ()) == case.reasons, case.value
    if case.reasons:
        assert not found["is_well_formed"], case.value
        return
    columns = json.loads(found["columns"], parse_float=Number, parse_int=Number)
    assert same(case.row, columns), (case.value, columns)
    rescued = found["_rescued_data"] and json.loads(found["_rescued_data"])
    assert rescued == (case.rescued and json.loads(json.dumps(case.rescued))), case.value
    assert not (rescued and found["is_well_formed"]), case.value


def test_there_are_200_cases_of_every_kind() -> None:
    """Half of them good, half bad; every column has a value in some good one and a failure in some bad one."""
    good = [case for case in CASES if not case.reasons]
    assert len(CASES) >= 200
    assert min(len(good), len(CASES) - len(good)) >= 100
    assert {name for case in good for name in case.row} == set(SCHEMA.names)


def mixtures(number: int) -> list[bytes]:
    """Records of the fields of one to three cases each, some with null for a value, some with spaces."""
    chosen = random.Random(16)
    values = [case.value for case in CASES if case.value and case.value.startswith(START)]
    fields = [value[len(START) + 1 : -1].decode("latin-1") for value in values]
    made = []
    for _ in range(number):
        text = ",".join(filter(None, chosen.sample(fields, chosen.randint(1, 3))))
        if chosen.random() < 0.3:
            text = re.sub(r':("[^"]*"|\d+)', lambda match: chosen.choice([match[0], ":null", ": null"]), text)
        made.append(START + b"," + text.encode("latin-1") + chosen.choice([b"}", b"} ", b"}}", b',"x":null}']))
    return made


def test_what_is_read_at_once_holds_on_a_second_look(spark: SparkSession) -> None:
    """Nothing fails, is unknown or has another value in a record that the quick check took."""
    rows = [(number, bytearray(value)) for number, value in enumerate(mixtures(3_000))]
    quick = with_parsed_fields(spark.createDataFrame(rows, "number int, value binary").coalesce(1), SCHEMA)
    columns = F.to_json(F.struct(*(F.col(f"`{name}`") for name in SCHEMA.names)), TEXT)
    taken = quick.where("is_well_formed").withColumn("columns", columns)
    second = with_parse_failures(taken.withColumn("is_well_formed", F.lit(False)), SCHEMA)
    is_other = "parse_failures IS NOT NULL OR _rescued_data IS NOT NULL OR NOT columns <=> again"
    found = second.withColumn("again", columns).select("value", F.expr(is_other).alias("is_other")).collect()
    assert [bytes(row["value"]) for row in found if row["is_other"]] == []
    assert 100 < len(found) < 2_000
