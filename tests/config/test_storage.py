"""Locations of tables and checkpoints, and names that are refused."""

from pathlib import Path

import pytest

from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError


def test_a_root_holds_tables_by_layer_and_checkpoints_beside_them(tmp_path: Path) -> None:
    """The layout of a local lake."""
    storage = Storage.resolve(root=str(tmp_path), environment={})
    assert storage.table("bronze", "weather_readings").path == str(tmp_path / "bronze" / "weather_readings")
    checkpoint = storage.checkpoint("weather", "silver.weather_readings")
    assert checkpoint == str(tmp_path / "_checkpoints" / "weather" / "silver.weather_readings")


def test_a_catalog_holds_tables_by_schema_and_checkpoints_in_a_volume() -> None:
    """The layout in Unity Catalog, with the schema prefix of a bundle's development mode."""
    storage = Storage.resolve(catalog="main", schema_prefix="dev_ann_", environment={})
    assert storage.table("gold", "weather_alerts").sql_identifier == "`main`.`dev_ann_gold`.`weather_alerts`"
    checkpoint = storage.checkpoint("weather", "gold.weather_alerts")
    assert checkpoint == "/Volumes/main/dev_ann_ops/checkpoints/weather/gold.weather_alerts"


def test_the_environment_is_the_default(tmp_path: Path) -> None:
    """LAKEHOUSE_ROOT stands in for --root; arguments win."""
    environment = {"LAKEHOUSE_ROOT": "/elsewhere"}
    assert Storage.resolve(environment=environment).root == Path("/elsewhere")
    assert Storage.resolve(catalog="main", environment=environment).catalog == "main"


@pytest.mark.parametrize("name", ["a`b", "a.b", "", "x; DROP TABLE y", "1a", "a" * 129])
def test_a_name_that_needs_escaping_is_refused(name: str) -> None:
    """Names are validated, never escaped."""
    with pytest.raises(LakehouseError, match="invalid table name"):
        Storage(catalog="main").table("gold", name)


@pytest.mark.parametrize("root", ["../up", "a/../../b", "s3://bucket/x", "file:///x"])
def test_a_root_that_is_no_plain_path_is_refused(root: str) -> None:
    """No `..` and no scheme."""
    with pytest.raises(LakehouseError, match="plain local path"):
        Storage.resolve(root=root, environment={})


def test_a_root_and_a_catalog_together_are_refused() -> None:
    """Tables cannot be in both."""
    with pytest.raises(LakehouseError, match="one of them"):
        Storage.resolve(root="x", catalog="y", environment={})
