"""Files as a sink: Parquet, JSON or CSV, in folders by the values of columns where one likes; exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse import ages
from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.options import Options, option, required
from streaming_lakehouse.session import on_databricks
from streaming_lakehouse.settings import local_path
from streaming_lakehouse.sinks import Outlet, Sink

FORMATS = ("parquet", "json", "csv")
_OWNER = "sink 'files'"
_PASSED_ON = ("compression", "header", "sep")


def start(rows: DataFrame, outlet: Outlet) -> StreamingQuery:
    """Writes below the folder `path`, in one that is named like the table.

    A reader must heed the folder's `_spark_metadata`, as Spark does: it names the files that count, and after a crash
    there may be others. Raises LakehouseError for an unknown format, or for a column that the table does not have; and
    for a folder that is not of the checkpoint's age, where it can be looked at.
    """
    form, partitions = file_format(outlet), partition_columns(outlet)
    for name in partitions:
        if name not in rows.columns:
            raise LakehouseError(
                f"{_OWNER}: {outlet.table} has no column {name!r} to partition by{did_you_mean(name, rows.columns)}"
            )
    if _is_seen(folder(outlet)):
        ages.refuse_folder_of_another_age(str(outlet.query.checkpoint), folder(outlet), _batches(folder(outlet)))
    writer = outlet.query.writer(rows).format(form).partitionBy(*partitions)
    if form == "csv":
        writer = writer.option("header", "true")
    given = {name: value for name in _PASSED_ON if (value := option(outlet.options, name)) is not None}
    return writer.options(**given).start(folder(outlet))


def file_format(outlet: Outlet) -> str:
    form = (option(outlet.options, "format") or "parquet").lower()
    if form not in FORMATS:
        raise LakehouseError(f"{_OWNER}: there is no format {form!r}{did_you_mean(form, FORMATS)}")
    return form


def partition_columns(outlet: Outlet) -> list[str]:
    """Those that `partitionBy` names, none without it; whether the table has them is known with its rows only.

    Raises LakehouseError for an empty name, or one that comes twice.
    """
    given = option(outlet.options, "partitionBy")
    names = [] if given is None else [name.strip() for name in given.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise LakehouseError(
            f"{_OWNER}: partitionBy is a column, or several with commas between, each once, not {given!r}"
        )
    return names


def check(outlet: Outlet) -> None:
    """Raises LakehouseError for `partitionBy`; what else can be wrong `place` says."""
    partition_columns(outlet)


def folder(outlet: Outlet) -> str:
    path = required(_OWNER, outlet.options, "path").rstrip("/")
    if on_databricks() and not path.startswith("/"):
        return f"{path}/{outlet.table.title}"  # of a cloud's storage
    return str(Path(local_path("path", path)) / outlet.table.title)


def _is_seen(folder: str) -> bool:
    """True where Python finds there what Spark has: in a workspace a cloud's storage and DBFS are Spark's alone."""
    return not on_databricks() or folder.startswith("/Volumes/")


def _batches(folder: str) -> Iterator[int]:
    """The numbers in Spark's log of the folder: it has an entry for each batch; older ones are drawn together."""
    entries = (Path(folder) / "_spark_metadata").glob("[0-9]*")
    return (int(entry.stem) for entry in entries if entry.stem.isdigit())  # `9`, or with all before it `9.compact`


def place(outlet: Outlet) -> dict[str, str]:
    return {"path": folder(outlet), "format": file_format(outlet)}


SINK = Sink(
    "files",
    Options(_OWNER, ("path", "format", "partitionBy", *_PASSED_ON), flags=("header",)),
    guarantee="exactly once",
    start=start,
    place=place,
    check=check,
)
