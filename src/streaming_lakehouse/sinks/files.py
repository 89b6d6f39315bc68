"""Files as a sink: Parquet, JSON or CSV, optionally partitioned by columns; exactly once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import consistency
from streaming_lakehouse.config.options import OptionSpec, get_option, require_option
from streaming_lakehouse.config.storage import local_path
from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.session import on_databricks
from streaming_lakehouse.sinks import TEXT_FORMATS, Sink, WriteRequest

FORMATS = ("parquet", "json", "csv")
# RFC 4180. Spark would escape a quote with a backslash, which other readers take as text, and cut blanks and tabs at
# the ends of a value. A null is an empty field, and an empty string is "".
_CSV = {"header": "true", "escape": '"', "ignoreLeadingWhiteSpace": "false", "ignoreTrailingWhiteSpace": "false"}
_FORMAT_OPTIONS = {"parquet": {}, "json": TEXT_FORMATS, "csv": {**TEXT_FORMATS, **_CSV}}
_OWNER = "sink 'files'"
_WRITER_OPTIONS = ("compression", "header", "sep")


def start(rows: DataFrame, request: WriteRequest) -> StreamingQuery:
    """Writes to the folder `<path>/<table>`.

    Readers must use the folder's `_spark_metadata`, as Spark does: it lists the committed files, and after a crash the
    folder may have others. Raises LakehouseError for an unknown format or column, and for a folder that is out of sync
    with the checkpoint, as far as it is readable here.
    """
    form, partitions = file_format(request), partition_columns(request)
    for name in partitions:
        if name not in rows.columns:
            raise LakehouseError(
                f"{_OWNER}: {request.table} has no column {name!r} to partition by{did_you_mean(name, rows.columns)}"
            )
    if _is_readable_locally(output_folder(request)):
        consistency.check_folder_in_sync(
            str(request.query.checkpoint), output_folder(request), _logged_batches(output_folder(request))
        )
    writer = request.query.writer(rows).format(form).partitionBy(*partitions).options(**_FORMAT_OPTIONS[form])
    if len(rows.columns) == len(partitions) + 1:  # of a null in a single column CSV would have no line
        writer = writer.option("quoteAll", "true")
    given = {name: value for name in _WRITER_OPTIONS if (value := get_option(request.options, name)) is not None}
    return writer.options(**given).start(output_folder(request))


def file_format(request: WriteRequest) -> str:
    form = (get_option(request.options, "format") or "parquet").lower()
    if form not in FORMATS:
        raise LakehouseError(f"{_OWNER}: there is no format {form!r}{did_you_mean(form, FORMATS)}")
    return form


def partition_columns(request: WriteRequest) -> list[str]:
    """The columns of `partitionBy`; whether the table has them is known at the start of the query only.

    Raises LakehouseError for an empty or duplicate name.
    """
    given = get_option(request.options, "partitionBy")
    names = [] if given is None else [name.strip() for name in given.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise LakehouseError(
            f"{_OWNER}: partitionBy is a column, or several separated by commas, each once, not {given!r}"
        )
    return names


def check(request: WriteRequest) -> None:
    """Raises LakehouseError for an invalid `partitionBy`, and for a folder that cannot be written.

    `address` checks the other options.
    """
    partition_columns(request)
    if _is_readable_locally(folder := output_folder(request)):
        existing = next(each for each in (Path(folder), *Path(folder).parents) if each.exists())
        if not existing.is_dir():
            raise LakehouseError(f"{_OWNER}: {existing} is a file, not a folder; give another --option path=…")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise LakehouseError(f"{_OWNER}: {existing} cannot be written; make it writable, or give another path")


def output_folder(request: WriteRequest) -> str:
    path = require_option(_OWNER, request.options, "path").rstrip("/")
    if on_databricks() and not path.startswith("/"):
        return f"{path}/{request.table.name}"  # a URI of cloud storage
    return str(Path(local_path("path", path)) / request.table.name)


def _is_readable_locally(path: str) -> bool:
    """True if Python can read the folder: in a workspace, cloud storage and DBFS are accessible to Spark only."""
    return not on_databricks() or path.startswith("/Volumes/")


def _logged_batches(path: str) -> Iterator[int]:
    """The batches in Spark's log of the folder: it has an entry for each; older ones are compacted."""
    entries = (Path(path) / "_spark_metadata").glob("[0-9]*")
    return (
        int(entry.stem) for entry in entries if entry.stem.isdigit()
    )  # `9`, or `9.compact`, which includes all before it


def address(request: WriteRequest) -> dict[str, str]:
    return {"path": output_folder(request), "format": file_format(request)}


SINK = Sink(
    "files",
    OptionSpec(_OWNER, ("path", "format", "partitionBy", *_WRITER_OPTIONS), booleans=("header",)),
    guarantee="exactly once",
    start=start,
    address=address,
    check=check,
)
