"""Each mistake of a user is one line on standard error and exit status 1; what the commands print."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from conftest import RunWeather
from pyspark.sql import SparkSession
from support.weather import WEATHER

from streaming_lakehouse import cli
from streaming_lakehouse.config.redaction import register_secret
from streaming_lakehouse.config.registry import SINKS, SOURCES
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.pipeline.discovery import DOMAINS_VARIABLE
from streaming_lakehouse.pipeline.steps import select_steps
from streaming_lakehouse.pipeline.synthetic import FAULT_RATE_OPTIONS
from streaming_lakehouse.session import check_storage_visible, detect_compute
from streaming_lakehouse.sinks import get_sink
from streaming_lakehouse.sources import get_source

RUN = ("run", "weather")
GOLD = (*RUN, "--step", "gold", "--sink", "files")
# All layers: an error of the sink is reported before the first of them runs.
TO_OUT = (*RUN, "--sink", "files", "--option", "sink.path=out", "--option")
TO_TOPIC = (*RUN, "--sink", "kafka", "--option")
TO_HUB = (*RUN, "--sink", "eventhubs", "--option")
KAFKA = ("run", "weather", "--source", "kafka")
TO_FILES = ("generate", "weather", "--to", "files", "--option", "path=landing")
TO_KAFKA = ("generate", "weather", "--to", "kafka", "--option")
SHOP = ("run", "shop", "--source", "kafka", "--option", "kafka.bootstrap.servers=127.0.0.1:1", "--option")
TO_SHOP = ("generate", "shop", "--to", "files", "--option", "path=landing")


@pytest.fixture(autouse=True)
def domains(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline `shop`, which has two bronze tables."""
    monkeypatch.setenv(DOMAINS_VARIABLE, "support.domains")


def error_of(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command prints on standard error as it ends with status 1."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    error = capsys.readouterr().err
    assert ended.value.code == 1
    assert error.startswith("lakehouse: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "wether"), "'wether'; did you mean 'weather'"),
        (("run", "weather", "--source", "kafak"), "'kafak'; did you mean 'kafka'"),
        (("run", "weather", "--step", "sliver"), "'sliver'; did you mean 'silver'"),
        (("run", "weather", "--step", "silver.weather_reading"), "did you mean 'silver.weather_readings'"),
        (("run", "weather", "--step", "weather_alert"), "did you mean 'weather_alerts'"),
        (("run", "weather", "--trigger", "sometimes"), "unknown trigger 'sometimes'"),
        (("run", "weather", "--trigger", "continuous 1 second"), "continuous-sources"),
        (("run", "weather", "--trigger", "continuous 1 second"), "continuous-sinks"),
        (
            ("run", "weather", "--step", "bronze", "--trigger", "continuous 1 second"),
            "only the hot path runs with it; use",
        ),
        (("run", "weather", "--trigger", "real-time 1 second"), "too short"),
        (("run", "weather", "--option", "numRows"), "KEY=VALUE, not 'numRows'"),
        ((*RUN, "--options=numRows=5"), "--options takes a JSON object of strings, such as"),
        ((*RUN, '--options={"numRows": 5}'), "--options takes a JSON object of strings, such as"),
        ((*RUN, '--options={"numrows": "5", "subscribe": "t"}'), "source 'generator' has no option 'subscribe'"),
        ((*RUN, '--options={"numrows": "5"}', "--option", "numRows=x"), "numRows is an integer of at least 0, not 'x'"),
        ((*RUN, "--option", "seed=1", "--option", "Seed=2"), "--option Seed is given twice"),
        ((*TO_FILES, "--option", "path=there"), "--option path is given twice"),
        ((*GOLD, "--option", "numRows=5"), "numRows: source 'generator' is not used in this run, which has neither"),
        ((*GOLD, "--option", "pth=out"), "sink 'files' has no option 'pth'; did you mean 'path'"),
        (
            (*GOLD, "--source", "files", "--option", "path=out"),
            "is not used in this run, which has neither the step bronze nor the hot path; for the sink write sink.path",
        ),
        ((*RUN, "--step", "silver", "--option", "numRows=5"), "source 'generator' is not used"),
        ((*RUN, "--step", "silver", "--option", "sink.path=5"), "path: sink 'delta' is not used in this run"),
        (
            (*GOLD, "--option", "format=csv", "--option", "sink.format=json"),
            "set the same option of sink 'files': give one",
        ),
        ((*TO_OUT, "format=xml"), "there is no format 'xml'"),
        ((*TO_OUT, "partitionBy="), "partitionBy is a column, or several separated by commas, each once, not ''"),
        ((*TO_OUT, "partitionBy=device,"), "partitionBy is a column"),
        ((*TO_OUT, "partitionBy=device, device"), "partitionBy is a column"),
        ((*TO_TOPIC, "sink.kafka.bootstrap.servers=127.0.0.1"), "sink 'kafka': kafka.bootstrap.servers is HOST:PORT"),
        (
            (*TO_TOPIC, "sink.kafka.bootstrap.servers=kafka.example.com:9092"),
            "in plaintext; add --option sink.kafka.security.protocol=SASL_SSL",
        ),
        ((*TO_HUB, "sink.eventhubs.namespace=sb://n"), "sink 'eventhubs': it needs eventhubs.connectionString"),
        ((*TO_HUB, "sink.eventhubs.namespace=n.example.com"), "sink 'eventhubs': which event hub?"),
        ((*TO_HUB, "sink.eventhubs.consumerGroup=g"), "sink 'eventhubs' has no option 'eventhubs.consumerGroup'"),
        (("run", "weather", "--option", "subscribe=t"), "source 'generator' has no option 'subscribe'"),
        ((*SHOP, "subscribe=t"), "pipeline 'shop' has 2 tables; write which of them, such as shop_sales.subscribe"),
        ((*SHOP, "Subscribe=t"), "--option Subscribe: pipeline 'shop' has 2 tables"),
        ((*SHOP, "shop_sales.subscibe=t"), "source 'kafka' has no option 'subscibe'; did you mean 'subscribe'"),
        ((*SHOP, "shop_sale.subscribe=t"), "source 'kafka' has no option 'shop_sale.subscribe'"),
        ((*SHOP, "shop_visits.maxOffsetsPerTrigger=0"), "maxOffsetsPerTrigger is an integer of at least 1, not '0'"),
        ((*SHOP, "shop_visits.kafka.sasl.jaas.config=canary"), "LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG"),
        ((*RUN, "--option", f"numRows={'9' * 23}"), "give a smaller --option numRows=… or seed=…"),
        ((*RUN, "--option", f"seed={'9' * 23}"), "give a smaller --option numRows=… or seed=…"),
        (("run", "weather", "--root", "a/../b"), "'a/../b'"),
        (("run", "weather", "--root", "s3://bucket/lake"), "'s3://bucket/lake'"),
        (("run", "weather", "--root", "a", "--catalog", "b"), "give one of them"),
        (("run", "weather", "--catalog", "no`name"), "catalog name"),
        (("run", "weather", "--catalog", "main"), "/Volumes/main/…, which is mounted in the workspace only; run"),
        ((*KAFKA, "--option", "kafka.sasl.jaas.config=canary"), "LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG"),
        (("generate", "wether", "--to", "files"), "'wether'; did you mean 'weather'"),
        (("generate", "weather", "--to", "files"), "path"),
        ((*TO_FILES, "--option", "rowsPerFile=abc"), "--option rowsPerFile is a whole number from 1 to"),
        ((*TO_FILES, "--option", "rowsPerFile=0"), "--option rowsPerFile is a whole number from 1 to"),
        ((*TO_FILES, "--option", "compression=zip"), "--option compression is none or gzip, not 'zip'"),
        ((*TO_FILES, "--truth", "no-folder/truth.json"), "there is no folder"),
        ((*TO_FILES, "--truth", "."), "it is a folder"),
        ((*TO_FILES, "--truth", "/proc/version"), "/proc/version"),
        ((*TO_FILES, "--truth", "~nobody-here/truth.json"), "no such home folder"),
        ((*TO_FILES, "--from-row", "9" * 12), "give a smaller --from-row, --rows or --seed"),
        ((*TO_FILES, "--seed", "9" * 30), "give a smaller --from-row, --rows or --seed"),
        ((*TO_SHOP, "--table", "shop_sale"), "has no bronze table 'shop_sale'; did you mean 'shop_sales'"),
        ((*TO_SHOP, "--option", "shop_visits.rowsPerFile=0"), "--option rowsPerFile is a whole number from 1 to"),
        ((*TO_SHOP, "--option", "shop_visits.rows=1"), "generate --to files has no option 'rows'"),
        ((*TO_SHOP[:3], "kafka", "--option", "topic=t"), "--option topic: pipeline 'shop' has 2 tables"),
        (
            ("generate", "shop", "--to", "socket"),
            "a socket serves one table: choose it with --table, one of shop_sales",
        ),
        ((*TO_KAFKA, "partitions=x"), "--option partitions is a whole number from 1 to"),
        ((*TO_KAFKA, "partitions=0"), "--option partitions is a whole number from 1 to"),
        (("show", "weather", "--root", "~nobody-here/lake"), "no such home folder"),
        (("show", "wether"), "'wether'; did you mean 'weather'"),
    ],
)
def test_a_mistake_is_one_line(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before Spark starts, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    error = error_of(words, capsys)
    assert message in error
    assert "canary" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["run", "show"])
def test_a_folder_that_spark_cannot_read(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over Connect, before a connection is opened; a server on this machine can read it."""
    monkeypatch.setenv("SPARK_REMOTE", "sc://spark.example.com:15002")
    error = error_of((verb, "weather", "--root", str(tmp_path)), capsys)
    assert f"--root {tmp_path} is a local folder, which the remote Spark of Connect cannot read" in error
    monkeypatch.setenv("SPARK_REMOTE", "sc://localhost:15002")
    check_storage_visible(Storage(root=tmp_path), is_run=True)


def checked(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit status of `check`, and its standard output."""
    status = 0
    try:
        cli.main(["check", "weather", *words])
    except SystemExit as ended:
        assert ended.code, "a command that succeeds returns"
        status = int(ended.code)
    return status, capsys.readouterr().out


def test_check_and_run_agree_on_connect(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run over Connect cannot read its checkpoints: `check` says so with `--compute connect`, and over Connect."""
    assert checked((), capsys)[0] == 0
    status, output = checked(("--compute", "connect"), capsys)
    assert status == 1 and "[connect-cannot-read-checkpoints, check_storage_visible, in session.py]" in output
    monkeypatch.setenv("SPARK_REMOTE", "sc://localhost:15002")
    assert detect_compute() == "local" and checked((), capsys)[0] == 0
    monkeypatch.setenv("SPARK_REMOTE", "sc://spark.example.com:15002")
    assert detect_compute() == "connect" and checked((), capsys) == (1, output)


def test_the_foreach_sink_is_local_only(capsys: pytest.CaptureFixture[str]) -> None:
    """On a cluster its files would be scattered over the workers."""
    status, output = checked(("--sink", "foreach", "--compute", "classic"), capsys)
    assert status == 1 and "copy the writer in sinks/foreach.py" in output and "[foreach-sink-local-only" in output


def test_the_guarantee_covers_the_run(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    """From the source on where bronze runs; otherwise the line says from which layer on."""
    live = ("--source", "socket", "--trigger", "default")
    status, output = checked(live, capsys)
    assert status == 0 and output.count(": works, none") == output.count("\n") == len(select_steps(WEATHER, ()))
    assert output.count(": works, none, a batch every 2 seconds at most\n") == len(WEATHER.gold)
    assert output.count(": works, none, a batch every 1 second at most\n") == 1  # bronze
    assert checked((*live, "--exactly-once"), capsys)[0] == 1
    status, output = checked((*live, "--step", "gold", "--exactly-once"), capsys)
    assert status == 0
    assert output.count(": works, exactly once from silver on (bronze does not run), a batch every") == len(
        WEATHER.gold
    )


def test_a_missing_folder(run_weather: RunWeather, tmp_path: Path) -> None:
    """The folder is named."""
    with pytest.raises(LakehouseError, match=str(tmp_path / "nowhere")):
        run_weather("files", {"path": str(tmp_path / "nowhere")})


def test_a_missing_topic(broker: Broker, run_weather: RunWeather) -> None:
    """The topic is named, and not created by asking for it."""
    with pytest.raises(LakehouseError, match=r"no-such-topic|topic does not exist"):
        run_weather("kafka", {"kafka.bootstrap.servers": broker.bootstrap_servers, "subscribe": "no-such-topic"})
    assert "no-such-topic" not in AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics().topics


def test_an_unreachable_broker(run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bounded time, and without printing the credential."""
    servers = f"127.0.0.1:{free_port()}"
    jaas = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="canary-4711";'
    monkeypatch.setenv("LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG", jaas)
    with pytest.raises(LakehouseError, match="broker") as refused:
        run_weather("kafka", {"kafka.bootstrap.servers": servers, "subscribe": "any"})
    assert "canary-4711" not in str(refused.value)


def test_no_error_contains_a_credential(capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever the text comes from: here from the command line itself."""
    register_secret("canary-0815")
    assert "there is no source '***'" in error_of(("run", "weather", "--source", "canary-0815"), capsys)


@pytest.fixture
def listening() -> Iterator[str]:
    """An address that accepts connections: enough for the checks that come before a broker is asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("option", "message"),
    [("kafka.nonsense=1", "kafka.nonsense: No such"), ("kafka.linger.ms=soon", "kafka.…: Invalid value for")],
)
def test_an_option_that_librdkafka_does_not_have(
    option: str, message: str, listening: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named before a topic is created."""
    words = (*TO_KAFKA, f"kafka.bootstrap.servers={listening}", "--option", option)
    assert f"does not take --option {message}" in error_of(words, capsys)


def test_java_credentials_are_refused_by_generate(
    listening: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """librdkafka sends; the error names the variable to set instead, and does not contain the credential."""
    monkeypatch.setenv("LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG", 'PlainLoginModule required password="canary-4711";')
    error = error_of((*TO_KAFKA, f"kafka.bootstrap.servers={listening}"), capsys)
    assert "LAKEHOUSE_KAFKA_SASL_PASSWORD" in error and "canary" not in error


def output_of(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    """The standard output of a command that succeeds. It returns: a wheel task must not end by SystemExit(0)."""
    cli.main(list(words))
    return capsys.readouterr().out


def test_truth_and_records_are_written_to_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`~` is resolved in `--truth=` and in `path=`, where a shell does not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    output = output_of((*TO_FILES[:-1], "path=~/landing", "--truth=~/truth.json", "--rows", "9"), capsys)
    assert json.loads((tmp_path / "truth.json").read_text())["tables"]["weather_readings"]["rows"] == 9
    assert len(list((tmp_path / "landing" / "weather_readings").iterdir())) == 1
    assert str(tmp_path / "landing" / "weather_readings") in output


def test_the_truth_names_the_fault_of_each_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By row number, from `--from-row` on; the counts are those that the command prints."""
    rates = ("duplicates=0.2", "late=0", "malformed=0.2", "unknown_fields=0")
    options = [word for rate in (f"path={tmp_path}", *rates) for word in ("--option", rate)]
    file = tmp_path / "truth.json"
    words = (*TO_FILES[:-2], *options, "--from-row", "50", "--rows", "100", "--seed", "3", f"--truth={file}")
    output = output_of(words, capsys)
    truth = json.loads(file.read_text())
    assert (truth["pipeline"], truth["seed"]) == ("weather", 3)
    table = truth["tables"]["weather_readings"]
    assert (table["from_row"], table["rows"]) == (50, 100)
    (lines,) = (path.read_bytes().split(b"\n") for path in (tmp_path / "weather_readings").iterdir())
    empty = {str(row) for row, line in enumerate(lines[:-1], start=50) if not line}
    assert {row for row, label in table["records"].items() if label in ("null", "empty")} == empty != set()
    assert all(f"{count:,} {label}" in output for label, count in table["labels"].items())
    assert sum(table["labels"].values()) == 100


@pytest.mark.parametrize("tables", [("shop_visits",), ("shop_sales", "shop_visits")])
def test_generate_sends_the_tables_that_are_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tables: tuple[str, ...]
) -> None:
    """All without `--table`; an option with a table's name is of this table alone, and the truth has each table."""
    chosen = [word for table in tables for word in ("--table", table)] if len(tables) == 1 else []
    options = ("--option", f"path={tmp_path}", "--option", "shop_visits.rowsPerFile=5")
    words = ("generate", "shop", "--to", "files", *options, "--rows", "20", f"--truth={tmp_path}/truth.json", *chosen)
    output = output_of(words, capsys)
    files = {"shop_sales": 1, "shop_visits": 4}
    assert {table: len(list((tmp_path / table).glob("*"))) for table in files} == {
        table: number if table in tables else 0 for table, number in files.items()
    }
    assert output.count("20 records sent to ") == len(tables)
    assert list(json.loads((tmp_path / "truth.json").read_text())["tables"]) == list(tables)


def test_a_file_in_the_way_of_the_landing_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is named, not the folder that cannot be created."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "landing").touch()
    assert f"{tmp_path}/landing is a file, not a folder" in error_of(TO_FILES, capsys)


def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    """And the exit status that shells expect."""
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


COMMAND = (sys.executable, "-m", "streaming_lakehouse")
CHECK = (*COMMAND, "check", "weather")
HELP = (*COMMAND, "run", "--help")


@pytest.mark.parametrize(
    ("words", "unbuffered"), [(CHECK, ""), (HELP, ""), (HELP, "1")], ids=["buffered", "help", "unbuffered help"]
)
def test_an_output_that_cannot_be_written_is_one_line(words: tuple[str, ...], unbuffered: str) -> None:
    """Python's buffer may delay the error, up to the end of the process."""
    given = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=given)
    assert ended.returncode == 1
    assert ended.stderr == "lakehouse: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_left_is_no_error_to_report(unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    given = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(HELP, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=given)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_characters_that_a_terminal_lacks_are_escaped() -> None:
    """Latin-1 has no arrow."""
    given = os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    ended = subprocess.run(CHECK, capture_output=True, encoding="latin-1", check=True, env=given)
    assert ended.stdout.startswith("bronze.weather_readings: generator \\u2192 delta")
    assert not ended.stderr


def test_file_names_are_utf_8_in_any_locale() -> None:
    """Python would decode them by the locale, and Java as UTF-8. What is printed stays in the terminal's encoding."""
    code = "import sys; from streaming_lakehouse.cli.output import restart_in_utf8; restart_in_utf8(); print(sys.argv)"
    given = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    shown = subprocess.check_output([sys.executable, "-c", code, "Zürich"], env=given, text=True)
    assert shown == "['-c', 'Z\\xfcrich']\n"


def test_a_working_folder_that_was_removed_is_one_line(tmp_path: Path) -> None:
    """Also if no path that the command names is relative to it: Java does not start there."""
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    words = ["sh", "-c", script, "sh", str(tmp_path / "gone"), *COMMAND, *RUN]
    paths = (Path(cli.__file__).parents[2], Path(__file__).parents[1])  # Python does not start there with relative ones
    for root in ([], ["--root", str(tmp_path / "lake")]):
        (tmp_path / "gone").mkdir()
        given = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
        ended = subprocess.run([*words, *root], capture_output=True, text=True, check=False, env=given)
        assert ended.returncode == 1
        assert ended.stderr == "lakehouse: the working folder has been removed; change to one that exists\n"


def test_a_root_that_java_cannot_open_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its name is no UTF-8: Java would create another folder."""
    error = error_of((*RUN, "--root", os.fsdecode(os.fsencode(tmp_path) + b"/Z\xfcrich")), capsys)
    assert "/Z\\xfcrich' is not UTF-8, so Java cannot open it; rename it" in error


def test_a_checkpoint_that_cannot_be_written_is_one_line(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a disk that has become read-only: the file is named, and the reason."""
    draft = tmp_path / "_checkpoints" / "weather" / "bronze.weather_readings" / "source.draft"
    draft.mkdir(parents=True)
    error = error_of((*RUN, "--step", "bronze", "--root", str(tmp_path)), capsys)
    assert error == f"lakehouse: {draft}: Is a directory; correct this and start again\n"


def test_a_table_that_cannot_be_read(spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also outside of a step, Spark's exception is one line that names the folder."""
    folder = tmp_path / "silver" / "weather_readings" / "_delta_log"
    folder.mkdir(parents=True)
    assert "has no tables yet" in error_of(("show", "weather", "--root", str(tmp_path)), capsys)
    (folder / f"{0:020d}.json").write_text("nonsense")
    error = error_of(("show", "weather", "--root", str(tmp_path)), capsys)
    assert "cannot be read or is damaged" in error
    assert str(folder.parent) in error


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(output_of((command, "--help"), capsys).split())


def test_help_has_a_whole_sentence_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    listed = output_of(("--help",), capsys).partition("Commands:")[2]
    commands = re.findall(r"^  [a-z]+ .*(?:\n {4,}.*)*", listed, re.MULTILINE)
    assert len(commands) > 5
    assert all(command.endswith(".") and not command.endswith("...") for command in commands), listed


def test_help_of_run_lists_pipelines_sources_and_sinks(capsys: pytest.CaptureFixture[str]) -> None:
    """Every pipeline with its steps, every source and sink with its options, and what the triggers mean."""
    output = help_of("run", capsys)
    assert "weather bronze.weather_readings, silver.weather_readings, gold.weather_device_hourly" in output
    assert "shop bronze.shop_sales, bronze.shop_visits, silver.shop_orders" in output
    assert "one micro-batch after the other" in output
    for accepted in (*map(get_source, SOURCES), *map(get_sink, SINKS)):
        assert all(name in output for name in accepted.options.names)


@pytest.mark.parametrize(("get", "known"), [(get_source, SOURCES), (get_sink, SINKS)])
def test_an_unknown_source_or_sink_lists_all(get: Callable[[str], object], known: dict[str, str]) -> None:
    """Each registered name loads, under its own name."""
    assert [get(name).name for name in known] == list(known)  # type: ignore[attr-defined]
    with pytest.raises(LakehouseError) as refused:
        get("?")
    assert str(refused.value).rpartition("available: ")[2].split(", ") == list(known)


def test_a_sink_of_version_0_1_is_named_as_it_is_called_now() -> None:
    with pytest.raises(LakehouseError, match=r"the sink 'foreachBatch' is called 'delta' since version 0\.2"):
        get_sink("foreachBatch")
    with pytest.raises(LakehouseError, match="there is no source 'foreachBatch'"):
        get_source("foreachBatch")


def test_help_of_generate_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of each target, and the fault rates."""
    output = help_of("generate", capsys)
    assert all(name in output for name in ("rowsPerFile", "kafka.*", "partitions", *FAULT_RATE_OPTIONS))


WITHOUT_PYSPARK = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pyspark":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
from streaming_lakehouse.cli import main
main(["run", "weather"])
"""


def test_without_pyspark_the_extra_to_install_is_named() -> None:
    """The wheel does not depend on pyspark: each runtime brings its own."""
    ended = subprocess.run([sys.executable, "-c", WITHOUT_PYSPARK], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("lakehouse: pyspark is missing here; install this package with its extra 'local'")
    assert ended.stderr.count("\n") == 1
