"""Scans: the first window of each, and the detector that keeps what a source failed at, for slow ones too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyspark.sql import Row

from streaming_lakehouse.domains.network import thresholds as limit
from streaming_lakehouse.domains.network.detectors import WindowDetector, alert_row
from streaming_lakehouse.domains.network.logins import GUESSES_SCHEMA, SSH, Guesses

_MINUTE_US = 60_000_000


@dataclass
class LastWindow:
    end_us: int = 0


class ScanStart(WindowDetector):
    """Of the windows in which a source scans, the first of each scan: the next scan starts after a window without."""

    Memory = LastWindow
    state_schema = "end_us bigint, timer_ms bigint"
    forget_after_us = limit.SCAN_WINDOW_US
    output_schema = (
        "source_ip string, window_start_us bigint, window_end_us bigint, failed_flows bigint, failed_ports int, "
        "failed_hosts int"
    )

    def judge(self, key: str, window: Row, memory: LastWindow) -> Iterator[Row]:
        if window["window_start_us"] > memory.end_us:
            measures = {name: window[name] for name in ("failed_flows", "failed_ports", "failed_hosts")}
            yield Row(
                source_ip=key,
                window_start_us=window["window_start_us"],
                window_end_us=window["window_end_us"],
                **measures,
            )
        memory.end_us = window["window_end_us"]


@dataclass
class SourceMemory(Guesses):
    """Which pairs of a host and a port failed, the end of the minute in which each did last, and the scans seen."""

    pairs: list[str] = field(default_factory=list)
    pair_ends_us: list[int] = field(default_factory=list)
    scan_until_us: int = 0
    slow_scan_until_us: int = 0
    slow_scan_since_us: int = 0


class SourceDetector(WindowDetector):
    """Scans, slow scans, brute force on SSH and a success after failures, per source and minute."""

    Memory = SourceMemory
    state_schema = (
        f"{GUESSES_SCHEMA}, pairs array<string>, pair_ends_us array<bigint>, scan_until_us bigint, "
        "slow_scan_until_us bigint, slow_scan_since_us bigint, timer_ms bigint"
    )
    forget_after_us = limit.SLOW_SCAN_MEMORY_US

    def judge(self, key: str, window: Row, memory: SourceMemory) -> Iterator[Row]:
        if window["failed_pairs"]:
            yield from _scan_alerts(key, window["window_end_us"], window["failed_pairs"], memory)
        yield from SSH.judge(key, window["logins"], memory)


def _scan_alerts(source: str, end_us: int, failed: list[str], memory: SourceMemory) -> Iterator[Row]:
    ends = dict(zip(memory.pairs, memory.pair_ends_us, strict=True)) | dict.fromkeys(failed, end_us)
    counted_since = end_us - limit.SCAN_WINDOW_US
    last_ports, last_hosts = _last_ends(ends, 1), _last_ends(ends, 0)
    ports, hosts = (sum(end > counted_since for end in last) for last in (last_ports, last_hosts))
    if ports >= limit.SCAN_PORTS or hosts >= limit.SCAN_HOSTS:
        if counted_since > memory.scan_until_us:
            is_vertical = ports >= limit.SCAN_PORTS
            measured = ("failed_ports", ports, limit.SCAN_PORTS) if is_vertical else _hosts_measure(hosts)
            yield alert_row(source, "port_scan" if is_vertical else "host_scan", end_us, None, measured)
        # The last window that still holds enough of what failed until now.
        by_ports, by_hosts = _nth_newest(last_ports, limit.SCAN_PORTS), _nth_newest(last_hosts, limit.SCAN_HOSTS)
        memory.scan_until_us = max(by_ports, by_hosts) + limit.SCAN_WINDOW_US - _MINUTE_US
        memory.slow_scan_since_us = max(memory.slow_scan_since_us, memory.scan_until_us)
    yield from _slow_scan_alerts(source, end_us, ends, memory)
    forgotten = end_us - limit.SLOW_SCAN_MEMORY_US
    needed = min(counted_since, max(memory.slow_scan_since_us, forgotten))
    newest = sorted((end, pair) for pair, end in ends.items() if end > needed)[-limit.MOST_PAIRS :]
    memory.pairs, memory.pair_ends_us = [pair for _, pair in newest], [end for end, _ in newest]


def _slow_scan_alerts(source: str, end_us: int, ends: dict[str, int], memory: SourceMemory) -> Iterator[Row]:
    """Pairs that failed since the last scan, fast or slow. A slow scan lasts until its source is quiet."""
    if end_us > memory.slow_scan_until_us:
        since = max(memory.slow_scan_since_us, end_us - limit.SLOW_SCAN_MEMORY_US)
        pairs = sum(end > since for end in ends.values())
        if pairs < limit.SLOW_SCAN_PAIRS:
            return
        yield alert_row(source, "slow_scan", end_us, None, ("failed_pairs", pairs, limit.SLOW_SCAN_PAIRS))
    memory.slow_scan_until_us = end_us + limit.SLOW_SCAN_QUIET_US
    memory.slow_scan_since_us = max(memory.slow_scan_since_us, end_us)


def _hosts_measure(hosts: int) -> tuple[str, float, float]:
    return "failed_hosts", hosts, limit.SCAN_HOSTS


def _last_ends(ends: dict[str, int], part: int) -> list[int]:
    """For each host (part 0) or port (part 1) the end of the minute in which it failed last, newest first."""
    last: dict[str, int] = {}
    for pair, end in ends.items():
        name = pair.split(" ")[part]
        last[name] = max(end, last.get(name, 0))
    return sorted(last.values(), reverse=True)


def _nth_newest(ends: list[int], number: int) -> int:
    return ends[number - 1] if len(ends) >= number else 0
