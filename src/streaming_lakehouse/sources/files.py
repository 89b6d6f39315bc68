"""Files, one record a line: Auto Loader on Databricks, Spark's file stream elsewhere, with the same contract."""

from __future__ import annotations

import os
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.sources import Request, Source, required
from streaming_lakehouse.sources.envelope import HEADERS

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
_ROW_IN_TASK = (1 << 33) - 1  # the lower 33 bits of monotonically_increasing_id()


def read(spark: SparkSession, request: Request) -> DataFrame:
    """Lines of the files below `<path>/<bronze table>/`, each once, as they came (without the line feed).

    Names that begin with `_` or `.` are not looked at: a file is delivered by being renamed to its final name, so that
    a half-written one is never read. Files that end in .gz are unpacked. `source` is the file's URI, `partition` the
    MiB at which the reading task's part of it begins (0 for all but large files), `offset` grows from line to line
    within that part, `source_timestamp` is when the file was last changed.
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
    return lines.select(
        F.lit(None).cast("binary").alias("key"),
        F.col("value").cast("binary").alias("value"),
        F.lit(None).cast(HEADERS).alias("headers"),
        F.col("_metadata.file_path").alias("source"),
        (F.col("_metadata.file_block_start") / _MIB).cast("int").alias("partition"),
        F.monotonically_increasing_id().bitwiseAND(F.lit(_ROW_IN_TASK)).alias("offset"),
        F.col("_metadata.file_modification_time").alias("source_timestamp"),
    )


def landing_folder(request: Request) -> str:
    return f"{required('files', request.options, 'path').rstrip('/')}/{request.pipeline.bronze.table}"


SOURCE = Source("files", _ACCEPTS, read)
