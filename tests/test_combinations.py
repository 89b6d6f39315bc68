"""Every combination of source, trigger, sink and mode runs for real, or Spark refuses it: the checker says the same.

A run is a chain of streaming queries with a table between each two: from the source to bronze, on to silver, on to
gold; or one query from the source straight to the sink, the hot path. So each query is run once, and a cell of the
table in docs/combinations.md is what its chain comes to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NoReturn

import pytest
from combinations import (
    MICRO_BATCH,
    TRIGGERS,
    WEATHER,
    Bench,
    bronze_queries,
    by_spark,
    gold_queries,
    hot_queries,
    is_written,
    lines_served,
    name,
    plan_queries,
    refusal,
    table,
)
from namespace import CANARY, ENTITY, Namespace
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession, functions as F

from streaming_lakehouse.checks import (
    DELTA,
    NOT_EXACTLY_ONCE,
    RULES,
    By,
    Combination,
    Rule,
    Wanted,
    guarantee,
    judged,
    verdict,
)
from streaming_lakehouse.cli import SINKS, SOURCES, Compute
from streaming_lakehouse.domains.weather.events import EVENTS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import Shares, records
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.local.deliver import Delivery, deliver
from streaming_lakehouse.sinks import MODES
from streaming_lakehouse.triggers import Trigger, parse_trigger

DOCUMENT = Path(__file__).parent.parent / "docs" / "combinations.md"
SOUND = {"duplicates": "0", "late": "0", "broken": "0", "unknown_fields": "0"}
ROWS = 9_000  # three hours of 50 stations: two of them close


@pytest.fixture(scope="module")
def bench(
    spark: SparkSession, broker: Broker, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("combinations")
    events = [(record.value,) for record in records(EVENTS, seed=1, start=0, end=ROWS, shares=Shares(0, 0, 0, 0))]
    texts = spark.createDataFrame(events, "value binary").select(F.col("value").cast("string").alias("value"))
    parsed = texts.select(F.from_json("value", WEATHER.silver.schema).alias("event")).select("event.*")
    parsed.write.format("delta").save(str(folder / "silver"))
    servers = {"kafka.bootstrap.servers": broker.bootstrap_servers}
    delivery = Delivery(WEATHER, 1, 0, 200, {**servers, **SOUND, "topic": "combinations"})
    deliver(delivery, "kafka", None)
    deliver(replace(delivery, options={**SOUND, "path": str(folder / "landing")}), "files", None)
    hub = {"eventhubs.name": ENTITY, **namespace.trust}

    def create(sink: str, topic: str) -> None:
        create_topic((broker if sink == "kafka" else namespace.broker).bootstrap_servers, topic, 1)

    with lines_served() as port, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_EVENTHUBS_CONNECTION_STRING", namespace.string(CANARY))
        options = {
            "generator": {"numRows": "200", **SOUND},
            "files": {"path": str(folder / "landing")},
            "kafka": {**servers, "subscribe": "combinations"},
            "eventhubs": hub,
            "socket": {"port": str(port)},
            "rate": {"rowsPerSecond": "200", **SOUND},
            "rate-micro-batch": {"rowsPerBatch": "200", **SOUND},
            "sink kafka": servers,
            "sink eventhubs": namespace.trust,
        }
        yield Bench(spark, folder, options, create)


@pytest.mark.parametrize("query", [*bronze_queries(), *gold_queries(), *hot_queries(), *plan_queries()], ids=name)
def test_the_verdict_is_sparks(bench: Bench, query: Combination) -> None:
    """Where a rule says that Spark refuses, it does; where none does, rows arrive."""
    failure = bench.failure(query)
    if by_spark(query):
        assert failure is not None, f"Spark takes what {[rule.name for rule in verdict(query)]} say that it refuses"
    else:
        assert failure is None, failure


@pytest.mark.parametrize("source", ["socket", "rate"])
def test_available_now_takes_a_source_without_an_end_for_all_there_is(bench: Bench, source: str) -> None:
    """Why we refuse it: the query ends after one batch, without an error, and much was still to come."""
    started = bench.started(Combination("bronze", source, "available-now", "memory", "append"), f"ends_{source}")
    assert started.awaitTermination(60)
    assert started.exception() is None
    # With rows or without: the clock has not ticked yet, or the socket's first lines have not come.
    assert [progress["batchId"] for progress in started.recentProgress] == [0]


@pytest.mark.parametrize("fault", [AttributeError("'NoneType' has no attribute"), LakehouseError("nobody listens")])
def test_only_sparks_own_errors_are_its_refusal(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """A fault of ours where Spark was to refuse would prove the rule without a look at Spark."""

    def read(self: Bench, query: Combination, trigger: Trigger) -> NoReturn:
        raise fault

    monkeypatch.setattr(Bench, "_read", read)
    with pytest.raises(type(fault)):
        bench.failure(Combination("bronze", "socket", "continuous", DELTA, "append"))


def test_a_fault_of_ours_in_a_worker_is_no_refusal() -> None:
    told = PySparkException('[PYTHON_EXCEPTION] … File "/x/site-packages/streaming_lakehouse/sinks/foreach.py", line 1')
    with pytest.raises(AssertionError):
        refusal(told)


def test_every_rule_is_needed() -> None:
    """Each refuses something that no other does, so that none can be wrong without a test that tells."""
    queries = [*bronze_queries(), *gold_queries(), *hot_queries(), *plan_queries()]
    queries += [replace(query, compute=compute) for query, compute in product(queries, map(str, Compute))]
    queries += [replace(query, fits=False) for query in gold_queries()]
    alone = {rules[0].name for query in queries if len(rules := verdict(query)) == 1}
    assert alone == {rule.name for rule in RULES}


def test_each_rule_names_its_source() -> None:
    for rule in RULES:
        assert rule.documented.startswith("https://") or rule.by is By.US, rule.name


@pytest.mark.parametrize(
    ("source", "sink", "trigger", "held"),
    [
        ("kafka", "delta", "available-now", "exactly once"),
        ("files", "foreachBatch", "default", "exactly once"),
        ("kafka", "kafka", "default", "at least once"),
        ("kafka", "foreach", "real-time", "at least once"),
        ("socket", "delta", "default", "none"),
        ("generator", "memory", "available-now", "none"),
    ],
)
def test_what_is_guaranteed(source: str, sink: str, trigger: str, held: str) -> None:
    """As Spark's guide has it: a source that can be read again, and a sink that bears a repeat, make exactly once."""
    is_micro_batch = trigger in MICRO_BATCH
    query = Combination("bronze" if is_micro_batch else "hot", source, trigger, sink, "append")
    assert guarantee(query) == held
    assert (NOT_EXACTLY_ONCE in verdict(query, exactly_once=True)) == (held != "exactly once")


def test_a_run_is_refused_before_spark_starts() -> None:
    wanted = Wanted(WEATHER, "kafka", parse_trigger("available-now"), sink="delta", mode="update", steps=("gold",))
    with pytest.raises(
        LakehouseError, match=r"'weather_device_hourly' \(delta → delta, update.*delta-takes-no-updates"
    ):
        wanted.check()


def test_a_run_tells_every_rule_against_it_once() -> None:
    """Whoever mends one is not told of the next by the run after that."""
    wanted = Wanted(WEATHER, "rate", parse_trigger("available-now"), sink="files", mode="update")
    with pytest.raises(LakehouseError) as refused:
        wanted.check()
    told = str(refused.value)
    for rule, queries in (
        ("available-now-needs-an-end", "step 'bronze' (rate → delta, append, available-now): "),
        ("files-only-grow", "step 'weather_device_hourly' (delta → files, update, available-now) and 2 more: "),
        ("table-in-this-mode", "step 'weather_alerts' (delta → files, update, available-now): "),
    ):
        assert told.count(f"[{rule}]") == 1
        assert queries in told
    assert told.count("[") == 3


@pytest.mark.parametrize(
    ("source", "sink", "steps", "held"),
    [
        ("kafka", "foreachBatch", (), {"exactly once"}),
        ("kafka", "kafka", ("silver", "weather_alerts"), {"exactly once", "at least once"}),
        ("socket", "foreachBatch", (), {"none"}),
        ("socket", "kafka", ("bronze", "gold"), {"none"}),
        ("socket", "foreachBatch", ("silver", "gold"), {"exactly once"}),
    ],
)
def test_no_step_guarantees_more_than_what_it_is_filled_from(
    source: str, sink: str, steps: tuple[str, ...], held: set[str]
) -> None:
    """What a socket lost is lost to gold; and a run that reads no source guarantees what is in the table before."""
    wanted = Wanted(WEATHER, source, parse_trigger("default"), sink, steps=steps)
    assert {guarantee(query) for query in wanted.queries()} == held
    reads_a_source = "bronze" in wanted.chosen_steps
    assert all(("(bronze does not run)" in line) != reads_a_source for line, _ in judged(wanted, exactly_once=False))


def against(source: str, trigger: str, sink: str, mode: str) -> str:
    """The first rule against the chain of queries that such a run is; '' for none."""
    if trigger in MICRO_BATCH:
        bronze = Combination("bronze", source, trigger, DELTA, "append")
        chain = [bronze, Combination("gold", DELTA, trigger, sink, mode, aggregates=True)]
    else:
        chain = [Combination("hot", source, trigger, sink, mode)]
    return next((rule.name for query in chain for rule in verdict(query)), "")


def test_the_table_in_the_documents() -> None:
    """`make combinations` writes it: 840 combinations, each run, or refused by a rule that is explained there."""
    assert len(list(product(SOURCES, TRIGGERS, SINKS, MODES))) == 840
    head = DOCUMENT.read_text().split("<!-- made by make combinations -->")[0]
    rules = "\n".join(map(_explained, RULES))
    made = f"{head}<!-- made by make combinations -->\n\n{table(against)}\n\n## Rules\n\n{rules}\n"
    if is_written():
        DOCUMENT.write_text(made)
    assert DOCUMENT.read_text() == made, "run `make combinations`"


def _explained(rule: Rule) -> str:
    is_linked = rule.documented.startswith("https://")
    documented = f"[documented]({rule.documented})" if is_linked else rule.documented
    return f"- `{rule.name}`, by {rule.by}: {rule.why}; {rule.instead} ({documented})."
