"""A gold table for each kind of state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyspark.sql import DataFrame, Row, functions as F
from pyspark.sql.streaming.stateful_processor import StatefulProcessor, StatefulProcessorHandle


def order_payments(orders: DataFrame, payments: DataFrame) -> DataFrame:
    """Each order with its payment within 5 minutes, or with none."""
    paid = payments.select(
        F.col("order_id").alias("paid_order_id"), F.col("time").alias("paid_at"), F.col("amount_eur")
    )
    is_paid = F.expr("order_id = paid_order_id AND paid_at >= time AND paid_at <= time + INTERVAL 5 MINUTES")
    return orders.join(paid, is_paid, "left_outer").select("order_id", "customer", "time", "paid_at", "amount_eur")


def category_hourly(orders: DataFrame, products: DataFrame) -> DataFrame:
    """Orders per category and tumbling hour; a product that the registry does not know is `unknown`."""
    known = orders.join(F.broadcast(products), "product", "left_outer")
    category = F.coalesce("category", F.lit("unknown")).alias("category")
    counts = known.groupBy(category, F.window("time", "1 hour").alias("window")).agg(F.count("*").alias("orders"))
    return counts.select(
        "category", F.col("window.start").alias("window_start"), F.col("window.end").alias("window_end"), "orders"
    )


def visit_sessions(visits: DataFrame) -> DataFrame:
    """Pages per visitor and session, with a gap of 2 minutes."""
    sessions = visits.groupBy("visitor", F.session_window("time", "2 minutes").alias("session"))
    counts = sessions.agg(F.count("*").alias("pages"))
    return counts.select(
        "visitor", F.col("session.start").alias("window_start"), F.col("session.end").alias("window_end"), "pages"
    )


def customer_totals(orders: DataFrame) -> DataFrame:
    """Orders per customer, for ever."""
    return orders.groupBy("customer").agg(F.count("*").alias("orders"), F.max("time").alias("last_order_at"))


def product_ranking(orders: DataFrame) -> DataFrame:
    """Orders per product, all of them each time."""
    return orders.groupBy("product").agg(F.count("*").alias("orders"))


class CountProducts(StatefulProcessor):
    """The products that a customer has ordered so far, one bit each."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._products = handle.getValueState("products", "bits bigint")

    def handleInputRows(self, key: Any, rows: Iterator[Row], timer_values: Any) -> Iterable[Row]:
        bits = self._products.get()[0] if self._products.exists() else 0
        for row in rows:
            bits |= 1 << row["product"]
        self._products.update((bits,))
        yield Row(customer=key[0], products=bits.bit_count())

    def close(self) -> None:
        """Nothing is open."""


def customer_products(orders: DataFrame, *, output_mode: str) -> DataFrame:
    """How many different products each customer has ordered: custom state."""
    return orders.groupBy("customer").transformWithState(
        statefulProcessor=CountProducts(),
        outputStructType="customer string, products bigint",
        outputMode=output_mode,
        timeMode="None",
    )


def large_payments(payments: DataFrame) -> DataFrame:
    """Payments of 90 EUR or more: no state."""
    return payments.where("amount_eur >= 90").select("event_id", "order_id", "time", "amount_eur")
