"""The generator: a domain's synthetic events as a stream that can be replayed from any offset."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.config.options import OptionSpec
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.synthetic import FAULT_RATE_OPTIONS, check_representable
from streaming_lakehouse.sources import ReadRequest, Source
from streaming_lakehouse.sources.generator_config import GeneratorConfig


def read(spark: SparkSession, request: ReadRequest) -> DataFrame:
    """Generated records in bronze's envelope: `source` has the seed, `offset` is the row.

    Raises LakehouseError if this Spark has no Python data sources with read limits, as 4.0.
    """
    try:
        from streaming_lakehouse.sources.generator_datasource import FORMAT, GeneratorDataSource
    except ModuleNotFoundError as error:
        raise LakehouseError(
            "source 'generator' needs a newer Spark than this runtime has; use files, kafka or eventhubs here"
        ) from error
    spark.dataSource.register(GeneratorDataSource)
    options = {**request.options, "pipeline": request.pipeline, "table": request.bronze.table}
    return spark.readStream.format(FORMAT).options(**options).load()


def address(request: ReadRequest) -> dict[str, str]:
    """The seed. Raises LakehouseError for an invalid rate, and for rows that cannot be represented."""
    config = GeneratorConfig.from_options(request.pipeline, request.bronze.table, request.options)
    check_representable(
        request.bronze.event_generator, seed=config.seed, end=config.rows or 0, rates=config.rates,
        hint="give a smaller --option numRows=… or seed=…",
    )  # fmt: skip
    return {"seed": str(config.seed)}


_OPTIONS = OptionSpec(
    "source 'generator'",
    ("numRows", "seed", "rowsPerSecond", "maxRowsPerTrigger", "numPartitions", *FAULT_RATE_OPTIONS),
    {"numRows": 0, "seed": 0, "maxRowsPerTrigger": 1, "numPartitions": 1},
)
SOURCE = Source("generator", _OPTIONS, read, address, is_synthetic=True)
