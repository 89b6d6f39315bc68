"""Weather with changes: tables name their inputs by reference, so the tables that read a changed one are rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from streaming_lakehouse.domains.weather import pipeline as declared
from streaming_lakehouse.pipeline import Pipeline

WEATHER = declared.PIPELINE


def weather_with(
    *, silver: Mapping[str, Any] | None = None, gold: Mapping[str, Mapping[str, Any]] | None = None
) -> Pipeline:
    """Weather with other fields of its silver table, or of its gold tables by name."""
    readings = replace(WEATHER.silver[0], **(silver or {}))
    tables = [
        replace(each, inputs=(readings, *each.references), **(gold or {}).get(each.table, {})) for each in WEATHER.gold
    ]
    assert WEATHER.hot
    return Pipeline("weather", *tables, hot=replace(WEATHER.hot, input=readings), detections=WEATHER.detections)


def declare(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    """The pipeline that a run of `weather` loads in this test."""
    monkeypatch.setattr(declared, "PIPELINE", pipeline)
