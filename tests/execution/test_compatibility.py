"""Every combination of source, trigger, sink, mode and state runs for real, or Spark refuses it, as the rules say.

A run is a chain of streaming queries with a table between each two: from the source to bronze, on to silver, on to
gold; or one query from the source straight to the sink, the hot path. So each query is run once, and a cell of the
table in docs/combinations.md is the result of its chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NoReturn

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession, functions as F
from support.fake_eventhubs import CANARY, ENTITY, Namespace
from support.line_server import NO_FAULTS, line_server
from support.matrix_document import is_to_be_written, render
from support.query_matrix import (
    MICRO_BATCH,
    TRIGGERS,
    WEATHER,
    QueryMatrix,
    all_queries,
    by_spark,
    gold_queries,
    matrix_queries,
    query_id,
    spark_error_message,
)
from support.settings import FEW_ROWS

from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.config.compute import Compute
from streaming_lakehouse.config.registry import SINKS, SOURCES
from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import Trigger, parse_trigger
from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution.compatibility import (
    NOT_EXACTLY_ONCE,
    delivery_guarantee,
    describe_queries,
    query_spec,
    validate,
    violated_rules,
)
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.rules import DELTA, RULES, QuerySpec, RefusedBy
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.pipeline.synthetic import generate_records
from streaming_lakehouse.sinks import OUTPUT_MODES

DOCUMENT = Path(__file__).parents[2] / "docs" / "combinations.md"
SOUND = {"duplicates": "0", "late": "0", "malformed": "0", "unknown_fields": "0"}
ROWS = 9_000  # three hours of 50 stations: two of them close
Outcomes = dict[QuerySpec, str | BaseException | None]


@pytest.fixture(scope="module")
def matrix(
    spark: SparkSession, broker: Broker, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[QueryMatrix]:
    folder = tmp_path_factory.mktemp("matrix")
    events = [(record.value,) for record in generate_records(READINGS, seed=1, start=0, end=ROWS, rates=NO_FAULTS)]
    texts = spark.createDataFrame(events, "value binary").select(F.col("value").cast("string").alias("value"))
    parsed = texts.select(F.from_json("value", WEATHER.silver[0].schema).alias("event")).select("event.*")
    parsed.coalesce(1).write.format("delta").save(str(folder / "silver"))
    servers = {"kafka.bootstrap.servers": broker.bootstrap_servers}
    job = PublishJob(WEATHER.bronze[0], 1, 0, 200, {**servers, **SOUND, "topic": "matrix", "partitions": "1"})
    publish(job, "kafka")
    publish(replace(job, options={**SOUND, "path": str(folder / "landing")}), "files")
    hub = {"eventhubs.name": ENTITY, **namespace.trust}

    def create(sink: str, topic: str) -> None:
        create_topic((broker if sink == "kafka" else namespace.broker).bootstrap_servers, topic, 1)

    with line_server() as port, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_EVENTHUBS_CONNECTION_STRING", namespace.string(CANARY))
        options = {
            "generator": {"numRows": "200", **SOUND},
            "files": {"path": str(folder / "landing")},
            "kafka": {**servers, "subscribe": "matrix"},
            "eventhubs": hub,
            "socket": {"port": str(port)},
            "rate": {"rowsPerSecond": "200", **SOUND},
            "rate-micro-batch": {"rowsPerBatch": "200", **SOUND},
            "sink kafka": servers,
            "sink eventhubs": namespace.trust,
        }
        yield QueryMatrix(spark, folder, options, create)


@pytest.fixture(scope="module")
def outcomes(matrix: QueryMatrix) -> Iterator[Outcomes]:
    """All queries of the matrix, run in parallel."""
    with applied(matrix.spark, FEW_ROWS):
        yield matrix.outcomes(matrix_queries())


@pytest.mark.parametrize("query", matrix_queries(), ids=query_id)
def test_a_query_works_or_spark_refuses_it(outcomes: Outcomes, query: QuerySpec) -> None:
    """Where a rule says that Spark refuses, it does; where none does, rows arrive."""
    outcome = outcomes[query]
    if isinstance(outcome, BaseException):
        raise outcome
    rules = [rule.name for rule in violated_rules(query)]
    if by_spark(query):
        assert outcome is not None, f"Spark runs what {rules} say that it refuses"
    else:
        assert outcome is None, outcome


@pytest.mark.parametrize("source", ["socket", "rate"])
def test_available_now_ends_an_unbounded_source_after_one_batch(matrix: QueryMatrix, source: str) -> None:
    """Why we refuse it: the query ends after one batch, without an error, and much was still to come."""
    started = matrix.start(QuerySpec("bronze.matrix", source, "available-now", "memory", "append"), f"ends_{source}")
    assert started.awaitTermination(60)
    assert started.exception() is None
    # With rows or without: the clock may not have ticked yet, or the socket's first lines may not have arrived.
    assert [progress["batchId"] for progress in started.recentProgress] == [0]


@pytest.mark.parametrize("bug", [AttributeError("'NoneType' has no attribute"), LakehouseError("connection refused")])
def test_only_errors_of_spark_count_as_its_refusal(
    matrix: QueryMatrix, monkeypatch: pytest.MonkeyPatch, bug: Exception
) -> None:
    """A bug of ours where Spark was to refuse would prove the rule without asking Spark."""

    def read(self: QueryMatrix, query: QuerySpec, trigger: Trigger) -> NoReturn:
        raise bug

    monkeypatch.setattr(QueryMatrix, "_read", read)
    with pytest.raises(type(bug)):
        matrix.failure(QuerySpec("bronze.matrix", "socket", "continuous", DELTA, "append"))


def test_a_bug_of_ours_in_a_worker_is_no_refusal() -> None:
    error = PySparkException(
        '[PYTHON_EXCEPTION] … File "/x/site-packages/streaming_lakehouse/sinks/foreach.py", line 1'
    )
    with pytest.raises(AssertionError):
        spark_error_message(error)


def test_every_rule_is_needed() -> None:
    """Each refuses something that no other does, so that none can be wrong without a failing test."""
    queries = all_queries()
    queries += [replace(query, compute=compute) for query, compute in product(queries, map(str, Compute))]
    queries += [replace(query, is_mode_supported=False) for query in gold_queries()]
    alone = {rules[0].name for query in queries if len(rules := violated_rules(query)) == 1}
    assert alone == {rule.name for rule in RULES}


def test_every_rule_of_spark_has_a_witness() -> None:
    """The matrix that runs by default contains a query that violates this rule alone."""
    alone = {rules[0].name for query in matrix_queries() if len(rules := violated_rules(query)) == 1}
    assert {rule.name for rule in RULES if rule.refused_by is RefusedBy.SPARK} <= alone


def test_each_rule_names_its_source() -> None:
    for rule in RULES:
        assert rule.reference.startswith("https://") or rule.refused_by is RefusedBy.LAKEHOUSE, rule.name


@pytest.mark.parametrize(
    ("source", "sink", "trigger", "held"),
    [
        ("kafka", "delta-native", "available-now", "exactly once"),
        ("files", "delta", "default", "exactly once"),
        ("kafka", "kafka", "default", "at least once"),
        ("kafka", "foreach", "real-time", "at least once"),
        ("socket", "delta-native", "default", "none"),
        ("generator", "memory", "available-now", "none"),
    ],
)
def test_what_is_guaranteed(source: str, sink: str, trigger: str, held: str) -> None:
    """As in Spark's guide: a replayable source and an idempotent sink make exactly once."""
    is_micro_batch = trigger in MICRO_BATCH
    query = QuerySpec("bronze.matrix" if is_micro_batch else "hot.matrix", source, trigger, sink, "append")
    assert delivery_guarantee(query) == held
    assert (NOT_EXACTLY_ONCE in violated_rules(query, exactly_once=True)) == (held != "exactly once")


def plan(source: str, trigger: str, sink: str, mode: str | None = None, steps: tuple[str, ...] = ()) -> RunPlan:
    return RunPlan(WEATHER, Storage(root=Path()), source, {}, parse_trigger(trigger), steps, sink, mode)


def test_a_run_is_refused_before_spark_starts() -> None:
    with pytest.raises(
        LakehouseError,
        match=r"'gold.weather_device_hourly' \(delta → delta-native, update.*delta-native-no-update-mode",
    ):
        validate(plan("kafka", "available-now", "delta-native", "update", ("gold",)), "local")


def test_a_run_reports_every_violated_rule_once() -> None:
    """Whoever corrects one does not learn of the next only by the run after that."""
    with pytest.raises(LakehouseError) as refused:
        validate(plan("rate", "available-now", "files", "update"), "local")
    message = str(refused.value)
    for rule, queries in (
        (
            "available-now-needs-bounded-source",
            "step 'bronze.weather_readings' (rate → delta, append, available-now): ",
        ),
        (
            "file-sink-append-only",
            "step 'gold.weather_device_hourly' (delta → files, update, available-now) and 3 more: ",
        ),
        ("mode-not-supported-by-table", "step 'gold.weather_alerts' (delta → files, update, available-now): "),
    ):
        assert message.count(f"[{rule}]") == 1
        assert queries in message
    assert message.count("[") == 3


@pytest.mark.parametrize(
    ("source", "sink", "steps", "held"),
    [
        ("kafka", "delta", (), {"exactly once"}),
        ("kafka", "kafka", ("silver", "weather_alerts"), {"exactly once", "at least once"}),
        ("socket", "delta", (), {"none"}),
        ("socket", "kafka", ("bronze", "gold"), {"none"}),
        ("socket", "delta", ("silver", "gold"), {"exactly once"}),
    ],
)
def test_no_step_guarantees_more_than_its_input(source: str, sink: str, steps: tuple[str, ...], held: set[str]) -> None:
    """What a socket lost is lost to gold; a run that reads no source guarantees what is in the table before."""
    run = plan(source, "default", sink, steps=steps)
    assert {delivery_guarantee(query_spec(run, step, "local")) for step in run.steps} == held
    reads_source = any(step.reads_source for step in run.steps)
    lines = [line for line, _ in describe_queries(run, "local", exactly_once=False)]
    assert all(("(bronze does not run)" in line) != reads_source for line in lines)


def test_the_document_is_up_to_date() -> None:
    """`make combinations` writes it: 840 combinations, each run, or refused by a rule that is explained there."""
    assert len(list(product(SOURCES, TRIGGERS, SINKS, OUTPUT_MODES))) == 840
    rendered = render(DOCUMENT.read_text())
    if is_to_be_written():
        DOCUMENT.write_text(rendered)
    assert DOCUMENT.read_text() == rendered, "run `make combinations`"
