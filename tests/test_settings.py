"""Where tables and checkpoints live, and names that are refused."""

from pathlib import Path

import pytest

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.settings import Settings


def test_a_root_holds_tables_by_layer_and_checkpoints_beside_them(tmp_path: Path) -> None:
    """The layout on a laptop."""
    settings = Settings.read(root=str(tmp_path), environment={})
    assert settings.table("bronze", "weather_readings").path == str(tmp_path / "bronze" / "weather_readings")
    assert settings.checkpoint("weather", "silver") == str(tmp_path / "_checkpoints" / "weather" / "silver")


def test_a_catalog_holds_tables_by_schema_and_checkpoints_in_a_volume() -> None:
    """The layout in Unity Catalog, with the schema prefix of a bundle's development mode."""
    settings = Settings.read(catalog="main", schema_prefix="dev_ann_", environment={})
    assert settings.table("gold", "weather_alerts").sql == "`main`.`dev_ann_gold`.`weather_alerts`"
    assert settings.checkpoint("weather", "bronze") == "/Volumes/main/dev_ann_ops/checkpoints/weather/bronze"


def test_the_environment_is_read_where_nothing_is_given(tmp_path: Path) -> None:
    """LAKEHOUSE_ROOT serves like --root, and what is given goes first."""
    environment = {"LAKEHOUSE_ROOT": "/elsewhere"}
    assert Settings.read(environment=environment).root == Path("/elsewhere")
    assert Settings.read(catalog="main", environment=environment).catalog == "main"


@pytest.mark.parametrize("name", ["a`b", "a.b", "", "x; DROP TABLE y", "1a", "a" * 129])
def test_a_name_that_could_leave_its_quotes_is_refused(name: str) -> None:
    """Names are checked, never escaped."""
    with pytest.raises(LakehouseError, match="name"):
        Settings(catalog="main").table("gold", name)


@pytest.mark.parametrize("root", ["../up", "a/../../b", "s3://bucket/x", "file:///x"])
def test_a_root_elsewhere_is_refused(root: str) -> None:
    """No `..` and no foreign scheme."""
    with pytest.raises(LakehouseError, match="plain path"):
        Settings.read(root=root, environment={})


def test_a_root_and_a_catalog_are_too_much() -> None:
    """Tables cannot live in both."""
    with pytest.raises(LakehouseError, match="one of them"):
        Settings.read(root="x", catalog="y", environment={})
