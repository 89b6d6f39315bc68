"""Payments' gold tables from silver rows, and silver rows from JSON fields.

The slow way: an account's authorisations are sorted once, and each is judged by lists of what it did before.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from itertools import takewhile

from .domain import Row
from .moments import DAY, HOUR, MINUTE

SALT = "development only: accounts can be guessed from their hashes"
CARD_PRESENT_MODES = frozenset({"02", "05", "07", "80", "90", "91"})
POINTS = {
    "impossible_travel": 80,
    "card_testing": 80,
    "burst": 60,
    "new_country": 30,
    "large_amount": 60,
    "raised_amount": 30,
}


def silver_rows(events: Iterable[Row], salt: str = SALT) -> list[Row]:
    """What silver makes of valid events, JSON objects of the generator."""
    return [
        pseudonymised(
            event
            | {"time": _micros(event["time"])}
            | {name: Decimal(str(event[name])) for name in ("amount", "billing_amount")},
            salt,
        )
        for event in events
    ]


def pseudonymised(event: Row, salt: str = SALT) -> Row:
    """The event with its account hashed, and with what its codes say."""
    return {name: value for name, value in event.items() if name != "account"} | {
        "account_hash": hmac.new(salt.encode(), event["account"].encode(), hashlib.sha256).hexdigest(),
        "is_card_present": event["entry_mode"] in CARD_PRESENT_MODES,
        "is_approved": event["response_code"] in {"00", "10", "85"},
    }


def _micros(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1000) * 1000


def account_velocity(rows: Iterable[Row]) -> list[Row]:
    windows: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        last_start = row["time"] // MINUTE * MINUTE
        for number in range(10):
            windows[row["account_hash"], row["billing_currency"], last_start - number * MINUTE].append(row)
    return [
        {
            "account_hash": account,
            "billing_currency": currency,
            "window_start": start,
            "window_end": start + 10 * MINUTE,
            "authorisations": sum(row["mti"] == "0100" for row in inside),
            "declines": sum(row["mti"] == "0100" and not row["is_approved"] for row in inside),
            "approved_amount": sum(
                (row["billing_amount"] for row in inside if row["mti"] == "0100" and row["is_approved"]), Decimal(0)
            ),
            "reversed_amount": sum((row["billing_amount"] for row in inside if row["mti"] == "0400"), Decimal(0)),
        }
        for (account, currency, start), inside in windows.items()
    ]


def unusual_transactions(rows: Iterable[Row]) -> list[Row]:
    accounts: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["mti"] == "0100":
            accounts[row["account_hash"]].append(row)
    return [found for each in accounts.values() for found in _of_account(each)]


class Usual:
    """An account's authorisations that were not unusual: what is normal for it."""

    def __init__(self) -> None:
        self.logs: list[float] = []  # of the amounts of the first 100 that were approved
        self.mean = self.variance = 0.0
        self.countries: set[str] = set()
        self.at_terminals: dict[str, Row] = {}  # the last one of each card

    def add(self, row: Row) -> None:
        if row["is_card_present"] and row["latitude_deg"] is not None:
            self.at_terminals[row["card_token"]] = row
        if row["is_approved"]:
            self.countries.add(row["merchant_country"])
            if row["billing_amount"] > 0:
                self._follow(math.log(_comparable(row)))

    def _follow(self, log: float) -> None:
        if len(self.logs) < 100:
            self.logs.append(log)
            self.mean, self.variance = statistics.fmean(self.logs), statistics.pvariance(self.logs)
        else:
            self.variance = 0.99 * self.variance + 0.99 * 0.01 * (log - self.mean) ** 2
            self.mean = 0.99 * self.mean + 0.01 * log


def _of_account(rows: list[Row]) -> list[Row]:
    before: list[Row] = []
    usual = Usual()
    found = []
    for row in sorted(rows, key=lambda each: (each["time"], each["event_id"])):
        if before and row["time"] - before[-1]["time"] > 90 * DAY:
            before, usual = [], Usual()
        verdict = _judge(row, before, usual)
        before.append(row)
        if verdict["score"] >= 50:
            found.append(verdict)
        else:
            usual.add(row)
    return found


def _judge(row: Row, before: list[Row], usual: Usual) -> Row:
    deviations = _deviations(_comparable(row), usual)
    speed = _speed(row, usual)
    reasons = []
    if speed is not None and speed > 900:
        reasons.append("impossible_travel")
    if not row["is_card_present"] and _tests(row, before) >= 2:
        reasons.append("card_testing")
    if sum(1 for _ in takewhile(lambda each: row["time"] - each["time"] < 10 * MINUTE, reversed(before))) >= 5:
        reasons.append("burst")
    if len(usual.logs) >= 5 and row["merchant_country"] not in usual.countries:
        reasons.append("new_country")
    if deviations is not None and deviations >= 3.8:
        reasons.append("large_amount")
    elif deviations is not None and deviations >= 2.5:
        reasons.append("raised_amount")
    copied = (
        "account_hash",
        "event_id",
        "card_token",
        "time",
        "billing_amount",
        "billing_currency",
        "merchant_country",
        "mcc",
    )
    return {name: row[name] for name in copied} | {
        "score": min(100, sum(POINTS[reason] for reason in reasons)),
        "reasons": reasons,
        "amount_deviations": deviations,
        "speed_km_h": speed,
    }


def _comparable(row: Row) -> float:
    is_travel = 3000 <= int(row["mcc"]) <= 3999 or row["mcc"] in ("4511", "4722", "7011", "7512")
    return float(row["billing_amount"]) / (3 if is_travel else 1)


def _deviations(amount: float, usual: Usual) -> float | None:
    count = len(usual.logs)
    if count < 5 or amount == 0:
        return None
    return (math.log(amount) - usual.mean) / math.sqrt((10 * 0.9**2 + count * usual.variance) / (10 + count))


def _tests(row: Row, before: list[Row]) -> int:
    return sum(
        row["time"] - each["time"] < HOUR
        and not each["is_card_present"]
        and each["billing_amount"] * 20 <= row["billing_amount"]
        for each in before[-100:]
        if row["billing_amount"] > 0
    )


def _speed(row: Row, usual: Usual) -> float | None:
    if not row["is_card_present"] or row["latitude_deg"] is None:
        return None
    last = usual.at_terminals.get(row["card_token"])
    if last is None:
        return None
    hours = (row["time"] - last["time"]) / HOUR
    distance = _distance(last["latitude_deg"], last["longitude_deg"], row["latitude_deg"], row["longitude_deg"])
    if distance < 50 or hours >= 6_371 * math.pi / 900:
        return None
    return distance / hours if hours else math.inf


def _distance(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """On a sphere of 6,371 km, by the chord between two unit vectors."""
    one, other = _unit_vector(latitude, longitude), _unit_vector(other_latitude, other_longitude)
    return 2 * 6_371 * math.asin(math.dist(one, other) / 2)


def _unit_vector(latitude: float, longitude: float) -> tuple[float, float, float]:
    phi, lam = math.radians(latitude), math.radians(longitude)
    return math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)
