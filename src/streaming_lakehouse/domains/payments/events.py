"""Payments' events: card authorisations and reversals, one JSON object each, and a generator of them."""

from __future__ import annotations

import bisect
import itertools
import math
from datetime import timedelta
from typing import Any, NamedTuple

from streaming_lakehouse.domains.payments.cardholders import (
    Cardholder,
    City,
    cardholder,
    choose_account,
    normal,
    whereabouts,
)
from streaming_lakehouse.domains.payments.episodes import Attempt, attempts_in_block
from streaming_lakehouse.domains.payments.messages import (
    APPROVED,
    CASH_MCC,
    CHIP,
    CONTACTLESS,
    CREDENTIAL_ON_FILE,
    ECOMMERCE,
    REVERSAL,
    SCHEMA,
    Payment,
    message,
)
from streaming_lakehouse.domains.payments.timeline import (
    BLOCK_ROWS,
    BLOCKS_PER_DAY,
    START,
    second_of_day,
)
from streaming_lakehouse.pipeline import Event, EventGenerator
from streaming_lakehouse.pipeline.synthetic import CLEAN, iso_utc, uniform_randoms

__all__ = ["SCHEMA", "TRANSACTIONS", "generate"]

_REVERSAL_SHARE = 0.015
_SPREAD = 0.45  # deviation of an amount's logarithm within a category
_TERMINAL_SPREAD_DEG = 0.08  # terminals lie within about 10 km of a city's centre
_CLOCK_SKEW_S = 15


class Category(NamedTuple):
    mcc: str
    share: float  # of the payments
    amount: float  # times the account's median
    online: float  # share of payments without the card


_CATEGORIES = (
    Category("5411", 0.28, 1.0, 0.05),  # groceries
    Category("5812", 0.15, 0.9, 0.02),  # restaurants
    Category("5814", 0.12, 0.5, 0.05),  # fast food
    Category("5541", 0.10, 1.3, 0.0),  # fuel
    Category("4111", 0.08, 0.35, 0.3),  # local transport
    Category("5999", 0.08, 1.0, 0.5),  # other retail
    Category("5651", 0.06, 1.5, 0.5),  # clothing
    Category("5732", 0.02, 2.5, 0.6),  # electronics
    Category("4511", 0.01, 4.0, 1.0),  # airlines
    Category(CASH_MCC, 0.03, 2.0, 0.0),
    Category("5815", 0.07, 0.4, 1.0),  # digital goods
)
_CATEGORY_SHARES = list(itertools.accumulate(each.share for each in _CATEGORIES))
# Approved, insufficient funds, do not honour, limit exceeded, lost, stolen.
_RESPONSES = ((0.965, APPROVED), (0.985, "51"), (0.995, "05"), (0.9992, "61"), (0.9996, "41"), (1.0, "43"))


def generate(row: int, seed: int) -> Event:
    """One authorisation or reversal. Rows are in the order of their times, but for the skew of terminals' clocks.

    A misused card's payments are labelled large_amount, impossible_travel, new_country, burst or card_testing.
    """
    attempt = attempts_in_block(row // BLOCK_ROWS, seed).get(row % BLOCK_ROWS)
    if attempt:
        fields = _fraud_fields(row, seed, attempt)
        return Event(fields, attempt.episode.kind, attempt.episode) if attempt.episode else Event(fields)
    dice = uniform_randoms(seed, row, 3)
    return Event((_reversal(row, seed, dice) if dice[0] < _REVERSAL_SHARE else None) or _usual(row, seed, dice), CLEAN)


def _fraud_fields(row: int, seed: int, attempt: Attempt) -> dict[str, Any]:
    day = row // (BLOCK_ROWS * BLOCKS_PER_DAY)
    return message(f"p{seed}-{row}", row, _iso(day, attempt.second), cardholder(attempt.account, seed), attempt.payment)


def _usual(row: int, seed: int, dice: tuple[float, ...]) -> dict[str, Any]:
    who, what, first, second, online, response, shop, skew = uniform_randoms(seed, row)
    day, account = row // (BLOCK_ROWS * BLOCKS_PER_DAY), choose_account(who)
    payer = cardholder(account, seed)
    card = int(dice[6] * len(payer.card_tokens))
    city = whereabouts(account, day, seed, card)
    category = _CATEGORIES[min(bisect.bisect(_CATEGORY_SHARES, what), len(_CATEGORIES) - 1)]
    amount = payer.median_amount * category.amount * math.exp(_SPREAD * normal(first, second))
    code = next(code for up_to, code in _RESPONSES if response < up_to)
    if city is None or online < category.online:
        payment = _online_payment(payer, amount, category.mcc, code, shop)
    else:
        payment = _terminal_payment(city, amount, category.mcc, code, dice)
    return message(f"p{seed}-{row}", row, _time(row, seed, dice[1], skew), payer, payment._replace(card=card))


def _online_payment(payer: Cardholder, amount: float, mcc: str, code: str, shop: float) -> Payment:
    countries = (payer.home.country,) * 8 + payer.shop_countries
    entry_mode = ECOMMERCE if shop * 100 % 1 < 0.6 else CREDENTIAL_ON_FILE
    # What takes the card at a terminal everywhere else is a web shop here.
    return Payment(amount, "5999" if mcc in ("5541", CASH_MCC) else mcc, entry_mode, code, countries[int(shop * 10)])


def _terminal_payment(city: City, amount: float, mcc: str, code: str, dice: tuple[float, ...]) -> Payment:
    entry_mode = CONTACTLESS if dice[2] < 0.7 and mcc != CASH_MCC else CHIP
    shift = ((dice[3] * 2 - 1) * _TERMINAL_SPREAD_DEG, (dice[4] * 2 - 1) * _TERMINAL_SPREAD_DEG)
    return Payment(amount, mcc, entry_mode, code, city.country, city, shift_deg=shift)


def _reversal(row: int, seed: int, dice: tuple[float, ...]) -> dict[str, Any] | None:
    """Reverses the payment of an earlier row; None where there is none that was approved among the ten it looks at."""
    latest = row - 1 - int(dice[5] * 40)
    for original in range(latest, max(latest - 10, -1), -1):
        dice_then = uniform_randoms(seed, original, 3)
        if dice_then[0] < _REVERSAL_SHARE or original % BLOCK_ROWS in attempts_in_block(original // BLOCK_ROWS, seed):
            continue
        fields = _usual(original, seed, dice_then)
        if fields["response_code"] == APPROVED:
            time = _time(row, seed, dice[1], 0.5)
            return fields | {"event_id": f"p{seed}-{row}", "mti": REVERSAL, "time": time, "stan": f"{row % 10**6:06d}"}
    return None


def _time(row: int, seed: int, jitter: float, skew: float) -> str:
    """The row's time: rows between an episode's fill the block's stretch of the day evenly."""
    block, position = divmod(row, BLOCK_ROWS)
    taken = attempts_in_block(block, seed)
    before = sum(each < position for each in taken)
    in_block = (position - before + jitter) / (BLOCK_ROWS - len(taken))
    share = (block % BLOCKS_PER_DAY + in_block) / BLOCKS_PER_DAY
    return _iso(block // BLOCKS_PER_DAY, second_of_day(share) + (skew * 2 - 1) * _CLOCK_SKEW_S)


def _iso(day: int, second: float) -> str:
    return iso_utc(START + timedelta(days=day, milliseconds=max(int(second * 1000), 0)))


TRANSACTIONS = EventGenerator(
    generate=generate,
    key="card_token",  # not the account, which is personal data
    time="time",
    out_of_range=(
        {"event_id": ""},
        {"account": ""},
        {"card_token": ""},
        {"card_token": "4111 1111 1111 1111\n"},
        {"mti": "0800"},
        {"amount": -12.34},
        {"billing_amount": -0.01},
        {"currency": "ZZZ"},
        {"billing_currency": "eur"},
        {"mcc": "food"},
        {"mcc": "5411\n"},
        {"entry_mode": "99"},
        {"response_code": ""},
        {"merchant_country": "Germany"},
        {"latitude_deg": 123.0},
        {"longitude_deg": -180.1},
    ),
    unknown_field=("wallet", "phone"),
)
