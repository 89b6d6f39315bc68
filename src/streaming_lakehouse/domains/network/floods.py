"""Floods: each window of a host against the host's own recent level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log2, sqrt
from statistics import fmean, pstdev

from pyspark.sql import Row

from streaming_lakehouse.domains.network import thresholds as limit
from streaming_lakehouse.domains.network.detectors import WindowDetector

_MINUTE_US = 60_000_000


@dataclass
class HostMemory:
    """The host's minutes without a flood, and the end of the last window with one."""

    ends_us: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    entropies_bits: list[float] = field(default_factory=list)
    error_shares: list[float] = field(default_factory=list)
    flood_end_us: int = 0


class FloodDetector(WindowDetector):
    """Every window of a host with the host's own recent level, and what kind of flood the window is, if any."""

    Memory = HostMemory
    state_schema = (
        "ends_us array<bigint>, requests array<bigint>, entropies_bits array<double>, error_shares array<double>, "
        "flood_end_us bigint, timer_ms bigint"
    )
    forget_after_us = limit.LEVEL_MEMORY_US + limit.FLOOD_WINDOW_US
    output_schema = (
        "host string, window_start_us bigint, window_end_us bigint, requests bigint, clients bigint, "
        "error_share double, source_entropy_bits double, usual_requests double, usual_entropy_bits double, "
        "flood string, is_start boolean"
    )

    def judge(self, key: str, window: Row, memory: HostMemory) -> Iterator[Row]:
        start_us, end_us = window["window_start_us"], window["window_end_us"]
        since = start_us - limit.LEVEL_MEMORY_US
        usual = [number for number, end in enumerate(memory.ends_us) if since < end <= start_us]
        flood = _flood(window, memory, usual) if len(usual) >= limit.LEVEL_MINUTES else None
        is_start = flood is not None and start_us > memory.flood_end_us
        yield Row(
            host=key,
            **{name: window[name] for name in ("window_start_us", "window_end_us", "requests", "clients")},
            **{name: window[name] for name in ("error_share", "source_entropy_bits")},
            usual_requests=fmean(memory.requests[number] for number in usual) if usual else None,
            usual_entropy_bits=fmean(memory.entropies_bits[number] for number in usual) if usual else None,
            flood=flood,
            is_start=is_start,
        )
        if flood:
            memory.flood_end_us = end_us
        elif end_us % _MINUTE_US == 0:  # minutes that do not overlap; what a flood did is no level to judge by
            self._remember(window, memory, since)

    @staticmethod
    def _remember(window: Row, memory: HostMemory, since: int) -> None:
        first = next((number for number, end in enumerate(memory.ends_us) if end > since), len(memory.ends_us))
        memory.ends_us = [*memory.ends_us[first:], window["window_end_us"]]
        memory.requests = [*memory.requests[first:], window["requests"]]
        memory.entropies_bits = [*memory.entropies_bits[first:], window["source_entropy_bits"]]
        memory.error_shares = [*memory.error_shares[first:], window["error_share"]]


def _flood(window: Row, memory: HostMemory, usual: list[int]) -> str | None:
    requests, levels = window["requests"], [memory.requests[number] for number in usual]
    mean, spread = fmean(levels), pstdev(levels)
    if requests < max(limit.FLOOD_REQUESTS, limit.FLOOD_FACTOR * mean, mean + limit.SIGMAS * spread):
        return None
    # Entropy grows with the number of requests, whoever sends them. What it lacks of its greatest value, one request a
    # source, does not: it is the mean of log2 of a source's requests.
    lacking = [log2(memory.requests[number]) - memory.entropies_bits[number] for number in usual]
    surplus = log2(requests) - window["source_entropy_bits"] - fmean(lacking)
    bound = limit.SIGMAS * max(pstdev(lacking), limit.LEAST_ENTROPY_SPREAD_BITS)
    if surplus > bound:
        return "few_source_flood"
    return "many_source_flood" if surplus < -bound and _is_failing(window, memory, usual) else None


def _is_failing(window: Row, memory: HostMemory, usual: list[int]) -> bool:
    """A crowd that is served is none of a flood. Chance is that of a binomial share of so many requests."""
    errors = sum(memory.error_shares[number] * memory.requests[number] for number in usual)
    usual_share = errors / sum(memory.requests[number] for number in usual)
    chance = sqrt(usual_share * (1 - usual_share) / window["requests"])
    rise = window["error_share"] - usual_share
    return bool(rise > max(limit.SIGMAS * chance, limit.LEAST_ERROR_RISE))
