"""Differences between tables: the expected rows and the actual ones, as multisets, in DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import duckdb
import pyarrow as pa

from .moments import EPOCH

RELATIVE = 1e-9


class Rounded(float):
    """A number whose last digits depend on the order of the operations that gave it."""


def refuse(differences: Sequence[str]) -> None:
    """Raises AssertionError with the differences, where there are any."""
    if differences:
        raise AssertionError("\n".join(differences))


def quoted(columns: Sequence[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{column}"' for column in columns)


class Database:
    """A DuckDB database in memory. Timestamps and dates in it are integers: `moments` says in how many µs."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(config={"threads": 2})
        self.moments: dict[str, int] = {}  # column -> unit

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Tables and views made within it have names of their own, and are gone after it."""
        self.connection.execute("CREATE SCHEMA scope; USE scope")
        yield
        self.connection.execute("USE main; DROP SCHEMA scope CASCADE")

    def add(self, name: str, rows: pa.Table) -> None:
        """Copies the rows to the table `name`."""
        self.connection.register("added", rows)
        self.connection.execute(f'CREATE TABLE "{name}" AS FROM added')
        self.connection.unregister("added")

    def execute(self, query: str, parameters: Sequence[Any] = ()) -> None:
        self.connection.execute(query, parameters)

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        result = self.connection.execute(query)
        while rows := result.fetchmany(50_000):
            yield from rows

    def found(self, what: str, query: str) -> list[str]:
        """One line that says what, how many rows the query has, and the first 3 of them; nothing where it has none."""
        result = self.connection.execute(f"SELECT *, count(*) OVER () FROM ({query}) ORDER BY ALL LIMIT 3")
        rows = result.fetchall()
        if not rows:
            return []
        columns = [column[0] for column in result.description or []][:-1]
        examples = [
            "  "
            + ", ".join(f"{column}={self._shown(column, value)}" for column, value in zip(columns, row, strict=False))
            for row in rows
        ]
        return ["\n".join([f"{what}: {rows[0][-1]}, such as", *examples])]

    def _shown(self, column: str, value: Any) -> str:
        if column in self.moments and isinstance(value, int):
            try:
                return (EPOCH + timedelta(microseconds=value * self.moments[column])).isoformat()
            except OverflowError:
                return f"{value * self.moments[column]} µs"
        text = repr(value)
        return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"

    def compare(
        self,
        what: str,
        tables: tuple[str, str],
        key: Sequence[str],
        *,
        exact: Sequence[str] = (),
        rounded: Sequence[str] = (),
    ) -> None:
        """Raises AssertionError unless the second table has exactly the first one's rows.

        `key` identifies a row; `exact` columns are equal. `rounded` ones are within the share of the expected value, or
        of 1 where that is smaller (an average near 0 has no relative precision), that the first table has in the column
        `COLUMN tolerance`.
        """
        expected, actual = (f'"{table}"' for table in tables)
        on = " AND ".join(f'e."{column}" IS NOT DISTINCT FROM a."{column}"' for column in key)
        joined = f"{expected} e JOIN {actual} a ON {on}"
        differs = {column: _differs(column, column in rounded) for column in (*exact, *rounded)}
        # One query finds out whether there is a difference; what it is takes one for each.
        sizes, others = self._count(joined, (expected, actual), differs)
        found = self._more_than_once(f"{what}: rows expected more than once", expected, key)
        found += self._more_than_once(f"{what}: rows more than once", actual, key)
        if found or len(sizes) > 1:
            for label, one, other in (
                ("missing", f"{expected} e", f"{actual} a"),
                ("unexpected", f"{actual} a", f"{expected} e"),
            ):
                query = f"SELECT {quoted(key, one[-1] + '.')} FROM {one} ANTI JOIN {other} ON {on}"
                found += self.found(f"{what}: rows {label}", query)
        for column in others:
            both = f'{quoted(key, "e.")}, e."{column}" AS expected, a."{column}" AS actual'
            query = f"SELECT {both} FROM {joined} WHERE {differs[column]}"
            found += self.found(f"{what}: rows with another {column}", query)
        refuse(found)

    def _count(self, joined: str, tables: Sequence[str], differs: Mapping[str, str]) -> tuple[set[int], list[str]]:
        """The numbers of rows of the tables and of their join, and the columns that differ in some joined row."""
        sizes = [f"(SELECT count(*) FROM {table})" for table in tables]
        conditions = [f"count(*) FILTER ({is_another})" for is_another in differs.values()]
        row = next(self.rows(f"SELECT {', '.join([*sizes, 'count(*)', *conditions])} FROM {joined}"))
        numbers = row[len(sizes) + 1 :]
        return set(row[: len(sizes) + 1]), [column for column, n in zip(differs, numbers, strict=True) if n]

    def _more_than_once(self, what: str, table: str, key: Sequence[str]) -> list[str]:
        listed = quoted(key)
        query = f"SELECT {listed}, count(*) AS copies FROM {table} GROUP BY {listed} HAVING count(*) > 1"
        return self.found(what, query)


def _differs(column: str, is_rounded: bool) -> str:
    e, a = f'e."{column}"', f'a."{column}"'
    if not is_rounded:
        return f"{e} IS DISTINCT FROM {a}"
    is_close = f'abs({e} - {a}) <= e."{column} tolerance" * greatest(1, abs({e}))'
    return f"{e} IS DISTINCT FROM {a} AND ({is_close}) IS NOT TRUE"
