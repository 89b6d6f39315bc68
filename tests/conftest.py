"""One Spark session and one real broker for all tests of a process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from namespace import Namespace, Tokens, namespace_of
from pyspark.sql import SparkSession
from rich.console import Console

from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.progress import Board
from streaming_lakehouse.runner import Run
from streaming_lakehouse.session import get_session
from streaming_lakehouse.settings import Settings
from streaming_lakehouse.sinks import DEFAULT
from streaming_lakehouse.triggers import parse_trigger

# Tests are many small runs: the slow, thorough compiler of the JVM never earns back what it costs there.
os.environ.setdefault("LAKEHOUSE_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

RunWeather = Callable[..., Board]


class Scopes:
    """Stands in for a workspace's `dbutils.secrets`: one scope, and none other may be read."""

    def get(self, scope: str, key: str) -> str:
        if scope != "ours":
            raise RuntimeError(f"PERMISSION_DENIED: no READ on scope {scope}\n\tat com.databricks.Secrets.get")
        return f"canary-of-{key}"


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secrets of a workspace: `canary-of-KEY` for every key of the scope `ours`."""
    runtime = SimpleNamespace(dbutils=SimpleNamespace(secrets=Scopes()))
    monkeypatch.setitem(sys.modules, "databricks.sdk.runtime", runtime)


@pytest.fixture(scope="session")
def spark() -> SparkSession:
    return get_session()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="session")
def tokens() -> Iterator[Tokens]:
    made = Tokens()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="session")
def namespace(tokens: Tokens, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with namespace_of(tokens, tmp_path_factory.mktemp("namespace")) as made:
        yield made


@pytest.fixture
def run_weather(spark: SparkSession, tmp_path: Path) -> RunWeather:
    """Runs weather in this process, as the command does: `run_weather(source, {option: value})`."""
    return partial(run_at, tmp_path / "lake")


def run_at(
    lake: Path,
    source: str = "generator",
    options: dict[str, str] | None = None,
    *,
    steps: tuple[str, ...] = (),
    root: Path | None = None,
    sink: str = DEFAULT,
    mode: str | None = None,
    sink_options: dict[str, str] | None = None,
) -> Board:
    settings, trigger = Settings(root=root or lake), parse_trigger("available-now")
    outward: dict[str, Any] = {"sink": sink, "mode": mode, "sink_options": sink_options or {}}
    chosen = Run(load_pipeline("weather"), settings, source, options or {}, trigger, steps, **outward)
    board = Board(chosen.chosen_steps, Console(file=io.StringIO()))
    assert chosen.start(board)
    return board
