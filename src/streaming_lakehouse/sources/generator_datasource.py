"""The generator as a Python data source. A module of its own, since Spark 4.0 cannot import it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

from pyspark.sql import types as T
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow

from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.pipeline.synthetic import generate_records
from streaming_lakehouse.sources.envelope import RECORD
from streaming_lakehouse.sources.generator_config import GeneratorConfig

FORMAT = "lakehouse_generator"
_DEFAULT_ROWS = 10_000  # with the trigger available-now, which must end
_DEFAULT_RATE = 100.0  # rows per second with any other trigger, if numRows is not given


class GeneratorDataSource(DataSource):
    """`spark.readStream.format("lakehouse_generator")`; the offset is the number of the next row."""

    @classmethod
    def name(cls) -> str:
        return FORMAT

    def schema(self) -> T.StructType:
        return RECORD

    def streamReader(self, schema: T.StructType) -> DataSourceStreamReader:
        return GeneratorReader(
            GeneratorConfig.from_options(self.options["pipeline"], self.options["table"], self.options)
        )


@dataclass
class RowRange(InputPartition):
    """A range of rows, the end exclusive."""

    start: int
    end: int


class GeneratorReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config
        self._started: tuple[float, int] | None = None  # time and row at which this run started

    def prepareForTriggerAvailableNow(self) -> None:
        # All rows are available at once: the rate applies to a live source, not to a backfill.
        self._config = replace(
            self._config, rows=_DEFAULT_ROWS if self._config.rows is None else self._config.rows, rows_per_second=None
        )

    def initialOffset(self) -> dict[str, int]:
        return {"row": 0}

    def getDefaultReadLimit(self) -> ReadLimit:
        return ReadMaxRows(self._config.rows_per_batch) if self._config.rows_per_batch else ReadAllAvailable()

    def latestOffset(self, start: dict[str, int], limit: ReadLimit) -> dict[str, int]:
        end = self._available_rows(start["row"])
        if isinstance(limit, ReadMaxRows):
            end = min(end, start["row"] + limit.max_rows)
        return {"row": max(end, start["row"])}

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> list[InputPartition]:
        parts, first, rows = self._config.partitions, start["row"], end["row"] - start["row"]
        cuts = [first + rows * part // parts for part in range(parts + 1)]
        return [RowRange(cut, next_cut) for cut, next_cut in pairwise(cuts) if cut < next_cut]

    def read(self, partition: InputPartition) -> Iterator[tuple[object, ...]]:
        assert isinstance(partition, RowRange)
        config = self._config
        generator = load_pipeline(config.pipeline).bronze_table(config.table).event_generator
        records = generate_records(
            generator, seed=config.seed, start=partition.start, end=partition.end, rates=config.rates
        )
        now, source = datetime.now(UTC), f"generator:seed={config.seed}"
        for row, record in enumerate(records, start=partition.start):
            yield record.key, record.value, None, source, 0, row, now

    def _available_rows(self, start: int) -> int:
        if self._config.rows_per_second is None and self._config.rows is not None:
            return self._config.rows
        if self._started is None:
            self._started = (time.monotonic(), start)
        started_at, first = self._started
        rows = first + int((time.monotonic() - started_at) * (self._config.rows_per_second or _DEFAULT_RATE))
        return rows if self._config.rows is None else min(rows, self._config.rows)
