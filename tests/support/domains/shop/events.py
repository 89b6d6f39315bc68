"""A web shop's records: orders and payments in one topic, visits in another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pyspark.sql import types as T

from streaming_lakehouse.pipeline import Event, EventGenerator
from streaming_lakehouse.pipeline.synthetic import iso_utc, uniform_randoms

START = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCTS = 8
_EVENT = [
    T.StructField("event_id", T.StringType()),
    T.StructField("type", T.StringType()),
    T.StructField("time", T.TimestampType()),
    T.StructField("order_id", T.StringType()),
]
ORDER = T.StructType([*_EVENT, T.StructField("customer", T.StringType()), T.StructField("product", T.LongType())])
PAYMENT = T.StructType([*_EVENT, T.StructField("amount_eur", T.DoubleType())])
VISIT = T.StructType(
    [
        T.StructField("event_id", T.StringType()),
        T.StructField("visitor", T.StringType()),
        T.StructField("page", T.LongType()),
        T.StructField("time", T.TimestampType()),
    ]
)
PRODUCT = T.StructType([T.StructField("product", T.LongType()), T.StructField("category", T.StringType())])


def products() -> list[tuple[int, str]]:
    """The registry does not know the last product."""
    return [(product, "books" if product % 2 else "toys") for product in range(PRODUCTS - 1)]


def sale(row: int, seed: int) -> Event:
    """An order every 20 s; for seven in eight a payment within minutes; else a refund, which no route takes."""
    number, kind = divmod(row, 3)
    customer, product, delay, amount, *_ = uniform_randoms(seed, number)
    time = START + timedelta(seconds=20 * number)
    event = {"event_id": f"s{seed}-{row}", "order_id": f"o{seed}-{number}"}
    if kind == 0:
        order = {"type": "order", "time": iso_utc(time), "customer": f"c{int(customer**2 * 20)}"}
        return Event({**event, **order, "product": int(product * PRODUCTS)})
    if kind == 1 and number % 8:
        paid = time + timedelta(milliseconds=int(1 + delay * 400_000))
        return Event({**event, "type": "payment", "time": iso_utc(paid), "amount_eur": round(1 + 99 * amount, 2)})
    return Event({**event, "type": "refund", "time": iso_utc(time)})


def visit(row: int, seed: int) -> Event:
    """Pages that a visitor looks at: pauses of a few seconds, and now and then of minutes."""
    visitor, page, second, *_ = uniform_randoms(seed, row, 5)
    time = START + timedelta(seconds=row * 7 + int(second * 5))
    return Event(
        {"event_id": f"v{seed}-{row}", "visitor": f"u{int(visitor * 30)}", "page": int(page * 9), "time": iso_utc(time)}
    )


SALES = EventGenerator(sale, key="order_id", time="time", unknown_field=("coupon", "x"))
VISITS = EventGenerator(visit, key="visitor", time="time", out_of_range=({"page": -1},), unknown_field=("agent", "y"))
