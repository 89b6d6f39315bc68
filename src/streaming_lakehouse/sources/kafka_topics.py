"""The topics that a Kafka source reads: that they exist, by what ids, and how far behind them a query is."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.sources import SourceAdmin
from streaming_lakehouse.sources.kafka_admin import KafkaAdmin, Partition, Topic, identity

log = logging.getLogger(__name__)
_MAX_NAMES = 20  # more do not help in one line
_TOPIC = "topic "  # before the name of a topic whose id is recorded


@dataclass(frozen=True)
class Subscription:
    """Which topics a query reads: those of these names, or where there is a `pattern` those that it is found in.

    `partitions` are the only ones where each is assigned. `owner` and `option` name the source, and the option that
    names the topics, in errors; `what` is a topic's word there.
    """

    owner: str
    servers: str
    names: tuple[str, ...] = ()
    pattern: str | None = None
    partitions: frozenset[Partition] | None = None
    fails_on_data_loss: bool = True
    option: str = "subscribe"
    what: str = "topic"


@dataclass
class TopicAdmin(SourceAdmin):
    """Asks the cluster about the topics of a subscription."""

    admin: KafkaAdmin
    subscription: Subscription
    has_cluster_id: bool = True
    reported: set[str] = field(default_factory=set)

    def ids(self, recorded: Mapping[str, str]) -> dict[str, str]:
        """The ids of the cluster and its topics. Raises LakehouseError where a topic does not exist."""
        names = self._subscribed()
        known = [name.removeprefix(_TOPIC) for name in recorded if name.startswith(_TOPIC)]
        topics = self.admin.describe({*names, *known})
        found = identity(self.admin.cluster_id() if self.has_cluster_id else None, topics)
        if all(recorded.get(name, value) == value for name, value in found.items()):  # else it is another cluster
            self._check_exist(names, known, topics)
        return found

    def lag(self, end_offsets: str | None) -> int | None:
        """The records over all partitions that the topics have behind `end_offsets`, Spark's JSON of them."""
        if not end_offsets:
            return None
        read = parse_offsets(end_offsets)
        topics = self.admin.describe({*self._subscribed(), *(topic for topic, _ in read)})
        existing = {(name, number) for name, topic in topics.items() if topic for number in range(topic.partitions)}
        if self.subscription.partitions is not None:
            existing &= self.subscription.partitions
        latest = self.admin.offsets(existing, "latest")
        if not existing or len(latest) < len(existing):
            return None
        # Spark reads a partition that is new from its earliest offset.
        start: dict[Partition, int] = self.admin.offsets(existing - read.keys(), "earliest") | read
        return sum(max(offset - start.get(partition, 0), 0) for partition, offset in latest.items())

    def close(self) -> None:
        self.admin.close()

    def _subscribed(self) -> tuple[str, ...]:
        pattern = self.subscription.pattern
        return self.subscription.names if pattern is None else tuple(self.admin.topic_names(pattern) or ())

    def _check_exist(self, names: tuple[str, ...], known: list[str], topics: Mapping[str, Topic | None]) -> None:
        ours = self.subscription
        at = f"at {ours.servers}"
        if gone := [name for name in known if topics.get(name, name) is None]:
            self._report_vanished(" and ".join(gone))
        if missing := next((name for name in ours.names if topics.get(name, name) is None), None):
            raise LakehouseError(
                f"{ours.owner}: {ours.what} {missing!r} does not exist {at}; create it, or name another with --option "
                f"{ours.option}=…{self._existing(missing)}"
            )
        if ours.pattern is not None and not names and not gone and (existing := self._existing(ours.pattern)):
            raise LakehouseError(f"{ours.owner}: no topic {at} matches --option {ours.option}={ours.pattern}{existing}")
        for name, number in sorted(ours.partitions or ()):  # Spark would read the others, and not say so
            topic = topics.get(name)
            if topic and number >= topic.partitions:
                raise LakehouseError(
                    f"{ours.owner}: {ours.what} {name!r} {at} has no partition {number}, the last is "
                    f"{topic.partitions - 1}; correct --option {ours.option}=…"
                )

    def _report_vanished(self, gone: str) -> None:
        """With a pattern Spark can continue without a topic; of a topic that is named it fails whatever is allowed."""
        ours = self.subscription
        lost = f"{ours.owner}: {ours.what} {gone} no longer exists at {ours.servers}; what was unread in it is lost"
        if ours.pattern is None:
            raise LakehouseError(f"{lost}, and a new one of this name needs another --root or --catalog")
        if ours.fails_on_data_loss:
            raise LakehouseError(f"{lost}; to continue without it, use --option failOnDataLoss=false")
        if gone not in self.reported:
            self.reported.add(gone)
            log.warning("%s", lost)

    def _existing(self, wanted: str) -> str:
        """The end of an error: a name like the wanted one, or those that exist; '' if unknown or too many."""
        names = self.admin.topic_names()
        if names is not None and len(names) > _MAX_NAMES:
            names = get_close_matches(wanted, names) or None
        if not names:
            return "" if names is None else "; it has no topic"
        return did_you_mean(wanted, names)


def parse_offsets(text: str) -> dict[Partition, int]:
    """Offsets by topic and partition, of Spark's JSON."""
    return {
        (topic, int(number)): offset
        for topic, offsets in json.loads(text).items()
        for number, offset in offsets.items()
    }
