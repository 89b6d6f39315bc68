"""Network's gold tables from silver rows, in which times are datetimes, and silver rows from JSON fields.

Slow and simple on purpose.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from .domain import Row

EPOCH = datetime(1970, 1, 1)
MINUTE = timedelta(minutes=1)
FAILED = {"S0", "REJ", "RSTOS0", "SH"}
ESTABLISHED = {"SF", "S1", "S2", "S3", "RSTO", "RSTR"}


def windows_of(time: datetime, length: timedelta, slide: timedelta) -> Iterator[datetime]:
    """The starts of the windows that hold a time, which lie at multiples of the slide since 1970."""
    start = EPOCH + (time - EPOCH) // slide * slide
    while start > time - length:
        yield start
        start -= slide


def port_scans(flows: list[Row]) -> list[Row]:
    length = timedelta(minutes=5)
    failed: dict[str, dict[datetime, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for flow in flows:
        if flow["protocol"] == "tcp" and flow["connection_state"] in FAILED:
            for start in windows_of(flow["time"], length, MINUTE):
                failed[flow["source_ip"]][start].append(flow)
    found = []
    for source, windows in failed.items():
        last_end = EPOCH
        for start in sorted(windows):
            ports = {flow["destination_port"] for flow in windows[start]}
            hosts = {flow["destination_ip"] for flow in windows[start]}
            if len(ports) < 15 and len(hosts) < 25:
                continue
            if start > last_end:
                found.append(
                    {
                        "source_ip": source,
                        "scan": "port_scan" if len(ports) >= 15 else "host_scan",
                        "window_start": start,
                        "window_end": start + length,
                        "failed_flows": len(windows[start]),
                        "failed_ports": len(ports),
                        "failed_hosts": len(hosts),
                    }
                )
            last_end = start + length
    return found


def intrusion_alerts(flows: list[Row]) -> list[Row]:
    found = []
    for scan in port_scans(flows):
        is_vertical = scan["scan"] == "port_scan"
        measure = "failed_ports" if is_vertical else "failed_hosts"
        threshold = 15 if is_vertical else 25
        found.append(
            _alert(scan["source_ip"], scan["scan"], scan["window_end"], None, measure, scan[measure], threshold)
        )
    found += _slow_scans(flows)
    logins = [
        (flow["source_ip"], flow["time"], (flow["destination_bytes"] or 0) < 4_000, flow["destination_ip"])
        for flow in flows
        if flow["protocol"] == "tcp" and flow["service"] == "ssh" and flow["connection_state"] in ESTABLISHED
    ]
    return found + _guesses(logins, "ssh", 30, timedelta(minutes=30))


def _slow_scans(flows: list[Row]) -> list[Row]:
    """Counts by the minute what failed outside of a scan; in which minutes there is one is asked of the windows."""
    minutes: dict[str, dict[datetime, set[tuple[str, int]]]] = defaultdict(lambda: defaultdict(set))
    for flow in flows:
        if flow["protocol"] == "tcp" and flow["connection_state"] in FAILED:
            end = EPOCH + ((flow["time"] - EPOCH) // MINUTE + 1) * MINUTE
            minutes[flow["source_ip"]][end].add((flow["destination_ip"], flow["destination_port"]))
    found = []
    for source, pairs in minutes.items():
        quiet_after, counted_since = EPOCH, EPOCH
        for end in sorted(pairs):
            scanned_until = _scanned_until(pairs, end)
            counted_since = max(counted_since, scanned_until or EPOCH)
            if end <= quiet_after:  # still the same slow scan
                quiet_after, counted_since = end + timedelta(hours=1), max(counted_since, end)
                continue
            since = max(counted_since, end - timedelta(days=1))
            remembered = {pair for other in pairs if since < other <= end for pair in pairs[other]}
            if len(remembered) >= 25:
                found.append(_alert(source, "slow_scan", end, None, "failed_pairs", len(remembered), 25))
                quiet_after, counted_since = end + timedelta(hours=1), max(counted_since, end)
    return found


def _scanned_until(pairs: dict[datetime, set[tuple[str, int]]], end: datetime) -> datetime | None:
    """The end of the last window with a scan, by what failed until `end`; None where there is none.

    Windows that end later hold less of it.
    """
    last = None
    for later in range(5):
        window_end = end + later * MINUTE
        within = {pair for other in pairs if window_end - 5 * MINUTE < other <= end for pair in pairs[other]}
        if len({port for _, port in within}) >= 15 or len({host for host, _ in within}) >= 25:
            last = window_end
        elif later == 0:
            return None
    return last


def _guesses(logins: Iterable[tuple[str, datetime, bool, str]], name: str, limit: int, within: timedelta) -> list[Row]:
    found = []
    per_source: dict[str, list[tuple[datetime, bool, str]]] = defaultdict(list)
    for source, *login in logins:
        per_source[source].append(tuple(login))  # type: ignore[arg-type]
    for source, attempts in per_source.items():
        failures: list[datetime] = []
        brute_force_until = success_until = EPOCH
        for time, is_failure, target in sorted(attempts):
            if is_failure:
                failures.append(time)
                if sum(time - failure <= within for failure in failures[-limit:]) == limit:
                    if time > brute_force_until:
                        found.append(_alert(source, f"{name}_brute_force", time, target, "failed_logins", limit, limit))
                    brute_force_until = time + within
                continue
            recent = sum(time - failure <= timedelta(minutes=20) for failure in failures[-limit:])
            if recent >= 5:
                if time > success_until:
                    alert = f"{name}_success_after_failures"
                    found.append(_alert(source, alert, time, target, "failed_logins", recent, 5))
                success_until = time + timedelta(minutes=20)
    return found


def _alert(
    source: str, alert: str, time: datetime, target: str | None, measure: str, value: float, threshold: float
) -> Row:
    return {
        "source_ip": source,
        "alert": alert,
        "time": time,
        "destination": target,
        "measure": measure,
        "value": float(value),
        "threshold": float(threshold),
    }


def request_floods(requests: list[Row]) -> list[Row]:
    length, slide = timedelta(minutes=1), timedelta(seconds=10)
    per_host: dict[str, dict[datetime, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for request in requests:
        for start in windows_of(request["time"], length, slide):
            per_host[request["host"]][start].append(request)
    found = []
    for host, windows in per_host.items():
        normal: dict[datetime, Row] = {}
        last_flood_end = EPOCH
        for start in sorted(windows):
            row = {"host": host, "window_start": start, "window_end": start + length, **_measures(windows[start])}
            usual = [row for end, row in normal.items() if start - timedelta(minutes=30) < end <= start]
            row["usual_requests"] = _mean(usual, "requests")
            row["usual_entropy_bits"] = _mean(usual, "source_entropy_bits")
            row["flood"] = _flood(row, usual) if len(usual) >= 5 else None
            row["is_start"] = row["flood"] is not None and start > last_flood_end
            if row["flood"]:
                last_flood_end = row["window_end"]
            elif row["window_end"].second == 0:
                normal[row["window_end"]] = row
            found.append(row)
    return found


def _measures(requests: list[Row]) -> Row:
    buckets = Counter(zlib.crc32(request["source_ip"].encode()) % 1_024 for request in requests)
    shares = [count / len(requests) for count in buckets.values()]
    return {
        "requests": len(requests),
        "clients": round(-1_024 * math.log(1 - min(len(buckets), 1_023) / 1_024)),
        "error_share": sum((request["status_code"] or 0) >= 400 for request in requests) / len(requests),
        "source_entropy_bits": -sum(share * math.log2(share) for share in shares),
    }


def _flood(row: Row, usual: list[Row]) -> str | None:
    mean, sigma = _mean(usual, "requests"), _sigma(usual, "requests")
    if row["requests"] < max(60, 3 * mean, mean + 3 * sigma):
        return None
    bits = [{"bits": _concentration(each)} for each in usual]
    surplus = _concentration(row) - _mean(bits, "bits")
    bound = 3 * max(_sigma(bits, "bits"), 0.15)
    if surplus > bound:
        return "few_source_flood"
    usual_errors = sum(each["error_share"] * each["requests"] for each in usual) / sum(
        each["requests"] for each in usual
    )
    chance = math.sqrt(usual_errors * (1 - usual_errors) / row["requests"])
    is_failing = row["error_share"] > usual_errors + max(3 * chance, 0.05)
    return "many_source_flood" if surplus < -bound and is_failing else None


def _concentration(row: Row) -> float:
    """Bits that the entropy lacks of the most that so many requests can have, one a source."""
    return math.log2(row["requests"]) - row["source_entropy_bits"]


def _mean(rows: list[Row], name: str) -> Any:
    return sum(row[name] for row in rows) / len(rows) if rows else None


def _sigma(rows: list[Row], name: str) -> float:
    mean = _mean(rows, name)
    return math.sqrt(sum((row[name] - mean) ** 2 for row in rows) / len(rows))


def request_alerts(requests: list[Row]) -> list[Row]:
    found = []
    for flood in request_floods(requests):
        if flood["is_start"]:
            alert = _alert("", flood["flood"], flood["window_end"], None, "requests", flood["requests"], 0)
            alert |= {"source_ip": None, "threshold": max(60.0, 3 * flood["usual_requests"])}
            found.append(alert | {"host": flood["host"], "uid": None})
    logins = [
        (request["source_ip"], request["time"], request["status_code"] in (401, 403), request["host"])
        for request in requests
        if request["method"] == "POST"
        and re.search(r"(?i)/(login|signin|sign-in|wp-login\.php)/?$", request["path"] or "")
        and (request["status_code"] in (401, 403) or 200 <= (request["status_code"] or 0) <= 399)
    ]
    for alert in _guesses(logins, "login", 20, timedelta(minutes=15)):
        found.append(alert | {"host": alert["destination"], "uid": None})
    for request in requests:
        if request["attack_signature"]:
            status = request["status_code"]
            alert = _alert(
                request["source_ip"], request["attack_signature"], request["time"], None, "status_code", 0, 0
            )
            alert |= {"value": None if status is None else float(status), "threshold": None}
            found.append(alert | {"host": request["host"], "uid": request["uid"]})
    for alert in found:
        del alert["destination"]
    return found


_FLOW_COLUMNS = (
    *("time", "uid", "source_ip", "destination_ip", "destination_port"),
    *("duration_s", "connection_state", "source_bytes", "destination_bytes"),
)
_REQUEST_COLUMNS = ("transaction_depth", "method", "host", "path", "status_code")


def flow_requests(flows: list[Row], requests: list[Row]) -> list[Row]:
    per_uid = defaultdict(list)
    for request in requests:
        per_uid[request["uid"]].append(request)
    found = []
    for flow in flows:
        is_web = flow["service"] == "http" or flow["destination_port"] in (80, 8080)
        if flow["protocol"] != "tcp" or not is_web:
            continue
        first, last = flow["time"] - timedelta(seconds=1), flow["time"] + timedelta(minutes=10)
        matched = [request for request in per_uid[flow["uid"]] if first <= request["time"] <= last]
        for request in matched or [dict.fromkeys((*_REQUEST_COLUMNS, "time"))]:
            row = {name: flow[name] for name in _FLOW_COLUMNS} | {name: request[name] for name in _REQUEST_COLUMNS}
            is_held_open = (flow["duration_s"] or 0) >= 40 and request["status_code"] is None
            found.append(row | {"requested_at": request["time"], "is_held_open": is_held_open})
    return found


def silver_rows(events: Iterable[Row], names: dict[str, str]) -> list[Row]:
    """Silver rows of JSON objects: `names` gives the column of each field; fields that are absent are null."""
    return [
        {
            column: datetime.fromtimestamp(event["ts"], UTC).replace(tzinfo=None) if field == "ts" else event.get(field)
            for field, column in names.items()
        }
        for event in events
    ]
