"""The stateful part of unusual transactions: waits for event-time order, and keeps each account's memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from pyspark.sql import Row
from pyspark.sql.streaming.stateful_processor import (
    ExpiredTimerInfo,
    StatefulProcessor,
    StatefulProcessorHandle,
    TimerValues,
)

from streaming_lakehouse.domains.payments.rules import (
    EXPIRY_US,
    Account,
    Authorisation,
    Location,
    Recent,
    Verdict,
)

# The fields of Authorisation, as Spark's types.
AUTHORISATION_TYPES = (
    "time_us bigint, event_id string, card_token string, billing_amount double, billing_currency string, "
    "merchant_country string, mcc string, is_card_present boolean, is_approved boolean, latitude_deg double, "
    "longitude_deg double"
)
_ACCOUNT_TYPES = (
    "history bigint, mean_log double, variance_log double, seen_us bigint, countries array<string>, "
    "locations map<string, struct<time_us: bigint, latitude_deg: double, longitude_deg: double>>, "
    "recent array<struct<time_us: bigint, billing_amount: double, is_card_present: boolean>>, timer_ms bigint"
)
VERDICT_TYPES = (
    "account_hash string, time_us bigint, event_id string, card_token string, billing_amount double, "
    "billing_currency string, merchant_country string, mcc string, score int, reasons array<string>, "
    "amount_deviations double, speed_km_h double"
)


class UnusualAuthorisations(StatefulProcessor):
    """Judges an account's authorisations in the order of event time and gives a row for each unusual one.

    An authorisation waits in state until the watermark has passed it: then nothing earlier can come, and the verdict
    does not depend on how the stream was cut into batches. A batch query has no watermark and fires no timers; it
    delivers an account's rows at once, and they are judged at once.

    State `pending`, a list: the authorisations that wait. State `account`, a value: the fields of `rules.Account`, and
    the time of the account's one timer. The timer is at the earliest pending authorisation, or where none waits at the
    time when the account is forgotten.
    """

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._handle = handle
        self._pending = handle.getListState("pending", AUTHORISATION_TYPES)
        self._account = handle.getValueState("account", _ACCOUNT_TYPES)

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: TimerValues) -> Iterator[Row]:
        arrived = [Authorisation(*(row[name] for name in Authorisation._fields)) for row in rows]
        watermark_ms = timerValues.getCurrentWatermarkInMs()
        if watermark_ms < 0:
            return iter(_judge_in_order(key[0], Account(), arrived))
        return iter(self._advance(key[0], watermark_ms, arrived))

    def handleExpiredTimer(
        self, key: Any, timerValues: TimerValues, expiredTimerInfo: ExpiredTimerInfo
    ) -> Iterator[Row]:
        return iter(self._advance(key[0], timerValues.getCurrentWatermarkInMs(), []))

    def _advance(self, account_hash: str, watermark_ms: int, arrived: list[Authorisation]) -> list[Row]:
        """Judges what the watermark has passed, and keeps the rest.

        A row at the watermark is passed as well: Spark drops rows up to and including it.
        """
        account, timer_ms = self._load()
        pending = [*(Authorisation(*each) for each in self._pending.get()), *arrived]
        passed = [each for each in pending if each.time_us <= watermark_ms * 1000]
        waiting = [each for each in pending if each.time_us > watermark_ms * 1000]
        unusual = _judge_in_order(account_hash, account, passed)
        if not waiting and account.seen_us + EXPIRY_US <= watermark_ms * 1000:
            self._forget(timer_ms)
        else:
            self._keep(account, timer_ms, waiting)
        return unusual

    def _load(self) -> tuple[Account, int | None]:
        stored = self._account.get()
        if stored is None:
            return Account(), None
        history, mean_log, variance_log, seen_us, countries, locations, recent, timer_ms = stored
        account = Account(
            history,
            mean_log,
            variance_log,
            seen_us,
            list(countries),
            {card: Location(*each) for card, each in locations.items()},
            [Recent(*each) for each in recent],
        )
        return account, timer_ms

    def _keep(self, account: Account, timer_ms: int | None, waiting: list[Authorisation]) -> None:
        next_us = min((each.time_us for each in waiting), default=account.seen_us + EXPIRY_US)
        next_ms = math.ceil(next_us / 1000)
        if next_ms != timer_ms:
            if timer_ms is not None:
                self._handle.deleteTimer(timer_ms)
            self._handle.registerTimer(next_ms)
        self._store_pending(waiting)
        self._account.update(
            (
                account.history,
                account.mean_log,
                account.variance_log,
                account.seen_us,
                account.countries,
                # Plain tuples: the JVM knows no class of ours.
                {card: tuple(each) for card, each in account.locations.items()},
                [tuple(each) for each in account.recent],
                next_ms,
            )
        )

    def _store_pending(self, waiting: list[Authorisation]) -> None:
        if waiting:
            self._pending.put([tuple(each) for each in waiting])
        else:
            self._pending.clear()

    def _forget(self, timer_ms: int | None) -> None:
        if timer_ms is not None:
            self._handle.deleteTimer(timer_ms)
        self._pending.clear()
        self._account.clear()


def _judge_in_order(account_hash: str, account: Account, authorisations: Iterable[Authorisation]) -> list[Row]:
    ordered = sorted(authorisations, key=lambda each: (each.time_us, each.event_id))
    judged = ((each, account.judge(each)) for each in ordered)
    return [_row(account_hash, each, verdict) for each, verdict in judged if verdict.is_unusual]


def _row(account_hash: str, authorisation: Authorisation, verdict: Verdict) -> Row:
    return Row(
        account_hash=account_hash,
        time_us=authorisation.time_us,
        event_id=authorisation.event_id,
        card_token=authorisation.card_token,
        billing_amount=authorisation.billing_amount,
        billing_currency=authorisation.billing_currency,
        merchant_country=authorisation.merchant_country,
        mcc=authorisation.mcc,
        **verdict._asdict(),
    )
