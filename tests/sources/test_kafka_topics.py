"""Kafka's topics while a pipeline reads them: recreated, new, gone or missing, and how far behind them it is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from conftest import RunWeather
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from rich.console import Console

from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.progress import ProgressReporter
from streaming_lakehouse.execution.runner import run
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.pipeline import Bronze
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.sources import ReadRequest, kafka

STEP = "bronze.weather_readings"


class Topics:
    """Topics of the broker, each name with the test's own prefix."""

    def __init__(self, broker: Broker, prefix: str) -> None:
        self.servers, self.prefix = broker.bootstrap_servers, prefix
        self.admin = AdminClient({"bootstrap.servers": self.servers})

    def name(self, topic: str) -> str:
        return f"{self.prefix}.{topic}"

    def send(self, topic: str, *records: int) -> None:
        """Sends so many records to partition 0, 1 and so on, and creates the topic if there is none."""
        create_topic(self.servers, self.name(topic), len(records))
        producer = Producer({"bootstrap.servers": self.servers})
        for partition, count in enumerate(records):
            for number in range(count):
                producer.produce(self.name(topic), str(number), partition=partition)
        assert producer.flush(30) == 0

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([self.name(topic)])[self.name(topic)].result()

    def recreate(self, topic: str, records: int) -> None:
        self.delete(topic)
        self.send(topic, records)

    def options(self, **named: str) -> dict[str, str]:
        return {"kafka.bootstrap.servers": self.servers, **named}


class AfterBatch(ProgressReporter):
    """Does something after the first batch of each step."""

    def __init__(self, plan: RunPlan, act: Callable[[str], object]) -> None:
        super().__init__([step.name for step in plan.steps], Console(file=io.StringIO()))
        self.act, self.waiting = act, set(self.states)

    def update(self, step: str, query: StreamingQuery) -> None:
        super().update(step, query)
        if self.states[step].batches and step in self.waiting:
            self.waiting.remove(step)
            self.act(step)

    @property
    def lines(self) -> list[str]:
        assert isinstance(self._console.file, io.StringIO)
        return self._console.file.getvalue().splitlines()


@pytest.fixture
def topics(broker: Broker, request: pytest.FixtureRequest) -> Topics:
    return Topics(broker, "".join(filter(str.isalnum, request.node.name))[-40:])


def plan(lake: Path, options: dict[str, str], trigger: str, pipeline: str = "weather") -> RunPlan:
    return RunPlan(load_pipeline(pipeline), Storage(root=lake), "kafka", options, parse_trigger(trigger), ("bronze",))


def rows(lake: Path) -> int:
    return DeltaTable(lake / "bronze/weather_readings").count()


def test_topics_of_a_pattern_that_appear_vanish_or_are_recreated(
    topics: Topics, run_weather: RunWeather, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A new one is read from its start. One that is gone, or another one under its name, ends the run before it reads.

    Offsets 0 to 99 of a recreated topic would never be read.
    """
    pattern = topics.options(subscribePattern=rf"{topics.prefix}\..*")
    allowed = {**pattern, "failOnDataLoss": "false"}
    recreated = rf"recreated or replaced since \(topic {topics.name('a')} \S+, now \S+\): use another --root"

    def bronze(options: dict[str, str]) -> int:
        return run_weather("kafka", options, steps=("bronze",)).states[STEP].rows

    topics.send("a", 100)
    topics.send("b", 10)
    assert bronze(pattern) == 110
    topics.send("b", 5)
    topics.send("c", 7)
    assert bronze(pattern) == 12
    topics.recreate("a", 150)
    for options in (pattern, allowed):
        with pytest.raises(LakehouseError, match=recreated):
            bronze(options)
    topics.delete("a")
    gone = rf"topic {topics.name('a')} no longer exists at {topics.servers}; what was unread in it is lost"
    with pytest.raises(LakehouseError, match=rf"{gone}; to continue without it, use --option failOnDataLoss=false"):
        bronze(pattern)
    assert bronze(allowed) == 0
    assert f"{topics.name('a')} no longer exists" in caplog.text
    topics.send("a", 3)
    with pytest.raises(LakehouseError, match=recreated):
        bronze(pattern)
    assert rows(tmp_path / "lake") == 122


@pytest.mark.parametrize(("option", "records"), [("subscribe", 25), ("subscribePattern", 5)])
def test_a_topic_recreated_while_a_run_reads_it_ends_the_run(
    topics: Topics, tmp_path: Path, spark: SparkSession, option: str, records: int
) -> None:
    """With the line of the next start, whether the new topic is longer than the old one or shorter."""
    topics.send("live", 10)
    live = plan(tmp_path, topics.options(**{option: topics.name("live")}), "1 second")
    with pytest.raises(LakehouseError, match=r"recreated or replaced since \(topic ") as ended:
        run(live, AfterBatch(live, lambda step: topics.recreate("live", records)))
    with pytest.raises(LakehouseError) as refused:
        run(live, ProgressReporter([STEP]))
    assert str(ended.value) == str(refused.value)
    assert rows(tmp_path) == 10
    assert not spark.streams.active


def test_a_topic_deleted_while_a_run_reads_it_is_named(topics: Topics, tmp_path: Path) -> None:
    topics.send("live", 1)
    live = plan(tmp_path, topics.options(subscribe=topics.name("live")), "1 second")
    with pytest.raises(LakehouseError, match=rf"topic {topics.name('live')} no longer exists at .*another --root"):
        run(live, AfterBatch(live, lambda step: topics.delete("live")))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "subscribe",
            "{0}.reedings",
            r"topic '{0}\.reedings' does not exist at .*subscribe=…; did you mean '{0}\.read",
        ),
        ("subscribe", "{0}.readings, {0} more", r"topic '{0} more' does not exist at "),
        ("subscribePattern", "^{0}-", r"no topic at \S+ matches --option subscribePattern=\^{0}-"),
        ("assign", '{{"{0}.raedings": [0]}}', r"topic '{0}\.raedings' does not exist .*--option assign=…"),
        ("assign", '{{"{0}.readings": [0, 2]}}', r"'{0}\.readings' at \S+ has no partition 2, the last is 1"),
    ],
)
def test_a_missing_topic_is_named_before_anything_runs(
    topics: Topics, run_weather: RunWeather, tmp_path: Path, option: str, value: str, message: str
) -> None:
    topics.send("readings", 0, 0)
    with pytest.raises(LakehouseError, match=message.format(topics.prefix)):
        run_weather("kafka", topics.options(**{option: value.format(topics.prefix)}), steps=("bronze",))
    assert not (tmp_path / "lake" / "bronze").exists()


def test_the_lag_is_that_of_all_partitions_at_the_end_of_a_run(topics: Topics, tmp_path: Path) -> None:
    """With available-now, whose end Spark fixes at the start, and of each source on its own."""
    topics.send("flows", 4, 6)
    topics.send("requests", 3)

    def arrive(step: str) -> None:
        topics.send(*(("flows", 20, 5) if step.endswith("flows") else ("requests", 1)))

    options = topics.options() | {
        "network_flows.subscribe": topics.name("flows"),
        "network_requests.subscribe": topics.name("requests"),
    }
    network = plan(tmp_path, options, "available-now", "network")
    progress = AfterBatch(network, arrive)
    assert run(network, progress)
    done = [line.partition(" bronze.")[2] for line in progress.lines if ": done: " in line]
    assert sorted(line.partition(":")[0] + line.rpartition(",")[2] for line in done) == [
        "network_flows 25 records behind",
        "network_requests 1 record behind",
    ]


def test_the_lag_counts_new_partitions_and_topics_from_their_start(topics: Topics, spark: SparkSession) -> None:
    """Spark's metric is the worst partition's; a query that was assigned one partition is not behind in the others."""
    topics.send("a", 12_050, 12_050)
    topics.send("b", 7)

    def lag(end_offsets: str, **named: str) -> int | None:
        request = ReadRequest(
            "weather", Bronze("readings", READINGS), topics.options(**named), parse_trigger("default")
        )
        admin = kafka.admin(spark, request)
        try:
            return admin.lag(end_offsets.format(topics.prefix))
        finally:
            admin.close()

    a, pattern = topics.name("a"), rf"^{topics.prefix}\."
    assert lag('{{"{0}.a": {{"0": 0, "1": 0}}}}', subscribe=a) == 24_100
    assert lag('{{"{0}.a": {{"0": 12000, "1": 12050}}}}', subscribe=a) == 50
    assert lag('{{"{0}.a": {{"0": 12000}}}}', subscribe=a) == 50 + 12_050
    assert lag('{{"{0}.a": {{"0": 12050, "1": 12049}}}}', subscribePattern=pattern) == 1 + 7
    assert lag('{{"{0}.a": {{"1": 50}}}}', assign=f'{{"{a}": [1]}}') == 12_000
