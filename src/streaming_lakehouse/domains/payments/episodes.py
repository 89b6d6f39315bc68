"""Fraud in the synthetic transactions: in every second block of rows one card is misused, in one of five ways."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from streaming_lakehouse.domains.payments.cardholders import (
    ACCOUNTS,
    DESTINATIONS,
    FAR_AWAY,
    PER_EUR,
    Cardholder,
    City,
    cardholder,
    choose_account,
    whereabouts,
)
from streaming_lakehouse.domains.payments.messages import (
    APPROVED,
    CHIP,
    CREDENTIAL_ON_FILE,
    ECOMMERCE,
    MAGNETIC_STRIPE,
    Payment,
)
from streaming_lakehouse.domains.payments.timeline import (
    BLOCK_ROWS,
    BLOCKS_PER_DAY,
    block_seconds,
    share_of_day,
)
from streaming_lakehouse.pipeline import Episode
from streaming_lakehouse.pipeline.synthetic import uniform_randoms

EPISODE_SHARE = 0.5  # of the blocks
KINDS = ("large_amount", "impossible_travel", "new_country", "burst", "card_testing")
# These two differ from the account's habits, so that they are nothing before it has any.
_NEED_HABITS = ("large_amount", "new_country")
_FIRST_DAY_WITH_HABITS = 5
_RISKY_MCCS = ("5732", "5944", "5947", "6051")  # electronics, jewellery, gift cards, quasi cash


class Attempt(NamedTuple):
    """One payment of an episode, `delay_s` after its first. The cardholder's own has no episode."""

    delay_s: float
    payment: Payment
    account: int = -1
    second: float = 0.0
    episode: Episode | None = None


@lru_cache(maxsize=1024)
def attempts_in_block(block: int, seed: int) -> Mapping[int, Attempt]:
    """The misuse in a block, by the row's position in it; empty in every other block."""
    share, kind, who, start, *dice = uniform_randoms(seed, block, 13)
    day = block // BLOCKS_PER_DAY
    name = KINDS[int(kind * len(KINDS))]
    if share >= EPISODE_SHARE or (name in _NEED_HABITS and day < _FIRST_DAY_WITH_HABITS):
        return {}
    account, city = _settled(choose_account(who), day, seed)
    payer = cardholder(account, seed)
    drawn = _ATTEMPTS[name](payer, city, (*dice, *uniform_randoms(seed, block, 14)))
    opens, closes = block_seconds(block)
    first = opens + start * (closes - opens - drawn[-1].delay_s)
    episode = Episode(name, payer.card_tokens[0], f"{name}-{seed}-{block}")
    settled = [
        each._replace(account=account, second=first + each.delay_s, episode=each.episode and episode) for each in drawn
    ]
    return dict(zip(_positions(block, [each.second for each in settled]), settled, strict=True))


def _positions(block: int, seconds: list[float]) -> list[int]:
    """Among which rows of the block these times belong, so that rows stay in the order of their times."""
    opens, closes = (share_of_day(second) for second in block_seconds(block))
    others = BLOCK_ROWS - len(seconds)
    shares = ((share_of_day(second) - opens) / (closes - opens) for second in seconds)
    return [number + min(int(share * others), others) for number, share in enumerate(shares)]


def _settled(account: int, day: int, seed: int) -> tuple[int, City]:
    """The account, or the next one whose holder is not travelling that day, and where that is."""
    for other in range(account, account + ACCOUNTS):
        city = whereabouts(other % ACCOUNTS, day, seed)
        if city:
            return other % ACCOUNTS, city
    raise AssertionError("somebody is always at home")


_FRAUD = Episode("", "", "")  # a mark until the block's episode is known


def _fraud(delay_s: float, payment: Payment) -> Attempt:
    return Attempt(delay_s, payment, episode=_FRAUD)


def _online(amount: float, country: str, mcc: str, response_code: str = APPROVED) -> Payment:
    return Payment(amount, mcc, ECOMMERCE, response_code, country)


def _between(low: float, high: float, random: float) -> float:
    """A number whose logarithm is uniform."""
    return low * math.pow(high / low, random)


def _risky_mcc(random: float) -> str:
    return _RISKY_MCCS[int(random * len(_RISKY_MCCS))]


def _large_amount(payer: Cardholder, city: City, dice: tuple[float, ...]) -> list[Attempt]:
    """One payment of many times the usual amount, half of them where the cardholder is."""
    amount = payer.median_amount * _between(15, 80, dice[0])
    mcc = _risky_mcc(dice[1])
    if dice[2] < 0.5:
        return [_fraud(0, Payment(amount, mcc, CHIP, APPROVED, city.country, city))]
    return [_fraud(0, _online(amount, payer.home.country, mcc))]


def _impossible_travel(payer: Cardholder, city: City, dice: tuple[float, ...]) -> list[Attempt]:
    """The cardholder pays, and minutes later a copy of the card is used on another continent."""
    elsewhere = [each for each in FAR_AWAY if each != city]
    far = elsewhere[int(dice[0] * len(elsewhere))]
    own = Payment(payer.median_amount * (0.5 + dice[1]), "5411", CHIP, APPROVED, city.country, city)
    amount = payer.median_amount * _between(0.8, 4, dice[2])
    copied = Payment(amount, _risky_mcc(dice[3]), MAGNETIC_STRIPE, APPROVED, far.country, far)
    delay_s = 600 + 1_500 * dice[4]
    again = [_fraud(delay_s + 120, copied)] if dice[5] < 0.5 else []
    return [Attempt(0, own), _fraud(delay_s, copied), *again]


def _new_country(payer: Cardholder, city: City, dice: tuple[float, ...]) -> list[Attempt]:
    """Several larger payments to merchants of a country the account has nothing to do with."""
    known = {payer.home.country, city.country, *payer.shop_countries}
    countries = sorted({each.country for each in DESTINATIONS} - known)
    country = countries[int(dice[0] * len(countries))]
    return [
        _fraud(
            number * 400, _online(payer.median_amount * _between(5, 16, dice[2 + number]), country, _risky_mcc(dice[1]))
        )
        for number in range(2 + int(dice[6] * 3))
    ]


def _burst(payer: Cardholder, city: City, dice: tuple[float, ...]) -> list[Attempt]:
    """Seven to twelve payments within minutes, until the limit declines them."""
    number = 7 + int(dice[0] * 6)
    gap_s = 20 + 25 * dice[1]
    approved = 3 + int(dice[2] * 6)
    return [
        _fraud(
            each * gap_s,
            _online(
                payer.median_amount * _between(0.4, 2, (dice[3] + each * 0.37) % 1),
                payer.home.country,
                "5816",
                APPROVED if each < approved else "61",
            ),
        )
        for each in range(number)
    ]


def _card_testing(payer: Cardholder, city: City, dice: tuple[float, ...]) -> list[Attempt]:
    """Three or four payments of next to nothing show that a stolen number works; then comes the large one."""
    tests = 3 + int(dice[0] * 2)
    gap_s = 240 + 240 * dice[1]
    cents = PER_EUR[payer.home.currency]
    small = [
        _fraud(
            each * gap_s,
            Payment(
                cents * (0.5 + 1.5 * ((dice[2] + each * 0.29) % 1)),
                "5815",
                CREDENTIAL_ON_FILE,
                APPROVED if (dice[3] + each * 0.41) % 1 < 0.7 else "05",
                payer.home.country,
            ),
        )
        for each in range(tests)
    ]
    amount = payer.median_amount * _between(8, 30, dice[4])
    return [*small, _fraud(tests * gap_s + 300 * dice[5], _online(amount, payer.home.country, _risky_mcc(dice[6])))]


_ATTEMPTS = {
    "large_amount": _large_amount,
    "impossible_travel": _impossible_travel,
    "new_country": _new_country,
    "burst": _burst,
    "card_testing": _card_testing,
}
