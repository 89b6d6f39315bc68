"""Delta tables, read without Spark: their rows, and which micro-batch wrote which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from deltalake import DeltaTable
from pyarrow.dataset import ParquetReadOptions

from .compare import Database, refuse
from .domain import Columns, Row
from .json_text import canonical_text
from .json_types import Scalar
from .json_values import Array, Type
from .moments import DAY


class Batch(NamedTuple):
    """A micro-batch's write to a table, by its commit: the query's appId and the batch's number."""

    table: str

    app: str
    number: int


def _described(delta_type: Any) -> str:
    """A Delta type's JSON as one word, such as `array<struct<a:long>>`."""
    if isinstance(delta_type, str):
        return delta_type
    if delta_type["type"] == "array":
        return f"array<{_described(delta_type['elementType'])}>"
    if delta_type["type"] == "map":
        return f"map<{_described(delta_type['keyType'])},{_described(delta_type['valueType'])}>"
    fields = (f"{field['name']}:{_described(field['type'])}" for field in delta_type["fields"])
    return f"struct<{','.join(fields)}>"


def _check_columns(table: str, delta: DeltaTable, expected: Columns) -> None:
    found = {field.name: _described(json.loads(field.type.to_json())) for field in delta.schema().fields}
    wrong = [f"{table}: no column {name}" for name in expected if name not in found]
    wrong += [f"{table}: unexpected column {name}" for name in found if name not in expected]
    wrong += [
        f"{table}: column {name} is {found[name]}, not {type_.delta}"
        for name, type_ in expected.items()
        if type_ and name in found and found[name] != type_.delta
    ]
    refuse(wrong)


def _rows(delta: DeltaTable) -> pa.Table:
    """The current snapshot, timestamps as microseconds and dates as days since 1970, which have no first year."""
    # Spark's timestamps are read in nanoseconds otherwise, which end in 1677 and 2262.
    in_microseconds = ParquetReadOptions(coerce_int96_timestamp_unit="us")
    rows = delta.to_pyarrow_dataset(parquet_read_options=in_microseconds).to_table()
    return rows.cast(pa.schema([(field.name, _as_integers(field.type)) for field in rows.schema]))


def _as_integers(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_):
        return pa.int64()
    if pa.types.is_date(type_):
        return pa.int32()
    if pa.types.is_list(type_):
        return pa.list_(_as_integers(type_.value_type))
    if pa.types.is_map(type_):
        return pa.map_(type_.key_type, _as_integers(type_.item_type))
    if pa.types.is_struct(type_):
        return pa.struct([(field.name, _as_integers(field.type)) for field in type_])
    return type_


def read_rows(root: Path, table: str) -> list[Row]:
    """The rows of a table that the pipeline reads but does not write."""
    rows: list[Row] = _rows(DeltaTable(root / table)).to_pylist(maps_as_pydicts="strict")
    return rows


def load(database: Database, root: Path, table: str, columns: Columns, name: str) -> None:
    """Copies the Delta table to the database's table `name`; one that was never created counts as empty."""
    path = str(root / table)
    if DeltaTable.is_deltatable(path):
        delta = DeltaTable(path)
        _check_columns(table, delta, columns)
        rows = _rows(delta)
        database.add(name, pa.table({c: _comparable_column(rows.column(c), c, type_) for c, type_ in columns.items()}))
    else:
        database.add(name, comparable([], columns))
    units = {"timestamp": 1, "date": DAY}
    database.moments |= {name: units[type_.delta] for name, type_ in columns.items() if type_ and type_.delta in units}


def comparable(rows: Iterable[Row], columns: Columns) -> pa.Table:
    """Expected rows in the form that `load` gives to actual ones; a column that a row lacks is null."""
    rows = list(rows)
    arrays = {}
    for name, type_ in columns.items():
        values: Iterable[Any] = (row.get(name) for row in rows)
        native = native_type(type_)
        arrays[name] = pa.array(map(_text, values), pa.string()) if native is None else pa.array(values, native)
    return pa.table(arrays)


def native_type(type_: Type | None) -> pa.DataType | None:
    """The type in which DuckDB compares such values as they are; None for those that are compared as text."""
    if isinstance(type_, Scalar):
        return type_.arrow
    if isinstance(type_, Array) and isinstance(type_.element, Scalar):
        return pa.list_(type_.element.arrow)
    return None


def _comparable_column(column: pa.ChunkedArray, name: str, type_: Type | None) -> Any:
    """Maps and structs as text, rescued data as canonical JSON."""
    if name == "_rescued_data":
        return pa.array(map(canonical_text, column.to_pylist()), pa.string()) if _has_values(column) else column
    native = native_type(type_)
    if native is not None:
        return column.cast(native)
    return pa.array(map(_text, column.to_pylist(maps_as_pydicts="strict")), pa.string())


def _has_values(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count < len(column))


def _text(value: Any) -> str | None:
    """One text for equal maps and structs."""
    return None if value is None else json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: bytes | Decimal) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _batch_of_action(table: str, action: Mapping[str, Any]) -> Batch | None:
    """By Delta's own transactions, or by the userMetadata that each of our commits has."""
    if "txn" in action:
        return Batch(table, action["txn"]["appId"], action["txn"]["version"])
    written = json.loads(action.get("commitInfo", {}).get("userMetadata") or "{}")
    return Batch(table, written["queryId"], written["batchId"]) if "queryId" in written else None


def _files_of_batches(root: Path, table: str) -> dict[Batch, list[str]]:
    """The files that each batch's commit added, from the Delta log's JSON."""
    path = root / table
    files: dict[Batch, list[str]] = {}
    for log in sorted((path / "_delta_log").glob("*.json")):
        if not re.fullmatch(r"\d{20}", log.stem):
            continue
        actions = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.strip()]
        batches = {batch for action in actions if (batch := _batch_of_action(table, action))}
        if not batches:
            continue
        batch = batches.pop()
        if batches or batch in files:
            raise AssertionError(f"{table}: batch {batch.number} has more than one commit or number, see {log.name}")
        added = [action["add"]["path"] for action in actions if "add" in action]
        files[batch] = [str(path / unquote(urlsplit(name).path)) for name in added]
    return files


def load_batches(database: Database, root: Path, tables: Sequence[str]) -> Mapping[str, set[str]]:
    """Makes the table `batches`: in_table, app, batch and key of each row that a micro-batch wrote to one of `tables`.

    Returns the appIds of each.
    """
    columns = 'in_table VARCHAR, app VARCHAR, batch BIGINT, source VARCHAR, partition INT, "offset" BIGINT'
    database.execute(f"CREATE TABLE batches ({columns})")
    apps = {}
    for table in tables:
        files = _files_of_batches(root, table)
        apps[table] = {batch.app for batch in files}
        rows = [(name, *batch) for batch, names in files.items() for name in names]
        gone = [Path(name).name for name, *_ in rows if not Path(name).exists()]
        refuse([f"{table}: {len(gone)} files that its batches wrote are gone, such as {gone[:3]}"] if gone else [])
        if rows:
            batches = dict(
                zip(("filename", "in_table", "app", "batch"), map(list, zip(*rows, strict=True)), strict=True)
            )
            database.add(f"files of {table}", pa.table(batches))
            database.execute(
                f"""INSERT INTO batches SELECT in_table, app, batch, source, partition, "offset"
                    FROM read_parquet(?, filename = true, hive_partitioning = false)
                    JOIN "files of {table}" USING (filename)""",
                [batches["filename"]],
            )
    return apps
