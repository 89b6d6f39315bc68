"""When an authorisation is unusual for its account: the rules, and what an account remembers for them.

Plain Python on plain values, one account at a time, in the order of event time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

UNUSUAL_SCORE = 50

# Points of a reason, in the order in which reasons are listed: the first says best what happened. Neither a first
# country nor a raised amount is unusual alone: people travel, and buy a wardrobe now and then.
POINTS = {
    "impossible_travel": 80,
    "card_testing": 80,
    "burst": 60,
    "new_country": 30,
    "large_amount": 60,
    "raised_amount": 30,
}

# Panther's rule on impossible travel: 900 km/h, an airliner's, and nothing below 50 km. Okta has 805 km/h.
MAX_SPEED_KM_H = 900.0
MIN_DISTANCE_KM = 50.0
EARTH_RADIUS_KM = 6_371.0  # mean radius (IUGG)

# In deviations of the amount's logarithm; tuned on seeds 11 to 18 of the synthetic transactions.
LARGE_DEVIATIONS = 3.8
RAISED_DEVIATIONS = 2.5
MIN_HISTORY = 5  # usual authorisations; before, an account has no habits to differ from
MEMORY = 100  # authorisations: an older one weighs less than 1/e
# The deviation of few amounts is unreliable, so it is estimated as if ten more of this one had been seen; it is a
# little wider than the synthetic accounts', for whom 0.7 is usual.
PRIOR_DEVIATION = 0.9
PRIOR_WEIGHT = 10

# Tickets and hotels are rare and dear for everybody, so their amounts are compared after a division. MCCs 3000 to 3999
# are airlines, car rentals and hotels by name (ISO 18245).
TRAVEL_MCCS = frozenset({"4511", "4722", "7011", "7512"})
TRAVEL_FACTOR = 3.0

BURST_AUTHORISATIONS = 6
BURST_US = 10 * 60 * 1_000_000  # the window of payments_account_velocity
TESTS = 2
TESTING_US = 60 * 60 * 1_000_000
TEST_AMOUNT_SHARE = 1 / 20  # of the large amount, so that no currency needs a threshold of its own
MAX_RECENT = 100  # an account that pays more often within the hour has other troubles

EXPIRY_US = 90 * 24 * 3600 * 1_000_000  # without any authorisation, an account is forgotten

_US_PER_HOUR = 3_600_000_000
# By then every point of the Earth is within reach, so that a location says nothing any more: 22 hours.
_REACH_US = int(math.pi * EARTH_RADIUS_KM / MAX_SPEED_KM_H * _US_PER_HOUR) + 1


class Authorisation(NamedTuple):
    """What the rules ask of an authorisation, and what its alert repeats."""

    time_us: int  # microseconds since 1970
    event_id: str
    card_token: str
    billing_amount: float
    billing_currency: str
    merchant_country: str
    mcc: str
    is_card_present: bool
    is_approved: bool
    latitude_deg: float | None
    longitude_deg: float | None

    @property
    def log_amount(self) -> float | None:
        """The amount's logarithm, with travel made comparable to other purchases; None for an amount of 0."""
        if self.billing_amount <= 0:
            return None
        is_travel = self.mcc.startswith("3") or self.mcc in TRAVEL_MCCS
        return math.log(self.billing_amount / (TRAVEL_FACTOR if is_travel else 1))

    @property
    def location(self) -> Location | None:
        """The terminal's; None without a card that was present, or without coordinates."""
        if not self.is_card_present or self.latitude_deg is None or self.longitude_deg is None:
            return None
        return Location(self.time_us, self.latitude_deg, self.longitude_deg)


class Location(NamedTuple):
    """Where the card was at a time."""

    time_us: int
    latitude_deg: float
    longitude_deg: float


class Verdict(NamedTuple):
    """`score` is the sum of the reasons' points, at most 100. A measure is None where there was nothing to compare."""

    score: int
    reasons: list[str]
    amount_deviations: float | None
    speed_km_h: float | None

    @property
    def is_unusual(self) -> bool:
        return self.score >= UNUSUAL_SCORE


class Recent(NamedTuple):
    time_us: int
    billing_amount: float
    is_card_present: bool


@dataclass
class Account:
    """What an account remembers. Unusual authorisations change nothing of it but `seen_us` and `recent`."""

    history: int = 0  # usual, approved authorisations
    mean_log: float = 0.0
    variance_log: float = 0.0
    seen_us: int = 0  # the last authorisation; 0 before the first
    countries: list[str] = field(default_factory=list)  # of usual, approved authorisations
    locations: dict[str, Location] = field(default_factory=dict)  # each card's last usual one, for a day
    recent: list[Recent] = field(default_factory=list)  # all of the last hour

    def judge(self, authorisation: Authorisation) -> Verdict:
        """Judges the next authorisation by what came before it, and then remembers it."""
        if self.seen_us and authorisation.time_us - self.seen_us > EXPIRY_US:
            vars(self).update(vars(Account()))
        verdict = self._verdict(authorisation)
        self._count(authorisation)
        if not verdict.is_unusual:
            self._learn(authorisation)
        return verdict

    def _verdict(self, authorisation: Authorisation) -> Verdict:
        deviations = self._deviations(authorisation.log_amount)
        speed = self._speed_km_h(authorisation)
        found = {
            "impossible_travel": speed is not None and speed > MAX_SPEED_KM_H,
            "card_testing": self._is_after_tests(authorisation),
            "burst": self._is_burst(authorisation),
            "new_country": self.history >= MIN_HISTORY and authorisation.merchant_country not in self.countries,
            "large_amount": deviations is not None and deviations >= LARGE_DEVIATIONS,
            "raised_amount": deviations is not None and RAISED_DEVIATIONS <= deviations < LARGE_DEVIATIONS,
        }
        reasons = [reason for reason in POINTS if found[reason]]
        return Verdict(min(sum(POINTS[reason] for reason in reasons), 100), reasons, deviations, speed)

    def _deviations(self, log_amount: float | None) -> float | None:
        if self.history < MIN_HISTORY or log_amount is None:
            return None
        weight = min(self.history, MEMORY)
        prior = PRIOR_WEIGHT * PRIOR_DEVIATION**2
        variance = (prior + weight * self.variance_log) / (PRIOR_WEIGHT + weight)
        return (log_amount - self.mean_log) / math.sqrt(variance)

    def _speed_km_h(self, authorisation: Authorisation) -> float | None:
        """The speed from the card's last usual terminal; None where that is near or too long ago."""
        here, last = authorisation.location, self.locations.get(authorisation.card_token)
        if here is None or last is None or here.time_us - last.time_us >= _REACH_US:
            return None
        distance = distance_km(last, here)
        if distance < MIN_DISTANCE_KM:
            return None
        hours = (here.time_us - last.time_us) / _US_PER_HOUR
        return distance / hours if hours > 0 else math.inf

    def _is_burst(self, authorisation: Authorisation) -> bool:
        before = sum(authorisation.time_us - each.time_us < BURST_US for each in self.recent)
        return before + 1 >= BURST_AUTHORISATIONS

    def _is_after_tests(self, authorisation: Authorisation) -> bool:
        largest_test = authorisation.billing_amount * TEST_AMOUNT_SHARE
        if authorisation.is_card_present or largest_test <= 0:
            return False
        tests = sum(
            authorisation.time_us - each.time_us < TESTING_US
            and not each.is_card_present
            and each.billing_amount <= largest_test
            for each in self.recent
        )
        return tests >= TESTS

    def _count(self, authorisation: Authorisation) -> None:
        now = authorisation.time_us
        recent = [each for each in self.recent if now - each.time_us < TESTING_US]
        recent.append(Recent(now, authorisation.billing_amount, authorisation.is_card_present))
        self.recent = recent[-MAX_RECENT:]
        self.seen_us = now

    def _learn(self, authorisation: Authorisation) -> None:
        self._learn_location(authorisation)
        if not authorisation.is_approved:
            return
        if authorisation.merchant_country not in self.countries:
            self.countries = [*self.countries, authorisation.merchant_country]
        if authorisation.log_amount is not None:
            self._learn_amount(authorisation.log_amount)

    def _learn_location(self, authorisation: Authorisation) -> None:
        here = authorisation.location
        if here:
            reachable = {card: each for card, each in self.locations.items() if here.time_us - each.time_us < _REACH_US}
            self.locations = reachable | {authorisation.card_token: here}

    def _learn_amount(self, log: float) -> None:
        """Mean and variance of all amounts until there are MEMORY of them, then with exponentially less weight."""
        self.history += 1
        weight = 1 / min(self.history, MEMORY)
        delta = log - self.mean_log
        self.mean_log += weight * delta
        self.variance_log = (1 - weight) * (self.variance_log + weight * delta**2)


def distance_km(one: Location, other: Location) -> float:
    """The great-circle distance, by the haversine formula."""
    phi, other_phi = math.radians(one.latitude_deg), math.radians(other.latitude_deg)
    half_chord_squared = (
        math.sin((other_phi - phi) / 2) ** 2
        + math.cos(phi) * math.cos(other_phi) * math.sin(math.radians(other.longitude_deg - one.longitude_deg) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(half_chord_squared, 1.0)))
