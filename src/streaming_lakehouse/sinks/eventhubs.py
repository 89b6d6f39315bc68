"""Azure Event Hubs as a sink, through its Kafka endpoint, with the same records as the Kafka sink."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.config.options import OptionSpec, omit
from streaming_lakehouse.session import on_databricks
from streaming_lakehouse.sinks import Sink, WriteRequest, kafka
from streaming_lakehouse.sources import eventhubs as source

_OWNER = "sink 'eventhubs'"


def start(rows: DataFrame, request: WriteRequest) -> StreamingQuery:
    """Sends each row to the event hub, at least once. The credentials are those of the source `eventhubs`."""
    with source.prefix_errors(_OWNER):
        given = source.with_credentials(request.options)
        source.check_namespace(given)
        client = source.kafka_options(given, shaded=on_databricks())
    options = {**source.kafka_passthrough(given), **omit(client, ["subscribe", "kafka.group.id"])}
    return kafka.send(rows, request, options, source.event_hub(given))


def check(request: WriteRequest) -> None:
    """Raises LakehouseError if the event hub or its credentials are incomplete."""
    with source.prefix_errors(_OWNER):
        source.kafka_options(source.with_credentials(request.options), shaded=on_databricks())


def address(request: WriteRequest) -> dict[str, str]:
    namespace, _, name = source.endpoint(source.with_credentials(request.options))
    return {"namespace": namespace, "name": name}


SINK = Sink(
    "eventhubs",
    OptionSpec(_OWNER, (*source.PRODUCER_OPTIONS, "kafka.")),
    guarantee="at least once",
    start=start,
    address=address,
    recomputes_on_replay=True,
    check=check,
)
