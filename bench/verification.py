"""Verifies the tables of a run: by the tests' oracle, or against those of a run that the oracle has verified."""

import sys
from dataclasses import replace
from pathlib import Path

import duckdb
from deltalake import DeltaTable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracle import RawRecord, check, load_domain, read_topic

# The columns whose last bits depend on the order of addition, by table. No other column depends on the run except
# `ingested_at`. No average or sum of these data is within 1e-9 of a rounding boundary.
_SUMS = {
    "gold/weather_device_hourly": ("temperature_avg_c", "humidity_avg_pct", "rain_total_mm"),
    "gold/weather_device_sliding": ("temperature_avg_c", "humidity_avg_pct", "rain_total_mm"),
    "gold/weather_alerts": ("value",),
}
_DECIMALS = 7


_WEATHER = load_domain("weather")
# The hand-written pipelines have these gold tables, and no reference table.
GOLD = ("weather_device_hourly", "weather_device_sliding", "weather_alerts")
DOMAIN = replace(_WEATHER, gold=tuple(gold for gold in _WEATHER.gold if gold.table in GOLD))
TABLES = DOMAIN.tables


class Verifier:
    """Verifies the runs over one topic: all by the oracle, or if `is_large` only the first one."""

    def __init__(self, bootstrap_servers: str, topic: str, *, is_large: bool) -> None:
        self.servers, self.topic, self.is_large = bootstrap_servers, topic, is_large
        self.verified: dict[str, tuple[int, int]] = {}
        self._raw: list[RawRecord] = []

    def check(self, root: Path) -> dict[str, int]:
        """The number of rows of each table. Raises AssertionError if one is wrong."""
        found = {table: fingerprint(root, table) for table in TABLES}
        if not self.verified or not self.is_large:
            check(root, DOMAIN, self._records())
        self.verified = self.verified or found
        wrong = [
            f"{table}: {found[table]}, not {expected}"
            for table, expected in self.verified.items()
            if found[table] != expected
        ]
        if wrong:
            raise AssertionError("not the tables of the verified run (rows, digest): " + "; ".join(wrong))
        return {table: rows for table, (rows, _) in found.items()}

    def _records(self) -> list[RawRecord]:
        if self.is_large:
            return read_topic(self.servers, self.topic)
        self._raw = self._raw or read_topic(self.servers, self.topic)
        return self._raw


def fingerprint(root: Path, table: str) -> tuple[int, int]:
    """The number of rows and a digest of them as a multiset, independent of files and order."""
    sums = _SUMS.get(table, ())
    columns = [
        # + 0.0: a sum that rounds to zero may be -0.0
        f'round("{name}", {_DECIMALS}) + 0.0' if name in sums else f'"{name}"'
        for name in TABLES[table]
        if name != "ingested_at"
    ]
    with duckdb.connect(config={"threads": 2}) as database:
        database.read_parquet(DeltaTable(root / table).file_uris()).create_view("rows")
        # A sum, not an exclusive or, which would ignore a duplicate pair of rows.
        row = database.execute(f"SELECT count(*), sum(hash({', '.join(columns)})::HUGEINT) FROM rows").fetchone()
    assert row is not None
    return row[0], int(row[1] or 0)
