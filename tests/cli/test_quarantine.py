"""The output of `lakehouse quarantine`, compared with the table itself."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import HALF, Prepare
from deltalake import DeltaTable
from rich.console import Console

from streaming_lakehouse.cli.quarantine import QuarantineReport, _readable
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.discovery import load_pipeline


def printed(root: Path, rows: int, reason: str | None = None) -> str:
    console = Console(file=io.StringIO(), width=80)
    for part in QuarantineReport(load_pipeline("weather"), Storage(root=root), reason).render(rows=rows):
        console.print(part, markup=False, highlight=False, soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_records_are_shown_with_their_reasons(prepare: Prepare, tmp_path: Path) -> None:
    """The numbers by reason, then the newest records, each as text; with a reason only those that have it."""
    prepare(HALF)
    rejected = DeltaTable(tmp_path / "lake/quarantine/weather_readings").to_pyarrow_table().to_pylist()
    reasons = Counter(name for row in rejected for name in row["failed_expectations"])
    output = printed(tmp_path / "lake", 4)
    assert output.startswith(f"quarantine.weather_readings: {len(rejected)} rows\n")
    for name, number in reasons.items():
        assert re.search(rf"^{name} +{number}$", output, re.MULTILINE)
    newest = sorted(rejected, key=lambda row: (row["ingested_at"], row["offset"]), reverse=True)[:4]
    assert [int(offset) for offset in re.findall(r"partition 0, offset (\d+)", output)] == [
        row["offset"] for row in newest
    ]
    assert all(fails(row) in output and text(row) in output for row in newest)
    repeated = [row for row in rejected if "is_first_delivery" in row["failed_expectations"]]
    chosen = printed(tmp_path / "lake", len(rejected), "is_first_delivery")
    assert chosen.startswith(f"quarantine.weather_readings: {len(repeated)} rows\n")
    assert chosen.count("\n  fails ") == len(repeated) > 0
    with pytest.raises(LakehouseError, match="no record in quarantine fails 'is_first_deliveri'; did you mean 'is_fi"):
        printed(tmp_path / "lake", 1, "is_first_deliveri")
    with pytest.raises(LakehouseError, match=r"has no tables yet in .*nowhere"):
        printed(tmp_path / "nowhere", 1)


def fails(row: dict[str, Any]) -> str:
    return f"  fails {', '.join(row['failed_expectations'])}\n"


def text(row: dict[str, Any]) -> str:
    """What the generator makes is printable but for the bytes that are no UTF-8."""
    value = row["value"]
    return "(null)" if value is None else value.decode(errors="backslashreplace") or "(empty)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "(null)"),
        (b"", "(empty)"),
        ("größe".encode(), "größe"),
        (b"\xff{\n\x1b[2J", "\\xff{\\n\\x1b[2J"),
        (b"x" * 10_000_000, "x" * 2_000 + "… (10,000,000 bytes in all)"),
    ],
)
def test_any_bytes_are_readable(value: bytes | None, shown: str) -> None:
    """What is no text is escaped, and no control character reaches the terminal."""
    assert _readable(value) == shown
