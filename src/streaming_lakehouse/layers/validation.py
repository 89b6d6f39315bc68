"""From a bronze record to a judged event: its route, its fields, and every reason against it."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, functions as F, types as T

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.layers.parsing import (
    PARSING_COLUMNS,
    record_failures,
    with_parse_failures,
    with_parsed_fields,
)
from streaming_lakehouse.pipeline import Silver
from streaming_lakehouse.pipeline.expectations import all_satisfied, failed_expectations, no_failures
from streaming_lakehouse.pipeline.fields import columns
from streaming_lakehouse.sources.envelope import BRONZE, PROVENANCE

HAS_ROUTE = "record_has_a_route"
# When a backfill added the row; null where silver's stream did.
BACKFILLED_AT = "backfilled_at"
RESERVED_COLUMNS = {
    *BRONZE.names,
    *PARSING_COLUMNS,
    "_route",
    "is_valid_event",
    "failed_expectations",
    "is_duplicate",
    "delivery_number",
    BACKFILLED_AT,
    "_refused_for",
    "_waits",
}


def schema(silver: Silver) -> T.StructType:
    """Silver's columns: those that gold sees, and when a backfill added the row."""
    return T.StructType([*gold_input_schema(silver), T.StructField(BACKFILLED_AT, T.TimestampType())])


def gold_input_schema(silver: Silver) -> T.StructType:
    """The event's columns, `_rescued_data`, and the provenance of the row."""
    rescued = T.StructField("_rescued_data", T.StringType())
    return T.StructType([*columns(silver.event_schema), rescued, *(BRONZE[name] for name in PROVENANCE)])


def check_reserved_columns(silver: Silver) -> None:
    """Raises LakehouseError where a column of the event would replace one that describes its record."""
    for name in (*silver.schema.names, *silver.event_schema.names):
        if name.lower() in RESERVED_COLUMNS:  # Spark compares names without case
            raise LakehouseError(
                f"{silver.table}: no column of the event can be called {name!r}, since one of its record is; choose "
                f"another name, and give the record's with json=. Taken are {', '.join(sorted(RESERVED_COLUMNS))}"
            )


def routed(records: DataFrame, silver: Silver, routes: tuple[Silver, ...]) -> DataFrame:
    """The records that `silver` takes, with `_route` string: the silver table whose predicate is the first to be true.

    A record that no route takes has a null there. It goes to the first of the routes, which quarantines it.
    """
    route = F.lit(None).cast("string")
    for each in reversed(routes):
        takes = F.coalesce(F.expr(each.where).cast("boolean"), F.lit(False)) if each.where else F.lit(True)
        route = F.when(takes, F.lit(each.table)).otherwise(route)
    with_route = records.withColumn("_route", route)
    if len(routes) == 1:
        return with_route
    mine = F.col("_route") == silver.table
    return with_route.where(mine | F.col("_route").isNull() if silver is routes[0] else mine)


def validate(records: DataFrame, silver: Silver, routes: tuple[Silver, ...] = ()) -> DataFrame:
    """The bronze records that `silver` takes, with the event's columns and every reason against it.

    The expectations are not evaluated for a record that could not be parsed. Adds: the event's fields;
    `_rescued_data` string; `failed_expectations` array<string>, empty for a valid event.
    """
    expectations = [each for each in silver.all_expectations if each.on_violation == "quarantine"]
    taken = routed(records, silver, routes or (silver,))
    events = with_parsed_fields(taken, silver.schema).withColumn(
        "is_valid_event", F.col("_route").isNotNull() & F.col("is_well_formed") & all_satisfied(expectations)
    )
    # Most events are valid, which is cheap to see: reasons are computed for the others only.
    reasons = F.coalesce("parse_failures", failed_expectations(expectations))
    has_no_route = F.when(F.col("_route").isNull(), F.coalesce(record_failures(), F.array(F.lit(HAS_ROUTE))))
    failed = F.when(F.col("is_valid_event"), no_failures()).otherwise(F.coalesce(has_no_route, reasons))
    judged = with_parse_failures(events, silver.schema).withColumn("failed_expectations", failed)
    return judged.drop("_route", "is_well_formed", "is_valid_event", "parse_failures")


def is_valid() -> Column:
    """True where `validate` found nothing against a row."""
    return F.size("failed_expectations") == 0
