"""What is asked of a running Kafka broker: whether it answers, for topics, and for what tells them from others."""

import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError

from streaming_lakehouse.errors import LakehouseError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient
    from pyspark.sql import SparkSession

CLIENT_TIMEOUT_S = 10
_IDS_TIMEOUT_S = 5
_NO_ID = "A" * 22  # Kafka's zero, from a broker that keeps no ids of topics


def create_topic(bootstrap_servers: str, topic: str, partitions: int, client: Mapping[str, str] | None = None) -> None:
    """Create a topic; one that exists stays as it is.

    `client` holds librdkafka's settings of the connection, for a broker that wants TLS or credentials.
    Raises LakehouseError where no broker answers within 10 s.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.cimpl import NewTopic

    admin = _admin(bootstrap_servers, client or {})
    try:
        created = admin.create_topics([NewTopic(topic, partitions)], request_timeout=CLIENT_TIMEOUT_S)
        created[topic].result()
    except KafkaException as error:
        cause: KafkaError = error.args[0]
        if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return
        if cause.retriable() or cause.code() < 0:
            advice = "start it (lakehouse broker) or correct the address"
            raise LakehouseError(f"No Kafka broker answers at {bootstrap_servers}: {advice}") from error
        raise LakehouseError(f"Topic {topic} at {bootstrap_servers} could not be created: {cause.str()}") from error


def _admin(bootstrap_servers: str, client: Mapping[str, str]) -> "AdminClient":
    from confluent_kafka.admin import AdminClient

    # Silent: librdkafka would print its own account of every attempt to connect.
    return AdminClient({**client, "bootstrap.servers": bootstrap_servers, "log_level": 0})


def answers(bootstrap_servers: str) -> bool:
    """Whether a broker at `host:port` tells of itself right now."""
    from confluent_kafka import KafkaException

    host, port = bootstrap_servers.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        return bool(_admin(bootstrap_servers, {}).list_topics(timeout=2).brokers)
    except (OSError, KafkaException):
        return False


def ids(spark: "SparkSession", client: Mapping[str, str], topics: Iterable[str]) -> dict[str, str]:
    """The ids of the cluster (`cluster`) and of topics (`topic NAME`), as far as it tells: not all servers know them.

    `client` holds the settings of Kafka's own client, which is asked in the JVM of the session: it alone takes a login
    or a truststore as Spark's source does. What is wrong with them is left to that source to say.
    """
    jvm: Any = spark._jvm
    settings, names = jvm.java.util.Properties(), jvm.java.util.ArrayList()
    for name, value in client.items():
        settings.setProperty(name, value)
    for topic in topics:
        names.add(topic)
    patience = (_IDS_TIMEOUT_S, jvm.java.util.concurrent.TimeUnit.SECONDS)
    found: dict[str, str] = {}
    with suppress(Py4JError):
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(settings)
        try:
            found["cluster"] = admin.describeCluster().clusterId().get(*patience)
            for name, topic in admin.describeTopics(names).allTopicNames().get(*patience).items():
                found[f"topic {name}"] = topic.topicId().toString()
        finally:
            admin.close(jvm.java.time.Duration.ZERO)
    return {name: told for name, told in found.items() if told and told != _NO_ID}
