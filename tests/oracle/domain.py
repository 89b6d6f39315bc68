"""What the oracle has to know of a pipeline, in plain Python; a module declares it as `DOMAIN`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

from .json_types import BINARY, INTEGER, LONG, STRING, TIMESTAMP
from .json_values import Array, Field, Struct, Type

Row = dict[str, Any]
Columns = Mapping[str, Type | None]  # None stands for any type

KEY = ("source", "partition", "offset")
ENVELOPE: Columns = {
    "key": BINARY,
    "value": BINARY,
    "headers": None,
    "source": STRING,
    "partition": INTEGER,
    "offset": LONG,
    "source_timestamp": TIMESTAMP,
    "ingested_at": TIMESTAMP,
}
PROVENANCE = (*KEY, "source_timestamp", "ingested_at")
QUARANTINE: Columns = {**ENVELOPE, "failed_expectations": Array(STRING)}


@dataclass(frozen=True)
class Expectation:
    """`is_met` is asked of the event's columns and its record's source, partition, offset and timestamps."""

    name: str
    is_met: Callable[[Row], bool]


@dataclass(frozen=True)
class Silver:
    """A silver table, read from the bronze table `bronze`.

    `expectations`: those of the pipeline's own that quarantine; those of the key and the event time come before them.
    `watermark`: microseconds. `route`: whether the table takes a record, by its JSON object and its bronze row; of
    several tables the first that does has it. `transform`: from a valid row's columns to those of `transformed`.
    """

    table: str
    bronze: str
    fields: Sequence[Field]
    watermark: int
    expectations: Sequence[Expectation] = ()
    dedup_key: tuple[str, ...] = ("event_id",)
    event_time: str = "time"
    route: Callable[[Row, Row], bool] | None = None
    transform: Callable[[Row], Row] | None = None
    transformed: Sequence[Field] = ()

    @cached_property
    def columns(self) -> Columns:
        event = {each.name: each.type for each in self.transformed or self.fields}
        provenance = {name: ENVELOPE[name] for name in PROVENANCE}
        return {**event, "_rescued_data": STRING, **provenance, "backfilled_at": TIMESTAMP}

    @cached_property
    def event(self) -> Struct:
        return Struct(tuple(self.fields))

    @cached_property
    def all_expectations(self) -> tuple[Expectation, ...]:
        time = self.event_time
        return (
            *(Expectation(f"{key}_is_present", present(key)) for key in self.dedup_key),
            Expectation(f"{time}_is_present", lambda row: row[time] is not None),
            Expectation(f"{time}_is_not_before_1970", lambda row: row[time] is None or row[time] >= 0),
            *self.expectations,
        )


@dataclass(frozen=True)
class Gold:
    """A gold table. `rows` gives its rows from lists of the rows of `inputs`, such as `silver/weather_readings`.

    `closes_at`: the moment that the watermark must have reached before a row is written in append mode, None for a row
    that is written at once; without it, and in the other modes, all rows are there. `may_be_absent`: rows of which
    rounding decides whether they exist. A number of type `Rounded` may differ in its last digits, one in a column of
    `rounded` by that share, any other not at all.
    """

    table: str
    key: tuple[str, ...]
    columns: Columns
    inputs: tuple[str, ...]
    rows: Callable[..., Iterable[Row]]
    closes_at: Callable[[Row], int | None] | None = None
    may_be_absent: Callable[[Row], bool] | None = None
    rounded: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Domain:
    """A pipeline's tables, but for its bronze tables, which are those that silver reads."""

    name: str
    silver: tuple[Silver, ...]
    gold: tuple[Gold, ...] = ()

    @property
    def bronze(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(silver.bronze for silver in self.silver))

    def silver_of(self, bronze: str) -> tuple[Silver, ...]:
        return tuple(silver for silver in self.silver if silver.bronze == bronze)

    @property
    def tables(self) -> dict[str, Columns]:
        """The columns of each table that the pipeline writes, by its folder in the lake."""
        return {
            **{f"bronze/{table}": ENVELOPE for table in self.bronze},
            **{f"silver/{silver.table}": silver.columns for silver in self.silver},
            **{f"quarantine/{table}": QUARANTINE for table in self.bronze},
            **{f"gold/{gold.table}": gold.columns for gold in self.gold},
        }


def load_domain(pipeline: str) -> Domain:
    """The domain of a pipeline: that of the module here of its name."""
    return import_domain(f"{__package__}.{pipeline}")


def import_domain(module: str) -> Domain:
    """The `DOMAIN` of a module; ValueError where there is none."""
    try:
        domain: Domain = import_module(module).DOMAIN
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"no module {module} declares a DOMAIN: {error}") from error
    return domain


def present(column: str) -> Callable[[Row], bool]:
    """Neither null nor an empty string."""
    return lambda row: row[column] is not None and row[column] != ""


def within(column: str, low: float, high: float) -> Callable[[Row], bool]:
    """Null or from `low` to `high`, both included."""
    return lambda row: row[column] is None or low <= row[column] <= high


def not_ahead(column: str, by: int) -> Callable[[Row], bool]:
    """Null or at most `by` microseconds after the record's arrival: the earlier one of the two that are known."""

    def is_met(row: Row) -> bool:
        arrivals = [at for at in (row["source_timestamp"], row["ingested_at"]) if at is not None]
        return row[column] is None or not arrivals or row[column] <= min(arrivals) + by

    return is_met
