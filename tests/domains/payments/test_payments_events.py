"""The synthetic payments: replayable, in order, and with misuse as labelled."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from datetime import datetime
from functools import lru_cache

import pytest

from streaming_lakehouse.domains.payments.cardholders import cardholder, whereabouts
from streaming_lakehouse.domains.payments.episodes import KINDS
from streaming_lakehouse.domains.payments.events import SCHEMA, TRANSACTIONS, generate
from streaming_lakehouse.domains.payments.silver import WATERMARK
from streaming_lakehouse.pipeline import Episode, Event

SEED = 21


@lru_cache
def events() -> list[Event]:
    return [generate(row, SEED) for row in range(60_000)]


def seconds(event: Event) -> float:
    return datetime.fromisoformat(event.fields["time"]).timestamp()


def test_a_row_depends_on_its_number_and_the_seed_alone() -> None:
    """Rows made backwards are the rows made forwards; another seed gives others."""
    backwards = [generate(row, SEED) for row in reversed(range(20_000, 20_400))]
    assert backwards[::-1] == events()[20_000:20_400]
    assert generate(20_000, SEED + 1) != generate(20_000, SEED)


def test_events_have_the_schemas_fields() -> None:
    """All of them, in its order, and never a card number."""
    assert {tuple(event.fields) for event in events()} == {tuple(SCHEMA.names)}
    assert all(event.fields["card_token"].startswith("tok_") for event in events())
    assert len({event.fields["event_id"] for event in events()}) == 60_000


def test_rows_are_in_the_order_of_their_times() -> None:
    """Up to a skew that the watermark covers several times over."""
    newest, skew = 0.0, 0.0
    for event in events():
        newest = max(newest, seconds(event))
        skew = max(skew, newest - seconds(event))
    assert 0 < skew < WATERMARK.total_seconds() / 4


def test_every_kind_of_misuse_occurs() -> None:
    """Ten or more episodes a kind in 60,000 rows, and about 1 % of the rows."""
    episodes = Counter(episode.kind for episode in {event.episode for event in events()} if episode)
    assert set(episodes) == set(KINDS)
    assert min(episodes.values()) >= 10
    assert 0.005 < sum(event.label != "clean" for event in events()) / 60_000 < 0.02


def test_an_episode_is_one_card_within_an_hour() -> None:
    """Its rows have its label and its card, and none of them is a reversal."""
    rows: dict[Episode, list[Event]] = defaultdict(list)
    for event in events():
        if event.episode:
            rows[event.episode].append(event)
    for episode, found in rows.items():
        assert {event.label for event in found} == {episode.kind}
        assert {event.fields["card_token"] for event in found} == {episode.entity}
        assert {event.fields["mti"] for event in found} == {"0100"}
        assert seconds(found[-1]) - seconds(found[0]) < 3_600


def test_a_reversal_repeats_an_approved_authorisation() -> None:
    """The same reference, card and amount as an earlier row; about 1.5 % of the rows."""
    originals = {e.fields["retrieval_reference"]: e for e in events() if e.fields["mti"] == "0100"}
    reversals = [event for event in events() if event.fields["mti"] == "0400"]
    assert 600 < len(reversals) < 1_200
    for reversal in reversals:
        original = originals[reversal.fields["retrieval_reference"]]
        assert original.fields["response_code"] == "00"
        assert seconds(original) < seconds(reversal)
        for name in ("card_token", "account", "amount", "billing_amount", "currency"):
            assert reversal.fields[name] == original.fields[name]


def test_most_payments_are_made_by_day() -> None:
    """Between 10 and 20 h UTC, where a quarter would fall if hours were equal."""
    by_hour = Counter(event.fields["time"][11:13] for event in events())
    assert sum(by_hour[f"{hour:02d}"] for hour in range(10, 20)) > 0.6 * 60_000
    assert sum(by_hour[f"{hour:02d}"] for hour in range(5)) < 0.1 * 60_000


def test_few_accounts_make_many_payments() -> None:
    """The busiest tenth of 600 accounts makes three tenths or more of the payments."""
    per_account = Counter(event.fields["account"] for event in events())
    assert len(per_account) == 600
    assert sum(number for _, number in per_account.most_common(60)) > 0.3 * 60_000


@pytest.mark.parametrize("account", [0, 5, 77, 599])
def test_a_trip_leaves_a_day_between_two_cities(account: int) -> None:
    """Whoever is somewhere else than yesterday has travelled: nobody moves overnight."""
    days = [whereabouts(account, day, SEED) for day in range(400)]
    assert days.count(cardholder(account, SEED).home) > 200
    assert None in days
    assert all(one == other or None in (one, other) for one, other in itertools.pairwise(days))


def test_faults_are_out_of_range() -> None:
    """A negative amount and an unknown currency are among what the generator mixes in."""
    assert {"amount": -12.34} in TRANSACTIONS.out_of_range
    assert {"currency": "ZZZ"} in TRANSACTIONS.out_of_range
