"""The topics that all implementations read, filled once before the first run."""

import subprocess
import sys
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from implementations import environment, topic_of

SEED = 7
GENERATORS = 2  # processes that fill a topic: one generates 15,000 events per second


def preload(servers: str, events: int, work: Path) -> None:
    """Fills the topic of this size, unless it is complete. Any other number of records in it is an error."""
    existing = _records(servers, topic_of(events))
    if existing not in (0, events):
        raise SystemExit(f"bench: topic {topic_of(events)} has {existing:,} records already: delete it")
    if existing:
        return
    rows = -(-events // GENERATORS)
    logs = {first: work / f"generate-{first}.log" for first in range(0, events, rows)}
    processes = [_generator(servers, events, first, min(rows, events - first), log) for first, log in logs.items()]
    if any([process.wait() for process in processes]):
        output = "\n".join(log.read_text(errors="replace")[-2000:] for log in logs.values())
        raise SystemExit(f"bench: topic {topic_of(events)} could not be filled; output of the generators:\n{output}")


def _generator(servers: str, events: int, first: int, rows: int, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "streaming_lakehouse", "generate", "weather", "--to", "kafka"]
    command += ["--seed", str(SEED), "--from-row", str(first), "--rows", str(rows)]
    for option in (f"topic={topic_of(events)}", "partitions=2", f"kafka.bootstrap.servers={servers}"):
        command += ["--option", option]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment())


def _records(servers: str, topic: str) -> int:
    """The number of records in the topic; 0 if it does not exist."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench"})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30) for number in partitions]
        return sum(high - low for low, high in ends)
    finally:
        consumer.close()
