"""Finds the mistakes in a pipeline's own rules and functions before a record is read: each is one line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from py4j.protocol import Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.execution.frames import PlanFrames, parsed_schema
from streaming_lakehouse.execution.own_errors import definition, describe, location, relative
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.pipeline import Detection, Gold, HotPath, Silver
from streaming_lakehouse.pipeline.expectations import Expectation
from streaming_lakehouse.pipeline.steps import Step
from streaming_lakehouse.session import is_connect
from streaming_lakehouse.sources.envelope import BRONZE

_NOT_IN_COLUMN_NAMES = re.compile(r"[ ,;{}()\n\t=]")  # Delta's


def check(plan: RunPlan, spark: SparkSession) -> dict[str, DataFrame]:
    """The plan of each step's rows, by the step's name, for silver with a transform, gold, and the hot path.

    Raises LakehouseError with a line for each mistake: a predicate or a function that Spark cannot resolve, a key that
    is no column, a query that Spark does not run as a stream.
    """
    finder = _Finder(plan, PlanFrames(spark))
    for step in plan.steps:
        finder.check(step)
    if finder.found:
        raise LakehouseError("\n".join(finder.found))
    return finder.rows


@dataclass
class _Finder:
    plan: RunPlan
    frames: PlanFrames
    found: list[str] = field(default_factory=list)
    rows: dict[str, DataFrame] = field(default_factory=dict)

    def check(self, step: Step) -> None:
        match step.makes:
            case Silver():
                self._check_silver(step, step.makes)
            case Gold():
                self._check_gold(step, step.makes)
            case HotPath():
                self._check_hot(step, step.makes)
            case _:
                pass

    def _check_silver(self, step: Step, silver: Silver) -> None:
        if silver.where:
            with self._reported(f"{step}: where={silver.where!r}"):
                self.frames.batch("records", BRONZE).select("offset", F.expr(silver.where).cast("boolean"))
        self._check_expectations(step, silver)
        if silver.transform is None:
            return
        if (rows := self._built(step, silver.transform)) is not None:
            self.found.extend(_differences(step, silver, rows))

    def _check_expectations(self, step: Step, silver: Silver) -> None:
        """All at once, and one by one where that fails: most often none is wrong."""
        for is_judged in (False, True):
            chosen = [each for each in silver.all_expectations if (each.on_violation != "quarantine") == is_judged]
            if not chosen:
                continue
            rows = self.frames.batch(f"parsed.{silver.table}.{is_judged}", parsed_schema(silver, is_judged=is_judged))
            if _resolves(rows, chosen):
                continue
            for each in chosen:
                where = f" ({relative(each.declared_at)})" if each.declared_at else ""
                with self._reported(f"{step}{where}: the expectation {each.name!r}, {each.predicate!r}"):
                    _resolve(rows, [each])

    def _check_gold(self, step: Step, makes: Gold) -> None:
        if self._built(step, makes.transform) is not None:
            self._check_columns(step, makes.key, makes.transform)
            for detection in self.plan.pipeline.detections:
                if detection.table == makes.table:
                    self._check_detection(step, detection)

    def _check_hot(self, step: Step, hot: HotPath) -> None:
        if self._built(step, hot.transform) is not None:
            self._check_columns(step, hot.key, hot.transform)

    def _built(self, step: Step, transform: Callable[..., Any]) -> DataFrame | None:
        """The step's rows; None where they cannot be computed, which is a mistake."""
        with self._reported(f"{step}: its transform", transform):
            mode = self.plan.output_mode(step)
            rows = self.frames.rows(step, mode)
            if rows is not None and self._is_checked_as_stream(step):
                _check_streamable(rows, mode)
            if rows is not None:
                self.rows[step.name] = rows
        return self.rows.get(step.name)

    def _is_checked_as_stream(self, step: Step) -> bool:
        """Silver's transform gets one batch after the other; a continuous query cannot read the inputs used here."""
        return not isinstance(step.makes, Silver) and self.plan.trigger.kind != "continuous"

    def _check_columns(self, step: Step, key: tuple[str, ...], transform: Callable[..., Any]) -> None:
        names, where = self.rows[step.name].columns, definition(transform)
        for column in key:
            if column not in names:
                self.found.append(
                    f"{step}: its transform{where} gives no column {column!r}, which is in key="
                    + did_you_mean(column, names)
                )
        for name, number in Counter(map(str.lower, names)).items():
            if number > 1:
                self.found.append(
                    f"{step}: its transform{where} gives {number} columns {name!r}; give each a name of its own"
                )
        for name in names:
            if _NOT_IN_COLUMN_NAMES.search(name):
                self.found.append(
                    f"{step}: its transform{where} gives a column {name!r}, a name that no table can have; add an alias"
                )

    def _check_detection(self, step: Step, detection: Detection) -> None:
        names = self.rows[step.name].columns
        for column in (detection.entity, detection.time):
            if column not in names:
                self.found.append(
                    f"{step}: there is no column {column!r}, as the detection {detection.kind!r} says"
                    + did_you_mean(column, names)
                )
        with self._reported(f"{step}: where={detection.where!r} of the detection {detection.kind!r}"):
            self.rows[step.name].where(detection.where)

    @contextmanager
    def _reported(self, what: str, function: Callable[..., Any] | None = None) -> Iterator[None]:
        """Collects what a rule or function raises, whatever it is; a JVM that has ended is no mistake of theirs."""
        try:
            yield
        except (ConnectionError, Py4JNetworkError):
            raise
        except Exception as error:
            where = location(error, function) if function else ""
            self.found.append(f"{what}{where}: {describe(error)}")


def _resolves(rows: DataFrame, expectations: list[Expectation]) -> bool:
    try:
        _resolve(rows, expectations)
    except PySparkException:
        return False
    return True


def _resolve(rows: DataFrame, expectations: list[Expectation]) -> None:
    """Beside a column, so that an aggregate function is no rule."""
    rows.select("offset", *(each.is_violated.alias(each.name) for each in expectations))


def _differences(step: Step, silver: Silver, rows: DataFrame) -> Iterator[str]:
    """How the transform's columns differ from those that are declared."""
    given = {column.name: column.dataType.simpleString() for column in rows.schema}
    for column in silver.event_schema:
        declared = column.dataType.simpleString()
        if column.name not in given:
            yield f"{step}: its transform gives no column {column.name!r}, which transformed_schema has" + did_you_mean(
                column.name, given
            )
        elif given[column.name] != declared:
            yield f"{step}: its transform gives {column.name!r} as {given[column.name]}; declared is {declared}"


def _check_streamable(rows: DataFrame, mode: str) -> None:
    """Raises Spark's error where it cannot run this plan as a stream in this mode; a Connect client cannot ask."""
    if is_connect(rows.sparkSession):
        return
    jvm: Any = rows.sparkSession._jvm
    output_mode = getattr(jvm.org.apache.spark.sql.streaming.OutputMode, mode.capitalize())()
    checker = jvm.org.apache.spark.sql.catalyst.analysis.UnsupportedOperationChecker
    checker.checkForStreaming(rows._jdf.queryExecution().analyzed(), output_mode)
