"""Expectations: SQL predicates with names that say when an event is valid, named as in Lakeflow, but a row that
fails is quarantined, never dropped."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from pyspark.sql import Column, functions as F

from streaming_lakehouse.errors import LakehouseError

_NAME = re.compile(r"\w[\w-]*")
_CLOCK_TOLERANCE = timedelta(hours=1)


@dataclass(frozen=True)
class Expectation:
    """A named predicate over an event and its bronze envelope; violated where it is not true, null included.

    `declared_at` is the file and line that declare it, for error messages.
    """

    name: str
    predicate: str
    on_violation: Literal["warn", "quarantine", "fail"]
    declared_at: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LakehouseError(
                f"an expectation's name is words joined by _, such as amount_in_range, not {self.name!r}"
            )

    @property
    def is_violated(self) -> Column:
        return ~F.coalesce(F.expr(self.predicate).cast("boolean"), F.lit(False))


def expect(name: str, predicate: str) -> Expectation:
    """Rows that violate it enter silver; their number is logged with each batch."""
    return Expectation(name, predicate, "warn", _caller())


def expect_or_quarantine(name: str, predicate: str) -> Expectation:
    """Rows that violate it go to quarantine."""
    return Expectation(name, predicate, "quarantine", _caller())


def expect_or_fail(name: str, predicate: str) -> Expectation:
    """A row that violates it stops the run before its batch is committed."""
    return Expectation(name, predicate, "fail", _caller())


def _caller() -> str:
    """The line that calls the function which calls this one."""
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def expect_not_ahead(time: str = "time", *, tolerance: timedelta = _CLOCK_TOLERANCE) -> Expectation:
    """Rows whose `time` is more than `tolerance` after their arrival go to quarantine, as `<time>_is_not_ahead`.

    A clock that runs ahead would move the watermark and make everybody else's events late. The arrival is the earlier
    of the two times that are known, since a producer's clock may be the one that is wrong.
    """
    latest = f"least(source_timestamp, ingested_at) + INTERVAL {tolerance // timedelta(seconds=1)} SECONDS"
    predicate = f"`{time}` IS NULL OR `{time}` <= {latest}"
    return Expectation(f"{time}_is_not_ahead", predicate, "quarantine", _caller())


def failed_expectations(expectations: Iterable[Expectation]) -> Column:
    """The names of the violated expectations, an array<string> in their order."""
    names = [F.when(expectation.is_violated, F.lit(expectation.name)) for expectation in expectations]
    return F.array_compact(F.array(*names)) if names else no_failures()


def all_satisfied(expectations: Iterable[Expectation]) -> Column:
    """True where none is violated."""
    holds = F.lit(True)
    for expectation in expectations:
        holds = holds & ~expectation.is_violated
    return holds


def no_failures() -> Column:
    return F.array().cast("array<string>")
