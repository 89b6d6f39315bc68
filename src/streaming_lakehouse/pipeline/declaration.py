"""What a domain declares: tables that name their inputs by reference, and the pipeline they form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any

from pyspark.sql import DataFrame, types as T

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.expectations import Expectation, expect_or_quarantine
from streaming_lakehouse.pipeline.synthetic import EventGenerator


class State(Enum):
    """What a gold query keeps between micro-batches, with the output modes in which Spark can run it.

    NONE: selections and projections. AGGREGATION: groups without a window, which never close. WINDOW: tumbling or
    sliding windows. SESSION: session windows. JOIN: a stream-stream join. CUSTOM: `transformWithState`.
    """

    NONE = ("append", "update")
    AGGREGATION = ("update", "complete")
    WINDOW = ("append", "update", "complete")
    SESSION = ("append", "complete")
    JOIN = ("append",)
    CUSTOM = ("append", "update")

    # Two members of equal output modes would be one and the same without an identity of their own.
    def __new__(cls, *output_modes: str) -> State:
        member = object.__new__(cls)
        member._value_ = len(cls.__members__)
        return member

    def __init__(self, *output_modes: str) -> None:
        self.output_modes = output_modes

    @property
    def is_aggregation(self) -> bool:
        return self in (State.AGGREGATION, State.WINDOW, State.SESSION)


@dataclass(frozen=True, eq=False)
class Bronze:
    """Every record of one event kind, unmodified. `generator` makes such records for demos and tests, where wanted."""

    table: str
    generator: EventGenerator | None = None

    @property
    def inputs(self) -> tuple[()]:
        return ()

    @property
    def event_generator(self) -> EventGenerator:
        """The generator. Raises LakehouseError where the table has none."""
        if self.generator is None:
            raise LakehouseError(
                f"bronze.{self.table} has no generator of synthetic events; choose another source, such as --source "
                "files --option path=…, or declare Bronze(…, generator=…)"
            )
        return self.generator


@dataclass(frozen=True, eq=False)
class Silver:
    """Typed, valid events of `source`, one row an event.

    `schema` is that of the JSON record. A row enters silver when all expectations are satisfied, when its `event_time`
    is not more than `watermark` behind the newest event of the batches before, and when no row with the same
    `dedup_key` is there yet. All other rows go to quarantine with the reason.

    `where`: which of the bronze table's records are of this kind, an SQL predicate over the bronze envelope; needed
    where several silver tables read one bronze table. The first table whose predicate is true takes the record.
    `transform`: a pure function of the valid rows, for enrichment and masking, that gives the columns of
    `transformed_schema`. It keeps the deduplication key and the event time as they are.
    `salt_variable`: the environment variable with the key of the hashes that `transform` makes. A run that reads other
    than synthetic records without it warns that they are made with a public one.
    """

    table: str
    source: Bronze
    schema: T.StructType
    watermark: timedelta
    expectations: tuple[Expectation, ...] = ()
    dedup_key: tuple[str, ...] = ("event_id",)
    event_time: str = "time"
    where: str | None = None
    transform: Callable[[DataFrame], DataFrame] | None = None
    transformed_schema: T.StructType | None = None
    salt_variable: str | None = None

    @property
    def inputs(self) -> tuple[Bronze]:
        return (self.source,)

    @property
    def event_schema(self) -> T.StructType:
        """The event's columns in silver: those of the record, or of the transform."""
        return self.transformed_schema or self.schema

    @property
    def all_expectations(self) -> tuple[Expectation, ...]:
        """What every pipeline expects of an event, then what this one does.

        Silver finds duplicates by the key and late rows by the time. A watermark starts in 1970: gold would drop older
        rows.
        """
        time = self.event_time
        return (
            *(expect_or_quarantine(f"{key}_is_present", f"CAST(`{key}` AS STRING) <> ''") for key in self.dedup_key),
            expect_or_quarantine(f"{time}_is_present", f"`{time}` IS NOT NULL"),
            expect_or_quarantine(
                f"{time}_is_not_before_1970", f"`{time}` IS NULL OR `{time}` >= TIMESTAMP '1970-01-01T00:00:00Z'"
            ),
            *self.expectations,
        )

    @property
    def watermark_delay(self) -> str:
        """The delay as `withWatermark` takes it; in milliseconds, so that fractions of a second are exact."""
        return f"{self.watermark // timedelta(milliseconds=1)} milliseconds"


@dataclass(frozen=True, eq=False)
class Reference:
    """A static or slowly changing table for stream-static joins, such as a registry of devices.

    `rows` gives its first content, tuples in the order of `schema`, and is asked only where the table does not exist;
    afterwards the table is its owner's. A query reads one version of it, which its checkpoint records.
    """

    table: str
    schema: T.StructType
    rows: Callable[[], Iterable[tuple[Any, ...]]]

    @property
    def inputs(self) -> tuple[()]:
        return ()


@dataclass(frozen=True, eq=False)
class Gold:
    """A table made by a pure function of its inputs' rows, which runs on a stream and on a batch alike.

    `transform` takes a DataFrame for each of `inputs`, in their order; with State.CUSTOM also `output_mode=`, which
    `transformWithState` asks for. `key` names the columns that identify a row: with the output mode update a row
    replaces the one with its key. `output_modes` are those in which the rows mean the same, the first of them being the
    default; without them they follow from the state.
    `reach`: how far, in event time, an event's effect goes, such as a window's length. A row is made of events at most
    this far apart, and is final once the watermark is this far past any of them. A backfill computes the rows within
    reach of its events again. None where there is no bound, as of a running level: it rebuilds the table.
    """

    table: str
    transform: Callable[..., DataFrame]
    key: tuple[str, ...]
    inputs: tuple[Silver | Reference, ...]
    state: State = State.WINDOW
    output_modes: tuple[str, ...] = ()
    reach: timedelta | None = None

    def __post_init__(self) -> None:
        if not self.output_modes:
            object.__setattr__(self, "output_modes", self.state.output_modes)

    @property
    def streams(self) -> tuple[Silver, ...]:
        return tuple(each for each in self.inputs if isinstance(each, Silver))

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(each for each in self.inputs if isinstance(each, Reference))


@dataclass(frozen=True, eq=False)
class HotPath:
    """Rows made straight from the source's valid events, beside the layers, for those who cannot wait for a batch.

    The transform may select and project, no more: it has no state, so that an event that is delivered twice gives two
    rows, and it has no watermark. The rows go to the sink under the name `name`, with `key` to recognise duplicates by.
    """

    name: str
    transform: Callable[[DataFrame], DataFrame]
    key: tuple[str, ...]
    input: Silver

    @property
    def inputs(self) -> tuple[Bronze]:
        return (self.input.source,)


@dataclass(frozen=True)
class Detection:
    """Which rows of a gold table are detections of which kind of anomaly, so that they can be held against the truth.

    A row matches an episode of the kind with the same entity when `time` is between the episode's first event and
    `tolerance` after its last. `entity` and `time` are columns of the table, `where` an SQL predicate over its rows.
    """

    kind: str
    table: str
    entity: str
    time: str
    where: str = "true"
    tolerance: timedelta = timedelta(hours=1)


Table = Bronze | Silver | Reference | Gold
LAYERS: Mapping[type, str] = {
    Bronze: "bronze",
    Silver: "silver",
    Reference: "reference",
    Gold: "gold",
    HotPath: "hot",
}


@dataclass(frozen=True, init=False)
class Pipeline:
    """A graph of tables: those that are given, and by reference all that they are made of.

    Raises LakehouseError for a graph that cannot run: a table name twice in a layer, a table that reads one of the
    wrong layer, a gold table without a stream, a join of streams that is not declared as one.
    """

    name: str
    tables: tuple[Table, ...]
    hot: HotPath | None = None
    detections: tuple[Detection, ...] = ()
    _layers: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, repr=False, compare=False)

    def __init__(
        self,
        name: str,
        *tables: Gold | Silver | Bronze,
        hot: HotPath | None = None,
        detections: tuple[Detection, ...] = (),
    ) -> None:
        ends = (*tables, hot.input) if hot else tables
        found = tuple(_upstream_first(name, ends))
        layers = {layer: tuple(table for table in found if isinstance(table, kind)) for kind, layer in LAYERS.items()}
        fields = {"name": name, "tables": found, "hot": hot, "detections": detections, "_layers": layers}
        for attribute, value in fields.items():
            object.__setattr__(self, attribute, value)
        _check_graph(self)

    @property
    def bronze(self) -> tuple[Bronze, ...]:
        return self._layers["bronze"]

    @property
    def silver(self) -> tuple[Silver, ...]:
        return self._layers["silver"]

    @property
    def gold(self) -> tuple[Gold, ...]:
        return self._layers["gold"]

    @property
    def references(self) -> tuple[Reference, ...]:
        return self._layers["reference"]

    def silver_of(self, bronze: Bronze) -> tuple[Silver, ...]:
        """The silver tables that read `bronze`, in the order in which they take its records."""
        return tuple(each for each in self.silver if each.source is bronze)

    def bronze_table(self, name: str) -> Bronze:
        return next(each for each in self.bronze if each.table == name)


def _upstream_first(name: str, ends: Iterable[Any]) -> Iterable[Table]:
    """All tables in the order the data flows: layer after layer, within one as they are declared."""
    found: dict[int, Table] = {}
    open_: list[Any] = []

    def visit(table: Any) -> None:
        if type(table) not in LAYERS or isinstance(table, HotPath):
            raise LakehouseError(f"pipeline {name!r}: {table!r} is no table; give Bronze, Silver, Reference or Gold")
        if table in open_:
            cycle = " → ".join(each.table for each in (*open_[open_.index(table) :], table))
            raise LakehouseError(f"pipeline {name!r}: a table is made of itself: {cycle}")
        open_.append(table)
        for upstream in table.inputs:
            visit(upstream)
        open_.pop()
        found.setdefault(id(table), table)

    for end in ends:
        visit(end)
    order = list(LAYERS)
    return sorted(found.values(), key=lambda table: order.index(type(table)))


def _check_graph(pipeline: Pipeline) -> None:
    name = f"pipeline {pipeline.name!r}"
    if not pipeline.tables:
        raise LakehouseError(f"{name} has no tables")
    names = Counter((LAYERS[type(table)], table.table) for table in pipeline.tables)
    if pipeline.hot:
        names["gold", pipeline.hot.name] += 1
    if twice := [f"{layer}.{table}" for (layer, table), number in names.items() if number > 1]:
        raise LakehouseError(f"{name}: there are two tables {' and '.join(twice)}; give each a name of its own")
    if pipeline.hot:
        _check_inputs(f"{name}: the hot path", (pipeline.hot.input,), Silver)
    for gold in pipeline.gold:
        _check_gold(f"{name}: gold.{gold.table}", gold)
    for silver in pipeline.silver:
        _check_silver(f"{name}: silver.{silver.table}", silver)
    for bronze in pipeline.bronze:
        routes = pipeline.silver_of(bronze)
        if len(routes) > 1 and (unrouted := [each.table for each in routes if not each.where]):
            raise LakehouseError(
                f"{name}: {', '.join(unrouted)} reads bronze.{bronze.table} beside other silver tables; say with "
                "where= which of its records it takes"
            )


def _check_inputs(name: str, inputs: Iterable[Table], *kinds: type) -> None:
    for each in inputs:
        if not isinstance(each, kinds):
            allowed = " or ".join(LAYERS[kind] for kind in kinds)
            raise LakehouseError(f"{name} reads {LAYERS[type(each)]}.{each.table}; it can read {allowed} tables only")


def _check_gold(name: str, gold: Gold) -> None:
    _check_inputs(name, gold.inputs, Silver, Reference)
    if not gold.streams:
        raise LakehouseError(f"{name} reads no silver table; name one in inputs=")
    if wrong := [mode for mode in gold.output_modes if mode not in gold.state.output_modes]:
        raise LakehouseError(
            f"{name}: a query with {gold.state.name} state has no output mode {', '.join(wrong)}; it has "
            f"{', '.join(gold.state.output_modes)}"
        )
    if gold.reach is not None and (gold.reach < timedelta(0) or gold.state in (State.AGGREGATION, State.SESSION)):
        raise LakehouseError(
            f"{name} has reach={gold.reach}; give the longest time between two events of a row, and none to sessions "
            "and to groups without a window, which have no longest"
        )
    if len(gold.streams) > 1 and gold.state is not State.JOIN:
        raise LakehouseError(
            f"{name} reads {len(gold.streams)} streams; a join of streams is declared state=State.JOIN"
        )
    if gold.state is State.JOIN and len(gold.streams) < 2:
        raise LakehouseError(f"{name} is declared as a join of streams and reads one; name the other in inputs=")


def _check_silver(name: str, silver: Silver) -> None:
    _check_inputs(name, silver.inputs, Bronze)
    if silver.watermark < timedelta(0):
        raise LakehouseError(f"{name}: the watermark is {silver.watermark}, and must not be negative")
    if (silver.transform is None) != (silver.transformed_schema is None):
        raise LakehouseError(f"{name}: transform= and transformed_schema= go together; give both or neither")
    for schema in (silver.schema, silver.event_schema):
        lacking = [key for key in (*silver.dedup_key, silver.event_time) if key not in schema.names]
        if lacking:
            raise LakehouseError(
                f"{name}: its schema has no column {', '.join(lacking)}; say with dedup_key= which columns identify an "
                "event, and with event_time= when it happened"
            )
