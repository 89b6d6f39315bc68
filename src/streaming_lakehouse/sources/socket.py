"""Lines of a TCP connection, for experiments: lines sent while no run is connected, or when one dies, are lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.config.options import OptionSpec, get_option
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.sources import ReadRequest, Source, connection_error
from streaming_lakehouse.sources.envelope import HEADERS, RECORD

if TYPE_CHECKING:
    import pyarrow as pa

HOST, PORT = "127.0.0.1", "9999"
_LINES_PER_MILLISECOND = 2**20  # more than any task reads in a millisecond


def read(spark: SparkSession, request: ReadRequest) -> DataFrame:
    """One record per line, in bronze's envelope: `source` is HOST:PORT, `source_timestamp` when Spark got the line.

    Spark has no line numbers: `partition` is the task's, `offset` combines the batch's time with the line's index.
    Raises LakehouseError if the address is unreachable.
    """
    host, port = _address(request)
    reason = connection_error(host, int(port))
    if reason is not None:
        raise LakehouseError(
            f"source 'socket': {host}:{port} is unreachable ({reason}); start a server: lakehouse "
            f"generate {request.pipeline} --to socket"
        )
    stream = spark.readStream.format("socket").option("host", host).option("port", port)
    records = stream.option("includeTimestamp", "true").load().select(
        F.lit(None).cast("binary").alias("key"),
        F.col("value").cast("binary").alias("value"),
        F.lit(None).cast(HEADERS).alias("headers"),
        F.lit(f"{host}:{port}").alias("source"),
        F.spark_partition_id().alias("partition"),
        (F.unix_millis(F.current_timestamp()) * _LINES_PER_MILLISECOND).alias("offset"),
        F.col("timestamp").alias("source_timestamp"),
    )  # fmt: skip
    return records.mapInArrow(_with_line_numbers, RECORD)


def _with_line_numbers(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Adds the line's index within its task to the batch's time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    line = 0
    for batch in batches:
        numbers = pa.array(range(line, line + batch.num_rows), pa.int64())
        line += batch.num_rows
        column = batch.schema.get_field_index("offset")
        yield batch.set_column(column, "offset", pc.add(batch["offset"], numbers))


def address(request: ReadRequest) -> dict[str, str]:
    """Host and port."""
    host, port = _address(request)
    return {"host": host, "port": port}


def _address(request: ReadRequest) -> tuple[str, str]:
    return get_option(request.options, "host") or HOST, get_option(request.options, "port") or PORT


SOURCE = Source(
    "socket",
    OptionSpec("source 'socket'", ("host", "port"), {"port": 1}),
    read,
    address,
    one_table=("host", "port"),
    is_bounded=False,
    is_replayable=False,
)
