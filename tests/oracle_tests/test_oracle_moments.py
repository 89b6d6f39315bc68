"""Moments: each format has one form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from oracle.moments import HOUR, micros_of, parse_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001999Z", 1),
        ("1970-01-01T00:00:00.5Z", 500_000),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("1970-01-01T01:30:00+01:30", 0),
        ("1969-12-31T23:00:00-01:00", 0),
        ("2024-02-29T00:00:00Z", micros_of(datetime(2024, 2, 29, tzinfo=UTC))),
        ("0001-01-01T00:00:00+01:00", micros_of(datetime(1, 1, 1, tzinfo=UTC)) - HOUR),
        ("0000-12-31T06:00:00-18:00", micros_of(datetime(1, 1, 1, tzinfo=UTC))),
        ("2026-01-01T00:00:00+18:01", None),
        ("2023-02-29T00:00:00Z", None),
        ("2026-01-01T24:00:00Z", None),
        ("2026-01-01T23:59:60Z", None),
        ("2026-01-01T00:00:00", None),
        ("2026-01-01 00:00:00Z", 1_767_225_600_000_000),
        ("2026-01-01 00:00:00", None),
        ("2026-01-01T00:00Z", None),
        ("2026-01-01T00:00:00.Z", None),
        ("2026-01-01T00:00:00.1234567890Z", None),
        ("2026-01-01T00:00:00z", None),
        ("2026-01-01T00:00:00+0100", None),
        ("2026-01-01T00:00:00+01:60", None),
        ("2026-01-01T00:00:00Z\n", None),
        ("٢٠٢٦-01-01T00:00:00Z", None),
        (5, None),
    ],
)
def test_a_time_has_one_form(text: Any, expected: int | None) -> None:
    """Fractions beyond microseconds are cut off; an offset is applied; nothing else is a time."""
    assert parse_time(text) == expected
