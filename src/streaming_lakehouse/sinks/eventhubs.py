"""Azure Event Hubs as a sink, through its Kafka endpoint: records as the Kafka sink makes them."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.options import Options, without
from streaming_lakehouse.session import on_databricks
from streaming_lakehouse.sinks import Outlet, Sink, kafka
from streaming_lakehouse.sources import eventhubs as source

_OWNER = "sink 'eventhubs'"


def start(rows: DataFrame, outlet: Outlet) -> StreamingQuery:
    """Sends each row to the event hub, at least once. The credentials are given as to the source `eventhubs`."""
    with source.named(_OWNER):
        given = source.with_credentials(outlet.options)
        source.check_namespace(given)
        client = source.of_kafka(given, shaded=on_databricks())
    options = {**source.passed_on(given), **without(client, ["subscribe", "kafka.group.id"])}
    return kafka.send(rows, outlet, options, source.event_hub(given))


def check(outlet: Outlet) -> None:
    """Raises LakehouseError where the event hub or its credentials are not told whole."""
    with source.named(_OWNER):
        source.of_kafka(source.with_credentials(outlet.options), shaded=on_databricks())


def place(outlet: Outlet) -> dict[str, str]:
    namespace, _, name = source.endpoint(source.with_credentials(outlet.options))
    return {"namespace": namespace, "name": name}


SINK = Sink(
    "eventhubs",
    Options(_OWNER, (*source.OPTIONS_TO_SEND, "kafka.")),
    guarantee="at least once",
    start=start,
    place=place,
    repeats=True,
    check=check,
)
