"""A pipeline with several bronze and silver tables: each record in its table, each sum of rows by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake
from oracle import Account, RawRecord, check
from oracle.cli import main
from shop import DOMAIN

Row = dict[str, Any]
Lake = dict[str, list[Row]]

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIMESTAMP = pa.timestamp("us", tz="UTC")
ENVELOPE = {
    "key": pa.binary(),
    "value": pa.binary(),
    "headers": pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()})),
    "source": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "source_timestamp": TIMESTAMP,
    "ingested_at": TIMESTAMP,
}
PROVENANCE = ("source", "partition", "offset", "source_timestamp", "ingested_at")
OF_RECORD = {name: ENVELOPE[name] for name in PROVENANCE}
OF_SILVER = {"_rescued_data": pa.string(), **OF_RECORD, "backfilled_at": TIMESTAMP}
OF_EVENT = {"event_id": pa.string(), "time": TIMESTAMP}
PRICE = pa.decimal128(7, 2)
ITEMS = pa.list_(pa.struct({"sku": pa.string(), "price": PRICE}))
QUARANTINE = {**ENVELOPE, "failed_expectations": pa.list_(pa.string())}
ORDERS = {**OF_EVENT, "order": pa.string(), "items": ITEMS, "user_initial": pa.string(), **OF_SILVER}
PAYMENTS = {**OF_EVENT, "order": pa.string(), "attempt": pa.int64(), "kind": pa.string(), **OF_SILVER}
SCHEMAS = {
    "bronze/shop_events": ENVELOPE,
    "bronze/shop_clicks": ENVELOPE,
    "silver/shop_orders": ORDERS,
    "silver/shop_payments": PAYMENTS,
    "silver/shop_clicks": {**OF_EVENT, "user": pa.string(), **OF_SILVER},
    "quarantine/shop_events": QUARANTINE,
    "quarantine/shop_clicks": QUARANTINE,
    "reference/shop_prices": {"sku": pa.string(), "rate": pa.float64()},
    "gold/shop_paid_orders": {"order": pa.string(), "attempt": pa.int64(), "total": PRICE},
    "gold/shop_visits": {
        "user": pa.string(),
        "clicks": pa.int64(),
        "window_start": TIMESTAMP,
        "window_end": TIMESTAMP,
    },
    "gold/shop_revenue": {"sku": pa.string(), "revenue": pa.float64()},
}


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def record(topic: str, offset: int, value: Any) -> RawRecord:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return RawRecord(None, data, topic, 0, offset, NOON)


def event(kind: str | None, event_id: str, minute: float, **fields: Any) -> Row:
    return {"kind": kind, "event_id": event_id, "time": at(minute).isoformat(), **fields}


ITEM = {"sku": "s1", "price": 2.5}
EVENTS = [
    event("order", "o1", 0, order="A", user="Ada", items=[ITEM, {"sku": "s2", "price": 10, "gift": True}]),
    event("payment", "p1", 180, order="A", attempt=1),
    event("order", "o2", 1, order="B", user="Bob", items=[{"sku": "s1", "price": 0.125}, {"sku": "s1"}]),
    event("payment", "p2", 181, order="A", attempt=1),
    event("refund", "r1", 0),
    b"not JSON",
    event("order", "o1", 0, order="A", user="Ada"),  # the next batches start here
    event("order", "o3", -60.5, order="C", user="Cy", items=[]),
    event("payment", "p3", 119, order="A", attempt=2),
]
CLICKS = [{"event_id": str(n), "time": at(m).isoformat(), "user": "u"} for n, m in enumerate((0, 10, 20.5, 100))]
RAW = {
    "shop_events": [record("events", offset, value) for offset, value in enumerate(EVENTS)],
    "shop_clicks": [record("clicks", offset, value) for offset, value in enumerate(CLICKS)],
}


def envelope(table: str, offset: int, batch: int = 0, app: str = "") -> Row:
    return {**RAW[table][offset]._asdict(), "ingested_at": NOON, "batch": batch, "app": app}


def silver(table: str, offset: int, batch: int, app: str, event_id: str, minute: float, **fields: Any) -> Row:
    return {**envelope(table, offset, batch, app), "event_id": event_id, "time": at(minute), **fields}


def refused(offset: int, batch: int, app: str, *failures: str) -> Row:
    return {**envelope("shop_events", offset, batch, app), "failed_expectations": list(failures)}


def scenario() -> Lake:
    """Two queries, `orders` and `payments`, have batches of their own; the records without a table are in the first."""
    items = [{"sku": "s1", "price": Decimal("2.50")}, {"sku": "s2", "price": Decimal("10.00")}]
    rescued = '{"items": [null, {"gift": true}]}'
    order = {"order": "A", "items": items, "user_initial": "A", "_rescued_data": rescued}
    payment = {"order": "A", "kind": "payment"}
    bad_items = ("items[0].price_is_decimal", "items[1].price_is_present")
    visit = {"user": "u", "clicks": 2, "window_start": at(0), "window_end": at(20)}
    return {
        "bronze/shop_events": [envelope("shop_events", offset) for offset in range(len(EVENTS))],
        "bronze/shop_clicks": [envelope("shop_clicks", offset) for offset in range(len(CLICKS))],
        "silver/shop_orders": [silver("shop_events", 0, 7, "orders", "o1", 0, **order)],
        "silver/shop_payments": [
            silver("shop_events", 1, 0, "payments", "p1", 180, **payment, attempt=1),
            silver("shop_events", 8, 0, "payments", "p3", 119, **payment, attempt=2),
        ],
        "silver/shop_clicks": [
            silver("shop_clicks", n, 0, "clicks", str(n), minute, user="u")
            for n, minute in enumerate((0, 10, 20.5, 100))
        ],
        "quarantine/shop_events": [
            refused(2, 7, "orders", *bad_items),
            refused(3, 0, "payments", "is_first_delivery"),
            refused(4, 7, "orders", "record_has_a_route"),
            refused(5, 7, "orders", "record_is_one_json_object"),
            refused(6, 8, "orders", "is_first_delivery"),
            refused(7, 8, "orders", "is_on_time"),
        ],
        "quarantine/shop_clicks": [],
        "reference/shop_prices": [{"sku": "s1", "rate": 1.1}, {"sku": "s2", "rate": 0.3}],
        "gold/shop_paid_orders": [{"order": "A", "attempt": n, "total": Decimal("12.50")} for n in (1, 2)],
        "gold/shop_visits": [visit, {**visit, "clicks": 1, "window_start": at(20.5), "window_end": at(30.5)}],
        "gold/shop_revenue": [{"sku": "s1", "revenue": 2.5 * 1.1}, {"sku": "s2", "revenue": 3.0000000000000004}],
    }


def write(root: Path, lake: Lake) -> None:
    for table, rows in lake.items():
        schema = pa.schema(SCHEMAS[table].items())
        is_batched = table.startswith(("silver", "quarantine"))
        for app, batch in sorted({(row["app"], row["batch"]) for row in rows}) if is_batched else [(None, None)]:
            chosen = [row for row in rows if not is_batched or (row["app"], row["batch"]) == (app, batch)]
            commit = CommitProperties(app_transactions=[Transaction(app, batch)]) if is_batched else None
            data = pa.Table.from_pylist(chosen, schema)
            write_deltalake(root / table, data, mode="append", commit_properties=commit)


def test_accepts_the_truth_of_each_table(tmp_path: Path) -> None:
    """An account for each bronze table; a record that none takes is quarantined by that name, unless it is no JSON."""
    write(tmp_path, scenario())
    assert check(tmp_path, DOMAIN, RAW) == {
        "shop_events": Account(rows_in=9, valid=3, quarantined=3, duplicates=2, late=1),
        "shop_clicks": Account(4, 4, 0, 0, 0),
    }


def test_one_query_may_write_all_tables_of_a_bronze_table(tmp_path: Path) -> None:
    """Then the batches have one numbering."""
    lake = scenario()
    for table in ("silver/shop_orders", "silver/shop_payments", "quarantine/shop_events"):
        for row in lake[table]:
            row.update(app="both", batch=row["offset"] // 6)
    write(tmp_path, lake)
    assert check(tmp_path, DOMAIN, RAW)["shop_events"] == Account(9, 3, 3, 2, 1)


def changed(table: str, row: int, **values: Any) -> Callable[[Lake], None]:
    return lambda lake: lake[table][row].update(values)


def move_to_payments(lake: Lake) -> None:
    """Whoever goes by the key `order` alone."""
    order = lake["silver/shop_orders"].pop()
    lake["silver/shop_payments"].append({**order, "app": "payments", "attempt": 0, "kind": "order"})


FAULTS = {
    "a record in another table": (
        move_to_payments,
        "rows with another in_table: 1, such as\n"
        "  source='events', partition=0, offset=0, expected='silver/shop_orders', actual='silver/shop_payments'",
    ),
    "another reason": (
        changed("quarantine/shop_events", 2, failed_expectations=["record_is_one_json_object"]),
        "expected=['record_has_a_route'], actual=['record_is_one_json_object']",
    ),
    "a path of another element": (
        changed("quarantine/shop_events", 0, failed_expectations=["items[0].price_is_decimal", "items_is_array"]),
        "bronze/shop_events, failed expectations, [] for a row of silver: rows with another failed_expectations: 1",
    ),
    "a user unmasked": (
        changed("silver/shop_orders", 0, user_initial="Ada"),
        "silver/shop_orders: rows with another user_initial: 1",
    ),
    "a cent less, within": (
        lambda lake: lake["silver/shop_orders"][0]["items"][1].update(price=Decimal("9.99")),
        "silver/shop_orders: rows with another items: 1",
    ),
    "a gift forgotten": (
        changed("silver/shop_orders", 0, _rescued_data=None),
        "silver/shop_orders: rows with another _rescued_data: 1",
    ),
    "a batch of another query": (
        changed("quarantine/shop_events", 1, app="orders"),
        "silver/shop_payments and quarantine: txn actions of one appId expected, not of ['orders', 'payments']",
    ),
    "a third query": (
        changed("quarantine/shop_events", 3, app="stranger"),
        "silver and quarantine: txn actions of one appId expected, not of ['orders', 'payments', 'stranger']",
    ),
    "another batch": (
        changed("quarantine/shop_events", 5, batch=7),
        "offset=7, expected=[], actual=['is_on_time']",
    ),
    "a click in no table": (
        lambda lake: lake["silver/shop_clicks"].pop(),
        "silver and quarantine together, against bronze/shop_clicks: rows missing: 1",
    ),
    "an open session": (
        lambda lake: lake["gold/shop_visits"].append(
            {"user": "u", "clicks": 1, "window_start": at(100), "window_end": at(110)}
        ),
        "gold/shop_visits: rows unexpected: 1",
    ),
    "a session that is split": (changed("gold/shop_visits", 0, window_end=at(10)), "another window_end: 1"),
    "a joined row twice": (
        lambda lake: lake["gold/shop_paid_orders"].append(lake["gold/shop_paid_orders"][0]),
        "gold/shop_paid_orders: rows more than once: 1",
    ),
    "a joined row missing": (
        lambda lake: lake["gold/shop_paid_orders"].pop(),
        "gold/shop_paid_orders: rows missing: 1",
    ),
    "another rate": (changed("reference/shop_prices", 0, rate=1.2), "gold/shop_revenue: rows with another revenue: 1"),
}


@pytest.mark.parametrize(("spoil", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_refuses_a_fault_and_names_its_table(tmp_path: Path, spoil: Callable[[Lake], None], message: str) -> None:
    """One fault in one table is enough."""
    lake = scenario()
    spoil(lake)
    write(tmp_path, lake)
    with pytest.raises(AssertionError) as refusal:
        check(tmp_path, DOMAIN, RAW)
    assert message in str(refusal.value)


def test_in_update_mode_open_windows_are_there_as_well(tmp_path: Path) -> None:
    """The mode is the run's, not the pipeline's."""
    lake = scenario()
    lake["gold/shop_visits"].append({"user": "u", "clicks": 1, "window_start": at(100), "window_end": at(110)})
    write(tmp_path, lake)
    assert check(tmp_path, DOMAIN, RAW, {"shop_visits": "complete"})["shop_clicks"].valid == 4
    with pytest.raises(AssertionError, match="gold/shop_visits: rows unexpected: 1"):
        check(tmp_path, DOMAIN, RAW)


def test_an_expected_key_must_be_one(tmp_path: Path) -> None:
    """A domain that declares a key which its own rows share would not see what is missing."""
    write(tmp_path, scenario())
    paid_orders = replace(DOMAIN.gold[0], key=("order",))
    with pytest.raises(AssertionError, match="gold/shop_paid_orders: rows expected more than once: 1"):
        check(tmp_path, replace(DOMAIN, gold=(paid_orders,)), RAW)


def test_each_bronze_table_needs_its_records(tmp_path: Path) -> None:
    """Nobody can tell whose a bare list is."""
    for raw in (RAW["shop_clicks"], {"shop_clicks": RAW["shop_clicks"]}):
        with pytest.raises(ValueError, match="records of the bronze tables shop_events, shop_clicks expected"):
            check(tmp_path, DOMAIN, raw)


def test_the_command_takes_a_domain_that_is_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files lie in a folder a bronze table; an account is printed for each of these."""
    lake = scenario()
    for table, records in RAW.items():
        folder = tmp_path / "landing" / table
        folder.mkdir(parents=True)
        (folder / "one.json").write_bytes(b"\n".join(each.value or b"" for each in records))
    for rows in lake.values():
        for row in rows:
            if "source" in row:
                row["source"] = "file:///landing/one.json"
    write(tmp_path / "lake", lake)
    arguments = [str(tmp_path / "lake"), "shop", "--domain", "shop", "--files", str(tmp_path / "landing")]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [
        "shop_events: rows_in 9, valid 3, quarantined 3, duplicates 2, late 1",
        "shop_clicks: rows_in 4, valid 4, quarantined 0, duplicates 0, late 0",
    ]
    assert main([*arguments, "--mode", "shop_visits=complete"]) == 1
    assert "gold/shop_visits: rows missing: 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "no module oracle.nowhere declares a DOMAIN"),
        (["shop", "--domain", "oracle.windows"], "no module oracle.windows declares a DOMAIN"),
        (["shop", "--domain", "shop", "--topic", "events"], "'events' is not NAME=VALUE"),
        (["shop", "--domain", "shop", "--topic", "shop_event=e"], "no bronze table shop_event; there are shop_events"),
        (["shop", "--domain", "shop", "--mode", "complete"], "'complete' is not NAME=VALUE"),
        (["shop", "--domain", "shop"], "there is no folder"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it reads anything."""
    with pytest.raises(SystemExit):
        main([str(tmp_path), *arguments, "--files", str(tmp_path)])
    assert words in capsys.readouterr().err
