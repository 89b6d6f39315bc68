"""What a user can do wrong gets one line that names it, and exit status 1."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RunWeather

from streaming_lakehouse import cli
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.local.ports import free_port

KAFKA = ("run", "weather", "--source", "kafka")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "wether"), "'wether'; did you mean 'weather'"),
        (("run", "weather", "--source", "kafak"), "'kafak'; did you mean 'kafka'"),
        (("run", "weather", "--step", "sliver"), "'sliver'; did you mean 'silver'"),
        (("run", "weather", "--trigger", "sometimes"), "unknown trigger 'sometimes'"),
        (("run", "weather", "--trigger", "continuous 1 second"), "cannot write Delta tables"),
        (("run", "weather", "--option", "numRows"), "KEY=VALUE, not 'numRows'"),
        (("run", "weather", "--option", "subscribe=t"), "source 'generator' has no option 'subscribe'"),
        (("run", "weather", "--root", "a/../b"), "'a/../b'"),
        (("run", "weather", "--root", "s3://bucket/lake"), "'s3://bucket/lake'"),
        (("run", "weather", "--root", "a", "--catalog", "b"), "give one of them"),
        (("run", "weather", "--catalog", "no`name"), "catalog name"),
        ((*KAFKA, "--option", "kafka.sasl.jaas.config=canary"), "LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG"),
        (("generate", "wether", "--to", "files"), "'wether'; did you mean 'weather'"),
        (("generate", "weather", "--to", "files"), "path"),
        (("show", "wether"), "'wether'; did you mean 'weather'"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    words: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before Spark starts, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert told in said
    assert "canary" not in said
    assert said.startswith("lakehouse: ") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_folder(run_weather: RunWeather, tmp_path: Path) -> None:
    """The folder is named."""
    with pytest.raises(LakehouseError, match=str(tmp_path / "nowhere")):
        run_weather("files", {"path": str(tmp_path / "nowhere")})


def test_a_missing_topic(broker: Broker, run_weather: RunWeather) -> None:
    """The topic is named; it is not made by looking for it."""
    with pytest.raises(LakehouseError, match=r"no-such-topic|topic does not exist"):
        run_weather("kafka", {"kafka.bootstrap.servers": broker.bootstrap_servers, "subscribe": "no-such-topic"})


def test_an_unreachable_broker(run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bounded time, and without the credential."""
    servers = f"127.0.0.1:{free_port()}"
    jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="canary-4711";'
    monkeypatch.setenv("LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG", jaas)
    with pytest.raises(LakehouseError, match="broker") as refused:
        run_weather("kafka", {"kafka.bootstrap.servers": servers, "subscribe": "any"})
    assert "canary-4711" not in str(refused.value)
