"""The generator's options, parsed: for the source, and for the workers that generate the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streaming_lakehouse.config.options import get_option
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.synthetic import FaultRates


@dataclass(frozen=True)
class GeneratorConfig:
    """The configuration of a bronze table's generated stream, parsed and checked."""

    pipeline: str
    table: str
    seed: int
    rows: int | None
    rows_per_second: float | None
    rows_per_batch: int | None
    partitions: int
    rates: FaultRates

    @classmethod
    def from_options(cls, pipeline: str, table: str, options: Mapping[str, str]) -> GeneratorConfig:
        rate = get_option(options, "rowsPerSecond")
        return cls(
            pipeline=pipeline,
            table=table,
            seed=_parse_int(options, "seed") or 0,
            rows=_parse_int(options, "numRows"),
            rows_per_second=_parse_positive("rowsPerSecond", rate) if rate is not None else None,
            rows_per_batch=_parse_int(options, "maxRowsPerTrigger"),
            partitions=_parse_int(options, "numPartitions") or 2,
            rates=FaultRates.from_options(options),
        )


def _parse_int(options: Mapping[str, str], name: str) -> int | None:
    text = get_option(options, name)
    return int(text) if text is not None else None


def _parse_positive(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise LakehouseError(f"source 'generator': {name} is a number above 0, not {text!r}")
    return number
