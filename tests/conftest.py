"""One Spark session and one real broker for all tests of a process."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from rich.console import Console
from support.fake_eventhubs import FakeEntraId, Namespace, namespace_of
from support.settings import FEW_ROWS, NO_CODEGEN

from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.execution.runner import run
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.local.jvm import OPTIONS_VARIABLE
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.session import get_session
from streaming_lakehouse.sinks import DEFAULT_SINK

# Tests have few rows each, and as many processes as cores: the C2 compiler would take more time than it gives back.
os.environ.setdefault(OPTIONS_VARIABLE, "-XX:TieredStopAtLevel=1")
# Spark's Python workers import the transforms of test pipelines by name.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))

RunWeather = Callable[..., ProgressReporter]
Prepare = Callable[..., None]
# Half of the rows of a lake, and all of them: many tests of gold and its sinks take one, or one after the other.
HALF, ALL = {"numRows": "7500", "seed": "7"}, {"numRows": "15000", "seed": "7"}

# pytest-xdist gives files out in this order, then the others as they are collected: a long one must not be the last.
LONGEST_FILES = (
    "test_kills.py",
    "test_recovery.py",
    "test_compatibility.py",
    "test_silver.py",
    "test_pipeline_graph.py",
    "test_contract.py",
    "test_sinks.py",
    "test_weather_pipeline.py",
    "test_catalog.py",
    "test_upstream.py",
    "test_spark_errors.py",
    "test_reset.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


class FakeSecretScopes:
    """Stands in for a workspace's `dbutils.secrets`: one scope, and none other may be read."""

    def get(self, scope: str, key: str) -> str:
        if scope != "ours":
            raise RuntimeError(f"PERMISSION_DENIED: no READ on scope {scope}\n\tat com.databricks.Secrets.get")
        return f"canary-of-{key}"


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets of a workspace: `canary-of-KEY` for every key of the scope `ours`."""
    runtime = SimpleNamespace(dbutils=SimpleNamespace(secrets=FakeSecretScopes()))
    monkeypatch.setitem(sys.modules, "databricks.sdk.runtime", runtime)


@pytest.fixture(scope="session")
def spark() -> SparkSession:
    """The session of all tests in this process. Code is generated in the contract test, and in every other process."""
    session = get_session()
    for name, value in NO_CODEGEN.items():
        session.conf.set(name, value)
    return session


@pytest.fixture(scope="module")
def few_rows(spark: SparkSession) -> Iterator[None]:
    """For tests of what is computed, in many small queries."""
    with applied(spark, FEW_ROWS):
        yield


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("bröker")) as running:
        yield running


@pytest.fixture(scope="session")
def tokens() -> Iterator[FakeEntraId]:
    entra_id = FakeEntraId()
    yield entra_id
    entra_id.server.shutdown()


@pytest.fixture(scope="session")
def namespace(tokens: FakeEntraId, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with namespace_of(tokens, tmp_path_factory.mktemp("namespace")) as running:
        yield running


class PreparedLakes:
    """Lakes with bronze and silver, but without gold: built for the first test that needs one, copied for all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.built: dict[tuple[str, ...], Path] = {}

    def copy(self, lake: Path, *runs: dict[str, str]) -> None:
        """Brings `lake` to where runs of bronze and silver with these options, one after the other, have left it."""
        shutil.copytree(self._built(*runs), lake, dirs_exist_ok=True)

    def _built(self, *runs: dict[str, str]) -> Path:
        key = tuple(repr(sorted(options.items())) for options in runs)
        if key not in self.built:
            before = self._built(*runs[:-1]) if runs[:-1] else None
            lake = self.folder / str(len(self.built))
            if before:
                shutil.copytree(before, lake)
            run_pipeline(lake, options=runs[-1], steps=("bronze", "silver"))
            self.built[key] = lake
        return self.built[key]


@pytest.fixture(scope="session")
def prepared_lakes(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> PreparedLakes:
    return PreparedLakes(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def prepare(prepared_lakes: PreparedLakes, tmp_path: Path) -> Prepare:
    """Gives the test's lake bronze and silver: `prepare({option: value}, …)`, a run each; what gold has there stays."""
    return partial(prepared_lakes.copy, tmp_path / "lake")


@pytest.fixture
def run_weather(spark: SparkSession, tmp_path: Path) -> RunWeather:
    """Runs weather in this process, as the command does: `run_weather(source, {option: value})`."""
    return partial(run_pipeline, tmp_path / "lake")


def run_pipeline(
    lake: Path,
    source: str = "generator",
    options: dict[str, str] | None = None,
    *,
    steps: tuple[str, ...] = (),
    root: Path | None = None,
    sink: str = DEFAULT_SINK,
    mode: str | None = None,
    sink_options: dict[str, str] | None = None,
    pipeline: str = "weather",
    trigger: str = "available-now",
    stop_after: int | None = None,
) -> ProgressReporter:
    """Runs until all is done; with `stop_after` until Ctrl-C, once a step has read this number of rows."""
    storage, when = Storage(root=root or lake), parse_trigger(trigger)
    plan = RunPlan(load_pipeline(pipeline), storage, source, options or {}, when, steps, sink, mode, sink_options or {})
    progress = InterruptingReporter([step.name for step in plan.steps], stop_after)
    assert run(plan, progress)
    return progress


class InterruptingReporter(ProgressReporter):
    """Presses Ctrl-C once a step has read `stop_after` rows."""

    def __init__(self, steps: list[str], stop_after: int | None) -> None:
        super().__init__(steps, Console(file=io.StringIO()))
        self.stop_after = stop_after

    def update(self, step: str, query: StreamingQuery) -> None:
        super().update(step, query)
        if self.stop_after is not None and self.states[step].rows >= self.stop_after:
            self.stop_after = None
            signal.raise_signal(signal.SIGINT)
