"""What a user can do wrong gets one line that names it, and exit status 1."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from conftest import RunWeather
from pyspark.sql import SparkSession

from streaming_lakehouse import cli, unseen
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import Shares
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.session import check_place, compute
from streaming_lakehouse.settings import Settings
from streaming_lakehouse.sources import find_source

RUN = ("run", "weather")
GOLD = (*RUN, "--step", "gold", "--sink", "files")
# All layers: what is wrong with the sink is told before the first of them has done its work.
TO_OUT = (*RUN, "--sink", "files", "--option", "sink.path=out", "--option")
TO_TOPIC = (*RUN, "--sink", "kafka", "--option")
TO_HUB = (*RUN, "--sink", "eventhubs", "--option")
KAFKA = ("run", "weather", "--source", "kafka")
TO_FILES = ("generate", "weather", "--to", "files", "--option", "path=landing")
TO_KAFKA = ("generate", "weather", "--to", "kafka", "--option")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "wether"), "'wether'; did you mean 'weather'"),
        (("run", "weather", "--source", "kafak"), "'kafak'; did you mean 'kafka'"),
        (("run", "weather", "--step", "sliver"), "'sliver'; did you mean 'silver'"),
        (("run", "weather", "--trigger", "sometimes"), "unknown trigger 'sometimes'"),
        (("run", "weather", "--trigger", "continuous 1 second"), "continuous-sources"),
        (("run", "weather", "--trigger", "continuous 1 second"), "continuous-sinks"),
        (("run", "weather", "--step", "bronze", "--trigger", "continuous 1 second"), "only the hot path takes it; use"),
        (("run", "weather", "--trigger", "real-time 1 second"), "too short"),
        (("run", "weather", "--option", "numRows"), "KEY=VALUE, not 'numRows'"),
        ((*RUN, "--option", "seed=1", "--option", "Seed=2"), "--option Seed is given twice"),
        ((*TO_FILES, "--option", "path=there"), "--option path is given twice"),
        ((*GOLD, "--option", "numRows=5"), "numRows: source 'generator' plays no part in this run, which has neither"),
        ((*GOLD, "--option", "pth=out"), "sink 'files' has no option 'pth'; did you mean 'path'"),
        (
            (*GOLD, "--source", "files", "--option", "path=out"),
            "plays no part in this run, which has neither the step "
            "bronze nor the hot path; for the sink write sink.path",
        ),
        ((*RUN, "--step", "silver", "--option", "numRows=5"), "source 'generator' plays no part"),
        ((*RUN, "--step", "silver", "--option", "sink.path=5"), "path: sink 'foreachBatch' plays no part in this run"),
        ((*GOLD, "--option", "format=csv", "--option", "sink.format=json"), "are the same of sink 'files': give one"),
        ((*TO_OUT, "format=xml"), "there is no format 'xml'"),
        ((*TO_OUT, "partitionBy="), "partitionBy is a column, or several with commas between, each once, not ''"),
        ((*TO_OUT, "partitionBy=device,"), "partitionBy is a column"),
        ((*TO_OUT, "partitionBy=device, device"), "partitionBy is a column"),
        ((*TO_TOPIC, "sink.kafka.bootstrap.servers=127.0.0.1"), "sink 'kafka': kafka.bootstrap.servers is HOST:PORT"),
        (
            (*TO_TOPIC, "sink.kafka.bootstrap.servers=kafka.example.com:9092"),
            "in clear; add --option sink.kafka.security.protocol=SASL_SSL",
        ),
        ((*TO_HUB, "sink.eventhubs.namespace=sb://n"), "sink 'eventhubs': it needs eventhubs.connectionString"),
        ((*TO_HUB, "sink.eventhubs.namespace=n.example.com"), "sink 'eventhubs': which event hub?"),
        ((*TO_HUB, "sink.eventhubs.consumerGroup=g"), "sink 'eventhubs' has no option 'eventhubs.consumerGroup'"),
        (("run", "weather", "--option", "subscribe=t"), "source 'generator' has no option 'subscribe'"),
        ((*RUN, "--option", f"numRows={'9' * 23}"), "give a smaller --option numRows=… or seed=…"),
        ((*RUN, "--option", f"seed={'9' * 23}"), "give a smaller --option numRows=… or seed=…"),
        (("run", "weather", "--root", "a/../b"), "'a/../b'"),
        (("run", "weather", "--root", "s3://bucket/lake"), "'s3://bucket/lake'"),
        (("run", "weather", "--root", "a", "--catalog", "b"), "give one of them"),
        (("run", "weather", "--catalog", "no`name"), "catalog name"),
        (("run", "weather", "--catalog", "main"), "/Volumes/main/…, which only a cluster of the workspace sees; do it"),
        ((*KAFKA, "--option", "kafka.sasl.jaas.config=canary"), "LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG"),
        (("generate", "wether", "--to", "files"), "'wether'; did you mean 'weather'"),
        (("generate", "weather", "--to", "files"), "path"),
        ((*TO_FILES, "--option", "rowsPerFile=abc"), "--option rowsPerFile is a whole number from 1 to"),
        ((*TO_FILES, "--option", "rowsPerFile=0"), "--option rowsPerFile is a whole number from 1 to"),
        ((*TO_FILES, "--option", "compression=zip"), "--option compression is none or gzip, not 'zip'"),
        ((*TO_FILES, "--truth", "no-folder/truth.json"), "there is no folder"),
        ((*TO_FILES, "--truth", "."), "it is a folder"),
        ((*TO_FILES, "--truth", "/proc/version"), "/proc/version"),
        ((*TO_FILES, "--truth", "~nobody-here/truth.json"), "there is no such home folder"),
        ((*TO_FILES, "--from-row", "9" * 12), "give a smaller --from-row, --rows or --seed"),
        ((*TO_FILES, "--seed", "9" * 30), "give a smaller --from-row, --rows or --seed"),
        ((*TO_KAFKA, "partitions=x"), "--option partitions is a whole number from 1 to"),
        ((*TO_KAFKA, "partitions=0"), "--option partitions is a whole number from 1 to"),
        (("show", "weather", "--root", "~nobody-here/lake"), "there is no such home folder"),
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


@pytest.mark.parametrize("verb", ["run", "show"])
def test_a_folder_that_spark_does_not_see(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over Connect, before anything is connected to; a server on this machine sees it."""
    monkeypatch.setenv("SPARK_REMOTE", "sc://spark.example.com:15002")
    said = told_by((verb, "weather", "--root", str(tmp_path)), capsys)
    assert (
        f"--root {tmp_path} is a folder of this machine, which Spark at the other end of Connect does not see" in said
    )
    monkeypatch.setenv("SPARK_REMOTE", "sc://localhost:15002")
    check_place(Settings(root=tmp_path), is_run=True)


def checked(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit status of `check`, and what it says on standard output."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "weather", *words])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_check_and_run_agree_on_connect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a run is refused for what it cannot see, `check` says so, asked for Connect or where Connect is."""
    assert checked((), capsys)[0] == 0
    status, said = checked(("--compute", "connect"), capsys)
    assert status == 1 and "[checkpoints-are-looked-at, check_place, in session.py]" in said
    monkeypatch.setenv("SPARK_REMOTE", "sc://localhost:15002")
    assert compute() == "local" and checked((), capsys)[0] == 0
    monkeypatch.setenv("SPARK_REMOTE", "sc://spark.example.com:15002")
    assert compute() == "connect" and checked((), capsys) == (1, said)


def test_off_this_machine_files_of_foreach_would_be_scattered(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = checked(("--sink", "foreach", "--compute", "classic"), capsys)
    assert status == 1 and "copy the writer in sinks/foreach.py" in said and "[foreach-writes-here" in said


def test_the_guarantee_is_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """From the source on, where it is read; otherwise it is told of what."""
    live = ("--source", "socket", "--trigger", "default")
    status, said = checked(live, capsys)
    assert status == 0 and said.count(": works, none\n") == said.count("\n") == 5
    assert checked((*live, "--exactly-once"), capsys)[0] == 1
    status, said = checked((*live, "--step", "gold", "--exactly-once"), capsys)
    assert status == 0 and said.count(": works, exactly once of what silver has (bronze does not run)\n") == 3


def test_a_missing_folder(run_weather: RunWeather, tmp_path: Path) -> None:
    """The folder is named."""
    with pytest.raises(LakehouseError, match=str(tmp_path / "nowhere")):
        run_weather("files", {"path": str(tmp_path / "nowhere")})


def test_a_missing_topic(broker: Broker, run_weather: RunWeather) -> None:
    """The topic is named; it is not made by looking for it."""
    with pytest.raises(LakehouseError, match=r"no-such-topic|topic does not exist"):
        run_weather("kafka", {"kafka.bootstrap.servers": broker.bootstrap_servers, "subscribe": "no-such-topic"})
    assert "no-such-topic" not in AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics().topics


def test_an_unreachable_broker(run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bounded time, and without the credential."""
    servers = f"127.0.0.1:{free_port()}"
    jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="canary-4711";'
    monkeypatch.setenv("LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG", jaas)
    with pytest.raises(LakehouseError, match="broker") as refused:
        run_weather("kafka", {"kafka.bootstrap.servers": servers, "subscribe": "any"})
    assert "canary-4711" not in str(refused.value)


def told_by(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says on standard error as it ends with status 1: one line."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("lakehouse: ") and said.count("\n") == 1
    return said


def test_no_line_has_a_credential_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever the text came from: here from the command line itself."""
    unseen.keep_unseen("canary-0815")
    assert "there is no source '***'" in told_by(("run", "weather", "--source", "canary-0815"), capsys)


@pytest.fixture
def listening() -> Iterator[str]:
    """An address where something answers: enough for what is checked before a broker is asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("option", "told"),
    [("kafka.nonsense=1", "kafka.nonsense: No such"), ("kafka.linger.ms=soon", "kafka.…: Invalid value for")],
)
def test_an_option_that_the_sending_client_does_not_have(
    option: str, told: str, listening: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named before the broker is asked for a topic."""
    words = (*TO_KAFKA, f"kafka.bootstrap.servers={listening}", "--option", option)
    assert f"does not take --option {told}" in told_by(words, capsys)


def test_credentials_of_java_are_no_use_to_the_sending_client(
    listening: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What to give instead is said, and the credential is not."""
    monkeypatch.setenv("LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG", 'PlainLoginModule required password="canary-4711";')
    said = told_by((*TO_KAFKA, f"kafka.bootstrap.servers={listening}"), capsys)
    assert "LAKEHOUSE_KAFKA_SASL_PASSWORD" in said and "canary" not in said


def test_the_truth_goes_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`~` is the home folder, since a shell leaves it alone in the middle of a word; so in `path`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    words = [
        "generate",
        "weather",
        "--to",
        "files",
        "--option",
        "path=~/landing",
        "--truth=~/truth.json",
        "--rows",
        "9",
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 0
    assert json.loads((tmp_path / "truth.json").read_text())["rows"] == 9
    assert len(list((tmp_path / "landing" / "weather_readings").iterdir())) == 1
    assert str(tmp_path / "landing" / "weather_readings") in capsys.readouterr().out


def test_a_file_in_the_way_of_the_landing_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is named, not the folder that could not be made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "landing").touch()
    assert f"{tmp_path}/landing is a file, not a folder" in told_by(TO_FILES, capsys)


def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    """And the exit status that shells know it by."""
    words = [*TO_FILES[:-1], f"path={tmp_path}", "--option", "rowsPerFile=100", "--rows", "100000000"]
    with subprocess.Popen(
        [sys.executable, "-m", "streaming_lakehouse", *words], stderr=subprocess.PIPE, text=True
    ) as command:
        while not list(tmp_path.glob("*/*.jsonl")):
            assert command.poll() is None
            select.select([], [], [], 0.02)
        command.send_signal(signal.SIGINT)
        assert command.wait(20) == 130
        assert command.stderr
        assert command.stderr.read() == "lakehouse: stopped\n"


def test_a_table_that_cannot_be_read(spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also outside of a step, Spark's exception is one line that names the place."""
    folder = tmp_path / "silver" / "weather_readings" / "_delta_log"
    folder.mkdir(parents=True)
    assert "has no tables yet" in told_by(("show", "weather", "--root", str(tmp_path)), capsys)
    (folder / f"{0:020d}.json").write_text("nonsense")
    said = told_by(("show", "weather", "--root", str(tmp_path)), capsys)
    assert "cannot be read or is damaged" in said
    assert str(folder.parent) in said


def helped(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    with contextlib.suppress(SystemExit):
        cli.main([verb, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_help_on_run_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Every pipeline with its steps, every source with its options, and what the triggers mean."""
    said = helped("run", capsys)
    assert "weather bronze, silver, weather_device_hourly" in said
    assert "one micro-batch after the other" in said
    for source in cli.SOURCES:
        assert all(name in said for name in find_source(source).accepts)
    with pytest.raises(LakehouseError) as refused:
        find_source("?")
    assert set(str(refused.value).rpartition("there is: ")[2].split(", ")) == set(cli.SOURCES)


def test_help_on_generate_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of both targets, and the shares of faults."""
    said = helped("generate", capsys)
    assert all(name in said for name in ("rowsPerFile", "kafka.*", "partitions", *Shares.__dataclass_fields__))
