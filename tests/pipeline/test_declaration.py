"""The graph of tables that a pipeline declares: its order, and what cannot run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, types as T
from support.domains.shop.pipeline import PIPELINE as SHOP
from support.weather import WEATHER

from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline import Bronze, Gold, HotPath, Pipeline, Reference, Silver, State

SCHEMA = T.StructType([T.StructField("event_id", T.StringType()), T.StructField("time", T.TimestampType())])
RECORDS = Bronze("records", generator=READINGS)
EVENTS = Silver("events", source=RECORDS, schema=SCHEMA, watermark=timedelta(minutes=1))
OTHERS = Silver("others", source=Bronze("other_records", generator=READINGS), schema=SCHEMA, watermark=timedelta(0))
CODES = Reference("codes", schema=SCHEMA, rows=lambda: ())


def first(rows: DataFrame, *_: DataFrame) -> DataFrame:
    return rows


def gold(table: str = "totals", *inputs: Any, **fields: Any) -> Gold:
    return Gold(table, first, ("event_id",), inputs=inputs or (EVENTS,), **fields)


def test_tables_are_ordered_by_layer_and_each_is_there_once() -> None:
    """Whatever the order of their declaration, and however many tables read them."""
    pipeline = Pipeline("p", gold("join", EVENTS, OTHERS, CODES, state=State.JOIN), gold("totals", EVENTS), OTHERS)
    assert [each.table for each in pipeline.tables] == [
        "records", "other_records", "events", "others", "codes", "join", "totals",
    ]  # fmt: skip
    assert pipeline.silver_of(RECORDS) == (EVENTS,)
    assert pipeline.references == (CODES,)
    assert pipeline.bronze_table("other_records") is OTHERS.source


def test_output_modes_follow_from_the_state() -> None:
    """Without modes of its own a table has those that Spark can run with its state."""
    modes = {each.table.removeprefix("shop_"): each.output_modes for each in SHOP.gold}
    assert modes == {
        "order_payments": ("append",),
        "category_hourly": ("append", "update", "complete"),
        "visit_sessions": ("append", "complete"),
        "customer_totals": ("update", "complete"),
        "product_ranking": ("complete",),
        "customer_products": ("update",),
        "large_payments": ("append", "update"),
    }
    assert {each.table: each.output_modes for each in WEATHER.gold}["weather_alerts"] == ("append",)


def cyclic() -> Gold:
    """A table that reads itself: frozen tables cannot be declared so, short of this."""
    table = gold()
    object.__setattr__(table, "inputs", (EVENTS, table))
    return table


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Pipeline("p"), "pipeline 'p' has no tables"),
        (lambda: Pipeline("p", cyclic()), "pipeline 'p': a table is made of itself: totals → totals"),
        (lambda: Pipeline("p", "gold"), "'gold' is no table; give Bronze, Silver, Reference or Gold"),  # type: ignore[arg-type]
        (lambda: Pipeline("p", gold("a"), gold("a"), gold("b")), r"there are two tables gold\.a; give each a name"),
        (
            lambda: Pipeline("p", gold(), hot=HotPath("totals", first, ("event_id",), input=EVENTS)),
            r"there are two tables gold\.totals",
        ),
        (
            lambda: Pipeline("p", gold("a", replace(EVENTS, source=Bronze("records", generator=READINGS))), gold("b")),
            r"there are two tables bronze\.records and silver\.events",
        ),
        (
            lambda: Pipeline("p", gold("a"), gold("b", replace(EVENTS, table="more", where="true"))),
            r"events reads bronze\.records beside other silver tables; say with where=",
        ),
        (lambda: Pipeline("p", gold("a", CODES)), r"gold\.a reads no silver table; name one in inputs="),
        (lambda: Pipeline("p", Gold("a", first, (), inputs=())), r"gold\.a reads no silver table"),
        (lambda: Pipeline("p", gold("a", gold("b"))), r"gold\.a reads gold\.b; it can read silver or reference tables"),
        (lambda: Pipeline("p", gold("a", EVENTS, RECORDS)), r"gold\.a reads bronze\.records; it can read silver or"),
        (
            lambda: Pipeline("p", gold("a", replace(EVENTS, source=CODES))),
            r"silver\.events reads reference\.codes; it can read bronze tables only",
        ),
        (
            lambda: Pipeline("p", hot=HotPath("now", first, ("event_id",), input=gold())),  # type: ignore[arg-type]
            r"the hot path reads gold\.totals; it can read silver tables only",
        ),
        (
            lambda: Pipeline("p", gold("a", EVENTS, OTHERS)),
            r"gold\.a reads 2 streams; a join of streams is declared state=State\.JOIN",
        ),
        (
            lambda: Pipeline("p", gold("a", EVENTS, CODES, state=State.JOIN)),
            r"gold\.a is declared as a join of streams and reads one",
        ),
        (
            lambda: Pipeline("p", gold(state=State.SESSION, output_modes=("update", "append"))),
            "a query with SESSION state has no output mode update; it has append, complete",
        ),
        (
            lambda: Pipeline("p", replace(EVENTS, watermark=timedelta(seconds=-1))),
            r"silver\.events: the watermark is .* and must not be negative",
        ),
        (
            lambda: Pipeline("p", replace(EVENTS, transform=first)),
            "transform= and transformed_schema= go together",
        ),
        (
            lambda: Pipeline("p", replace(EVENTS, transformed_schema=SCHEMA)),
            "transform= and transformed_schema= go together",
        ),
        (
            lambda: Pipeline("p", replace(EVENTS, dedup_key=("event_id", "number"), event_time="at")),
            r"silver\.events: its schema has no column number, at; say with dedup_key= which",
        ),
        (
            lambda: Pipeline("p", replace(EVENTS, transform=first, transformed_schema=T.StructType(SCHEMA.fields[:1]))),
            "its schema has no column time; say with dedup_key=",
        ),
    ],
)
def test_a_graph_that_cannot_run_is_refused(declare: Callable[[], Pipeline], message: str) -> None:
    """As it is declared, so at import: with the table's name, and with what to change."""
    with pytest.raises(LakehouseError, match=message):
        declare()


def test_the_watermark_is_exact() -> None:
    """In milliseconds, as Spark counts it."""
    assert replace(EVENTS, watermark=timedelta(minutes=1, milliseconds=500)).watermark_delay == "60500 milliseconds"
