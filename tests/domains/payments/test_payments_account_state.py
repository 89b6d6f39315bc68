"""The account's state, driven without a stream: waiting, order, memory and forgetting."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from oracle import payments_gold as reference
from pyspark.sql import Row
from pyspark.sql.streaming.tws_tester import TwsTester

from streaming_lakehouse.domains.payments.account_state import UnusualAuthorisations
from streaming_lakehouse.domains.payments.events import generate
from streaming_lakehouse.domains.payments.rules import Authorisation

MINUTE = 60_000_000
START = 1_767_225_600_000_000  # 2026-01-01
DAY = 1440 * MINUTE
BERLIN, POTSDAM, TOKYO = (52.52, 13.41), (52.39, 13.06), (35.68, 139.69)


def authorisation(minute: float, amount: float = 10.0, **changes: Any) -> Row:
    """A purchase with the card in Berlin, `minute` after the start, its id after its time."""
    time = START + int(minute * MINUTE)
    latitude, longitude = changes.pop("at", BERLIN)
    fields = {
        "time_us": time,
        "event_id": f"e{time}",
        "card_token": "card",
        "billing_amount": amount,
        "billing_currency": "EUR",
        "merchant_country": "DE",
        "mcc": "5411",
        "is_card_present": True,
        "is_approved": True,
        "latitude_deg": latitude,
        "longitude_deg": longitude,
    }
    return Row(**(fields | changes))


def online(minute: float, amount: float = 10.0, **changes: Any) -> Row:
    return authorisation(minute, amount, is_card_present=False, at=(None, None), **changes)


def new_tester() -> TwsTester:
    return TwsTester(UnusualAuthorisations(), timeMode="EventTime", eventTimeExtractor=lambda row: row.time_us // 1000)


def verdicts(*rows: Row) -> list[tuple[float, list[str]]]:
    """The minute and the reasons of each unusual one, with all rows in one batch and the watermark behind them."""
    account = new_tester()
    account.test("a", list(rows))
    found = account.setWatermark(max(row.time_us for row in rows) // 1000 + 1)
    return [((row.time_us - START) / MINUTE, row.reasons) for row in found]


def habits(days: int = 20, amount: float = 10.0, **changes: Any) -> list[Row]:
    """One purchase a day of about that amount, before the start."""
    return [authorisation(-1440 * day, amount * (1.2 if day % 2 else 0.8), **changes) for day in range(days, 0, -1)]


def test_an_authorisation_waits_for_the_watermark() -> None:
    """Until then nothing is given; it is judged with the row that came later but happened before."""
    account = new_tester()
    far = authorisation(30, at=TOKYO)
    assert account.test("a", [far]) == []
    assert account.setWatermark((START + 29 * MINUTE) // 1000) == []
    assert account.test("a", [authorisation(29.5)]) == []
    assert account.setWatermark(far.time_us // 1000 - 1) == []
    (row,) = account.setWatermark(far.time_us // 1000)
    assert (row.account_hash, row.event_id, row.reasons) == ("a", far.event_id, ["impossible_travel"])


def test_the_speed_is_that_between_two_terminals() -> None:
    """Berlin to Tokyo are 8,915 km: 10 hours are enough, 9 are not; Potsdam is too near to count."""
    assert verdicts(authorisation(0), authorisation(540, at=TOKYO)) == [(540, ["impossible_travel"])]
    assert verdicts(authorisation(0), authorisation(600, at=TOKYO)) == []
    assert verdicts(authorisation(0), authorisation(0.1, at=POTSDAM)) == []
    assert verdicts(authorisation(0, event_id="e1"), authorisation(0, event_id="e2", at=TOKYO)) == [
        (0, ["impossible_travel"])
    ]


def test_only_one_present_card_travels() -> None:
    """Neither a payment without the card nor another card of the account makes a journey."""
    assert verdicts(authorisation(0), online(10)) == []
    assert verdicts(authorisation(0), authorisation(10, at=TOKYO, card_token="partner's")) == []


def test_the_copy_of_a_card_does_not_move_its_owner() -> None:
    """After two uses in Tokyo the owner still pays in Berlin as usual."""
    rows = [authorisation(0), authorisation(30, at=TOKYO), authorisation(35, at=TOKYO), authorisation(60)]
    assert verdicts(*rows) == [(30, ["impossible_travel"]), (35, ["impossible_travel"])]


def test_an_amount_is_compared_with_the_accounts_own() -> None:
    """10 EUR a day, by a factor of 1.2 up and down: 1,000 is large; before the fifth payment nothing is."""
    assert verdicts(*habits(), authorisation(0, 1_000)) == [(0, ["large_amount"])]
    assert verdicts(*habits(), authorisation(0, 30)) == []
    assert verdicts(*habits(days=4), authorisation(0, 1_000)) == []
    assert verdicts(*habits(days=5), authorisation(0, 1_000)) == [(0, ["large_amount"])]


def test_travel_is_compared_after_a_division_by_three() -> None:
    """100 EUR are large for groceries, and 120 EUR are not for a flight; 300 are."""
    for mcc, price, found in (("5411", 100, True), ("4511", 120, False), ("3008", 120, False), ("7011", 300, True)):
        assert bool(verdicts(*habits(), authorisation(0, price, mcc=mcc))) is found


def test_fraud_does_not_become_the_habit() -> None:
    """Fifty large amounts are unusual to the last; with declined ones, too, nothing is learnt."""
    large = [authorisation(number * 30, 1_000) for number in range(50)]
    assert len(verdicts(*habits(), *large)) == 50
    declined = [authorisation(number * 30, 25, is_approved=False) for number in range(200)]
    assert verdicts(*habits(), *declined, authorisation(9_000, 1_000)) == [(9_000, ["large_amount"])]


def test_a_first_country_is_unusual_with_a_raised_amount_only() -> None:
    """Alone it is a journey, and known from then on; 60 EUR are raised where 10 are usual."""
    abroad = {"merchant_country": "BR"}
    assert verdicts(*habits(), online(0, 10, **abroad)) == []
    assert verdicts(*habits(), online(0, 60, **abroad)) == [(0, ["new_country", "raised_amount"])]
    assert verdicts(*habits(), online(0, 10, **abroad), online(30, 60, **abroad)) == []
    assert verdicts(*habits(), online(0, 60, **abroad), online(30, 60, **abroad)) == [
        (0, ["new_country", "raised_amount"]),
        (30, ["new_country", "raised_amount"]),
    ]


def test_six_payments_within_ten_minutes_are_a_burst() -> None:
    """The sixth and all that follow, declined or not; exactly ten minutes apart are not within."""
    assert verdicts(*(online(minute, is_approved=minute < 3) for minute in range(7))) == [
        (5, ["burst"]),
        (6, ["burst"]),
    ]
    assert verdicts(*(online(minute * 2) for minute in range(9))) == []


def test_small_amounts_before_a_large_one_are_tests() -> None:
    """Two of a twentieth or less within the hour before, none of them at a terminal; no history is needed."""
    tests = [online(minute, 1.0) for minute in (0, 10)]
    assert verdicts(*tests, online(59, 20)) == [(59, ["card_testing"])]
    assert verdicts(*tests, online(59, 19.99)) == []
    assert verdicts(*tests, online(60, 20)) == []
    assert verdicts(*tests, authorisation(59, 20)) == []
    assert verdicts(*tests[:1], authorisation(20, 1.0), online(59, 20)) == []


def test_an_account_is_forgotten_90_days_after_its_last_payment() -> None:
    """The timer empties the state, and a payment thereafter meets an account without habits."""
    account = new_tester()
    rows = habits()
    account.test("a", rows)
    last_ms = rows[-1].time_us // 1000
    account.setWatermark(last_ms + 1)
    assert account.peekValueState("account", "a")[0] == 20
    account.setWatermark(last_ms + 90 * DAY // 1000 - 1)
    assert account.peekValueState("account", "a") is not None
    account.setWatermark(last_ms + 90 * DAY // 1000)
    assert account.peekValueState("account", "a") is None
    assert account.peekListState("pending", "a") == []
    assert list(account.handle._timers.getAllKeysWithTimers()) == []


def test_forgetting_does_not_depend_on_when_the_timer_fires() -> None:
    """A payment after 90 days that shares a batch with the habits is judged without them as well."""
    assert verdicts(*habits(), authorisation(89 * 1440 - 1, 1_000)) == [(89 * 1440 - 1, ["large_amount"])]
    assert verdicts(*habits(), authorisation(89 * 1440 + 1, 1_000)) == []


def test_there_is_one_timer_per_account() -> None:
    """At the earliest payment that waits, also where an earlier one comes later."""
    account = new_tester()
    for minute in (10, 5, 7):
        account.test("a", [authorisation(minute)])
    assert list(account.handle._timers.listTimers("a")) == [(START + 5 * MINUTE) // 1000]
    account.setWatermark((START + 6 * MINUTE) // 1000)
    assert list(account.handle._timers.listTimers("a")) == [(START + 7 * MINUTE) // 1000]


@pytest.mark.parametrize("seed", [31, 32])
def test_any_order_and_batches_give_the_reference(seed: int) -> None:
    """Generated payments, shuffled within the watermark's reach and cut at random, against plain Python."""
    silver = reference.silver_rows(generate(row, seed).fields for row in range(12_000))
    expected = {row["event_id"]: row for row in reference.unusual_transactions(silver)}
    found = {row.event_id: row for row in _streamed(silver, random.Random(seed))}
    assert len(expected) > 40
    assert found.keys() == expected.keys()
    for event_id, row in found.items():
        assert (row.score, row.reasons) == (expected[event_id]["score"], expected[event_id]["reasons"])
        for measure in ("amount_deviations", "speed_km_h"):
            wanted = expected[event_id][measure]
            assert row[measure] == (wanted and pytest.approx(wanted, rel=1e-6))


def _streamed(silver: list[dict[str, Any]], dice: random.Random) -> list[Row]:
    """Delivers rows up to 10 minutes late, in batches of any size, to a watermark that is 15 minutes behind."""
    rows = [row for row in silver if row["mti"] == "0100"]
    arrivals = sorted(rows, key=lambda row: row["time"] + dice.random() * 10 * MINUTE)
    account, found, newest = new_tester(), [], 0
    while arrivals:
        batch, arrivals = arrivals[: (size := dice.randint(1, 900))], arrivals[size:]
        for account_hash, inputs in _by_account(batch).items():
            found += account.test(account_hash, inputs)
        newest = max(newest, *(row["time"] for row in batch))
        found += account.setWatermark((newest - 15 * MINUTE) // 1000)
    return found + account.setWatermark(newest // 1000 + 1)


def _by_account(batch: list[dict[str, Any]]) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in batch:
        known = row | {"time_us": row["time"], "billing_amount": float(row["billing_amount"])}
        rows[row["account_hash"]].append(Row(**{name: known[name] for name in Authorisation._fields}))
    return rows
