"""Pipelines are found in the package's own domains, and in the packages that LAKEHOUSE_DOMAINS names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streaming_lakehouse.cli.main import app
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


@pytest.fixture
def bikes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's own package of pipelines, empty at first."""
    folder = tmp_path / "bike_domains"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(DOMAINS_VARIABLE, "bike_domains")
    yield folder
    for module in [name for name in sys.modules if name.startswith("bike_domains")]:
        del sys.modules[module]


def declare(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "pipeline.py").write_text(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x = 1\nimport nothing_like_this",
            r"cannot be imported: ModuleNotFoundError: .*/rides/pipeline\.py, line 2\)",
        ),
        ("x = (", r"cannot be imported: SyntaxError: '\(' was never closed \(.*/rides/pipeline\.py, line 1\)"),
        ("raise SystemExit(3)", r"cannot be imported: SystemExit: 3 \(.*/rides/pipeline\.py, line 1\)"),
        ("assert False", r"cannot be imported: AssertionError \(.*/rides/pipeline\.py, line 1\)"),
        ("NAME = 'rides'", r"declares no pipeline; it needs PIPELINE = Pipeline\(\"rides\", …\)"),
        (
            "from streaming_lakehouse.pipeline import Pipeline\nPIPELINE = Pipeline('rides')",
            r"rides/pipeline\.py: pipeline 'rides' has no tables",
        ),
        (
            "from streaming_lakehouse.pipeline import expect\nexpect('a b', 'true')",
            r"rides/pipeline\.py: an expectation's name is words joined by _, such as amount_in_range, not 'a b'",
        ),
    ],
)
def test_a_pipeline_that_cannot_be_imported_is_its_own_fault_alone(bikes: Path, text: str, message: str) -> None:
    """One line with file and line; the help lists it among the others, which run."""
    declare(bikes / "rides", text)
    (bikes / "notes").mkdir()
    with pytest.raises(LakehouseError, match=message) as refused:
        load_pipeline("rides")
    assert "\n" not in str(refused.value)
    assert {"rides", "weather"} <= set(pipeline_names()) and "notes" not in pipeline_names()
    assert load_pipeline("weather").name == "weather"
    shown = CliRunner().invoke(app, ["run", "--help"])
    assert shown.exit_code == 0
    assert "hot.weather_alerts_now" in shown.output and "rides/pipeline.py" in shown.output


def test_what_is_no_pipeline_is_named(bikes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a declaration, two of one name, and a module in place of a package."""
    (bikes / "notes").mkdir()
    with pytest.raises(LakehouseError, match=r"there is no pipeline 'notes': .*/notes has no pipeline\.py"):
        load_pipeline("notes")
    declare(bikes / "weather", "")
    with pytest.raises(
        LakehouseError, match=r"there are two pipelines 'weather', in .*/weather and .*/weather; rename"
    ):
        load_pipeline("weather")
    monkeypatch.setenv(DOMAINS_VARIABLE, "support.weather")
    with pytest.raises(LakehouseError, match=r"names support\.weather, which is a module and no package"):
        pipeline_names()
    shown = CliRunner().invoke(app, ["run", "--help"])
    assert shown.exit_code == 0 and "which is a module and no package" in " ".join(shown.output.split())
