"""Spark's own clockwork, `rate` and `rate-micro-batch`: each number becomes that row of the pipeline's events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession, functions as F, types as T

from streaming_lakehouse.generation import SHARES, Shares, check_last, records
from streaming_lakehouse.options import option
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.sources import Request, Source
from streaming_lakehouse.sources.envelope import HEADERS, RECORD

if TYPE_CHECKING:
    import pyarrow as pa

_RATE = ("rowsPerSecond", "rampUpTime", "numPartitions")
_MICRO_BATCH = ("rowsPerBatch", "numPartitions", "startTimestamp", "advanceMillisPerBatch")
_MADE = T.StructType([RECORD["key"], RECORD["value"], T.StructField("row", T.LongType()), RECORD["source_timestamp"]])


def _read(form: str, options: tuple[str, ...]) -> Callable[[SparkSession, Request], DataFrame]:
    def read(spark: SparkSession, request: Request) -> DataFrame:
        """Generated records in bronze's envelope: `offset` is the row, `source_timestamp` the moment Spark gave it."""
        given = {name: value for name in options if (value := option(request.options, name)) is not None}
        numbers = spark.readStream.format(form).options(**given).load()
        made = numbers.mapInArrow(_maker(request), _MADE)
        return made.select(
            "key", "value", F.lit(None).cast(HEADERS).alias("headers"),
            F.lit(f"{form}:seed={_seed(request)}").alias("source"), F.lit(0).alias("partition"),
            F.col("row").alias("offset"), "source_timestamp",
        )  # fmt: skip

    return read


def _maker(request: Request) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    pipeline, seed, shares = request.pipeline.name, int(_seed(request)), Shares.of(request.options)

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        events = load_pipeline(pipeline).bronze.events
        for batch in batches:
            rows = batch["value"].to_pylist()
            made = [next(records(events, seed=seed, start=row, end=row + 1, shares=shares)) for row in rows]
            keys, values = (pa.array([part[at] for part in made], pa.binary()) for at in (0, 1))
            yield pa.RecordBatch.from_arrays([keys, values, batch["value"], batch["timestamp"]], names=_MADE.names)

    return make


def _seed(request: Request) -> str:
    return option(request.options, "seed") or "0"


def place(request: Request) -> dict[str, str]:
    """The seed. Raises LakehouseError for a share that is none, and for a seed of which no row can be made."""
    events, shares, seed = request.pipeline.bronze.events, Shares.of(request.options), _seed(request)
    check_last(events, seed=int(seed), end=0, shares=shares, otherwise="give a smaller --option seed=…")
    return {"seed": seed}


_LEAST = {"rowsPerSecond": 1, "rowsPerBatch": 1, "numPartitions": 1, "advanceMillisPerBatch": 1, "seed": 0}
RATE, MICRO_BATCH = (
    Source(
        form,
        (*options, "seed", *SHARES),
        _read(form, options),
        place,
        {name: least for name, least in _LEAST.items() if name in (*options, "seed")},
        ends=False,
    )
    for form, options in (("rate", _RATE), ("rate-micro-batch", _MICRO_BATCH))
)
