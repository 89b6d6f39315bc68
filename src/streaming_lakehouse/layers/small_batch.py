"""Decides about a small batch in the driver: one Spark job fetches what it takes, instead of one for each question."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame, functions as F, types as T

from streaming_lakehouse.layers.acceptance import FIRST_DELIVERY, ON_TIME, JudgedBatch
from streaming_lakehouse.layers.counts import BatchCounts
from streaming_lakehouse.layers.recent_keys import Keys, RecentKeys, key_hashes
from streaming_lakehouse.layers.validation import is_valid
from streaming_lakehouse.pipeline import Silver
from streaming_lakehouse.pipeline.expectations import Expectation
from streaming_lakehouse.sources.envelope import RECORD, RECORD_ID

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Flags = npt.NDArray[np.bool_]

MAX_ROWS_PER_PARTITION = 10_000
MAX_ROWS_IN_ONE_FILE = 3_000
_POSITION_BITS = 33  # of `monotonically_increasing_id`; those above number the partition
_ARRIVED = "ingested_at_us"
_ROW_IDS = T.ArrayType(
    T.StructType([*(RECORD[name] for name in RECORD_ID), T.StructField(_ARRIVED, T.LongType())])
).simpleString()


def fetch(rows: DataFrame, silver: Silver, monitored: Sequence[Expectation]) -> SmallBatch | None:
    """What decides about each row; None if a partition has more rows than are worth fetching."""
    position = F.monotonically_increasing_id().bitwiseAND(F.lit((1 << _POSITION_BITS) - 1))
    digest = rows.select(
        *_row_id(),
        position.alias("position"),
        is_valid().alias("is_valid"),
        F.unix_micros(silver.event_time).alias("time_us"),
        *(each.alias(f"hash_{number}") for number, each in enumerate(key_hashes(silver.dedup_key), start=1)),
        *(each.is_violated.alias(f"violates_{each.name}") for each in monitored),
    )
    table = digest.where(F.col("position") < MAX_ROWS_PER_PARTITION).toArrow()
    batch = SmallBatch(table, tuple(each.name for each in monitored))
    return batch if batch.is_whole else None


@dataclass(frozen=True)
class SmallBatch:
    """A row for each record of a batch: its id, whether it is valid, its event's time and the hashes of its key."""

    table: pa.Table
    monitored: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        return bool((self._numbers("position") < MAX_ROWS_PER_PARTITION - 1).all())

    def judge(self, rows: DataFrame, watermark_us: int | None, known: RecentKeys) -> tuple[JudgedBatch, Keys]:
        """As `acceptance.judge`, and the keys of the accepted rows."""
        keys = Keys(self._numbers("hash_1"), self._numbers("hash_2"), self._numbers("time_us"))
        is_valid_row = self._flags("is_valid")
        since_us = watermark_us or 0  # no valid event is before 1970
        is_late = is_valid_row & (keys.time_us < since_us)
        is_on_time = is_valid_row & ~is_late
        is_known = known.contains(keys, since_us=since_us)
        is_duplicate = is_on_time & (is_known | self._has_earlier_record(keys, is_on_time))
        accepted = keys.where(is_on_time & ~is_duplicate)
        counts = BatchCounts(
            accepted.size, int((~is_valid_row).sum()), duplicates=int(is_duplicate.sum()), late=int(is_late.sum())
        )
        violations = {name: int((is_valid_row & self._flags(f"violates_{name}")).sum()) for name in self.monitored}
        reasons = {ON_TIME: self._ids(is_late), FIRST_DELIVERY: self._ids(is_duplicate)}
        latest = int(accepted.time_us.max()) if accepted.size else None
        # For each task Delta sets up statistics and a file of its own, which takes longer than so few rows. Not more of
        # them, since the task also runs silver's transform, which may call Python.
        written = rows.coalesce(1) if self.table.num_rows <= MAX_ROWS_IN_ONE_FILE else rows
        return JudgedBatch(_with_reasons(written, reasons), counts, violations, latest), accepted

    def _has_earlier_record(self, keys: Keys, is_on_time: Flags) -> Flags:
        """True for each row on time whose event has an earlier record in the batch."""
        import numpy as np

        _, source = np.unique([name or "" for name in self.table["source"].to_pylist()], return_inverse=True)
        row_id = (self._numbers(_ARRIVED), self._numbers("offset"), self._numbers("partition"), source)
        order = np.lexsort((*row_id, keys.hash_2, keys.hash_1))
        order = order[is_on_time[order]]
        hash_1, hash_2, _ = keys.where(order)
        has_earlier = np.zeros(keys.size, dtype=bool)
        has_earlier[order[1:][(hash_1[1:] == hash_1[:-1]) & (hash_2[1:] == hash_2[:-1])]] = True
        return has_earlier

    def _ids(self, is_selected: Flags) -> list[dict[str, object]]:
        ids: list[dict[str, object]] = self.table.select([*RECORD_ID, _ARRIVED]).filter(is_selected).to_pylist()
        return ids

    def _numbers(self, column: str) -> npt.NDArray[np.int64]:
        numbers: npt.NDArray[np.int64] = self.table[column].fill_null(0).to_numpy()
        return numbers

    def _flags(self, column: str) -> Flags:
        flags: Flags = self.table[column].fill_null(False).to_numpy()
        return flags


def _with_reasons(rows: DataFrame, records: dict[str, list[dict[str, object]]]) -> DataFrame:
    """Adds a reason to each record that is listed for it; a record without one is as `validate` has it."""
    failed: Column = F.col("failed_expectations")
    for reason, ids in records.items():
        if ids:
            failed = F.when(_is_one_of(ids), F.array(F.lit(reason))).otherwise(failed)
    return rows.withColumn("failed_expectations", failed)


def _is_one_of(ids: list[dict[str, object]]) -> Column:
    """The ids are one literal, an array, so that Spark's generated code is the same in each batch."""
    array = F.from_json(F.lit(json.dumps(ids)), _ROW_IDS)
    return F.array_contains(array, F.struct(*_row_id()))


def _row_id() -> list[Column]:
    return [*map(F.col, RECORD_ID), F.unix_micros("ingested_at").alias(_ARRIVED)]
