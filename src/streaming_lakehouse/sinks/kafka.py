"""Kafka as a sink: rows as JSON, with a key by which a consumer or a compacted topic removes duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from pyspark.sql import Column, DataFrame, SparkSession, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.config.options import OptionSpec, get_option, omit
from streaming_lakehouse.config.secrets import resolve_secrets
from streaming_lakehouse.session import is_local
from streaming_lakehouse.sinks import TEXT_FORMATS, Sink, WriteRequest
from streaming_lakehouse.sources import kafka as source
from streaming_lakehouse.sources.kafka_admin import KafkaAdmin

OWNER = "sink 'kafka'"
_OWN_OPTIONS = ("topic",)
_DEFAULTS = {
    # A missing broker or topic is reported within 30 s instead of minutes.
    "kafka.max.block.ms": "20000",
    "kafka.request.timeout.ms": "15000",
    "kafka.delivery.timeout.ms": "30000",
    # An idempotent producer requests an id first, and waits for a dead broker forever: the timeouts above do not apply
    # to that request. Idempotence would only save duplicates, which at-least-once allows.
    "kafka.enable.idempotence": "false",
}


def start(rows: DataFrame, request: WriteRequest) -> StreamingQuery:
    """Sends each row to a topic, at least once: that of the option `topic`, else the table's name with dashes.

    Raises LakehouseError if no server is given or none is reachable.
    """
    options = resolve_secrets(request.options)
    source.check_reachable(OWNER, options)
    return send(rows, request, options, topic(request))


def send(rows: DataFrame, request: WriteRequest, options: Mapping[str, str], to: str) -> StreamingQuery:
    """Like `start`, with `options` that already have their credentials.

    A replayed batch is sent again, with the same keys and values.
    """
    records = rows.select(to_json_column(*request.key).alias("key"), to_json_column(*rows.columns).alias("value"))
    writer = request.query.writer(records).format("kafka").options(**omit(_DEFAULTS, options))
    return writer.options(**omit(options, _OWN_OPTIONS)).option("topic", to).start()


def to_json_column(*columns: str) -> Column:
    """One JSON object of the columns, with null fields, so that every record has the same fields."""
    return F.to_json(F.struct(*columns), {"ignoreNullFields": "false", **TEXT_FORMATS})


def topic(request: WriteRequest) -> str:
    return get_option(request.options, "topic") or request.table.name.replace("_", "-")


def check(request: WriteRequest) -> None:
    """Raises LakehouseError if no server is given, or a remote one without TLS."""
    source.bootstrap_servers(OWNER, resolve_secrets(request.options), prefix="sink.")


def address(request: WriteRequest) -> dict[str, str]:
    return {"topic": topic(request)}


def fingerprint(spark: SparkSession, request: WriteRequest) -> dict[str, str]:
    """The ids of the cluster and, once it exists, of the topic: the broker may create it with the first row."""
    return source.cluster_and_topic_ids(spark, OWNER, resolve_secrets(request.options), [topic(request)])


def count(spark: SparkSession, request: WriteRequest) -> int | None:
    """The records that the topic has received; unknown in a workspace, whose JVM is not accessible."""
    if not is_local(spark):
        return None
    with closing(KafkaAdmin(spark, source.client_config(resolve_secrets(request.options)))) as admin:
        return admin.end_offset_sum(topic(request))


SINK = Sink(
    "kafka",
    OptionSpec(OWNER, ("kafka.", "topic")),
    guarantee="at least once",
    start=start,
    address=address,
    fingerprint=fingerprint,
    recomputes_on_replay=True,
    check=check,
    count=count,
)
