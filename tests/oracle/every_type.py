"""A pipeline without a purpose but to have a field of every type."""

from __future__ import annotations

from .domain import Domain, Silver
from .json_types import (
    BINARY,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    FLOAT,
    INTEGER,
    LONG,
    SHORT,
    STRING,
    TIMESTAMP,
    decimal,
    timestamp,
)
from .json_values import Array, Field, Map, Struct
from .moments import HOUR

ADDRESS = Struct(
    (Field("city", STRING, json="City", required=True), Field("zip", STRING), Field("since", DATE, json="id.since"))
)
ITEM = Struct(
    (
        Field("sku", STRING, required=True),
        Field("price", decimal(8, 2), json="unitPrice"),
        Field("quantity", SHORT, required=True),
        Field("attributes", Map(Array(DOUBLE, required=True))),
    )
)
STATION = Struct((Field("lat", DOUBLE, required=True), Field("seen_at", timestamp("epoch_seconds"), json="seen")))

EVENTS = Silver(
    "every_type_events",
    bronze="every_type_events",
    fields=(
        Field("event_id", STRING, json="eventId", required=True),
        Field("at", TIMESTAMP, json="@timestamp", required=True),
        Field("note", STRING),
        Field("is_gift", BOOLEAN, json="isGift"),
        Field("tiny", BYTE),
        Field("small", SHORT),
        Field("count", INTEGER),
        Field("total", LONG),
        Field("ratio", FLOAT),
        Field("score", DOUBLE),
        Field("amount", decimal(10, 2)),
        Field("fine", decimal(38, 18), json="fine.value"),
        Field("day", DATE),
        Field("local_at", timestamp(zone="Europe/Berlin"), json="localTime"),
        Field("seconds_at", timestamp("epoch_seconds"), json="ts"),
        Field("millis_at", timestamp("epoch_millis"), json="offset"),
        Field("micros_at", timestamp("epoch_micros"), json="partition"),
        Field("payload", BINARY, json="value"),
        Field("names", Array(STRING)),
        Field("numbers", Array(INTEGER, required=True)),
        Field("times", Array(timestamp("epoch_millis"))),
        Field("tags", Map(INTEGER)),
        Field("labels", Map(STRING, required=True), json="key"),
        Field("address", ADDRESS),
        Field("items", Array(ITEM, required=True)),
        Field("grid", Array(Array(INTEGER))),
        Field("stations", Map(STATION)),
        Field("lower_id", INTEGER, json="id"),
        Field("upper_id", INTEGER, json="ID"),
        Field("größe", DOUBLE),
    ),
    event_time="at",
    watermark=HOUR,
)
DOMAIN = Domain("every_type", silver=(EVENTS,))
