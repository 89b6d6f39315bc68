"""Creates topics on a Kafka broker, and checks that it is reachable."""

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from streaming_lakehouse.errors import LakehouseError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

CLIENT_TIMEOUT_S = 10


def create_topic(bootstrap_servers: str, topic: str, partitions: int, client: Mapping[str, str] | None = None) -> None:
    """Create a topic; an existing one is left unchanged.

    `client` is librdkafka's connection configuration, for a broker that needs TLS or credentials.
    Raises LakehouseError if no broker is reachable within 10 s.
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
            hint = "start one (lakehouse broker) or correct the address"
            raise LakehouseError(f"No Kafka broker is reachable at {bootstrap_servers}: {hint}") from error
        raise LakehouseError(f"Topic {topic} at {bootstrap_servers} could not be created: {cause.str()}") from error


def _admin(bootstrap_servers: str, client: Mapping[str, str]) -> "AdminClient":
    from confluent_kafka.admin import AdminClient

    # Log level 0: librdkafka would log every attempt to connect.
    return AdminClient({**client, "bootstrap.servers": bootstrap_servers, "log_level": 0})


def is_reachable(bootstrap_servers: str) -> bool:
    """True if a broker at `host:port` responds now."""
    from confluent_kafka import KafkaException

    host, port = bootstrap_servers.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        return bool(_admin(bootstrap_servers, {}).list_topics(timeout=2).brokers)
    except (OSError, KafkaException):
        return False
