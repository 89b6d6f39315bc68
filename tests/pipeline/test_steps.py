"""Steps: their names, and the selectors of `--step`."""

from __future__ import annotations

import pytest
from support.domains.shop.pipeline import PIPELINE as SHOP
from support.weather import WEATHER

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.steps import pipeline_steps, select_steps

GOLD = [
    "gold.weather_device_hourly",
    "gold.weather_device_sliding",
    "gold.weather_region_hourly",
    "gold.weather_alerts",
]
LAYERS = ["bronze.weather_readings", "silver.weather_readings", *GOLD]


def test_steps_follow_the_data_and_the_hot_path_is_last() -> None:
    """A step's name is `layer.table`; a reference is no step, since no query writes it."""
    assert [step.name for step in pipeline_steps(WEATHER)] == [*LAYERS, "hot.weather_alerts_now"]
    layers = [step.layer for step in pipeline_steps(SHOP)]
    assert layers == ["bronze"] * 2 + ["silver"] * 3 + ["gold"] * 7 + ["hot"]


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ((), LAYERS),
        (("gold",), GOLD),
        (("weather_alerts",), ["gold.weather_alerts"]),
        (("gold.weather_alerts", "bronze"), ["bronze.weather_readings", "gold.weather_alerts"]),
        (("weather_readings",), ["bronze.weather_readings", "silver.weather_readings"]),
        (("silver.weather_readings", "silver"), ["silver.weather_readings"]),
        (("hot",), ["hot.weather_alerts_now"]),
        (("weather_alerts_now", "silver"), ["silver.weather_readings", "hot.weather_alerts_now"]),
    ],
)
def test_a_selector_is_a_layer_a_table_or_a_step(selectors: tuple[str, ...], expected: list[str]) -> None:
    """In the order of the data, each once; the hot path runs only where it is named."""
    assert [step.name for step in select_steps(WEATHER, selectors)] == expected


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("sliver", "pipeline 'weather' has no step 'sliver'; did you mean 'silver'"),
        ("weather_alert", "did you mean 'weather_alerts'"),
        ("gold.weather_alert", r"did you mean 'gold\.weather_alerts'"),
        ("quarantine", "pipeline 'weather' has no step 'quarantine'; available: bronze, weather_readings, bronze"),
    ],
)
def test_an_unknown_selector_is_refused_with_the_nearest(selector: str, message: str) -> None:
    with pytest.raises(LakehouseError, match=message):
        select_steps(WEATHER, ("gold", selector))


def test_a_silver_step_writes_the_quarantine_of_its_bronze_table() -> None:
    """Two silver tables of one bronze table share it."""
    outputs = {step.name: step.outputs for step in select_steps(SHOP, ("silver",))}
    assert outputs["silver.shop_orders"] == (("silver", "shop_orders"), ("quarantine", "shop_sales"))
    assert outputs["silver.shop_payments"] == (("silver", "shop_payments"), ("quarantine", "shop_sales"))
