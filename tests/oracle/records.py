"""Raw records as their source holds them: a Kafka topic, or the lines of files."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, TopicPartition

from .moments import EPOCH


class RawRecord(NamedTuple):
    """One record as its source holds it; `partition` is None for a line of a file, `offset` then its line number."""

    key: bytes | None
    value: bytes | None
    source: str
    partition: int | None
    offset: int
    source_timestamp: datetime | None


def read_topic(bootstrap_servers: str, topic: str) -> list[RawRecord]:
    """All records of the topic, tombstones included, up to the high watermarks at the time of the call."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "oracle",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_uncommitted",
            "auto.offset.reset": "error",
        }
    )
    try:
        ends: dict[int, int] = {}
        starts = []
        for partition in _partitions(consumer, topic):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            if high > low:
                ends[partition] = high
                starts.append(TopicPartition(topic, partition, low))
        consumer.assign(starts)
        return list(_consume(consumer, topic, ends))
    finally:
        consumer.close()


def _partitions(consumer: Any, topic: str) -> list[int]:
    """The topic's partition numbers; a topic that does not exist is an error, not an empty answer."""
    found = consumer.list_topics(topic, timeout=30).topics[topic]
    if found.error is not None:
        raise ValueError(f"topic {topic}: {found.error}")
    return sorted(found.partitions)


def _consume(consumer: Any, topic: str, ends: dict[int, int]) -> Iterator[RawRecord]:
    """The records below each partition's end; a partition is done at its end or where the broker says EOF."""
    open_partitions = set(ends)
    silent_polls = 0
    while open_partitions:
        messages = consumer.consume(num_messages=10_000, timeout=1)
        silent_polls = 0 if messages else silent_polls + 1
        if silent_polls > 60:
            raise TimeoutError(f"topic {topic}: nothing came for a minute from partitions {sorted(open_partitions)}")
        for message in messages:
            partition, offset, error = message.partition(), message.offset(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise RuntimeError(f"topic {topic}: {error}")
            if error is not None or offset >= ends[partition] - 1:
                open_partitions.discard(partition)
            if error is None and offset < ends[partition]:
                kind, milliseconds = message.timestamp()
                at = None if kind == TIMESTAMP_NOT_AVAILABLE else EPOCH + timedelta(milliseconds=milliseconds)
                yield RawRecord(message.key(), message.value(), topic, partition, offset, at)


def read_files(folder: Path | str) -> list[RawRecord]:
    """Each line of each file under the folder, plain, .gz or .bz2; names that begin with `_` or `.` are not data.

    A line ends at a line feed, which is not part of the record; a carriage return is. A byte order mark is not data.
    """
    folder = Path(folder)
    records = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_dir() or any(part[0] in "_." or part.endswith("._COPYING_") for part in parts):
            continue
        unpacked = {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix.lower(), bytes)
        lines = unpacked(path.read_bytes()).removeprefix(b"\xef\xbb\xbf").split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        modified_at = EPOCH + timedelta(microseconds=path.stat().st_mtime_ns // 1000)
        records += [RawRecord(None, line, str(path), None, n, modified_at) for n, line in enumerate(lines)]
    return records
