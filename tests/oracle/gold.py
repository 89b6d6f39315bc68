"""Gold against what plain Python computes of the silver rows that must be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from .compare import RELATIVE, Database, Rounded
from .domain import Domain, Gold, Row
from .json_types import DOUBLE
from .tables import comparable, read_rows
from .windows import keep_closed, watermark

Inputs = Mapping[str, Sequence[Row]]


def expected_rows(root: Path, domain: Domain, gold: Gold, inputs: Inputs, mode: str) -> list[Row]:
    """All rows, or in append mode those that have closed; `inputs`: the rows of all silver tables by their folder."""
    rows = list(gold.rows(*(_input(root, name, inputs) for name in gold.inputs)))
    if mode != "append" or gold.closes_at is None:
        return rows
    streams = [(silver, inputs[f"silver/{silver.table}"]) for silver in domain.silver]
    return keep_closed(rows, gold.closes_at, watermark(s for s in streams if f"silver/{s[0].table}" in gold.inputs))


def _input(root: Path, name: str, inputs: Inputs) -> Sequence[Row]:
    """A silver table's expected rows; a reference table's as they are in the lake."""
    return inputs[name] if name in inputs else read_rows(root, name)


def check_gold(database: Database, gold: Gold, rows: Sequence[Row]) -> None:
    """The database's table `actual` against the expected rows."""
    may_be_absent = gold.may_be_absent or (lambda row: False)
    doubles = [name for name, type_ in gold.columns.items() if type_ == DOUBLE and name not in gold.key]
    for name in ("sure", "possible"):
        chosen = [row for row in rows if may_be_absent(row) == (name == "possible")]
        database.add(name, _with_tolerance(chosen, gold, doubles))
    on = " AND ".join(f'p."{column}" IS NOT DISTINCT FROM a."{column}"' for column in gold.key)
    database.execute(f"CREATE VIEW expected AS FROM sure UNION ALL FROM possible p SEMI JOIN actual a ON {on}")
    exact = [name for name in gold.columns if name not in (*gold.key, *doubles)]
    database.compare(f"gold/{gold.table}", ("expected", "actual"), gold.key, exact=exact, rounded=doubles)


def _with_tolerance(rows: Sequence[Row], gold: Gold, doubles: Sequence[str]) -> pa.Table:
    table = comparable(rows, gold.columns)
    for name in doubles:
        of_column = gold.rounded.get(name, 0.0)
        tolerances = [RELATIVE if isinstance(row.get(name), Rounded) else of_column for row in rows]
        table = table.append_column(f"{name} tolerance", pa.array(tolerances, pa.float64()))
    return table
