"""Pipelines are found in the package's own domains, and in the packages that LAKEHOUSE_DOMAINS names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.discovery import DOMAINS_VARIABLE, load_pipeline, pipeline_names


def test_a_package_of_another_project_adds_its_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the package's own, which need no variable."""
    monkeypatch.delenv(DOMAINS_VARIABLE, raising=False)
    own = pipeline_names()
    assert "weather" in own and "shop" not in own
    with pytest.raises(LakehouseError, match="there is no pipeline 'shop'; available: "):
        load_pipeline("shop")
    monkeypatch.setenv(DOMAINS_VARIABLE, " support.domains ,")
    assert pipeline_names() == sorted([*own, "shop"])
    assert load_pipeline("shop").name == "shop"
    with pytest.raises(LakehouseError, match="there is no pipeline 'shops'; did you mean 'shop'"):
        load_pipeline("shops")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DOMAINS_VARIABLE, "support.domains,not_installed.domains")
    with pytest.raises(
        LakehouseError, match=r"LAKEHOUSE_DOMAINS names not_installed\.domains, which cannot be imported"
    ):
        pipeline_names()


def test_a_pipeline_has_the_name_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that kept the name of its original would resume the original's checkpoints."""
    folder = tmp_path / "copied_domains" / "river"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "pipeline.py").write_text("from streaming_lakehouse.domains.weather.pipeline import PIPELINE\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(DOMAINS_VARIABLE, "copied_domains")
    with pytest.raises(
        LakehouseError, match=r"river/pipeline\.py declares a pipeline 'weather'; call it 'river' there"
    ):
        load_pipeline("river")
    for module in [name for name in sys.modules if name.startswith("copied_domains")]:
        monkeypatch.delitem(sys.modules, module)
