"""Kafka as a sink: rows as JSON, with a key by which a consumer, or a compacted topic, drops the repeats."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, SparkSession, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.options import Options, option, without
from streaming_lakehouse.sinks import Outlet, Sink
from streaming_lakehouse.sources import kafka as source
from streaming_lakehouse.sources.secrets import resolved

OWNER = "sink 'kafka'"
_OURS = ("topic",)
_DEFAULTS = {
    # A broker that is gone, or a topic that is not there, is named within half a minute instead of minutes.
    "kafka.max.block.ms": "20000",
    "kafka.request.timeout.ms": "15000",
    "kafka.delivery.timeout.ms": "30000",
    # A producer that asks a broker for an id, to send nothing twice, waits for the answer of one that died without an
    # end: none of the above counts until it has it. What it would save are repeats, which at least once allows.
    "kafka.enable.idempotence": "false",
}


def start(rows: DataFrame, outlet: Outlet) -> StreamingQuery:
    """Sends each row to the topic of the table's name with dashes, or that of the option `topic`, at least once.

    Raises LakehouseError where no server is given or none can be reached.
    """
    options = resolved(outlet.options)
    source.check_servers(OWNER, options)
    return send(rows, outlet, options, topic(outlet))


def send(rows: DataFrame, outlet: Outlet, options: Mapping[str, str], to: str) -> StreamingQuery:
    """As `start`, with options that hold their credentials.

    A batch that is repeated after a crash is sent again: with the same key and the same value.
    """
    records = rows.select(as_json(*outlet.key).alias("key"), as_json(*rows.columns).alias("value"))
    writer = outlet.query.writer(records).format("kafka").options(**without(_DEFAULTS, options))
    return writer.options(**without(options, _OURS)).option("topic", to).start()


def as_json(*columns: str) -> Column:
    """One JSON object of the columns; what is null is said, so that every record has the same fields."""
    return F.to_json(F.struct(*columns), {"ignoreNullFields": "false"})


def topic(outlet: Outlet) -> str:
    return option(outlet.options, "topic") or outlet.table.title.replace("_", "-")


def check(outlet: Outlet) -> None:
    """Raises LakehouseError where no server is named, or one of them would be spoken to in clear."""
    source.servers(OWNER, resolved(outlet.options), prefix="sink.")


def place(outlet: Outlet) -> dict[str, str]:
    return {"topic": topic(outlet)}


def ids(spark: SparkSession, outlet: Outlet) -> dict[str, str]:
    """The ids of the cluster and, once it is there, of the topic: the broker may make it with the first row."""
    return source.known_ids(spark, OWNER, resolved(outlet.options), [topic(outlet)])


SINK = Sink(
    "kafka",
    Options(OWNER, ("kafka.", "topic")),
    guarantee="at least once",
    start=start,
    place=place,
    ids=ids,
    repeats=True,
    check=check,
)
