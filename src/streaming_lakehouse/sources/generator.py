"""The generator: a domain's made-up events as a stream that can be replayed from any offset."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

from pyspark.sql import DataFrame, SparkSession, types as T
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import SHARES, Shares, check_last, records
from streaming_lakehouse.options import option
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.sources import Request, Source
from streaming_lakehouse.sources.envelope import RECORD

FORMAT = "lakehouse_generator"
_ACCEPTS = (
    "numRows",
    "seed",
    "rowsPerSecond",
    "maxRowsPerTrigger",
    "numPartitions",
    *SHARES,
)
_DEFAULT_ROWS = 10_000  # with the trigger available-now, which must come to an end
_DEFAULT_RATE = 100.0  # rows a second with any other, where no numRows is given


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


class GeneratorSource(DataSource):
    """`spark.readStream.format("lakehouse_generator")`; the offset is the number of the next row."""

    @classmethod
    def name(cls) -> str:
        return FORMAT

    def schema(self) -> T.StructType:
        return RECORD

    def streamReader(self, schema: T.StructType) -> DataSourceStreamReader:
        return GeneratorReader(Plan.of(self.options["pipeline"], self.options))


@dataclass
class Rows(InputPartition):
    """A range of rows, the end exclusive."""

    start: int
    end: int


class GeneratorReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._started: tuple[float, int] | None = None  # when and at which row this run began

    def prepareForTriggerAvailableNow(self) -> None:
        # All rows are "there" already: their rate is that of a live source, not of a backfill.
        self._plan = replace(
            self._plan, rows=_DEFAULT_ROWS if self._plan.rows is None else self._plan.rows, rows_per_second=None
        )

    def initialOffset(self) -> dict[str, int]:
        return {"row": 0}

    def getDefaultReadLimit(self) -> ReadLimit:
        return ReadMaxRows(self._plan.rows_per_batch) if self._plan.rows_per_batch else ReadAllAvailable()

    def latestOffset(self, start: dict[str, int], limit: ReadLimit) -> dict[str, int]:
        end = self._rows_there(start["row"])
        if isinstance(limit, ReadMaxRows):
            end = min(end, start["row"] + limit.max_rows)
        return {"row": max(end, start["row"])}

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> list[InputPartition]:
        parts, first, rows = self._plan.partitions, start["row"], end["row"] - start["row"]
        cuts = [first + rows * part // parts for part in range(parts + 1)]
        return [Rows(cut, next_cut) for cut, next_cut in pairwise(cuts) if cut < next_cut]

    def read(self, partition: InputPartition) -> Iterator[tuple[object, ...]]:
        assert isinstance(partition, Rows)
        events = load_pipeline(self._plan.pipeline).bronze.events
        made = records(events, seed=self._plan.seed, start=partition.start, end=partition.end, shares=self._plan.shares)
        now, place = datetime.now(UTC), f"generator:seed={self._plan.seed}"
        for row, record in enumerate(made, start=partition.start):
            yield record.key, record.value, None, place, 0, row, now

    def _rows_there(self, start: int) -> int:
        if self._plan.rows_per_second is None and self._plan.rows is not None:
            return self._plan.rows
        if self._started is None:
            self._started = (time.monotonic(), start)
        began, first = self._started
        there = first + int((time.monotonic() - began) * (self._plan.rows_per_second or _DEFAULT_RATE))
        return there if self._plan.rows is None else min(there, self._plan.rows)


def read(spark: SparkSession, request: Request) -> DataFrame:
    """Generated records in bronze's envelope: `source` tells the seed, `offset` is the row."""
    spark.dataSource.register(GeneratorSource)
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
