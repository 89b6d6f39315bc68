"""Kafka: a topic's records with their keys, headers, timestamps and offsets."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress

from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import topics
from streaming_lakehouse.options import option, without
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.session import is_local
from streaming_lakehouse.sources import Request, Source, unreachable
from streaming_lakehouse.sources.secrets import resolved

SERVERS = "kafka.bootstrap.servers"
ACCEPTS = (
    "kafka.",
    "subscribe",
    "subscribePattern",
    "assign",
    "startingOffsets",
    "startingTimestamp",
    "startingOffsetsByTimestamp",
    "startingOffsetsByTimestampStrategy",
    "failOnDataLoss",
    "maxOffsetsPerTrigger",
    "minOffsetsPerTrigger",
    "maxTriggerDelay",
    "minPartitions",
    "maxRecordsPerPartition",
    "groupIdPrefix",
    "kafkaConsumer.pollTimeoutMs",
    "fetchOffset.numRetries",
    "fetchOffset.retryIntervalMs",
)
_DEFAULTS = {
    # A lakehouse wants all there is; Spark's own default, latest, skips what came before the first start.
    "startingOffsets": "earliest",
    # Offsets that aged out before they were read are lost rows: say so and stop.
    "failOnDataLoss": "true",
    # The first rows of a long topic stand after seconds, and a kill costs no more than this to read again. A batch
    # more costs about a second: bronze takes five million events in 23 s in eight batches, and in 30 s in fifteen,
    # of the minute and a half that all layers take.
    "maxOffsetsPerTrigger": "350000",
    # Fewer, larger polls: 500 records, the default, are 50 kB of these events.
    "kafka.max.poll.records": "10000",
    # A broker that is gone ends the run within half a minute, one that takes connections and is silent after one,
    # instead of minutes.
    "kafka.default.api.timeout.ms": "20000",
    "kafka.request.timeout.ms": "15000",
}
_TOPICS = ("subscribe", "subscribePattern", "assign")
LEAST = {
    "maxOffsetsPerTrigger": 1,
    "minOffsetsPerTrigger": 1,
    "minPartitions": 1,
    "maxRecordsPerPartition": 1,
    "startingTimestamp": 0,
    "kafkaConsumer.pollTimeoutMs": 1,
    "fetchOffset.numRetries": 0,
    "fetchOffset.retryIntervalMs": 0,
}
FLAGS = ("failOnDataLoss",)


def read(spark: SparkSession, request: Request) -> DataFrame:
    """The topic's records in bronze's envelope: `source` is the topic, `source_timestamp` the record's own.

    The topic is the bronze table's name with dashes, unless `subscribe`, `subscribePattern` or `assign` names another.
    Raises LakehouseError where no bootstrap server is given or none can be reached.
    """
    return records(spark, resolved(request.options), request)


def records(spark: SparkSession, options: Mapping[str, str], request: Request) -> DataFrame:
    """As `read`, of options that hold their credentials."""
    check_servers("source 'kafka'", options)
    defaults = _defaults(options, request.pipeline)
    if not request.trigger.is_micro_batch:
        defaults.pop("maxOffsetsPerTrigger", None)  # the real-time trigger refuses it
    stream = spark.readStream.format("kafka").options(**defaults).options(**options)
    return stream.option("includeHeaders", "true").load().select(
        "key", "value", "headers", F.col("topic").alias("source"), "partition", "offset",
        F.col("timestamp").alias("source_timestamp"),
    )  # fmt: skip


def place(request: Request) -> dict[str, str]:
    """The topics, by the option that names them."""
    options = {**_defaults(request.options, request.pipeline), **request.options}
    return {name: value for name in _TOPICS if (value := option(options, name))}


def ids(spark: SparkSession, request: Request) -> dict[str, str]:
    """The ids of the cluster and of each topic that is named; of those that match `subscribePattern` none."""
    options = resolved(request.options)
    given = {**_defaults(options, request.pipeline), **options}
    return known_ids(spark, "source 'kafka'", given, _named(given))


def known_ids(spark: SparkSession, owner: str, options: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The ids of the cluster and of the topics of these names; in a workspace none: its JVM is closed to us.

    Raises LakehouseError as `check_servers` does.
    """
    if not is_local(spark):
        return {}
    check_servers(owner, options)
    return topics.ids(spark, client_settings(options), names)


def _named(options: Mapping[str, str]) -> Iterable[str]:
    if (assigned := option(options, "assign")) is None:
        return filter(None, (option(options, "subscribe") or "").replace(" ", "").split(","))
    with suppress(ValueError, TypeError):  # what else it should be Spark says
        return dict(json.loads(assigned))
    return ()


def client_settings(options: Mapping[str, str]) -> dict[str, str]:
    """Those of the options that are for Kafka's client, by its own names for them."""
    return {name.removeprefix("kafka."): value for name, value in options.items() if name.startswith("kafka.")}


def default_topic(pipeline: Pipeline) -> str:
    return pipeline.bronze.table.replace("_", "-")


def _defaults(given: Mapping[str, str], pipeline: Pipeline) -> dict[str, str]:
    names = {name.lower() for name in given}
    defaults = without(_DEFAULTS, given)
    if names & {"startingtimestamp", "startingoffsetsbytimestamp"}:
        defaults.pop("startingOffsets", None)
    if not names & {name.lower() for name in _TOPICS}:
        defaults["subscribe"] = default_topic(pipeline)
    return defaults


def servers(owner: str, options: Mapping[str, str], *, prefix: str = "") -> list[str]:
    """The servers. Raises LakehouseError unless each is on loopback or spoken to in TLS; nothing is asked of them.

    `prefix` stands before the options in what is said.
    """
    given = option(options, SERVERS)
    if not given:
        raise LakehouseError(f"{owner} needs --option {prefix}{SERVERS}=…")
    found = [server.strip() for server in given.split(",")]
    protocol = (option(options, "kafka.security.protocol") or "PLAINTEXT").upper()
    for server in found:
        host, _ = _host_and_port(owner, server)
        if protocol not in ("SSL", "SASL_SSL") and not _is_loopback(host):
            raise LakehouseError(
                f"{owner}: {server} is not on this machine, so records and credentials would travel in clear; "
                f"add --option {prefix}kafka.security.protocol=SASL_SSL (or SSL)"
            )
    return found


def check_servers(owner: str, options: Mapping[str, str]) -> None:
    """Raises LakehouseError unless every server is on loopback or spoken to in TLS, and one of them answers."""
    silent = []
    for server in servers(owner, options):
        why = unreachable(*_host_and_port(owner, server))
        if why is None:
            return
        silent.append(f"{server} ({why})")
    raise LakehouseError(
        f"{owner}: no broker answers at {', '.join(silent)}; start one, or correct --option {SERVERS}=…"
    )


def _host_and_port(owner: str, server: str) -> tuple[str, int]:
    found = re.fullmatch(r"\[?([^\]]+?)\]?:(\d{1,5})", server)
    if not found:
        raise LakehouseError(f"{owner}: {SERVERS} is HOST:PORT, or several with commas between, not {server!r}")
    return found[1], int(found[2])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


SOURCE = Source("kafka", ACCEPTS, read, place, LEAST, FLAGS, ids=ids)
