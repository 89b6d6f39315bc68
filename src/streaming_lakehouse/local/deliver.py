"""Sends generated records to where a pipeline reads them: landing files, a topic, an event hub, a socket."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import CLEAN, SHARES, Record, Shares, check_last, records
from streaming_lakehouse.local.topics import create_topic
from streaming_lakehouse.options import Options, is_whole, option, required
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.settings import expanded, local_path, writing_to
from streaming_lakehouse.sources import eventhubs, kafka, socket as tcp
from streaming_lakehouse.sources.secrets import refuse_in_clear, resolved
from streaming_lakehouse.unseen import redacted

ACCEPTS = {
    "files": ("path", "rowsPerFile", "compression", *SHARES),
    "kafka": ("kafka.", "topic", "partitions", *SHARES),
    "eventhubs": (*eventhubs.OPTIONS_TO_SEND, "kafka.", *SHARES),
    "socket": ("host", "port", *SHARES),
}
_MOST_ROWS_PER_FILE = 10_000_000  # they are made in memory
_MOST_PARTITIONS = 10_000
_GREETING_SECONDS = 0.5
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

    @property
    def address(self) -> tuple[str, int]:
        port = _whole(self.options, "port", default=int(tcp.PORT), most=65_535)
        return option(self.options, "host") or tcp.HOST, port

    def target(self, to: str) -> str:
        if to == "files":
            return str(
                local_path("path", required(f"generate --to {to}", self.options, "path")) / self.pipeline.bronze.table
            )
        if to == "eventhubs":
            return f"event hub {eventhubs.event_hub(eventhubs.with_credentials(self.options))}"
        if to == "socket":
            return ":".join(map(str, self.address))
        return f"topic {option(self.options, 'topic') or kafka.default_topic(self.pipeline)}"


def deliver(delivery: Delivery, to: str, truth: Path | None) -> Counter[str]:
    """Sends the records and returns how many there are of each label; writes the truth about each, where asked.

    The truth is one JSON object: pipeline, seed, from_row, rows, labels (label to count), and records (row to label,
    without the clean ones).
    """
    _check(delivery, to)
    truth = _writable(truth) if truth else None
    labels: list[str] = []
    send = {"files": _to_files, "kafka": _to_kafka, "eventhubs": _to_eventhubs, "socket": _to_socket}[to]
    send(delivery, _noting(delivery.records(), labels))
    counts = Counter(labels)
    if truth:
        marked = {str(row): label for row, label in enumerate(labels, start=delivery.start) if label != CLEAN}
        told: dict[str, Any] = {"pipeline": delivery.pipeline.name, "seed": delivery.seed}
        told |= {"from_row": delivery.start, "rows": len(labels), "labels": dict(counts), "records": marked}
        with _writing(truth):
            truth.write_text(json.dumps(told, indent=1))
    return counts


def _check(delivery: Delivery, to: str) -> None:
    """What can be told before anything is sent."""
    Options(f"generate --to {to}", ACCEPTS[to]).check(delivery.options)
    check_last(
        delivery.pipeline.bronze.events, seed=delivery.seed, end=delivery.end, shares=Shares.of(delivery.options),
        otherwise="give a smaller --from-row, --rows or --seed",
    )  # fmt: skip


def _writable(truth: Path) -> Path:
    truth = expanded("--truth", truth).absolute()
    if not truth.parent.is_dir() or truth.is_dir():
        why = "it is a folder" if truth.is_dir() else f"there is no folder {truth.parent}"
        raise LakehouseError(f"--truth {truth}: {why}; name a file in a folder that is there")
    is_new = not truth.exists()
    if is_new or truth.is_file():  # a pipe's reader would take this for the end
        with _writing(truth):
            truth.open("ab").close()
            if is_new:
                truth.unlink()
    return truth


@contextlib.contextmanager
def _writing(truth: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakehouseError(f"--truth {truth}: {error.strerror or error}; name another file") from error


def _whole(options: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = option(options, name, str(default))
    if text is None or not is_whole(text, 1, most):
        raise LakehouseError(f"generate: --option {name} is a whole number from 1 to {most:,}, not {text!r}")
    return int(text)


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
    per_file = _whole(delivery.options, "rowsPerFile", default=50_000, most=_MOST_ROWS_PER_FILE)
    compression = option(delivery.options, "compression") or "none"
    if compression not in ("none", "gzip"):
        raise LakehouseError(f"generate: --option compression is none or gzip, not {compression!r}")
    with writing_to("--option path=…", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number, chunk in enumerate(_chunks(delivery, made, per_file, "files")):
            first = delivery.start + number * per_file
            name = f"seed{delivery.seed}-{first:012d}-{first + len(chunk) - 1:012d}.jsonl"
            _put(folder / (name + ".gz" if compression == "gzip" else name), _lines(chunk))


def _lines(chunk: list[Record]) -> bytes:
    return b"".join((record.value or b"") + b"\n" for record in chunk)


def _put(file: Path, lines: bytes) -> None:
    hidden = file.with_name(f".{file.name}.part")  # readers pass over names that begin with a dot
    hidden.write_bytes(gzip.compress(lines, mtime=0) if file.suffix == ".gz" else lines)
    os.replace(hidden, file)


def _to_kafka(delivery: Delivery, made: Iterator[Record]) -> None:
    partitions = _whole(delivery.options, "partitions", default=2, most=_MOST_PARTITIONS)
    refuse_in_clear(delivery.options)
    options = resolved(delivery.options)
    kafka.check_servers("generate --to kafka", options)
    topic = option(options, "topic") or kafka.default_topic(delivery.pipeline)
    client = kafka.client_settings(options)
    producer = _producer("kafka", client)  # first, so that no topic is made for options that cannot be
    create_topic(required("generate --to kafka", options, kafka.SERVERS), topic, partitions, client)
    _produce(delivery, made, producer, topic)


def _to_socket(delivery: Delivery, made: Iterator[Record]) -> None:
    """Serves the first that connects and stays: `run` looks once whether anybody listens, and then connects."""
    try:
        with socket.create_server(delivery.address) as server:
            print(f"waiting for a run at {delivery.target('socket')}: --source socket", file=sys.stderr)
            while not _serve(server, delivery, made):
                pass
    except OSError as error:
        raise LakehouseError(f"cannot serve at {delivery.target('socket')}: {error.strerror or error}") from error


def _serve(server: socket.socket, delivery: Delivery, made: Iterator[Record]) -> bool:
    """False for one that hung up before it was sent anything."""
    reader, _ = server.accept()
    with reader:
        reader.settimeout(_GREETING_SECONDS)
        with contextlib.suppress(TimeoutError):
            if not reader.recv(1):  # a reader says nothing; one that only looked has hung up
                return False
        reader.settimeout(None)
        for chunk in _chunks(delivery, made, _CHUNK, "socket"):
            reader.sendall(_lines(chunk))
    return True


def _to_eventhubs(delivery: Delivery, made: Iterator[Record]) -> None:
    refuse_in_clear(delivery.options)
    with eventhubs.named("generate --to eventhubs"):
        options = eventhubs.with_credentials(delivery.options)
        eventhubs.check_namespace(options)
        client = eventhubs.of_librdkafka(options)
    _produce(delivery, made, _producer("eventhubs", client), eventhubs.event_hub(options))


def _produce(delivery: Delivery, made: Iterator[Record], producer: Any, topic: str) -> None:
    from confluent_kafka import KafkaError, KafkaException, Message

    refused: list[str] = []

    def told(error: KafkaError | None, message: Message) -> None:
        if error:
            refused.append(error.str())

    try:
        for chunk in _chunks(delivery, made, _CHUNK, f"topic {topic}"):
            for record in chunk:
                producer.produce(topic, record.value, record.key, on_delivery=told)
            producer.flush(60)
    except (KafkaException, BufferError) as error:
        raise LakehouseError(redacted(f"cannot send to topic {topic}: {error}")) from error
    if refused or len(producer):
        raise LakehouseError(f"topic {topic}: {len(refused) + len(producer)} records were not taken: {refused[:1]}")


def _producer(to: str, client: Mapping[str, str]) -> Any:
    try:
        from confluent_kafka import KafkaException, Producer
    except ImportError as error:
        raise LakehouseError(
            f"generate --to {to} needs the package confluent-kafka: install the extra 'local'"
        ) from error

    if "sasl.jaas.config" in client:
        raise LakehouseError(
            f"generate --to {to}: librdkafka, which sends, takes no kafka.sasl.jaas.config: unset its variable and "
            "give --option kafka.sasl.username=… and LAKEHOUSE_KAFKA_SASL_PASSWORD in the environment"
        )
    # Errors alone: librdkafka would print that a broker which has just started is not ready yet.
    ours = {"enable.idempotence": True, "linger.ms": 50, "compression.type": "lz4", "log_level": 3}
    try:
        return Producer({**ours, **client})
    except (KafkaException, TypeError, ValueError) as error:
        told = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        # It may tell of an option under another name than the one it was given by.
        named = next((f"kafka.{name}" for name in client if f'"{name}"' in told), "kafka.…")
        raise LakehouseError(
            redacted(f"generate --to {to}: librdkafka, which sends, does not take --option {named}: {told}")
        ) from error
