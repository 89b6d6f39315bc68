"""The shop for the oracle: plain Python, nothing of the package under test."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from oracle.domain import Domain, Expectation, Gold, Row, Silver, not_ahead
from oracle.json_types import DOUBLE, LONG, STRING, TIMESTAMP
from oracle.json_values import Field
from oracle.moments import HOUR, MINUTE
from oracle.windows import sessions, tumbling, window_end

MILLISECOND = 1_000
COMMON = (
    Field("event_id", STRING),
    Field("type", STRING),
    Field("time", TIMESTAMP),
    Field("order_id", STRING),
)
VISIT = (Field("event_id", STRING), Field("visitor", STRING), Field("page", LONG), Field("time", TIMESTAMP))


def between(column: str, low: int, high: int) -> Expectation:
    return Expectation(f"{column}_in_range", lambda row: row[column] is not None and low <= row[column] <= high)


def is_of_type(name: str):
    return lambda record, _: record.get("type") == name


NOT_AHEAD = Expectation("time_is_not_ahead", not_ahead("time", HOUR))
ORDERS = Silver(
    "shop_orders",
    bronze="shop_sales",
    fields=(*COMMON, Field("customer", STRING), Field("product", LONG)),
    expectations=(between("product", 0, 7), NOT_AHEAD),
    watermark=10 * MINUTE,
    dedup_key=("order_id", "event_id"),
    route=is_of_type("order"),
)
PAYMENTS = Silver(
    "shop_payments",
    bronze="shop_sales",
    fields=(*COMMON, Field("amount_eur", DOUBLE)),
    expectations=(
        Expectation("amount_is_positive", lambda row: row["amount_eur"] is not None and row["amount_eur"] > 0),
        NOT_AHEAD,
    ),
    watermark=10 * MINUTE,
    route=is_of_type("payment"),
)
VISITS = Silver(
    "shop_visits",
    bronze="shop_visits",
    fields=VISIT,
    expectations=(between("page", 0, 8), NOT_AHEAD),
    watermark=10 * MINUTE,
    transform=lambda row: {**row, "visitor": hashlib.sha256(row["visitor"].encode()).hexdigest()},
    transformed=VISIT,
)


def order_payments(orders: Sequence[Row], payments: Sequence[Row]) -> Iterator[Row]:
    paid = {payment["order_id"]: payment for payment in payments}
    for order in orders:
        payment = paid.get(order["order_id"])
        is_paid = payment and order["time"] <= payment["time"] <= order["time"] + 5 * MINUTE
        yield {
            **{name: order[name] for name in ("order_id", "customer", "time")},
            "paid_at": payment["time"] if is_paid else None,
            "amount_eur": payment["amount_eur"] if is_paid else None,
        }


def unpaid_for_good(row: Row) -> int | None:
    """A match is written at once; an order without one when no payment in time can come any more."""
    return None if row["paid_at"] is not None else row["time"] + 5 * MINUTE + MILLISECOND


def category_hourly(orders: Sequence[Row], products: Sequence[Row]) -> Iterator[Row]:
    categories = {product["product"]: product["category"] for product in products}
    named = [{**order, "category": categories.get(order["product"], "unknown")} for order in orders]
    for window in tumbling(named, ("category",), HOUR):
        yield {"category": window.key[0], **ends(window), "orders": len(window.rows)}


def visit_sessions(visits: Sequence[Row]) -> Iterator[Row]:
    for window in sessions(visits, ("visitor",), 2 * MINUTE):
        yield {"visitor": window.key[0], **ends(window), "pages": len(window.rows)}


def ends(window) -> Row:
    return {"window_start": window.start, "window_end": window.end}


def customer_totals(orders: Sequence[Row]) -> Iterator[Row]:
    for customer, number in Counter(order["customer"] for order in orders).items():
        latest = max(order["time"] for order in orders if order["customer"] == customer)
        yield {"customer": customer, "orders": number, "last_order_at": latest}


def product_ranking(orders: Sequence[Row]) -> Iterator[Row]:
    for product, number in Counter(order["product"] for order in orders).items():
        yield {"product": product, "orders": number}


def customer_products(orders: Sequence[Row]) -> Iterator[Row]:
    products = defaultdict(set)
    for order in orders:
        products[order["customer"]].add(order["product"])
    for customer, bought in products.items():
        yield {"customer": customer, "products": len(bought)}


def large_payments(payments: Sequence[Row]) -> Iterator[Row]:
    for payment in payments:
        if payment["amount_eur"] >= 90:
            yield {name: payment[name] for name in ("event_id", "order_id", "time", "amount_eur")}


WINDOW = {"window_start": TIMESTAMP, "window_end": TIMESTAMP}
PAID = {"order_id": STRING, "customer": STRING, "time": TIMESTAMP, "paid_at": TIMESTAMP, "amount_eur": DOUBLE}
TOTALS = {"customer": STRING, "orders": LONG, "last_order_at": TIMESTAMP}
LARGE = {"event_id": STRING, "order_id": STRING, "time": TIMESTAMP, "amount_eur": DOUBLE}
S_ORDERS, S_PAYMENTS, S_VISITS = ("silver/shop_orders",), ("silver/shop_payments",), ("silver/shop_visits",)
BY_CATEGORY, BY_VISITOR = ("category", "window_start"), ("visitor", "window_start")
CATEGORY, VISITOR = {"category": STRING, **WINDOW, "orders": LONG}, {"visitor": STRING, **WINDOW, "pages": LONG}
WITH_PRODUCTS = (*S_ORDERS, "reference/shop_products")

DOMAIN = Domain(
    "shop",
    silver=(ORDERS, PAYMENTS, VISITS),
    gold=(
        Gold("shop_order_payments", ("order_id",), PAID, (*S_ORDERS, *S_PAYMENTS), order_payments, unpaid_for_good),
        Gold("shop_category_hourly", BY_CATEGORY, CATEGORY, WITH_PRODUCTS, category_hourly, window_end),
        Gold("shop_visit_sessions", BY_VISITOR, VISITOR, S_VISITS, visit_sessions, window_end),
        Gold("shop_customer_totals", ("customer",), TOTALS, S_ORDERS, customer_totals),
        Gold("shop_product_ranking", ("product",), {"product": LONG, "orders": LONG}, S_ORDERS, product_ranking),
        Gold(
            "shop_customer_products", ("customer",), {"customer": STRING, "products": LONG}, S_ORDERS, customer_products
        ),
        Gold("shop_large_payments", ("event_id",), LARGE, S_PAYMENTS, large_payments),
    ),
)
MODES = {"shop_customer_totals": "update", "shop_product_ranking": "complete", "shop_customer_products": "update"}
