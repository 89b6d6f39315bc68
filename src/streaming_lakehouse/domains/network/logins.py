"""Brute force on logins, and a success after failures: the rule, and its detector for login paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pyspark.sql import Row

from streaming_lakehouse.domains.network import thresholds as limit
from streaming_lakehouse.domains.network.detectors import WindowDetector, alert_row


@dataclass
class Guesses:
    """The newest failed logins, and until when another alert would be of the same attack."""

    failures_us: list[int] = field(default_factory=list)
    brute_force_until_us: int = 0
    success_until_us: int = 0


GUESSES_SCHEMA = "failures_us array<bigint>, brute_force_until_us bigint, success_until_us bigint"


class GuessRule(NamedTuple):
    """`failures` within a time are brute force. `alerts` are the names of brute force, and of a success after it."""

    failures: int
    within_us: int
    alerts: tuple[str, str]

    def judge(self, source: str, logins: list[Any], memory: Guesses) -> Iterator[Row]:
        """Takes a window's logins in the order of their time. An attack is over after as long a time without."""
        brute_force, success = self.alerts
        for login in logins:
            time_us, target = login["time_us"], login["target"]
            if login["is_failure"]:
                memory.failures_us = [*memory.failures_us, time_us][-self.failures :]
                is_enough = len(memory.failures_us) == self.failures
                if is_enough and time_us - memory.failures_us[0] <= self.within_us:
                    if time_us > memory.brute_force_until_us:
                        yield _login_alert(source, (brute_force, time_us, target), self.failures, self.failures)
                    memory.brute_force_until_us = time_us + self.within_us
                continue
            recent = sum(time_us - failure <= limit.SUCCESS_WITHIN_US for failure in memory.failures_us)
            if recent >= limit.SUCCESS_FAILURES:
                if time_us > memory.success_until_us:
                    yield _login_alert(source, (success, time_us, target), recent, limit.SUCCESS_FAILURES)
                memory.success_until_us = time_us + limit.SUCCESS_WITHIN_US


def _login_alert(source: str, alert: tuple[str, int, str], failures: int, threshold: int) -> Row:
    return alert_row(source, *alert, ("failed_logins", failures, threshold))


SSH = GuessRule(limit.SSH_FAILURES, limit.SSH_WITHIN_US, ("ssh_brute_force", "ssh_success_after_failures"))
LOGIN = GuessRule(limit.LOGIN_FAILURES, limit.LOGIN_WITHIN_US, ("login_brute_force", "login_success_after_failures"))


class LoginDetector(WindowDetector):
    """Brute force on a login path, and a success after failures, per source."""

    Memory = Guesses
    state_schema = f"{GUESSES_SCHEMA}, timer_ms bigint"
    forget_after_us = max(limit.LOGIN_WITHIN_US, limit.SUCCESS_WITHIN_US)

    def judge(self, key: str, window: Row, memory: Guesses) -> Iterator[Row]:
        return LOGIN.judge(key, window["logins"], memory)
