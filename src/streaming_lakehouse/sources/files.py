"""Files, one record a line: Auto Loader on Databricks, Spark's file stream elsewhere, with the same contract."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.options import option, required
from streaming_lakehouse.session import on_databricks
from streaming_lakehouse.settings import local_path
from streaming_lakehouse.sources import Request, Source
from streaming_lakehouse.sources.envelope import HEADERS, RECORD
from streaming_lakehouse.sources.secrets import resolved

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
_LEAST = {"maxFilesPerTrigger": 1, "maxCachedFiles": 0}
_FLAGS = ("latestFirst", "recursiveFileLookup")
# Spark passes over a file that was last changed a week before the newest one, and tells nobody. Copies that keep their
# times (cp -p, rsync, tar) are such files. Auto Loader has no such limit either, unless one is set.
_ANY_AGE = "36500d"
# What Spark's options are called by Auto Loader, which passes over those it does not know.
_AUTO_LOADER = {
    "maxfilespertrigger": "cloudFiles.maxFilesPerTrigger",
    "maxbytespertrigger": "cloudFiles.maxBytesPerTrigger",
    "maxfileage": "cloudFiles.maxFileAge",
    "cleansource": "cloudFiles.cleanSource",
    "sourcearchivedir": "cloudFiles.cleanSource.moveDestination",
}
_LOCAL_ONLY = ("latestfirst", "maxcachedfiles", "recursivefilelookup")
# By which Auto Loader sets up and reads the notifications of a cloud's storage.
_CREDENTIALS = tuple(
    f"cloudFiles.{name}" for name in ("clientSecret", "connectionString", "awsSecretKey", "privateKey")
)
_MIB = 1024 * 1024

log = logging.getLogger(__name__)


def read(spark: SparkSession, request: Request) -> DataFrame:
    """Lines of the files below `<path>/<bronze table>/`, each once, as they came (without the line feed).

    Names that begin with `_` or `.` are not looked at: a file is delivered by being renamed to its final name, so that
    a half-written one is never read. Nor are names that end in `._COPYING_`, as Hadoop's copies do until whole.
    Files that end in .gz, .bz2 or .zst are unpacked; a byte order mark at the beginning of a file is not part of its
    first line. `source` is the file's URI, `partition` the MiB at which the reading task's part of it begins (0 for all
    but large files), `offset` the number of the line within that part, from 0, and `source_timestamp` when the file was
    last changed.
    """
    given = {name: value for name, value in request.options.items() if name.lower() != "path"}
    kind, options = ("cloudFiles", _of_auto_loader(given)) if on_databricks() else ("text", _of_spark(given))
    # With the line feed alone as the separator, a carriage return stays part of the record.
    reader = spark.readStream.format(kind).options(lineSep="\n", **options).schema("value string")
    lines = reader.load(_literally(landing_folder(request)))
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


def _of_spark(options: Mapping[str, str]) -> dict[str, str]:
    """The options of Spark's file stream: those of Auto Loader are told of, and left out."""
    foreign = [name for name in options if name.lower().startswith("cloudfiles.")]
    if foreign:
        log.warning("source 'files': %s counts on Databricks only", ", ".join(foreign))
    ours = {name: value for name, value in options.items() if name not in foreign}
    # Files in folders below are read too, as Auto Loader does.
    defaults = {"maxFileAge": _ANY_AGE, "recursiveFileLookup": "true"}
    return {**{name: value for name, value in defaults.items() if option(ours, name) is None}, **ours}


def _of_auto_loader(options: Mapping[str, str]) -> dict[str, str]:
    """The options by Auto Loader's names, with their credentials.

    Raises LakehouseError for an option that it has no counterpart of, or a credential that cannot be had.
    """
    renamed = {"cloudFiles.format": "text"}
    for name, value in resolved(options, also=_CREDENTIALS, is_kafka=False).items():
        if name.lower() in _LOCAL_ONLY:
            raise LakehouseError(f"source 'files': Auto Loader has no option {name!r}; leave it away on Databricks")
        renamed[_AUTO_LOADER.get(name.lower(), name)] = value
    if renamed.get("cloudFiles.cleanSource", "").lower() == "archive":
        renamed["cloudFiles.cleanSource"] = "MOVE"
    return renamed


def landing_folder(request: Request) -> str:
    """Where the pipeline's files land: below `path`, a folder of this machine or of the workspace's storage."""
    path = required("source 'files'", request.options, "path").rstrip("/")
    if "://" not in path and not on_databricks():
        path = str(local_path("--option path", path))
    return f"{path}/{request.pipeline.bronze.table}"


def _literally(folder: str) -> str:
    """The folder as Spark is to be told of it, which takes a name with brackets or asterisks for a pattern."""
    return folder if on_databricks() else re.sub(r"[][{}*?\\]", r"\\\g<0>", folder)


def place(request: Request) -> dict[str, str]:
    """The folder. Raises LakehouseError where it is missing."""
    folder = landing_folder(request)
    if "://" not in folder and not on_databricks() and not Path(folder).is_dir():
        raise LakehouseError(f"source 'files': there is no folder {folder}; make it, or give another --option path=…")
    return {"path": folder}


SOURCE = Source("files", _ACCEPTS, read, place, _LEAST, _FLAGS)
