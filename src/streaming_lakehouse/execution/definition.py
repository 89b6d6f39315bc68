"""What a step computes, recorded in its checkpoint, so that rows which would not mean the same are not mixed.

A definition has digests of the optimized plan of the step's rows, so that code may be rearranged, and of the Python
code that Spark calls for each row; and what is declared: key, watermarks, routes, expectations.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pyspark
from pyspark.sql import DataFrame

from streaming_lakehouse.execution.frames import input_schemas
from streaming_lakehouse.execution.plan_text import plan_text
from streaming_lakehouse.execution.python_code import reachable_source
from streaming_lakehouse.pipeline import Gold, Pipeline, Silver
from streaming_lakehouse.pipeline.fields import readings
from streaming_lakehouse.pipeline.steps import Step

Definition = Mapping[str, Any]
FORMAT = 1  # of the digests: another one's are not compared
_RUNS_PYTHON = re.compile(r"\w*(?:PySpark|Python|Pandas|Arrow)\w*")


def define(pipeline: Pipeline, step: Step, rows: DataFrame | None) -> Definition:
    """The definition of a step; `rows` are those of its transform, None where it has none."""
    found: dict[str, Any] = {"digests": f"{FORMAT}, Spark {pyspark.__version__}"}
    if isinstance(step.makes, Silver):
        found |= _of_silver(pipeline, step.makes)
    if isinstance(step.makes, Gold):
        found |= {
            "key": sorted(step.makes.key),
            "watermarks_ms": {each.table: _ms(each) for each in step.makes.streams},
        }
    if rows is not None:
        found["inputs"] = {name: schema.jsonValue() for name, schema in input_schemas(step).items()}
        found["columns"] = output_columns(step, rows)
        found |= digests(step, rows, found["columns"])
    return found


def output_columns(step: Step, rows: DataFrame) -> list[str]:
    return sorted(step.makes.event_schema.names if isinstance(step.makes, Silver) else rows.columns)


def digests(step: Step, rows: DataFrame, columns: list[str]) -> Definition:
    """The digests of these columns of a transform's rows."""
    text = plan_text(rows.select(*(f"`{name.replace('`', '``')}`" for name in columns)))
    found = {"rows": _digest(text)}
    if _RUNS_PYTHON.search(text):
        found["python"] = _digest(reachable_source(step.makes.transform))  # type: ignore[union-attr,arg-type]
    return found


def _of_silver(pipeline: Pipeline, silver: Silver) -> Definition:
    routes = pipeline.silver_of(silver.source)
    before = routes[: routes.index(silver) + 1]  # a route behind it takes nothing from it
    expectations = [[each.name, each.predicate, each.on_violation] for each in silver.all_expectations]
    return {
        "key": sorted(silver.dedup_key),
        "event_time": silver.event_time,
        "readings": readings(silver.schema),
        "routes": [" ".join((each.where or "").split()) for each in before],
        "watermarks_ms": {silver.table: _ms(silver)},
        "expectations": _digest(repr(expectations)),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _ms(silver: Silver) -> int:
    return silver.watermark // timedelta(milliseconds=1)
