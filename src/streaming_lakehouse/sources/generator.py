"""The generator: a domain's made-up events as a stream that can be replayed from any offset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import SHARES, Shares, check_last
from streaming_lakehouse.options import option
from streaming_lakehouse.sources import Request, Source

_ACCEPTS = (
    "numRows",
    "seed",
    "rowsPerSecond",
    "maxRowsPerTrigger",
    "numPartitions",
    *SHARES,
)


@dataclass(frozen=True)
class Plan:
    """What to generate: all that the stream depends on, parsed and checked."""

    pipeline: str
    seed: int
    rows: int | None
    rows_per_second: float | None
    rows_per_batch: int | None
    partitions: int
    shares: Shares

    @classmethod
    def of(cls, pipeline: str, options: Mapping[str, str]) -> Plan:
        rate = option(options, "rowsPerSecond")
        return cls(
            pipeline=pipeline,
            seed=_whole(options, "seed") or 0,
            rows=_whole(options, "numRows"),
            rows_per_second=_positive("rowsPerSecond", rate) if rate is not None else None,
            rows_per_batch=_whole(options, "maxRowsPerTrigger"),
            partitions=_whole(options, "numPartitions") or 2,
            shares=Shares.of(options),
        )


def read(spark: SparkSession, request: Request) -> DataFrame:
    """Generated records in bronze's envelope: `source` tells the seed, `offset` is the row.

    Raises LakehouseError where this Spark does not know streams in Python that can be limited, as 4.0 does not.
    """
    try:
        from streaming_lakehouse.sources.generator_stream import FORMAT, GeneratorStream
    except ModuleNotFoundError as error:
        raise LakehouseError(
            "source 'generator' needs a newer Spark than this runtime has; take files, kafka or eventhubs here"
        ) from error
    spark.dataSource.register(GeneratorStream)
    options = {**request.options, "pipeline": request.pipeline.name}
    return spark.readStream.format(FORMAT).options(**options).load()


def place(request: Request) -> dict[str, str]:
    """The seed. Raises LakehouseError for a rate or a share that is none, and for rows that cannot be made."""
    plan = Plan.of(request.pipeline.name, request.options)
    check_last(
        request.pipeline.bronze.events, seed=plan.seed, end=plan.rows or 0, shares=plan.shares,
        otherwise="give a smaller --option numRows=… or seed=…",
    )  # fmt: skip
    return {"seed": str(plan.seed)}


def _whole(options: Mapping[str, str], name: str) -> int | None:
    text = option(options, name)
    return int(text) if text is not None else None


def _positive(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise LakehouseError(f"source 'generator': {name} is a number above 0, not {text!r}")
    return number


_LEAST = {"numRows": 0, "seed": 0, "maxRowsPerTrigger": 1, "numPartitions": 1}
SOURCE = Source("generator", _ACCEPTS, read, place, _LEAST)
