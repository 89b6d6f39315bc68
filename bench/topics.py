"""The topics that all contenders read, filled once before the first of them runs."""

import subprocess
import sys
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from contenders import environment, topic_of

SEED = 7
GENERATORS = 2  # processes that fill a topic: one makes 15,000 events a second


def preload(servers: str, events: int, work: Path) -> None:
    """Fills the topic of this size; one that holds as many records stays as it is, any other is an error."""
    held = _records(servers, topic_of(events))
    if held not in (0, events):
        raise SystemExit(f"bench: topic {topic_of(events)} has {held:,} records already: delete it")
    if held:
        return
    share = -(-events // GENERATORS)
    logs = {first: work / f"generate-{first}.log" for first in range(0, events, share)}
    processes = [_generator(servers, events, first, min(share, events - first), log) for first, log in logs.items()]
    if any([process.wait() for process in processes]):
        said = "\n".join(log.read_text(errors="replace")[-2000:] for log in logs.values())
        raise SystemExit(f"bench: topic {topic_of(events)} could not be filled; the generators said:\n{said}")


def _generator(servers: str, events: int, first: int, rows: int, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "streaming_lakehouse", "generate", "weather", "--to", "kafka"]
    command += ["--seed", str(SEED), "--from-row", str(first), "--rows", str(rows)]
    for option in (f"topic={topic_of(events)}", "partitions=2", f"kafka.bootstrap.servers={servers}"):
        command += ["--option", option]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment())


def _records(servers: str, topic: str) -> int:
    """How many records the topic holds; none where it does not exist."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench"})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30) for number in partitions]
        return sum(high - low for low, high in ends)
    finally:
        consumer.close()
