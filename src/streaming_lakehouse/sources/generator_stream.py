"""The generator's stream, of which Spark asks for offsets and rows. Apart, since Spark 4.0 cannot load it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow

from streaming_lakehouse.generation import records
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.sources.envelope import RECORD
from streaming_lakehouse.sources.generator import Plan

FORMAT = "lakehouse_generator"
_DEFAULT_ROWS = 10_000  # with the trigger available-now, which must come to an end
_DEFAULT_RATE = 100.0  # rows a second with any other, where no numRows is given


class GeneratorStream(DataSource):
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
