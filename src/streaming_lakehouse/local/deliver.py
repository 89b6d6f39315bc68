"""Sends generated records to where a pipeline reads them: landing files or a Kafka topic."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.generation import CLEAN, Record, Shares, records
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.settings import local_path
from streaming_lakehouse.sources import kafka, option, required
from streaming_lakehouse.sources.secrets import refuse_in_clear, resolved

_SHARES = ("duplicates", "late", "broken", "unknown_fields")
_ACCEPTS = {
    "files": ("path", "rowsPerFile", "compression", *_SHARES),
    "kafka": ("kafka.", "topic", "partitions", *_SHARES),
}
_CHUNK = 5_000  # rows between two moves of the bar


@dataclass(frozen=True)
class Delivery:
    """Rows `start` to `end` (exclusive) of a pipeline's generator, and the options of where they go."""

    pipeline: Pipeline
    seed: int
    start: int
    end: int
    options: Mapping[str, str]

    def records(self) -> Iterator[Record]:
        shares = Shares.of(self.options)
        return records(self.pipeline.bronze.events, seed=self.seed, start=self.start, end=self.end, shares=shares)

    def target(self, to: str) -> str:
        if to == "files":
            return str(local_path("path", required(to, self.options, "path")) / self.pipeline.bronze.table)
        return f"topic {option(self.options, 'topic') or kafka.default_topic(self.pipeline)}"


def deliver(delivery: Delivery, to: str, truth: Path | None) -> Counter[str]:
    """Sends the records and returns how many there are of each label; writes the truth about each, where asked.

    The truth is one JSON object: pipeline, seed, from_row, rows, labels (label to count), and records (row to label,
    without the clean ones).
    """
    known = _ACCEPTS[to]
    for name in delivery.options:
        if name not in known and not (to == "kafka" and name.startswith("kafka.")):
            raise LakehouseError(f"generate --to {to} has no option {name!r}{did_you_mean(name, known)}")
    labels: list[str] = []
    send = {"files": _to_files, "kafka": _to_kafka}[to]
    send(delivery, _noting(delivery.records(), labels))
    counts = Counter(labels)
    if truth:
        marked = {str(row): label for row, label in enumerate(labels, start=delivery.start) if label != CLEAN}
        told: dict[str, Any] = {"pipeline": delivery.pipeline.name, "seed": delivery.seed}
        told |= {"from_row": delivery.start, "rows": len(labels), "labels": dict(counts), "records": marked}
        truth.write_text(json.dumps(told, indent=1))
    return counts


def _noting(made: Iterable[Record], labels: list[str]) -> Iterator[Record]:
    for record in made:
        labels.append(record.label)
        yield record


def _chunks(delivery: Delivery, made: Iterator[Record], size: int, doing: str) -> Iterator[list[Record]]:
    """The records in lists of `size`, with a bar on the terminal."""
    sizes = range(0, delivery.end - delivery.start, size)
    for _ in track(
        sizes, description=doing, console=Console(stderr=True), disable=not Console(stderr=True).is_terminal
    ):
        yield list(islice(made, size))


def _to_files(delivery: Delivery, made: Iterator[Record]) -> None:
    """One record a line; a file is named by its rows, so that the same rows are the same file, and comes whole."""
    folder = Path(delivery.target("files"))
    per_file = int(option(delivery.options, "rowsPerFile") or 50_000)
    compression = option(delivery.options, "compression") or "none"
    if compression not in ("none", "gzip") or per_file < 1:
        raise LakehouseError("generate --to files: compression is none or gzip, rowsPerFile at least 1")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, chunk in enumerate(_chunks(delivery, made, per_file, "files")):
            first = delivery.start + number * per_file
            name = f"seed{delivery.seed}-{first:012d}-{first + len(chunk) - 1:012d}.jsonl"
            lines = b"".join((record.value or b"") + b"\n" for record in chunk)
            _put(folder / (name + ".gz" if compression == "gzip" else name), lines)
    except OSError as error:
        raise LakehouseError(f"cannot write to {folder}: {error.strerror or error}") from error


def _put(file: Path, lines: bytes) -> None:
    hidden = file.with_name(f".{file.name}.part")  # readers pass over names that begin with a dot
    hidden.write_bytes(gzip.compress(lines, mtime=0) if file.suffix == ".gz" else lines)
    os.replace(hidden, file)


def _to_kafka(delivery: Delivery, made: Iterator[Record]) -> None:
    try:
        from confluent_kafka import KafkaError, KafkaException, Message, Producer
    except ImportError as error:
        raise LakehouseError(
            "generate --to kafka needs the package confluent-kafka: install the extra 'local'"
        ) from error
    from streaming_lakehouse.local.broker import create_topic

    refuse_in_clear(delivery.options)
    options = resolved(delivery.options)
    kafka.check_servers(options)
    topic = option(options, "topic") or kafka.default_topic(delivery.pipeline)
    client = {name.removeprefix("kafka."): value for name, value in options.items() if name.startswith("kafka.")}
    create_topic(client["bootstrap.servers"], topic, int(option(options, "partitions") or 2))
    refused: list[str] = []

    def told(error: KafkaError | None, message: Message) -> None:
        if error:
            refused.append(error.str())

    # Errors alone: librdkafka would print that a broker which has just started is not ready yet.
    ours = {"enable.idempotence": True, "linger.ms": 50, "compression.type": "lz4", "log_level": 3}
    producer = Producer({**ours, **client})
    try:
        for chunk in _chunks(delivery, made, _CHUNK, f"topic {topic}"):
            for record in chunk:
                producer.produce(topic, record.value, record.key, on_delivery=told)
            producer.flush(60)
    except (KafkaException, BufferError) as error:
        raise LakehouseError(f"cannot send to topic {topic}: {error}") from error
    if refused or len(producer):
        raise LakehouseError(f"topic {topic}: {len(refused) + len(producer)} records were not taken: {refused[:1]}")
