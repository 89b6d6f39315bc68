"""Who pays, where and how much: the usual behaviour that the synthetic transactions are drawn from."""

from __future__ import annotations

import bisect
import itertools
import math
from functools import lru_cache
from typing import NamedTuple

from streaming_lakehouse.pipeline.synthetic import uniform_randoms


class City(NamedTuple):
    name: str
    country: str  # ISO 3166-1 alpha-2
    latitude_deg: float
    longitude_deg: float
    currency: str  # ISO 4217


HOMES = (
    City("Berlin", "DE", 52.52, 13.41, "EUR"),
    City("Paris", "FR", 48.86, 2.35, "EUR"),
    City("Madrid", "ES", 40.42, -3.70, "EUR"),
    City("Milan", "IT", 45.46, 9.19, "EUR"),
    City("Vienna", "AT", 48.21, 16.37, "EUR"),
    City("Amsterdam", "NL", 52.37, 4.90, "EUR"),
    City("London", "GB", 51.51, -0.13, "GBP"),
    City("Zurich", "CH", 47.37, 8.54, "CHF"),
    City("Warsaw", "PL", 52.23, 21.01, "PLN"),
    City("Stockholm", "SE", 59.33, 18.07, "SEK"),
)
FAR_AWAY = (
    City("New York", "US", 40.71, -74.01, "USD"),
    City("Tokyo", "JP", 35.68, 139.69, "JPY"),
    City("Bangkok", "TH", 13.76, 100.50, "THB"),
    City("São Paulo", "BR", -23.55, -46.63, "BRL"),
    City("Dubai", "AE", 25.20, 55.27, "AED"),
    City("Mexico City", "MX", 19.43, -99.13, "MXN"),
    City("Sydney", "AU", -33.87, 151.21, "AUD"),
)
DESTINATIONS = (
    *HOMES,
    City("Lisbon", "PT", 38.72, -9.14, "EUR"),
    City("Athens", "GR", 37.98, 23.73, "EUR"),
    City("Prague", "CZ", 50.08, 14.44, "CZK"),
    *FAR_AWAY,
)
# To a rounded number, which is enough for amounts that nobody pays.
PER_EUR = {"EUR": 1, "GBP": 0.87, "CHF": 0.93, "PLN": 4.2, "SEK": 11, "USD": 1.17, "JPY": 183, "THB": 37, "BRL": 6.4}
PER_EUR |= {"AED": 4.3, "MXN": 21, "AUD": 1.75, "CZK": 24}
SHOP_COUNTRIES = ("IE", "LU", "GB", "US", "DE", "NL", "CN")  # where online shops are registered

ACCOUNTS = 600
_MEDIAN_EUR = (12.0, 60.0)  # the range of the accounts' median amounts
_TRIP_DAYS = 10  # a person makes at most one trip in so many days
_TRIP_SHARE = 0.15
_PARTNER_SHARE = 0.25


class Cardholder(NamedTuple):
    account: str
    card_tokens: tuple[str, ...]  # every fourth account has a second card, for a partner
    home: City
    median_amount: float  # in the currency of the account's home
    shop_countries: tuple[str, ...]


def _cumulative(weights: list[float]) -> list[float]:
    total = sum(weights)
    return [each / total for each in itertools.accumulate(weights)]


# Zipf with an offset: the busiest account makes 1.1 % of the payments, the quietest a twentieth of that.
_ACCOUNT_SHARES = _cumulative([1 / (rank + 30) for rank in range(ACCOUNTS)])


def choose_account(random: float) -> int:
    """Draws an account's number; the low numbers pay more often."""
    return min(bisect.bisect(_ACCOUNT_SHARES, random), ACCOUNTS - 1)


@lru_cache(maxsize=ACCOUNTS * 8)
def cardholder(account: int, seed: int) -> Cardholder:
    """The person behind an account, the same in all rows of a seed."""
    city, median, first, second, card, partners_card, partner, _ = uniform_randoms(seed, account, 11)
    home = HOMES[int(city * len(HOMES))]
    low, high = _MEDIAN_EUR
    return Cardholder(
        # 00 is no valid pair of check digits, so that the IBAN is nobody's.
        account=f"{home.country}00{seed % 10_000:04d}{account:014d}",
        card_tokens=tuple(
            f"tok_{int(each * 2**48):012x}" for each in (card, partners_card)[: 2 if partner < _PARTNER_SHARE else 1]
        ),
        home=home,
        median_amount=low * (high / low) ** median * PER_EUR[home.currency],
        shop_countries=tuple(SHOP_COUNTRIES[int(each * len(SHOP_COUNTRIES))] for each in (first, second)),
    )


@lru_cache(maxsize=ACCOUNTS * 8)
def _trip(account: int, person: int, period: int, seed: int) -> tuple[City, int, int] | None:
    """The destination, the day of departure and the day of return, counted in the period."""
    share, destination, departure, length, *_ = uniform_randoms(seed, account, person, period, 12)
    if share >= _TRIP_SHARE:
        return None
    start = 1 + int(departure * 4)
    return DESTINATIONS[int(destination * len(DESTINATIONS))], start, start + 3 + int(length * 2)


def whereabouts(account: int, day: int, seed: int, person: int = 0) -> City | None:
    """Where the person with the first or the second card is that day; None while travelling, for a whole day."""
    period, day_of_period = divmod(day, _TRIP_DAYS)
    trip = _trip(account, person, period, seed)
    if trip is None:
        return cardholder(account, seed).home
    destination, departure, back = trip
    if day_of_period in (departure, back):
        return None
    return destination if departure < day_of_period < back else cardholder(account, seed).home


def normal(first: float, second: float) -> float:
    """A standard normal number from two uniform ones (Box and Muller)."""
    return math.sqrt(-2 * math.log(1 - first)) * math.cos(math.tau * second)
