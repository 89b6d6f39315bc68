"""Asks a Kafka cluster which topics it has, by what ids, and how far they reach."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import SparkSession

_TIMEOUT_S = 5
_ZERO_UUID = "A" * 22  # from a broker that has no topic ids
_DOES_NOT_EXIST = re.compile(r"\b(UnknownTopicOrPartition|InvalidTopic)Exception\b")

_INTERRUPTED = "java.lang.InterruptedException"

Partition = tuple[str, int]


@dataclass(frozen=True)
class Topic:
    """A topic's id, empty where its broker has none, and the number of its partitions."""

    id: str
    partitions: int


class KafkaAdmin:
    """An admin client in the session's JVM, connected until `close`.

    `client` is the configuration of Kafka's Java client: only that one accepts a JAAS login or a truststore as Spark's
    source does. Errors in the configuration are left to that source to report, and what the servers do not answer
    within 5 s is left out.
    """

    def __init__(self, spark: SparkSession, client: Mapping[str, str]) -> None:
        # Each class is looked up once: py4j asks the JVM for every part of its name.
        jvm: Any = spark._jvm
        self._list, self._map = jvm.java.util.ArrayList, jvm.java.util.HashMap
        self._pattern, self._partition = jvm.java.util.regex.Pattern, jvm.org.apache.kafka.common.TopicPartition
        self._seconds, self._zero = jvm.java.util.concurrent.TimeUnit.SECONDS, jvm.java.time.Duration.ZERO
        self._offset = _offset_specs(jvm)
        config = jvm.java.util.Properties()
        for name, value in client.items():
            config.setProperty(name, value)
        self._client: Any = None
        with suppress(Py4JError):
            self._client = jvm.org.apache.kafka.clients.admin.AdminClient.create(config)

    def close(self) -> None:
        if self._client is not None:
            with suppress(Py4JError):  # such as that of a JVM that has ended
                self._client.close(self._zero)

    def cluster_id(self) -> str | None:
        with _unanswered():
            found: str | None = self._get(self._client.describeCluster().clusterId()) if self._client else None
            return found
        return None

    def topic_names(self, pattern: str | None = None) -> list[str] | None:
        """All topics but Kafka's own, or those in which Java finds `pattern`, as Spark does; None if unknown."""
        if self._client is None:
            return None
        with _unanswered():  # of an invalid pattern Spark's own error is better
            names = self._list(self._get(self._client.listTopics().names()))
            if pattern is not None:
                names.removeIf(self._pattern.compile(pattern).asPredicate().negate())
            return sorted(names)
        return None

    def describe(self, names: Collection[str]) -> dict[str, Topic | None]:
        """The topics by name, None for one that does not exist. Without permission for a topic its name is absent."""
        found: dict[str, Topic | None] = {}
        if self._client is None or not names:
            return found
        with _unanswered():
            for name, future in self._client.describeTopics(self._java_list(names)).topicNameValues().items():
                try:
                    topic = self._get(future)
                    topic_id = topic.topicId().toString()
                    found[name] = Topic("" if topic_id == _ZERO_UUID else topic_id, topic.partitions().size())
                except Py4JJavaError as error:
                    reason = error.java_exception.toString()
                    if _DOES_NOT_EXIST.search(reason):
                        found[name] = None
                    elif _INTERRUPTED in reason:
                        raise
        return found

    def offsets(self, partitions: Iterable[Partition], which: str) -> dict[Partition, int]:
        """The `earliest` or `latest` offset of existing partitions, as far as the servers report them."""
        found: dict[Partition, int] = {}
        keys = {partition: self._partition(*partition) for partition in partitions}
        if self._client is None or not keys:
            return found
        with _unanswered():
            asked = self._map()
            for key in keys.values():
                asked.put(key, self._offset[which])
            answers = self._client.listOffsets(asked)
            for partition, key in keys.items():
                found[partition] = self._get(answers.partitionResult(key)).offset()
        return found

    def end_offset_sum(self, name: str) -> int | None:
        """The records that a topic has received, over its partitions: 0 before it exists, None if unknown."""
        topics = self.describe([name])
        topic = topics.get(name)
        if topic is None:
            return 0 if name in topics else None
        partitions = [(name, number) for number in range(topic.partitions)]
        latest = self.offsets(partitions, "latest")
        return sum(latest.values()) if len(latest) == len(partitions) else None

    def _java_list(self, values: Iterable[str]) -> Any:
        found = self._list()
        for value in values:
            found.add(value)
        return found

    def _get(self, future: Any) -> Any:
        return future.get(_TIMEOUT_S, self._seconds)


@contextmanager
def _unanswered() -> Iterator[None]:
    """Ignores that an answer is missing, but not that Spark stops the batch, by an interrupt, which must end it."""
    try:
        yield
    except Py4JJavaError as error:
        if _INTERRUPTED in error.java_exception.toString():
            raise
    except Py4JError:
        pass


def _offset_specs(jvm: Any) -> dict[str, Any]:
    specs = jvm.org.apache.kafka.clients.admin.OffsetSpec
    return {"earliest": specs.earliest(), "latest": specs.latest()}


def cluster_and_topic_ids(spark: SparkSession, client: Mapping[str, str], topics: Collection[str]) -> dict[str, str]:
    """The ids of the cluster (`cluster`) and of topics (`topic NAME`); not all servers report them."""
    with closing(KafkaAdmin(spark, client)) as admin:
        return identity(admin.cluster_id(), admin.describe(topics))


def identity(cluster: str | None, topics: Mapping[str, Topic | None]) -> dict[str, str]:
    """The known ids of a cluster and its topics, as a checkpoint records them."""
    ids = {f"topic {name}": topic.id for name, topic in topics.items() if topic and topic.id}
    return {"cluster": cluster, **ids} if cluster else ids
