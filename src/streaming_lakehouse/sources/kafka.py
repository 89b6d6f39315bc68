"""Kafka: a topic's records with their keys, headers, timestamps and offsets."""

from __future__ import annotations

import ipaddress
import json
import logging
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse.config.options import OptionSpec, get_option, omit
from streaming_lakehouse.config.secrets import resolve_secrets
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline import Bronze
from streaming_lakehouse.session import is_local
from streaming_lakehouse.sources import (
    OffsetRange,
    ReadRequest,
    Source,
    SourceAdmin,
    connection_error,
    kafka_admin,
    kafka_reread,
)
from streaming_lakehouse.sources.kafka_admin import KafkaAdmin, Partition
from streaming_lakehouse.sources.kafka_topics import Subscription, TopicAdmin, parse_offsets

log = logging.getLogger(__name__)

BOOTSTRAP_SERVERS = "kafka.bootstrap.servers"
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
    # Spark's default, latest, skips the records from before the first start.
    "startingOffsets": "earliest",
    # Records that were deleted by retention before they were read are an error.
    "failOnDataLoss": "true",
    # The first rows of a long topic are committed after seconds, and after a kill no more than this is read again.
    # Each further batch costs about a second: of the 90 s that all layers take for five million events, bronze takes
    # 23 s with eight batches and 30 s with fifteen.
    "maxOffsetsPerTrigger": "350000",
    # Fewer, larger polls: the default, 500 records, is 50 kB of these events.
    "kafka.max.poll.records": "10000",
    # The run fails within 30 s if the broker is gone, and within 60 s if it accepts connections but does not respond,
    # instead of minutes.
    "kafka.default.api.timeout.ms": "20000",
    "kafka.request.timeout.ms": "15000",
}
_TOPICS = ("subscribe", "subscribePattern", "assign")
MINIMUMS = {
    "maxOffsetsPerTrigger": 1,
    "minOffsetsPerTrigger": 1,
    "minPartitions": 1,
    "maxRecordsPerPartition": 1,
    "startingTimestamp": 0,
    "kafkaConsumer.pollTimeoutMs": 1,
    "fetchOffset.numRetries": 0,
    "fetchOffset.retryIntervalMs": 0,
}
BOOLEANS = ("failOnDataLoss",)
# Spark's message for a record whose timestamp it cannot represent.
TIMESTAMP_OVERFLOW = r"Record at topic (\S+) partition (\d+) offset (\d+) has timestamp value (-?\d+)"


def read(spark: SparkSession, request: ReadRequest) -> DataFrame:
    """The topic's records in bronze's envelope: `source` is the topic, `source_timestamp` the record's own.

    The topic is the bronze table's name with dashes, unless `subscribe`, `subscribePattern` or `assign` names another.
    Raises LakehouseError if no bootstrap server is given or none is reachable.
    """
    return records(spark, resolve_secrets(request.options), request)


def records(spark: SparkSession, options: Mapping[str, str], request: ReadRequest) -> DataFrame:
    """Like `read`, with `options` that already have their credentials."""
    check_reachable("source 'kafka'", options)
    defaults = _defaults(options, request.bronze)
    if not request.trigger.is_micro_batch:
        defaults.pop("maxOffsetsPerTrigger", None)  # the real-time trigger refuses it
    stream = spark.readStream.format("kafka").options(**defaults).options(**options)
    # A record without a timestamp has -1.
    timestamp = F.when(F.col("timestamp") != F.timestamp_millis(F.lit(-1)), F.col("timestamp"))
    return stream.option("includeHeaders", "true").load().select(
        "key", "value", "headers", F.col("topic").alias("source"), "partition", "offset",
        timestamp.alias("source_timestamp"),
    )  # fmt: skip


def address(request: ReadRequest) -> dict[str, str]:
    """The topics, by the option that names them."""
    options = {**_defaults(request.options, request.bronze), **request.options}
    return {name: value for name in _TOPICS if (value := get_option(options, name))}


def admin(spark: SparkSession, request: ReadRequest) -> SourceAdmin:
    """Asks the cluster about the topics. Raises LakehouseError as `check_reachable` does."""
    options = resolve_secrets(request.options)
    return topic_admin(spark, {**_defaults(options, request.bronze), **options}, "source 'kafka'")


def topic_admin(
    spark: SparkSession, options: Mapping[str, str], owner: str, *, has_cluster_id: bool = True, **words: str
) -> SourceAdmin:
    """Like `admin`, with all options and their credentials. It knows nothing in a workspace, whose JVM is hidden.

    `words` are the subscription's for another source. Its cluster is not compared unless it `has_cluster_id`.
    """
    if not is_local(spark):
        return SourceAdmin()
    check_reachable(owner, options)
    assigned = _assigned(options)
    subscribed = [name.strip() for name in (get_option(options, "subscribe") or "").split(",")]
    named = {topic for topic, _ in assigned} if assigned is not None else {name for name in subscribed if name}
    subscription = Subscription(
        owner,
        get_option(options, BOOTSTRAP_SERVERS) or "",
        tuple(sorted(named)),
        get_option(options, "subscribePattern"),
        assigned,
        _fails_on_data_loss(options),
        **{"option": next(name for name in _TOPICS if get_option(options, name) is not None), **words},
    )
    return TopicAdmin(KafkaAdmin(spark, client_config(options)), subscription, has_cluster_id)


def reread(
    spark: SparkSession, request: ReadRequest, failure: str, offsets: Callable[[], OffsetRange]
) -> DataFrame | None:
    """The batch's records, read by librdkafka, where one has a timestamp that overflows Spark's.

    Raises LakehouseError, with that record, where librdkafka cannot read them.
    """
    return reread_records(spark, resolve_secrets(request.options), failure, offsets)


def reread_records(
    spark: SparkSession, options: Mapping[str, str], failure: str, offsets: Callable[[], OffsetRange]
) -> DataFrame | None:
    """Like `reread`, with `options` that already have their credentials."""
    found = re.search(TIMESTAMP_OVERFLOW, failure)
    if not found:
        return None
    batch = offsets()
    start, end = parse_offsets(batch.start or "{}"), parse_offsets(batch.end)
    record = "the record at topic {}, partition {}, offset {} has the timestamp {}".format(*found.groups())
    try:
        fails = _fails_on_data_loss(options)
        again = kafka_reread.records(spark, client_config(options), start, end, fails_on_data_loss=fails)
    except LakehouseError as error:
        raise LakehouseError(f"{record}, which Spark cannot represent: {error}") from error
    log.warning("%s, which Spark cannot represent: its source_timestamp is null, and that of others like it", record)
    return again


def cluster_and_topic_ids(
    spark: SparkSession, owner: str, options: Mapping[str, str], names: Collection[str]
) -> dict[str, str]:
    """The ids of the cluster and of the topics; none in a workspace, whose JVM is not accessible.

    Raises LakehouseError as `check_reachable` does.
    """
    if not is_local(spark):
        return {}
    check_reachable(owner, options)
    return kafka_admin.cluster_and_topic_ids(spark, client_config(options), names)


def _fails_on_data_loss(options: Mapping[str, str]) -> bool:
    return (get_option(options, "failOnDataLoss") or "true").lower() != "false"


def _assigned(options: Mapping[str, str]) -> frozenset[Partition] | None:
    given = get_option(options, "assign")
    if given is None:
        return None
    with suppress(ValueError, TypeError, AttributeError):  # Spark's own error for an invalid value is better
        return frozenset((topic, int(number)) for topic, numbers in json.loads(given).items() for number in numbers)
    return frozenset()


def client_config(options: Mapping[str, str]) -> dict[str, str]:
    """The options of Kafka's client, by its own names."""
    return {name.removeprefix("kafka."): value for name, value in options.items() if name.startswith("kafka.")}


def default_topic(bronze: Bronze) -> str:
    return bronze.table.replace("_", "-")


def _defaults(given: Mapping[str, str], bronze: Bronze) -> dict[str, str]:
    names = {name.lower() for name in given}
    defaults = omit(_DEFAULTS, given)
    if names & {"startingtimestamp", "startingoffsetsbytimestamp"}:
        defaults.pop("startingOffsets", None)
    if not names & {name.lower() for name in _TOPICS}:
        defaults["subscribe"] = default_topic(bronze)
    return defaults


def bootstrap_servers(owner: str, options: Mapping[str, str], *, prefix: str = "") -> list[str]:
    """The servers. Raises LakehouseError unless each is on loopback or uses TLS; opens no connection.

    `prefix` is put before the option names in errors.
    """
    given = get_option(options, BOOTSTRAP_SERVERS)
    if not given:
        raise LakehouseError(f"{owner} needs --option {prefix}{BOOTSTRAP_SERVERS}=…")
    found = [server.strip() for server in given.split(",")]
    protocol = (get_option(options, "kafka.security.protocol") or "PLAINTEXT").upper()
    for server in found:
        host, _ = _host_and_port(owner, server)
        if protocol not in ("SSL", "SASL_SSL") and not _is_loopback(host):
            raise LakehouseError(
                f"{owner}: {server} is not on this machine, so records and credentials would be sent in plaintext; "
                f"add --option {prefix}kafka.security.protocol=SASL_SSL (or SSL)"
            )
    return found


def check_reachable(owner: str, options: Mapping[str, str]) -> None:
    """Raises LakehouseError unless every server is on loopback or uses TLS, and one of them is reachable."""
    unreachable = []
    for server in bootstrap_servers(owner, options):
        reason = connection_error(*_host_and_port(owner, server))
        if reason is None:
            return
        unreachable.append(f"{server} ({reason})")
    raise LakehouseError(
        f"{owner}: no broker is reachable at {', '.join(unreachable)}; start one, or correct "
        f"--option {BOOTSTRAP_SERVERS}=…"
    )


def _host_and_port(owner: str, server: str) -> tuple[str, int]:
    found = re.fullmatch(r"\[?([^\]]+?)\]?:(\d{1,5})", server)
    if not found:
        raise LakehouseError(
            f"{owner}: {BOOTSTRAP_SERVERS} is HOST:PORT, or several separated by commas, not {server!r}"
        )
    return found[1], int(found[2])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


SOURCE = Source(
    "kafka",
    OptionSpec("source 'kafka'", ACCEPTS, MINIMUMS, BOOLEANS),
    read,
    address,
    one_table=_TOPICS,
    admin=admin,
    reread=reread,
)
