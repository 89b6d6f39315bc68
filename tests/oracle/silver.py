"""Silver and quarantine against bronze: each row once, where it belongs, for the right reasons, with its values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from .classify import Outcome, outcome, rejected_deliveries
from .compare import Database, quoted, refuse
from .domain import ENVELOPE, KEY, PROVENANCE, QUARANTINE, Domain, Row, Silver
from .tables import Batch, comparable, load, load_batches


class Account(NamedTuple):
    """Where a bronze table's rows went: `rows_in` is the sum of the other four, none of which overlap."""

    rows_in: int
    valid: int
    quarantined: int
    duplicates: int
    late: int


@dataclass
class Judged:
    """What must become of a bronze table's rows, by their number in its order."""

    tables: list[str]  # the table that each row belongs in
    failures: list[list[str]]
    silver: dict[str, dict[int, Row]] = field(default_factory=dict)  # table -> number -> row

    @property
    def account(self) -> Account:
        late = self.failures.count(["is_on_time"])
        duplicates = self.failures.count(["is_first_delivery"])
        rows_in, valid = len(self.failures), self.failures.count([])
        return Account(rows_in, valid, rows_in - valid - duplicates - late, duplicates, late)


def check_silver(database: Database, root: Path, domain: Domain, bronze: str) -> Judged:
    """Checks the silver tables of `bronze` and its quarantine. The table `bronze` is in the database."""
    routes, quarantine = domain.silver_of(bronze), f"quarantine/{bronze}"
    tables = {quarantine: QUARANTINE, **{f"silver/{silver.table}": silver.columns for silver in routes}}
    for table, columns in tables.items():
        load(database, root, table, columns, table)
    number = f"row_number() OVER (ORDER BY {quoted(KEY)}) - 1 AS row"
    database.execute(f"CREATE TABLE numbered AS SELECT {number}, * FROM bronze")
    _check_partition(database, bronze, tuple(tables))
    apps = load_batches(database, root, tuple(tables))
    for table in tables:
        database.execute(f"""CREATE VIEW "batches of {table}" AS FROM batches WHERE in_table = '{table}'""")
        database.compare(f"{table}, files of its batches against the table", (table, f"batches of {table}"), KEY)
    judged = _judge(database, domain, bronze, apps)
    database.add("judged", _as_table(judged))
    database.execute("CREATE VIEW expected AS FROM numbered JOIN judged USING (row)")
    what = f"bronze/{bronze}, failed expectations, [] for a row of silver"
    database.compare(what, ("expected", "written"), KEY, exact=("failed_expectations", "in_table"))
    _check_values(database, routes, quarantine, judged)
    return judged


def _check_partition(database: Database, bronze: str, tables: tuple[str, ...]) -> None:
    """Each bronze row is in exactly one of the tables, and they have no other row."""
    failures = {table: "[]::VARCHAR[]" for table in tables} | {f"quarantine/{bronze}": "failed_expectations"}
    selects = (
        f"""SELECT {quoted(KEY)}, '{table}' AS in_table, {failed} AS failed_expectations FROM "{table}" """
        for table, failed in failures.items()
    )
    database.execute(f"CREATE VIEW written AS {' UNION ALL '.join(selects)}")
    database.compare(f"silver and quarantine together, against bronze/{bronze}", ("bronze", "written"), KEY)


def _judge(database: Database, domain: Domain, bronze: str, apps: Mapping[str, set[str]]) -> Judged:
    """Stages 1 to 3 of each bronze row alone, then 4 and 5 of each silver table's rows in its batches' order."""
    routes = domain.silver_of(bronze)
    names = ("value", "key", *PROVENANCE)
    records = database.rows(f"SELECT {quoted(names)} FROM numbered ORDER BY row")
    outcomes = [outcome(dict(zip(names, record, strict=True)), routes) for record in records]
    batches = _batches(database, len(outcomes))
    _check_apps(bronze, zip(outcomes, batches, strict=True), routes, apps)
    judged = Judged([f"quarantine/{bronze}"] * len(outcomes), [each.failures for each in outcomes])
    for silver in routes:
        table = f"silver/{silver.table}"
        valid = {number: each.row for number, each in enumerate(outcomes) if each.silver is silver and each.row}
        deliveries = sorted(
            (batches[number].number, number, tuple(row[key] for key in silver.dedup_key), row[silver.event_time])
            for number, row in valid.items()
        )
        for number, reason in rejected_deliveries(deliveries, silver.watermark):
            judged.failures[number] = [reason]
            del valid[number]
        for number in valid:
            judged.tables[number] = table
        judged.silver[table] = {number: _transformed(silver, row) for number, row in valid.items()}
    return judged


def _batches(database: Database, rows: int) -> list[Batch]:
    batches = [Batch("", "", -1)] * rows
    query = f"SELECT row, in_table, app, batch FROM numbered JOIN batches USING ({quoted(KEY)})"
    for row, *batch in database.rows(query):
        batches[row] = Batch(*batch)
    return batches


def _check_apps(
    bronze: str, rows: Iterable[tuple[Outcome, Batch]], routes: tuple[Silver, ...], apps: Mapping[str, set[str]]
) -> None:
    """The batches of one silver table are numbered by one query, and no others write to the bronze table's quarantine.

    Otherwise their numbers would not say which batch came first.
    """
    found = {silver.table: set(apps[f"silver/{silver.table}"]) for silver in routes}
    for each, batch in rows:
        if each.silver is not None and batch.table in (f"silver/{each.silver.table}", f"quarantine/{bronze}"):
            found[each.silver.table].add(batch.app)
    wrong = {f"silver/{table} and quarantine": some for table, some in found.items() if len(some) > 1}
    everybody = set().union(*apps.values())
    if len(everybody) > len(routes):
        wrong["silver and quarantine"] = everybody
    refuse([f"{what}: txn actions of one appId expected, not of {sorted(some)}" for what, some in wrong.items()])


def _transformed(silver: Silver, row: Row) -> Row:
    if silver.transform is None:
        return row
    event = silver.transform({field.name: row[field.name] for field in silver.fields})
    return {**event, **{name: row[name] for name in ("_rescued_data", *PROVENANCE)}}


def _as_table(judged: Judged) -> pa.Table:
    return pa.table(
        {
            "row": pa.array(range(len(judged.tables)), pa.int64()),
            "in_table": pa.array(judged.tables, pa.string()),
            "failed_expectations": pa.array(judged.failures, pa.list_(pa.string())),
        }
    )


def _check_values(database: Database, routes: tuple[Silver, ...], quarantine: str, judged: Judged) -> None:
    for silver in routes:
        table = f"silver/{silver.table}"
        expected = f"expected {table}"
        database.add(expected, comparable(judged.silver[table].values(), silver.columns))
        columns = [name for name in silver.columns if name not in KEY]
        database.compare(table, (expected, table), KEY, exact=columns)
    database.execute(f"CREATE VIEW expected_quarantine AS FROM expected WHERE in_table = '{quarantine}'")
    envelope = [name for name in ENVELOPE if name not in KEY]
    database.compare(quarantine, ("expected_quarantine", quarantine), KEY, exact=envelope)
