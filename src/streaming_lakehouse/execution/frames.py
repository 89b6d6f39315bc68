"""What the steps of a pipeline compute, as Spark plans over inputs of the right columns that deliver no record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession, functions as F, types as T

from streaming_lakehouse.layers import gold, validation
from streaming_lakehouse.pipeline import Gold, HotPath, Reference, Silver
from streaming_lakehouse.pipeline.fields import columns
from streaming_lakehouse.pipeline.steps import Step
from streaming_lakehouse.sources.envelope import BRONZE, QUARANTINE

# from_json ignores this option: by it a plan says which table an input is.
TABLE_OPTION = "lakehouseTable"
# The same for all: a plan says what is computed, whatever delay the pipeline declares.
_DELAY = "1 second"


def input_schemas(step: Step) -> dict[str, T.StructType]:
    """The columns that a step's transform reads, by the name of the input."""
    match step.makes:
        case Silver() as silver:
            return {f"events.{silver.table}": parsed_schema(silver)}
        case HotPath() as hot:
            return {f"events.{hot.input.table}": parsed_schema(hot.input)}
        case Gold() as makes:
            return {
                _gold_input(each): validation.gold_input_schema(each) if isinstance(each, Silver) else each.schema
                for each in makes.inputs
            }
    return {}


def parsed_schema(silver: Silver, *, is_judged: bool = True) -> T.StructType:
    """The records with the event's columns, which expectations see; judged, also with what was rescued."""
    judged = [T.StructField("_rescued_data", T.StringType()), QUARANTINE["failed_expectations"]] if is_judged else []
    return T.StructType([*BRONZE, *columns(silver.schema), *judged])


@dataclass
class PlanFrames:
    """Builds the plans of steps. Whatever a pipeline's function raises is raised here.

    `schemas` are columns that inputs have instead of those that are declared.
    """

    spark: SparkSession
    schemas: Mapping[str, T.StructType] = field(default_factory=dict)
    _inputs: dict[str, DataFrame] = field(default_factory=dict)

    def rows(self, step: Step, output_mode: str) -> DataFrame | None:
        """The rows of the step's transform; None where it has none."""
        match step.makes:
            case Silver(transform=None):
                return None
            case Silver() as silver:
                assert silver.transform
                return silver.transform(self.batch(f"events.{silver.table}", parsed_schema(silver)))
            case Gold() as makes:
                return gold.transform([self._of_gold(each) for each in makes.inputs], makes, output_mode)
            case HotPath() as hot:
                events = self._stream(f"events.{hot.input.table}", parsed_schema(hot.input))
                return hot.transform(hot.input.transform(events) if hot.input.transform else events)
        return None

    def batch(self, name: str, schema: T.StructType) -> DataFrame:
        """Rows of no stream."""
        if name not in self._inputs:
            numbers = self.spark.range(1).select(F.col("id").cast("string").alias("record"))
            self._inputs[name] = _rows(numbers, name, self.schemas.get(name, schema))
        return self._inputs[name]

    def _of_gold(self, table: Silver | Reference) -> DataFrame:
        if isinstance(table, Silver):
            rows = self._stream(_gold_input(table), validation.gold_input_schema(table))
            return rows.withWatermark(table.event_time, _DELAY)
        return self.batch(_gold_input(table), table.schema)

    def _stream(self, name: str, schema: T.StructType) -> DataFrame:
        key = f"stream {name}"
        if key not in self._inputs:
            numbers = self.spark.readStream.format("rate").load().select(F.col("value").cast("string").alias("record"))
            self._inputs[key] = _rows(numbers, name, self.schemas.get(name, schema))
        return self._inputs[key]


def _gold_input(table: Silver | Reference) -> str:
    return f"{'silver' if isinstance(table, Silver) else 'reference'}.{table.table}"


def _rows(records: DataFrame, name: str, schema: T.StructType) -> DataFrame:
    """Rows that the optimizer knows nothing of: an empty relation would make every plan an empty relation."""
    return records.select(F.inline(F.from_json("record", T.ArrayType(schema), {TABLE_OPTION: name})))
