"""How many records a Kafka topic has received: the only count of what a query without micro-batches has sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

_TIMEOUT_S = 5


def end_offset_sum(spark: SparkSession, client: Mapping[str, str], topic: str) -> int | None:
    """The sum of the end offsets of the topic's partitions: 0 where there is no topic yet, None where nobody can know.

    `client` is the configuration of Kafka's Java client in the session's JVM.
    """
    jvm: Any = spark._jvm
    config, names = jvm.java.util.Properties(), jvm.java.util.ArrayList()
    for name, value in client.items():
        config.setProperty(name, value)
    names.add(topic)
    timeout = (_TIMEOUT_S, jvm.java.util.concurrent.TimeUnit.SECONDS)
    try:
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(config)
        try:
            wanted = jvm.java.util.HashMap()
            for partition in admin.describeTopics(names).allTopicNames().get(*timeout)[topic].partitions():
                position = jvm.org.apache.kafka.common.TopicPartition(topic, partition.partition())
                wanted.put(position, jvm.org.apache.kafka.clients.admin.OffsetSpec.latest())
            return sum(int(found.offset()) for found in admin.listOffsets(wanted).all().get(*timeout).values())
        finally:
            admin.close(jvm.java.time.Duration.ZERO)
    except Py4JError as error:
        return 0 if "UnknownTopicOrPartition" in str(error) else None
