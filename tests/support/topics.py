"""Generated events in a topic for each bronze table of a pipeline, and the oracle on the lake made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from deltalake import DeltaTable
from oracle import Account, check, load_domain, read_topic

from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.pipeline import Pipeline

PARTITIONS = 2


@dataclass
class Topics:
    """The topics `PREFIX-TABLE` of a pipeline at a broker; each has the same number of records, `rows`."""

    pipeline: Pipeline
    bootstrap_servers: str
    prefix: str
    seed: int
    rates: dict[str, str] = field(default_factory=dict)
    rows: int = 0

    def name(self, table: str) -> str:
        return f"{self.prefix}-{table}"

    @property
    def source_options(self) -> dict[str, str]:
        """The options by which `run --source kafka` reads them."""
        topics = {f"{bronze.table}.subscribe": self.name(bronze.table) for bronze in self.pipeline.bronze}
        return {"kafka.bootstrap.servers": self.bootstrap_servers, **topics}

    def publish(self, rows: int) -> None:
        """Sends the next rows of each table's generator."""
        servers = {"kafka.bootstrap.servers": self.bootstrap_servers, "partitions": str(PARTITIONS)}
        for bronze in self.pipeline.bronze:
            options = {**servers, "topic": self.name(bronze.table), **self.rates}
            publish(PublishJob(bronze, self.seed, self.rows, self.rows + rows, options), "kafka")
        self.rows += rows

    def confirmed(self, lake: Path) -> dict[str, Account]:
        """The account of each bronze table, once the oracle has confirmed each row of each table of the lake.

        Every record is accounted for once, each kind of record occurs, and no gold table is empty.
        """
        raw = {each.table: read_topic(self.bootstrap_servers, self.name(each.table)) for each in self.pipeline.bronze}
        modes = {gold.table: gold.output_modes[0] for gold in self.pipeline.gold}
        accounts = check(lake, load_domain(self.pipeline.name), raw, modes)
        for table, account in accounts.items():
            print(f"{table}: {shown(account)}", flush=True)
            rows_in, *parts = account
            assert rows_in == self.rows == sum(parts)
            assert min(parts) > 0, "the data must have some of each, or the check proves little"
        rows = {gold.table: DeltaTable(lake / "gold" / gold.table).count() for gold in self.pipeline.gold}
        print("gold: " + ", ".join(f"{table} {number:,}" for table, number in rows.items()), flush=True)
        assert all(rows.values()), "an empty gold table proves nothing"
        return accounts


def shown(account: Account) -> str:
    """The account as a sum."""
    rows_in, *parts = account
    named = zip(parts, account._fields[1:], strict=True)
    return f"{rows_in:,} rows in = " + " + ".join(f"{number:,} {name}" for number, name in named)
