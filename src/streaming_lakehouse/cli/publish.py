"""Sends generated records to where a pipeline reads them: landing files, a topic, an event hub, a socket."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from streaming_lakehouse.cli.truth import TableTruth
from streaming_lakehouse.config.options import OptionSpec, get_option, is_int_in_range, require_option
from streaming_lakehouse.config.redaction import redact
from streaming_lakehouse.config.secrets import reject_plaintext_secrets, resolve_secrets
from streaming_lakehouse.config.storage import local_path, translate_write_errors
from streaming_lakehouse.errors import LakehouseError, counted
from streaming_lakehouse.local.topics import create_topic
from streaming_lakehouse.pipeline import Bronze
from streaming_lakehouse.pipeline.synthetic import (
    FAULT_RATE_OPTIONS,
    FaultRates,
    Record,
    check_representable,
    generate_records,
)
from streaming_lakehouse.sources import eventhubs, kafka, socket as tcp

ACCEPTS = {
    "files": ("path", "rowsPerFile", "compression", *FAULT_RATE_OPTIONS),
    "kafka": ("kafka.", "topic", "partitions", *FAULT_RATE_OPTIONS),
    "eventhubs": (*eventhubs.PRODUCER_OPTIONS, "kafka.", *FAULT_RATE_OPTIONS),
    "socket": ("host", "port", *FAULT_RATE_OPTIONS),
}
ONE_TABLE = {"kafka": ("topic",), "eventhubs": ("eventhubs.name",)}  # options that several tables cannot share
_MOST_ROWS_PER_FILE = 10_000_000  # they are made in memory
_MOST_PARTITIONS = 10_000
_PROBE_TIMEOUT_S = 0.5
_CHUNK = 5_000  # rows between two moves of the bar


@dataclass(frozen=True)
class PublishJob:
    """Rows `start` to `end` (exclusive) of a bronze table's generator, and the options of where they go."""

    bronze: Bronze
    seed: int
    start: int
    end: int
    options: Mapping[str, str]

    @property
    def rates(self) -> FaultRates:
        return FaultRates.from_options(self.options)

    def records(self) -> Iterator[Record]:
        return generate_records(
            self.bronze.event_generator, seed=self.seed, start=self.start, end=self.end, rates=self.rates
        )

    @property
    def address(self) -> tuple[str, int]:
        port = _whole(self.options, "port", default=int(tcp.PORT), most=65_535)
        return get_option(self.options, "host") or tcp.HOST, port

    @property
    def rows_per_file(self) -> int:
        return _whole(self.options, "rowsPerFile", default=50_000, most=_MOST_ROWS_PER_FILE)

    @property
    def is_compressed(self) -> bool:
        compression = get_option(self.options, "compression") or "none"
        if compression not in ("none", "gzip"):
            raise LakehouseError(f"generate: --option compression is none or gzip, not {compression!r}")
        return compression == "gzip"

    @property
    def partitions(self) -> int:
        return _whole(self.options, "partitions", default=2, most=_MOST_PARTITIONS)

    def target(self, to: str) -> str:
        if to == "files":
            path = require_option(f"generate --to {to}", self.options, "path")
            return str(local_path("path", path) / self.bronze.table)
        if to == "eventhubs":
            return f"event hub {eventhubs.event_hub(eventhubs.with_credentials(self.options))}"
        if to == "socket":
            return ":".join(map(str, self.address))
        return f"topic {get_option(self.options, 'topic') or kafka.default_topic(self.bronze)}"


def check(job: PublishJob, to: str) -> None:
    """Raises LakehouseError for what can be found before anything is sent."""
    OptionSpec(f"generate --to {to}", ACCEPTS[to]).check(job.options)
    reject_plaintext_secrets(job.options)
    if to != "eventhubs":  # its name may be part of a connection string, which is asked for when it is used
        job.target(to)
    _ = job.rows_per_file, job.is_compressed, job.partitions
    check_representable(
        job.bronze.event_generator, seed=job.seed, end=job.end, rates=job.rates,
        hint="give a smaller --from-row, --rows or --seed",
    )  # fmt: skip


def publish(job: PublishJob, to: str) -> TableTruth:
    """Sends the records and returns the truth about them."""
    check(job, to)
    truth = TableTruth(job.start)
    send = {"files": _to_files, "kafka": _to_kafka, "eventhubs": _to_eventhubs, "socket": _to_socket}[to]
    send(job, truth.recording(job.records()))
    return truth


def _whole(options: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = get_option(options, name, str(default))
    if text is None or not is_int_in_range(text, 1, most):
        raise LakehouseError(f"generate: --option {name} is a whole number from 1 to {most:,}, not {text!r}")
    return int(text)


def _chunks(job: PublishJob, made: Iterator[Record], size: int, doing: str) -> Iterator[list[Record]]:
    """The records in lists of `size`, with a bar on the terminal."""
    sizes = range(0, job.end - job.start, size)
    for _ in track(
        sizes, description=doing, console=Console(stderr=True), disable=not Console(stderr=True).is_terminal
    ):
        yield list(islice(made, size))


def _to_files(job: PublishJob, made: Iterator[Record]) -> None:
    """One record a line; a file is named by its rows, so that the same rows are the same file, and comes whole."""
    folder = Path(job.target("files"))
    with translate_write_errors("--option path=…", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number, chunk in enumerate(_chunks(job, made, job.rows_per_file, "files")):
            first = job.start + number * job.rows_per_file
            name = f"seed{job.seed}-{first:012d}-{first + len(chunk) - 1:012d}.jsonl"
            _put(folder / (f"{name}.gz" if job.is_compressed else name), _lines(chunk))


def _lines(chunk: list[Record]) -> bytes:
    return b"".join((record.value or b"") + b"\n" for record in chunk)


def _put(file: Path, lines: bytes) -> None:
    hidden = file.with_name(f".{file.name}.part")  # readers pass over names that begin with a dot
    hidden.write_bytes(gzip.compress(lines, mtime=0) if file.suffix == ".gz" else lines)
    os.replace(hidden, file)


def _to_kafka(job: PublishJob, made: Iterator[Record]) -> None:
    options = resolve_secrets(job.options)
    kafka.check_reachable("generate --to kafka", options)
    topic = get_option(options, "topic") or kafka.default_topic(job.bronze)
    client = kafka.client_config(options)
    producer = _producer("kafka", client)  # first, so that no topic is made for options that cannot be
    create_topic(require_option("generate --to kafka", options, kafka.BOOTSTRAP_SERVERS), topic, job.partitions, client)
    _produce(job, made, producer, topic)


def _to_socket(job: PublishJob, made: Iterator[Record]) -> None:
    """Serves the first that connects and stays: `run` looks once whether anybody listens, and then connects."""
    try:
        with socket.create_server(job.address) as server:
            print(f"waiting for a run at {job.target('socket')}: --source socket", file=sys.stderr)
            while not _serve(server, job, made):
                pass
    except OSError as error:
        raise LakehouseError(f"cannot serve at {job.target('socket')}: {error.strerror or error}") from error


def _serve(server: socket.socket, job: PublishJob, made: Iterator[Record]) -> bool:
    """False for one that hung up before it was sent anything."""
    reader, _ = server.accept()
    with reader:
        reader.settimeout(_PROBE_TIMEOUT_S)
        with contextlib.suppress(TimeoutError):
            if not reader.recv(1):  # a reader says nothing; one that only looked has hung up
                return False
        reader.settimeout(None)
        for chunk in _chunks(job, made, _CHUNK, "socket"):
            reader.sendall(_lines(chunk))
    return True


def _to_eventhubs(job: PublishJob, made: Iterator[Record]) -> None:
    with eventhubs.prefix_errors("generate --to eventhubs"):
        options = eventhubs.with_credentials(job.options)
        eventhubs.check_namespace(options)
        client = eventhubs.librdkafka_config(options)
    _produce(job, made, _producer("eventhubs", client), eventhubs.event_hub(options))


def _produce(job: PublishJob, made: Iterator[Record], producer: Any, topic: str) -> None:
    from confluent_kafka import KafkaError, KafkaException, Message

    refused: list[str] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error:
            refused.append(error.str())

    try:
        for chunk in _chunks(job, made, _CHUNK, f"topic {topic}"):
            for record in chunk:
                producer.produce(topic, record.value, record.key, on_delivery=on_delivery)
            producer.flush(60)
    except (KafkaException, BufferError) as error:
        raise LakehouseError(redact(f"cannot send to topic {topic}: {error}")) from error
    if refused or len(producer):
        lost = counted(len(refused) + len(producer), "record was", "records were")
        raise LakehouseError(f"topic {topic}: {lost} not taken: {refused[:1]}")


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
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        # It may name an option by another name than the given one.
        named = next((f"kafka.{name}" for name in client if f'"{name}"' in reason), "kafka.…")
        raise LakehouseError(
            redact(f"generate --to {to}: librdkafka, which sends, does not take --option {named}: {reason}")
        ) from error
