"""Files, one record a line: Auto Loader on Databricks, Spark's file stream elsewhere, with the same contract."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.sources import Request, Source, required
from streaming_lakehouse.sources.envelope import HEADERS, RECORD

if TYPE_CHECKING:
    import pyarrow as pa

_ACCEPTS = (
    "path",
    "maxFilesPerTrigger",
    "maxBytesPerTrigger",
    "cleanSource",
    "sourceArchiveDir",
    "latestFirst",
    "maxFileAge",
    "maxCachedFiles",
    "pathGlobFilter",
    "recursiveFileLookup",
    "cloudFiles.",
)
_MIB = 1024 * 1024


def read(spark: SparkSession, request: Request) -> DataFrame:
    """Lines of the files below `<path>/<bronze table>/`, each once, as they came (without the line feed).

    Names that begin with `_` or `.` are not looked at: a file is delivered by being renamed to its final name, so that
    a half-written one is never read. Files that end in .gz are unpacked. `source` is the file's URI, `partition` the
    MiB at which the reading task's part of it begins (0 for all but large files), `offset` the number of the line
    within that part, from 0, and `source_timestamp` when the file was last changed.
    Raises LakehouseError where the folder is missing.
    """
    options = {name: value for name, value in request.options.items() if name.lower() != "path"}
    folder = landing_folder(request)
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        reader = spark.readStream.format("cloudFiles").option("cloudFiles.format", "text")
    else:
        reader = spark.readStream.format("text")
        if "://" not in folder and not Path(folder).is_dir():
            raise LakehouseError(
                f"source 'files': there is no folder {folder}; make it, or give another --option path=…"
            )
    # With the line feed alone as the separator, a carriage return stays part of the record.
    lines = reader.options(lineSep="\n", **options).schema("value string").load(folder)
    placed = lines.select(
        F.lit(None).cast("binary").alias("key"),
        F.col("value").cast("binary").alias("value"),
        F.lit(None).cast(HEADERS).alias("headers"),
        F.col("_metadata.file_path").alias("source"),
        (F.col("_metadata.file_block_start") / _MIB).cast("int").alias("partition"),
        F.lit(0).cast("long").alias("offset"),
        F.col("_metadata.file_modification_time").alias("source_timestamp"),
    )
    return placed.mapInArrow(_numbered, RECORD)


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Numbers the lines of each file's part: a task reads one part after the other, each from its first line on.

    Spark has no such number for a stream of text; whole columns are handed over, so it costs little.
    """
    import pyarrow as pa

    place, line = None, 0
    for batch in batches:
        numbers = []
        for here in zip(batch["source"].to_pylist(), batch["partition"].to_pylist(), strict=True):
            place, line = here, line + 1 if here == place else 0
            numbers.append(line)
        yield batch.set_column(batch.schema.get_field_index("offset"), "offset", pa.array(numbers, pa.int64()))


def landing_folder(request: Request) -> str:
    return f"{required('files', request.options, 'path').rstrip('/')}/{request.pipeline.bronze.table}"


SOURCE = Source("files", _ACCEPTS, read)
