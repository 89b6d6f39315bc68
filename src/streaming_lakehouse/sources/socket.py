"""Lines of a TCP connection, for trying things: what was sent while no run listened, or when one died, is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.options import option
from streaming_lakehouse.sources import Request, Source, unreachable
from streaming_lakehouse.sources.envelope import HEADERS, RECORD

if TYPE_CHECKING:
    import pyarrow as pa

HOST, PORT = "127.0.0.1", "9999"
_LINES_PER_MILLISECOND = 2**20  # no task takes more in a batch that lasts so short


def read(spark: SparkSession, request: Request) -> DataFrame:
    """A record a line, in bronze's envelope: `source` is HOST:PORT, `source_timestamp` when Spark got the line.

    Spark does not tell a line's number. `partition` and `offset` are made of the batch's time and the place in it.
    Raises LakehouseError where nobody listens.
    """
    host, port = _address(request)
    why = unreachable(host, int(port))
    if why is not None:
        raise LakehouseError(
            f"source 'socket': nobody listens at {host}:{port} ({why}); start one: lakehouse "
            f"generate {request.pipeline.name} --to socket"
        )
    stream = spark.readStream.format("socket").option("host", host).option("port", port)
    placed = stream.option("includeTimestamp", "true").load().select(
        F.lit(None).cast("binary").alias("key"),
        F.col("value").cast("binary").alias("value"),
        F.lit(None).cast(HEADERS).alias("headers"),
        F.lit(f"{host}:{port}").alias("source"),
        F.spark_partition_id().alias("partition"),
        (F.unix_millis(F.current_timestamp()) * _LINES_PER_MILLISECOND).alias("offset"),
        F.col("timestamp").alias("source_timestamp"),
    )  # fmt: skip
    return placed.mapInArrow(_numbered, RECORD)


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Adds to the batch's time the number of the line among those of its task."""
    import pyarrow as pa
    import pyarrow.compute as pc

    line = 0
    for batch in batches:
        numbers = pa.array(range(line, line + batch.num_rows), pa.int64())
        line += batch.num_rows
        place = batch.schema.get_field_index("offset")
        yield batch.set_column(place, "offset", pc.add(batch["offset"], numbers))


def place(request: Request) -> dict[str, str]:
    """Host and port."""
    host, port = _address(request)
    return {"host": host, "port": port}


def _address(request: Request) -> tuple[str, str]:
    return option(request.options, "host") or HOST, option(request.options, "port") or PORT


SOURCE = Source("socket", ("host", "port"), read, place, {"port": 1}, ends=False, is_kept=False)
