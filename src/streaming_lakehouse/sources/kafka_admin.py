"""Reads the ids of a Kafka cluster and its topics, which distinguish them from others of the same name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

_TIMEOUT_S = 5
_ZERO_UUID = "A" * 22  # from a broker that has no topic ids


def cluster_and_topic_ids(spark: SparkSession, client: Mapping[str, str], topics: Iterable[str]) -> dict[str, str]:
    """The ids of the cluster (`cluster`) and of topics (`topic NAME`); not all servers report them.

    `client` is the configuration of Kafka's Java client in the session's JVM: only that one accepts a JAAS login or a
    truststore as Spark's source does. Errors in the configuration are left to that source to report.
    """
    jvm: Any = spark._jvm
    config, names = jvm.java.util.Properties(), jvm.java.util.ArrayList()
    for name, value in client.items():
        config.setProperty(name, value)
    for topic in topics:
        names.add(topic)
    timeout = (_TIMEOUT_S, jvm.java.util.concurrent.TimeUnit.SECONDS)
    found: dict[str, str] = {}
    with suppress(Py4JError):
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(config)
        try:
            found["cluster"] = admin.describeCluster().clusterId().get(*timeout)
            for name, topic in admin.describeTopics(names).allTopicNames().get(*timeout).items():
                found[f"topic {name}"] = topic.topicId().toString()
        finally:
            admin.close(jvm.java.time.Duration.ZERO)
    return {name: value for name, value in found.items() if value and value != _ZERO_UUID}
