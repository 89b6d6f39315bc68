"""Spark's sources `rate` and `rate-micro-batch`: each number is replaced by that row of the pipeline's generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession, functions as F, types as T

from streaming_lakehouse.config.options import OptionSpec, get_option
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.pipeline.synthetic import FAULT_RATE_OPTIONS, FaultRates, check_representable, generate_records
from streaming_lakehouse.sources import ReadRequest, Source
from streaming_lakehouse.sources.envelope import HEADERS, RECORD

if TYPE_CHECKING:
    import pyarrow as pa

_RATE = ("rowsPerSecond", "rampUpTime", "numPartitions")
_MICRO_BATCH = ("rowsPerBatch", "numPartitions", "startTimestamp", "advanceMillisPerBatch")
_MAPPED_SCHEMA = T.StructType(
    [RECORD["key"], RECORD["value"], T.StructField("row", T.LongType()), RECORD["source_timestamp"]]
)


def _read(form: str, options: tuple[str, ...]) -> Callable[[SparkSession, ReadRequest], DataFrame]:
    def read(spark: SparkSession, request: ReadRequest) -> DataFrame:
        """Generated records in bronze's envelope: `offset` is the row, `source_timestamp` the time from Spark."""
        given = {name: value for name in options if (value := get_option(request.options, name)) is not None}
        numbers = spark.readStream.format(form).options(**given).load()
        records = numbers.mapInArrow(_event_mapper(request), _MAPPED_SCHEMA)
        return records.select(
            "key", "value", F.lit(None).cast(HEADERS).alias("headers"),
            F.lit(f"{form}:seed={_seed(request)}").alias("source"), F.lit(0).alias("partition"),
            F.col("row").alias("offset"), "source_timestamp",
        )  # fmt: skip

    return read


def _event_mapper(request: ReadRequest) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    pipeline, table = request.pipeline, request.bronze.table
    seed, rates = int(_seed(request)), FaultRates.from_options(request.options)

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        generator = load_pipeline(pipeline).bronze_table(table).event_generator
        for batch in batches:
            rows = batch["value"].to_pylist()
            records = [
                next(generate_records(generator, seed=seed, start=row, end=row + 1, rates=rates)) for row in rows
            ]
            keys, values = (pa.array([record[field] for record in records], pa.binary()) for field in (0, 1))
            yield pa.RecordBatch.from_arrays(
                [keys, values, batch["value"], batch["timestamp"]], names=_MAPPED_SCHEMA.names
            )

    return make


def _seed(request: ReadRequest) -> str:
    return get_option(request.options, "seed") or "0"


def address(request: ReadRequest) -> dict[str, str]:
    """The seed. Raises LakehouseError for an invalid rate, and for a seed whose rows cannot be represented."""
    seed, rates = _seed(request), FaultRates.from_options(request.options)
    check_representable(
        request.bronze.event_generator, seed=int(seed), end=0, rates=rates, hint="give a smaller --option seed=…"
    )
    return {"seed": seed}


_MINIMUMS = {"rowsPerSecond": 1, "rowsPerBatch": 1, "numPartitions": 1, "advanceMillisPerBatch": 1, "seed": 0}


def _source(form: str, options: tuple[str, ...]) -> Source:
    names = (*options, "seed", *FAULT_RATE_OPTIONS)
    minimums = {name: minimum for name, minimum in _MINIMUMS.items() if name in names}
    spec = OptionSpec(f"source {form!r}", names, minimums)
    return Source(form, spec, _read(form, options), address, is_bounded=False, is_synthetic=True)


RATE, MICRO_BATCH = _source("rate", _RATE), _source("rate-micro-batch", _MICRO_BATCH)
