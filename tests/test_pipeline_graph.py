"""A pipeline of every shape runs through kills and equals what plain Python computes from its raw records."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import run_pipeline
from oracle import check, read_files, read_topic
from pyspark.sql import SparkSession
from rich.console import Console
from support.domains.shop.truth import DOMAIN, MODES

from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.cli.report import Report
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.pipeline.discovery import DOMAINS_VARIABLE, load_pipeline

TESTS = Path(__file__).parent
TABLES = ("shop_sales", "shop_visits")
ROWS = 3_000
# The two halves of a topic are two batches: a late row would depend on where they are cut, and nothing else here does.
RATES = {"late": "0", "malformed": "0.03", "duplicates": "0.05"}


@pytest.fixture(autouse=True)
def domains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DOMAINS_VARIABLE, "support.domains")


def send(to: str, options: dict[str, str], start: int, end: int) -> None:
    for bronze in load_pipeline("shop").bronze:
        own = {"topic": f"graph-{bronze.table}", "partitions": "1"} if to == "kafka" else {}
        publish(PublishJob(bronze, 11, start, end, {**options, **own, **RATES}), to)


def killed(root: Path, commit: int, *words: str) -> None:
    """A run of the command that kills itself, with its JVM, right after gold's commit of that number."""
    script = TESTS / "support" / "kill_at_commit.py"
    command = [sys.executable, str(script), str(commit), "after", "run", "shop", "--root", str(root), *words]
    ended = subprocess.run(command, capture_output=True, start_new_session=True, check=False, timeout=600)
    assert ended.returncode == -9, ended.stderr.decode()[-2000:]


def reconciliations(root: Path) -> str:
    """What `lakehouse show` prints."""
    console = Console(file=io.StringIO(), width=200)
    for part in Report(load_pipeline("shop"), Storage(root=root)).render(gold_rows=0):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_from_kafka_through_kills(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    """Killed after the third commit of gold, given more records, and resumed."""
    servers = {"kafka.bootstrap.servers": broker.bootstrap_servers}
    topics = {f"{table}.subscribe": f"graph-{table}" for table in TABLES}
    send("kafka", servers, 0, ROWS)
    options = [word for pair in {**servers, **topics}.items() for word in ("--option", "=".join(pair))]
    killed(tmp_path / "lake", 3, "--source", "kafka", *options)
    send("kafka", servers, ROWS, 2 * ROWS)
    progress = run_pipeline(tmp_path / "lake", "kafka", {**servers, **topics}, pipeline="shop")
    raw = {table: read_topic(broker.bootstrap_servers, f"graph-{table}") for table in TABLES}
    accounts = check(tmp_path / "lake", DOMAIN, raw, MODES)
    shown = reconciliations(tmp_path / "lake")
    for table, account in accounts.items():
        assert account.rows_in == 2 * ROWS
        assert f"bronze.{table}: {account.rows_in:,} rows in = {account.valid:,} valid" in shown
    orders, payments = (progress.states[f"silver.shop_{kind}"].rows for kind in ("orders", "payments"))
    assert progress.states["bronze.shop_sales"].rows == ROWS, "the others were read before the kill"
    assert orders == payments == ROWS, "each silver table reads all records of its topic"


def test_from_files_with_a_table_that_changes(spark: SparkSession, tmp_path: Path) -> None:
    landing = {"path": str(tmp_path / "landing")}
    send("files", landing, 0, ROWS)
    run_pipeline(tmp_path / "lake", "files", landing, pipeline="shop")
    raw = {table: read_files(tmp_path / "landing" / table) for table in TABLES}
    accounts = check(tmp_path / "lake", DOMAIN, raw, MODES)
    assert all(account.duplicates and account.quarantined for account in accounts.values())
    assert os.environ[DOMAINS_VARIABLE]
