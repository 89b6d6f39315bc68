"""Kafka records whose timestamp is no time in milliseconds: kept in bronze, judged by silver, in no record's way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from conftest import RunWeather
from pyspark.sql import DataFrame, SparkSession
from support.fake_eventhubs import FakeEntraId, Namespace

from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.domains.weather.pipeline import records as WEATHER_READINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.pipeline.synthetic import FaultRates, generate_records
from streaming_lakehouse.sources import OffsetRange, ReadRequest, get_source
from streaming_lakehouse.sources.librdkafka import consumer_config

MILLISECONDS, MICROSECONDS, NANOSECONDS = 1_767_225_600_123, 1_767_225_600_123_000, 1_767_225_600_123_000_000
LAST = 9_223_372_036_854_775  # the last whole millisecond of Spark's timestamps; the next one overflows
NONE = -1
STEP = "bronze.weather_readings"


def create(broker: Broker, topic: str, partitions: int) -> None:
    """A topic that takes any timestamp, as all did before Kafka 3.6."""
    anything = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(topic, partitions, config=anything)])[topic].result()


def send(broker: Broker, topic: str, records: list[tuple[bytes | None, int, int]], **fields: Any) -> None:
    """Sends (value, partition, timestamp)."""
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for value, partition, timestamp in records:
        producer.produce(topic, value, b"key", partition=partition, timestamp=timestamp, **fields)
    assert producer.flush(30) == 0


def readings(count: int) -> list[bytes | None]:
    return [each.value for each in generate_records(READINGS, seed=1, start=0, end=count, rates=FaultRates(0, 0, 0, 0))]


def source_times(records: DataFrame) -> list[tuple[int, int, str | None]]:
    rows = records.selectExpr("partition", "offset", "string(source_timestamp)").orderBy("partition", "offset")
    return [tuple(row) for row in rows.collect()]


def test_records_are_kept_and_judged_whatever_their_timestamp(
    broker: Broker, run_weather: RunWeather, spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What Spark's type cannot hold is null, and the event's time is compared with its arrival alone. Each record is
    there once, with its key, value and headers, in the second batch of a checkpoint as in the first. The hot path,
    which has no other way to read it, names the record.
    """
    create(broker, "timestamps", 2)
    valid = readings(9)
    times = [MILLISECONDS, NANOSECONDS, MICROSECONDS, LAST, LAST + 1, 2**63 - 1, NONE, -(2**62)]
    records = [(value, 0, time) for value, time in zip(valid[:8], times, strict=True)]
    send(broker, "timestamps", [*records, (b"[]", 1, NANOSECONDS), (None, 1, NANOSECONDS)], headers=[("a", b"1")])
    options = {"kafka.bootstrap.servers": broker.bootstrap_servers, "subscribe": "timestamps"}
    progress = run_weather("kafka", options, steps=("bronze",))
    assert (progress.states[STEP].rows, progress.states[STEP].batches) == (10, 1)
    assert "the record at topic timestamps, partition " in caplog.text
    send(broker, "timestamps", [(valid[8], 1, NANOSECONDS)])
    progress = run_weather("kafka", options, steps=("bronze", "silver"))
    assert progress.states[STEP].rows == 1
    with pytest.raises(
        LakehouseError, match=r"topic timestamps, partition [01], offset \d has the timestamp \d+, which"
    ):
        run_weather("kafka", options, steps=("hot",))

    bronze, silver, quarantine = (
        spark.read.format("delta").load(str(tmp_path / "lake" / layer / "weather_readings"))
        for layer in ("bronze", "silver", "quarantine")
    )
    new_year = "2026-01-01 00:00:00.123"
    assert source_times(bronze) == [
        (0, 0, new_year),
        (0, 1, None),
        (0, 2, "+57971-02-25 00:02:03"),
        (0, 3, "+294247-01-10 04:00:54.775"),
        (0, 4, None),
        (0, 5, None),
        (0, 6, None),
        (0, 7, None),
        (1, 0, None),
        (1, 1, None),
        (1, 2, None),
    ]
    sent = bronze.where("partition = 0 AND key = 'key' AND headers = array(named_struct('key', 'a', 'value', x'31'))")
    assert [bytes(row["value"]) for row in sent.orderBy("offset").select("value").collect()] == valid[:8]
    assert silver.count() == 9
    failed = quarantine.select("offset", "failed_expectations").orderBy("offset").collect()
    assert [tuple(row) for row in failed] == [(0, ["record_is_one_json_object"]), (1, ["record_is_present"])]


@pytest.mark.parametrize("login", ["string", "application"])
def test_such_a_batch_is_read_with_the_login_of_the_source(
    namespace: Namespace, tokens: FakeEntraId, spark: SparkSession, login: str
) -> None:
    """Over TLS, with a user name and a password, or with a token of an application."""
    topic = f"timestamps-{login}"
    create(namespace.broker, topic, 1)
    send(namespace.broker, topic, [(b"a", 0, MILLISECONDS), (b"b", 0, NANOSECONDS), (b"c", 0, MILLISECONDS)])
    given = {"eventhubs.name": topic, **namespace.trust}
    if login == "string":
        given["eventhubs.connectionString"] = namespace.string()
    else:
        given |= {"eventhubs.namespace": f"localhost:{namespace.ports['TOKENS']}", "eventhubs.clientId": "c-1"}
        given |= {"eventhubs.tokenEndpoint": f"{tokens.url}/token", "eventhubs.clientSecret": "secret-of-c-1"}
    request = ReadRequest("weather", WEATHER_READINGS, given, parse_trigger("available-now"))
    failure = f"Record at topic {topic} partition 0 offset 1 has timestamp value {NANOSECONDS} that overflows"

    def offsets() -> OffsetRange:
        return OffsetRange(f'{{"{topic}":{{"0":1}}}}', f'{{"{topic}":{{"0":3}}}}')

    again = get_source("eventhubs").reread(spark, request, failure, offsets)
    assert again is not None
    assert source_times(again) == [(0, 1, None), (0, 2, "2026-01-01 00:00:00.123")]
    assert get_source("eventhubs").reread(spark, request, "another failure", offsets) is None


def test_the_configuration_of_kafkas_client_is_translated() -> None:
    """Offsets are never committed, and aborted transactions are read as by Spark."""
    java = {"bootstrap.servers": "b:1", "max.poll.records": "5", "ssl.truststore.type": "PEM"}
    java |= {"ssl.truststore.location": "/ca.pem", "ssl.keystore.type": "PEM", "ssl.keystore.location": "/me.pem"}
    java |= {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"}
    java |= {"sasl.jaas.config": 'org.apache.kafka.….ScramLoginModule required username="u" password="p=1";'}
    assert (
        consumer_config(java).items()
        >= {
            "bootstrap.servers": "b:1",
            "enable.auto.commit": "false",
            "isolation.level": "read_uncommitted",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "u",
            "sasl.password": "p=1",
            "ssl.ca.location": "/ca.pem",
            "ssl.certificate.location": "/me.pem",
            "ssl.key.location": "/me.pem",
        }.items()
    )
    assert "max.poll.records" not in consumer_config(java)
    assert consumer_config({"isolation.level": "read_committed"})["isolation.level"] == "read_committed"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ssl.truststore.location": "/ca.jks"}, "no truststore of the type JKS; give PEM"),
        (
            {"ssl.keystore.location": "/me", "ssl.keystore.type": "JKS"},
            "no keystore of the type JKS; give PEM or PKCS12",
        ),
        ({"sasl.jaas.config": "com.sun.security.auth.module.Krb5LoginModule required;"}, "no login but a user name"),
    ],
)
def test_what_librdkafka_cannot_use_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(LakehouseError, match=message):
        consumer_config(given)
