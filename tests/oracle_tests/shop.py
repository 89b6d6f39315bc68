"""A pipeline of two bronze tables, with routes, a transform, a reference, a join, sessions and an update table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from oracle.domain import Domain, Expectation, Gold, Row, Silver, present
from oracle.json_types import DOUBLE, LONG, STRING, TIMESTAMP, decimal
from oracle.json_values import Array, Field, Struct
from oracle.moments import HOUR, MINUTE
from oracle.windows import Rounded, sessions, window_end

PRICE = decimal(7, 2)
ITEM = Struct((Field("sku", STRING, required=True), Field("price", PRICE, required=True)))
OF_EVENT = (Field("event_id", STRING), Field("time", TIMESTAMP))


def is_of_kind(kind: str):
    return lambda fields, record: fields.get("kind") == kind


def mask(order: Row) -> Row:
    masked = {name: order[name] for name in ("event_id", "time", "order", "items")}
    return {**masked, "user_initial": order["user"][:1]}


ORDERS = Silver(
    "shop_orders",
    bronze="shop_events",
    fields=(
        *OF_EVENT,
        Field("order", STRING),
        Field("user", STRING),
        Field("items", Array(ITEM)),
        Field("kind", STRING),
    ),
    expectations=(Expectation("user_is_present", present("user")),),
    watermark=HOUR,
    route=is_of_kind("order"),
    transform=mask,
    transformed=(*OF_EVENT, Field("order", STRING), Field("items", Array(ITEM)), Field("user_initial", STRING)),
)
PAYMENTS = Silver(
    "shop_payments",
    bronze="shop_events",
    fields=(*OF_EVENT, Field("order", STRING), Field("attempt", LONG), Field("kind", STRING)),
    watermark=2 * HOUR,
    dedup_key=("order", "attempt"),
    route=is_of_kind("payment"),
)
CLICKS = Silver("shop_clicks", bronze="shop_clicks", fields=(*OF_EVENT, Field("user", STRING)), watermark=HOUR)


def paid_orders(orders: Sequence[Row], payments: Sequence[Row]) -> Iterator[Row]:
    for order in orders:
        for payment in payments:
            if payment["order"] == order["order"]:
                total = sum((item["price"] for item in order["items"]), Decimal("0.00"))
                yield {"order": order["order"], "attempt": payment["attempt"], "total": total}


def visits(clicks: Sequence[Row]) -> Iterator[Row]:
    for session in sessions(clicks, ("user",), 10 * MINUTE):
        visit = {"user": session.key[0], "clicks": len(session.rows)}
        yield {**visit, "window_start": session.start, "window_end": session.end}


def revenue(orders: Sequence[Row], prices: Sequence[Row]) -> Iterator[Row]:
    rates = {price["sku"]: price["rate"] for price in prices}
    for sku in sorted({item["sku"] for order in orders for item in order["items"]}):
        sold = [item["price"] for order in orders for item in order["items"] if item["sku"] == sku]
        yield {"sku": sku, "revenue": Rounded(float(sum(sold)) * rates[sku])}


DOMAIN = Domain(
    "shop",
    silver=(ORDERS, PAYMENTS, CLICKS),
    gold=(
        Gold(
            "shop_paid_orders",
            ("order", "attempt"),
            {"order": STRING, "attempt": LONG, "total": PRICE},
            ("silver/shop_orders", "silver/shop_payments"),
            paid_orders,
        ),
        Gold(
            "shop_visits",
            ("user", "window_start"),
            {"user": STRING, "clicks": LONG, "window_start": TIMESTAMP, "window_end": TIMESTAMP},
            ("silver/shop_clicks",),
            visits,
            closes_at=window_end,
        ),
        Gold(
            "shop_revenue",
            ("sku",),
            {"sku": STRING, "revenue": DOUBLE},
            ("silver/shop_orders", "reference/shop_prices"),
            revenue,
        ),
    ),
)
