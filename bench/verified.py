"""Whether a run's tables are the truth: by the tests' oracle, or equal to those of a run that the oracle has passed."""

import sys
from pathlib import Path

import duckdb
from deltalake import DeltaTable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import oracle

# The tables, and the columns whose last bits depend on the order of addition. No other column depends on the run
# but `ingested_at`. No average or sum of these data lies within 1e-9 of half of the digit that is rounded to.
_ADDED = {
    "gold/weather_device_hourly": ("temperature_avg_c", "humidity_avg_pct", "rain_total_mm"),
    "gold/weather_device_sliding": ("temperature_avg_c", "humidity_avg_pct", "rain_total_mm"),
    "gold/weather_alerts": ("value",),
}
_DECIMALS = 7


class Verifier:
    """Checks the runs over one topic: all by the oracle, or where `is_large` the first one only."""

    def __init__(self, bootstrap_servers: str, topic: str, *, is_large: bool) -> None:
        self.servers, self.topic, self.is_large = bootstrap_servers, topic, is_large
        self.truth: dict[str, tuple[int, int]] = {}
        self._raw: list[oracle.RawRecord] = []

    def check(self, root: Path) -> dict[str, int]:
        """The rows of each table. Raises AssertionError where one is wrong."""
        found = {table: fingerprint(root, table) for table in oracle.TABLES}
        if not self.truth or not self.is_large:
            oracle.check(root, self._records())
        self.truth = self.truth or found
        wrong = [
            f"{table}: {found[table]}, not {truth}" for table, truth in self.truth.items() if found[table] != truth
        ]
        if wrong:
            raise AssertionError("not the tables of the verified run (rows, digest): " + "; ".join(wrong))
        return {table: rows for table, (rows, _) in found.items()}

    def _records(self) -> list[oracle.RawRecord]:
        if self.is_large:
            return oracle.read_topic(self.servers, self.topic)
        self._raw = self._raw or oracle.read_topic(self.servers, self.topic)
        return self._raw


def fingerprint(root: Path, table: str) -> tuple[int, int]:
    """The number of rows and a digest of them as a multiset, whatever files and order they are in."""
    added = _ADDED.get(table, ())
    columns = [
        # + 0.0: a sum that rounds to nothing may be -0.0
        f'round("{name}", {_DECIMALS}) + 0.0' if name in added else f'"{name}"'
        for name in oracle.TABLES[table]
        if name != "ingested_at"
    ]
    with duckdb.connect(config={"threads": 2}) as database:
        database.read_parquet(DeltaTable(root / table).file_uris()).create_view("rows")
        # A sum and not an exclusive or: that one would not see a row that is there twice.
        row = database.execute(f"SELECT count(*), sum(hash({', '.join(columns)})::HUGEINT) FROM rows").fetchone()
    assert row is not None
    return row[0], int(row[1] or 0)
