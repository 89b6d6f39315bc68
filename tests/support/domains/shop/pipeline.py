"""The shop pipeline: two topics, three silver tables, one gold table of each kind of state."""

from datetime import timedelta

from pyspark.sql import DataFrame, functions as F
from support.domains.shop import events, gold

from streaming_lakehouse.pipeline import (
    Bronze,
    Gold,
    HotPath,
    Pipeline,
    Reference,
    Silver,
    State,
    expect_or_quarantine,
)

WATERMARK = timedelta(minutes=10)
FIVE_MINUTES, HOUR = timedelta(minutes=5), timedelta(hours=1)  # of the join, and of the window
NOT_AHEAD = expect_or_quarantine(
    "time_is_not_ahead", "time IS NULL OR time <= least(source_timestamp, ingested_at) + INTERVAL 1 HOUR"
)


def _of_type(name: str) -> str:
    return f"get_json_object(CAST(value AS STRING), '$.type') = '{name}'"


def mask_visitor(visits: DataFrame) -> DataFrame:
    return visits.withColumn("visitor", F.sha2("visitor", 256))


sales = Bronze("shop_sales", generator=events.SALES)
clicks = Bronze("shop_visits", generator=events.VISITS)
orders = Silver(
    "shop_orders",
    source=sales,
    schema=events.ORDER,
    where=_of_type("order"),
    expectations=(expect_or_quarantine("product_in_range", f"product BETWEEN 0 AND {events.PRODUCTS - 1}"), NOT_AHEAD),
    dedup_key=("order_id", "event_id"),
    watermark=WATERMARK,
)
payments = Silver(
    "shop_payments",
    source=sales,
    schema=events.PAYMENT,
    where=_of_type("payment"),
    expectations=(expect_or_quarantine("amount_is_positive", "amount_eur > 0"), NOT_AHEAD),
    watermark=WATERMARK,
)
visits = Silver(
    "shop_visits",
    source=clicks,
    schema=events.VISIT,
    expectations=(expect_or_quarantine("page_in_range", "page BETWEEN 0 AND 8"), NOT_AHEAD),
    watermark=WATERMARK,
    transform=mask_visitor,
    transformed_schema=events.VISIT,
)
products = Reference("shop_products", schema=events.PRODUCT, rows=events.products)

PIPELINE = Pipeline(
    "shop",
    Gold("shop_order_payments", gold.order_payments, ("order_id",), (orders, payments), State.JOIN, reach=FIVE_MINUTES),
    Gold("shop_category_hourly", gold.category_hourly, ("category", "window_start"), (orders, products), reach=HOUR),
    Gold("shop_visit_sessions", gold.visit_sessions, ("visitor", "window_start"), (visits,), State.SESSION),
    Gold("shop_customer_totals", gold.customer_totals, ("customer",), (orders,), State.AGGREGATION),
    Gold("shop_product_ranking", gold.product_ranking, ("product",), (orders,), State.AGGREGATION, ("complete",)),
    Gold("shop_customer_products", gold.customer_products, ("customer",), (orders,), State.CUSTOM, ("update",)),
    Gold("shop_large_payments", gold.large_payments, ("event_id",), (payments,), State.NONE, reach=timedelta(0)),
    hot=HotPath("shop_large_payments_now", gold.large_payments, ("event_id",), input=payments),
)
