"""A whole lake against the raw records of its sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .bronze import check_bronze
from .compare import Database
from .domain import ENVELOPE, Domain, Row, load_domain
from .gold import Inputs, check_gold, expected_rows
from .records import RawRecord
from .silver import Account, check_silver
from .tables import load, read_rows

Raw = Mapping[str, Sequence[RawRecord]] | Sequence[RawRecord]


def check(
    root: Path | str, domain: Domain | str, raw: Raw, modes: Mapping[str, str] | None = None
) -> dict[str, Account]:
    """The account of each bronze table of a run that has caught up.

    `domain`: the pipeline's, or its name. `raw`: the records of each bronze table; of a pipeline that has one table,
    its records. `modes`: the output modes of gold tables that do not run in append mode. Raises AssertionError with the
    difference where a table is not the truth.
    """
    root = Path(root)
    domain = load_domain(domain) if isinstance(domain, str) else domain
    records = raw if isinstance(raw, Mapping) else dict.fromkeys(domain.bronze, raw)
    if set(records) != set(domain.bronze) or (len(records) > 1 and not isinstance(raw, Mapping)):
        raise ValueError(f"records of the bronze tables {', '.join(domain.bronze)} expected")
    accounts: dict[str, Account] = {}
    silver: dict[str, list[Row]] = {}
    with Database() as database:
        for bronze in domain.bronze:
            with database.scope():
                load(database, root, f"bronze/{bronze}", ENVELOPE, "bronze")
                check_bronze(database, f"bronze/{bronze}", records[bronze])
                judged = check_silver(database, root, domain, bronze)
            accounts[bronze] = judged.account
            silver |= {table: list(rows.values()) for table, rows in judged.silver.items()}
        _check_gold(database, root, domain, silver, modes or {})
    return accounts


def check_gold_of_silver(root: Path, domain: Domain | str, modes: Mapping[str, str] | None = None) -> None:
    """Every gold table against what plain Python computes of the rows that silver has, however they came there."""
    domain = load_domain(domain) if isinstance(domain, str) else domain
    silver = {f"silver/{each.table}": read_rows(root, f"silver/{each.table}") for each in domain.silver}
    with Database() as database:
        _check_gold(database, root, domain, silver, modes or {})


def _check_gold(database: Database, root: Path, domain: Domain, silver: Inputs, modes: Mapping[str, str]) -> None:
    for gold in domain.gold:
        with database.scope():
            rows = expected_rows(root, domain, gold, silver, modes.get(gold.table, "append"))
            load(database, root, f"gold/{gold.table}", gold.columns, "actual")
            check_gold(database, gold, rows)
