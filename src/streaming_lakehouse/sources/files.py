"""Files with one record per line: Auto Loader on Databricks, Spark's file stream elsewhere, with the same contract."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.checkpointing import file_log, metadata
from streaming_lakehouse.config.options import OptionSpec, get_option, require_option
from streaming_lakehouse.config.secrets import resolve_secrets
from streaming_lakehouse.config.storage import is_utf8, local_path
from streaming_lakehouse.errors import LakehouseError, counted
from streaming_lakehouse.session import on_databricks
from streaming_lakehouse.sources import ReadRequest, Source
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
_MINIMUMS = {"maxFilesPerTrigger": 1, "maxCachedFiles": 0}
_BOOLEANS = ("latestFirst", "recursiveFileLookup")
# By default Spark silently skips files that are more than a week older than the newest one, such as copies with
# preserved times (cp -p, rsync, tar). Auto Loader has no default limit either.
_NO_AGE_LIMIT = "36500d"
# Auto Loader's names of Spark's options; it silently ignores unknown ones.
_AUTO_LOADER = {
    "maxfilespertrigger": "cloudFiles.maxFilesPerTrigger",
    "maxbytespertrigger": "cloudFiles.maxBytesPerTrigger",
    "maxfileage": "cloudFiles.maxFileAge",
    "cleansource": "cloudFiles.cleanSource",
    "sourcearchivedir": "cloudFiles.cleanSource.moveDestination",
}
_LOCAL_ONLY = ("latestfirst", "maxcachedfiles", "recursivefilelookup")
# For Auto Loader's file notifications of a cloud's storage.
_CREDENTIALS = tuple(
    f"cloudFiles.{name}" for name in ("clientSecret", "connectionString", "awsSecretKey", "privateKey")
)
_MIB = 1024 * 1024
_MAX_NAMED = 5  # files that a warning names
# Hadoop's usual file system looks for a checksum file beside each file, and cannot build the name of the one of a file
# with a colon in its name. Not from Hadoop's cache, so that tables and checkpoints keep their checksums.
_WITHOUT_CHECKSUMS = {"fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem", "fs.file.impl.disable.cache": "true"}
_IGNORED_NAMES = (b"_", b".")

log = logging.getLogger(__name__)


def read(spark: SparkSession, request: ReadRequest) -> DataFrame:
    """The lines of the files below `landing_folder`, each once, unmodified (without the line feed).

    Names that start with `_` or `.` are ignored: writers rename a file to its final name, so that a partial one is
    never read. So are names that end in `._COPYING_`, which Hadoop uses for incomplete copies. Files that end in .gz,
    .bz2 or .zst are decompressed; a byte order mark at the start of a file is not part of its first line. `source` is
    the file's URI, `partition` the MiB at which the reading task's split starts (0 except for large files), `offset`
    the number of the line within that split, from 0, `source_timestamp` the file's modification time.
    """
    if not request.trigger.is_available_now and (passed_over := unread(request)):
        log.warning("%s", passed_over)
    given = {name: value for name, value in request.options.items() if name.lower() != "path"}
    kind, options = ("cloudFiles", _auto_loader_options(given)) if on_databricks() else ("text", _spark_options(given))
    folder = landing_folder(request)
    if _is_local(folder):
        options |= _WITHOUT_CHECKSUMS
    # With the line feed as the only separator, a carriage return is part of the record.
    reader = spark.readStream.format(kind).options(lineSep="\n", **options).schema("value string")
    lines = reader.load(_escape_glob(folder))
    records = lines.select(
        F.lit(None).cast("binary").alias("key"),
        F.col("value").cast("binary").alias("value"),
        F.lit(None).cast(HEADERS).alias("headers"),
        F.col("_metadata.file_path").alias("source"),
        (F.col("_metadata.file_block_start") / _MIB).cast("int").alias("partition"),
        F.lit(0).cast("long").alias("offset"),
        F.col("_metadata.file_modification_time").alias("source_timestamp"),
    )
    return records.mapInArrow(_with_line_numbers, RECORD)


def _with_line_numbers(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Numbers the lines of each file split: a task reads one split after the other, each from its first line.

    Spark has no line numbers for a text stream. Arrow passes whole columns, so this is cheap.
    """
    import pyarrow as pa

    last, line = None, 0
    for batch in batches:
        numbers = []
        for split in zip(batch["source"].to_pylist(), batch["partition"].to_pylist(), strict=True):
            last, line = split, line + 1 if split == last else 0
            numbers.append(line)
        yield batch.set_column(batch.schema.get_field_index("offset"), "offset", pa.array(numbers, pa.int64()))


def _spark_options(options: Mapping[str, str]) -> dict[str, str]:
    """The options of Spark's file stream; options of Auto Loader are omitted with a warning."""
    ignored = [name for name in options if name.lower().startswith("cloudfiles.")]
    if ignored:
        log.warning("source 'files': %s has an effect on Databricks only", ", ".join(ignored))
    own = {name: value for name, value in options.items() if name not in ignored}
    # Files in subfolders are read too, as by Auto Loader.
    defaults = {"maxFileAge": _NO_AGE_LIMIT, "recursiveFileLookup": "true"}
    return {**{name: value for name, value in defaults.items() if get_option(own, name) is None}, **own}


def _auto_loader_options(options: Mapping[str, str]) -> dict[str, str]:
    """The options by Auto Loader's names, with credentials.

    Raises LakehouseError for an option without a counterpart, or a credential that cannot be read.
    """
    renamed = {"cloudFiles.format": "text"}
    for name, value in resolve_secrets(options, also=_CREDENTIALS, is_kafka=False).items():
        if name.lower() in _LOCAL_ONLY:
            raise LakehouseError(f"source 'files': Auto Loader has no option {name!r}; omit it on Databricks")
        renamed[_AUTO_LOADER.get(name.lower(), name)] = value
    if renamed.get("cloudFiles.cleanSource", "").lower() == "archive":
        renamed["cloudFiles.cleanSource"] = "MOVE"
    return renamed


def landing_folder(request: ReadRequest) -> str:
    """The folder of the bronze table's files, local or in the workspace's storage: `<path>/<bronze table>`.

    It is `path` itself where that has files, no folder of this name, and is not the path of other tables too.
    """
    path = require_option("source 'files'", request.options, "path").rstrip("/")
    if "://" not in path and not on_databricks():
        path = str(local_path("--option path", path))
    folder = f"{path}/{request.bronze.table}"
    is_own = "path" not in request.shared and not Path(folder).is_dir() and _has_files(Path(path))
    return path if is_own else folder


def _has_files(folder: Path) -> bool:
    """True where Spark would read a file in the folder itself."""
    return folder.is_dir() and any(each.is_file() and each.name[0] not in "_." for each in folder.iterdir())


def _escape_glob(folder: str) -> str:
    """The folder with glob characters escaped: Spark's file stream would take them as a pattern."""
    return folder if on_databricks() else re.sub(r"[][{}*?\\]", r"\\\g<0>", folder)


def _is_local(folder: str) -> bool:
    return "://" not in folder and not on_databricks()


def unread(request: ReadRequest) -> str:
    """The files that Java cannot open, since their names are not UTF-8, as a sentence for the user; "" without any."""
    folder = landing_folder(request)
    names = sorted(_not_utf8(folder)) if _is_local(folder) else []
    if not names:
        return ""
    more = f" and {len(names) - 1:,} more" if names[1:] else ""
    return f"source 'files': not read, since their names are not UTF-8: {names[0]!r}{more} in {folder}; rename them"


def _not_utf8(folder: str) -> Iterator[bytes]:
    """The paths below `folder` with such names, of files and of folders."""
    top = os.fsencode(folder)
    for parent, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(_IGNORED_NAMES)]
        for name in [*folders, *files]:
            if not name.startswith(_IGNORED_NAMES) and not is_utf8(name):
                yield os.path.relpath(os.path.join(parent, name), top)
        folders[:] = filter(is_utf8, folders)


def address(request: ReadRequest) -> dict[str, str]:
    """The folder. Raises LakehouseError if it does not exist."""
    folder = landing_folder(request)
    if _is_local(folder) and not Path(folder).is_dir():
        raise LakehouseError(
            f"source 'files': there is no folder {folder}, and {Path(folder).parent} has no files of this table alone; "
            "create it, or give another --option path=…"
        )
    return {"path": folder}


def warning(checkpoint: str) -> str | None:
    """Which files have changed since the checkpoint's query has read them; None where there are none."""
    changed = file_log.changed_files(checkpoint)
    if not changed:
        return None
    files = counted(len(changed), "file has", "files have")
    return (
        f"source 'files': {files} changed after being read, and a file is read once, by its name; copy to a new name "
        f"what is to be read again (known events are duplicates then), and remove the old file: {_named(changed)}"
    )


def _named(files: list[Path]) -> str:
    return ", ".join(map(str, files[:_MAX_NAMED])) + (", …" if len(files) > _MAX_NAMED else "")


def check_batch(checkpoint: str, batch: int) -> None:
    """Raises LakehouseError where a file that the batch is to read is gone, as after a mover has emptied the folder."""
    if on_databricks():  # Auto Loader has records of its own
        return
    before = _log_entry(checkpoint, batch - 1) if batch else -1
    missing = file_log.missing_files(checkpoint, range(before + 1, _log_entry(checkpoint, batch) + 1))
    if missing:
        raise LakehouseError(
            f"source 'files': batch {batch} is to read {counted(len(missing), 'file')} that cannot be found any more: "
            f"{_named(missing)}; restore them, or create empty ones of these names to go on without them"
        )


def _log_entry(checkpoint: str, batch: int) -> int:
    """The last entry of the file stream's log that the batch reads."""
    return int(json.loads(metadata.batch_offsets(checkpoint, batch))["logOffset"])


SOURCE = Source(
    "files",
    OptionSpec("source 'files'", _ACCEPTS, _MINIMUMS, _BOOLEANS),
    read,
    address,
    warning=warning,
    unread=unread,
    check_batch=check_batch,
)
