"""Network: flows and HTTP requests of Zeek, with scans, floods and alerts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from . import network_gold
from .domain import Domain, Expectation, Gold, Row, Silver, not_ahead, within
from .json_types import BOOLEAN, DOUBLE, INTEGER, LONG, STRING, TIMESTAMP, timestamp
from .json_values import Field
from .moments import HOUR, MINUTE
from .windows import window_end, with_datetimes

SALT = "network-development-salt"
MILLISECOND = 1_000

CONNECTION = (
    Field("time", timestamp("epoch_seconds"), "ts"),
    Field("uid", STRING),
    Field("source_ip", STRING, "id.orig_h"),
    Field("source_port", INTEGER, "id.orig_p"),
    Field("destination_ip", STRING, "id.resp_h"),
    Field("destination_port", INTEGER, "id.resp_p"),
)
FLOW = (
    *CONNECTION,
    Field("protocol", STRING, "proto"),
    Field("service", STRING),
    Field("duration_s", DOUBLE, "duration"),
    Field("source_bytes", LONG, "orig_bytes"),
    Field("destination_bytes", LONG, "resp_bytes"),
    Field("connection_state", STRING, "conn_state"),
    Field("history", STRING),
    Field("source_packets", LONG, "orig_pkts"),
    Field("destination_packets", LONG, "resp_pkts"),
)
REQUEST = (
    *CONNECTION,
    Field("transaction_depth", LONG, "trans_depth"),
    Field("method", STRING),
    Field("host", STRING),
    Field("path", STRING, "uri"),
    *(Field(name, STRING) for name in ("referrer", "user_agent", "username", "password")),
    Field("request_bytes", LONG, "request_body_len"),
    Field("response_bytes", LONG, "response_body_len"),
    Field("status_code", INTEGER),
)
PERSONAL = ("username", "password", "referrer")

STATES = {"S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH"}


def is_address(column: str) -> Callable[[Row], bool]:
    """IPv4, or IPv6 in lower case; of those with an IPv4 address at the end, the mapped ones alone."""

    def is_met(row: Row) -> bool:
        text = row[column] or ""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and "." in text:
            return text == f"::ffff:{address.ipv4_mapped}"
        return text == text.lower() and "%" not in text

    return is_met


def is_port(column: str) -> Callable[[Row], bool]:
    return lambda row: row[column] is not None and 0 <= row[column] <= 65_535


def none_negative(*columns: str) -> Callable[[Row], bool]:
    return lambda row: all(row[column] is None or row[column] >= 0 for column in columns)


OF_CONNECTION = (
    Expectation("source_ip_is_address", is_address("source_ip")),
    Expectation("destination_ip_is_address", is_address("destination_ip")),
    Expectation("source_port_in_range", is_port("source_port")),
    Expectation("destination_port_in_range", is_port("destination_port")),
    Expectation("time_is_not_ahead", not_ahead("time", HOUR)),
)


def masked(request: Row) -> Row:
    """Without what is personal, and with what the whole URI says about an attack."""
    uri, username = request["path"], request["username"]
    host = re.sub(r":[0-9]+\Z", "", (request["host"] or "").lower())
    return {name: value for name, value in request.items() if name not in PERSONAL} | {
        "attack_signature": None if uri is None else attack_signature(uri),
        "host": host or request["destination_ip"],
        "has_query": "?" in (uri or ""),
        "path": None if uri is None else uri.partition("?")[0],
        "user_hash": None if username is None else hashlib.sha256((SALT + username).encode()).hexdigest(),
    }


def attack_signature(uri: str) -> str | None:
    """Two dots as a segment, plain or encoded; or one of the files that scanners ask for most."""
    decoded = re.sub("%2e", ".", re.sub("%2f|%5c|\\\\", "/", uri.lower()))
    if re.search(r"(^|[/=])\.\./", decoded):
        return "path_traversal"
    hidden = r"/\.(env|git|svn|aws|ssh|htpasswd)\b"
    is_restricted = re.search(rf"{hidden}|/wp-config\.php|/etc/(passwd|shadow)\b", uri.lower(), re.ASCII)
    return "restricted_file" if is_restricted else None


FLOWS = Silver(
    "network_flows",
    bronze="network_flows",
    fields=FLOW,
    expectations=(
        *OF_CONNECTION,
        Expectation("protocol_is_known", lambda row: row["protocol"] in {"tcp", "udp", "icmp", "unknown_transport"}),
        Expectation("connection_state_is_known", lambda row: row["connection_state"] in {None, *STATES}),
        Expectation("duration_in_range", none_negative("duration_s")),
        Expectation("bytes_in_range", none_negative("source_bytes", "destination_bytes")),
        Expectation("packets_in_range", none_negative("source_packets", "destination_packets")),
    ),
    watermark=10 * MINUTE,
    dedup_key=("uid",),
)
REQUESTS = Silver(
    "network_requests",
    bronze="network_requests",
    fields=REQUEST,
    expectations=(
        *OF_CONNECTION,
        Expectation(
            "transaction_depth_in_range",
            lambda row: row["transaction_depth"] is not None and row["transaction_depth"] >= 0,
        ),
        Expectation("status_code_in_range", within("status_code", 100, 599)),
        Expectation("bytes_in_range", none_negative("request_bytes", "response_bytes")),
    ),
    watermark=2 * MINUTE,
    dedup_key=("uid", "transaction_depth"),
    transform=masked,
    transformed=(
        *(field for field in REQUEST if field.name not in PERSONAL),
        Field("attack_signature", STRING),
        Field("has_query", BOOLEAN),
        Field("user_hash", STRING),
    ),
)


def minute_closes_at(alert: Row) -> int | None:
    """An alert of one request is written at once, of logins when their minute has closed, any other at its time."""
    time: int = alert["time"]
    if alert.get("uid") is not None:
        return None
    return (time // MINUTE + 1) * MINUTE if alert["measure"] == "failed_logins" else time


def unasked_for_good(row: Row) -> int | None:
    """A flow without a request is written when none within 10 minutes of its start can come any more."""
    return row["time"] + 10 * MINUTE + MILLISECOND if row["requested_at"] is None else None


WINDOW = dict.fromkeys(("window_start", "window_end"), TIMESTAMP)
SCANS = {
    **dict.fromkeys(("source_ip", "scan"), STRING),
    **WINDOW,
    "failed_flows": LONG,
    **dict.fromkeys(("failed_ports", "failed_hosts"), INTEGER),
}
FLOODS = {
    "host": STRING,
    **WINDOW,
    **dict.fromkeys(("requests", "clients"), LONG),
    **dict.fromkeys(("error_share", "source_entropy_bits", "usual_requests", "usual_entropy_bits"), DOUBLE),
    "flood": STRING,
    "is_start": BOOLEAN,
}
ALERT = {
    **dict.fromkeys(("source_ip", "alert", "measure"), STRING),
    "time": TIMESTAMP,
    **dict.fromkeys(("value", "threshold"), DOUBLE),
}
FLOW_REQUESTS = {
    **dict.fromkeys(("time", "requested_at"), TIMESTAMP),
    **dict.fromkeys(("uid", "source_ip", "destination_ip", "connection_state", "method", "host", "path"), STRING),
    **dict.fromkeys(("destination_port", "status_code"), INTEGER),
    "duration_s": DOUBLE,
    **dict.fromkeys(("source_bytes", "destination_bytes", "transaction_depth"), LONG),
    "is_held_open": BOOLEAN,
}
S_FLOWS, S_REQUESTS = ("silver/network_flows",), ("silver/network_requests",)
DOMAIN = Domain(
    "network",
    silver=(FLOWS, REQUESTS),
    gold=(
        Gold(
            "network_port_scans",
            ("source_ip", "window_start"),
            SCANS,
            S_FLOWS,
            with_datetimes(network_gold.port_scans, "time"),
            closes_at=window_end,
        ),
        Gold(
            "network_request_floods",
            ("host", "window_start"),
            FLOODS,
            S_REQUESTS,
            with_datetimes(network_gold.request_floods, "time"),
            closes_at=window_end,
            rounded=dict.fromkeys(("source_entropy_bits", "usual_requests", "usual_entropy_bits"), 1e-9),
        ),
        Gold(
            "network_intrusion_alerts",
            ("source_ip", "alert", "time"),
            {**ALERT, "destination": STRING},
            S_FLOWS,
            with_datetimes(network_gold.intrusion_alerts, "time"),
            closes_at=minute_closes_at,
        ),
        Gold(
            "network_request_alerts",
            ("source_ip", "host", "alert", "time", "uid"),
            {**ALERT, "host": STRING, "uid": STRING},
            S_REQUESTS,
            with_datetimes(network_gold.request_alerts, "time"),
            closes_at=minute_closes_at,
            rounded={"threshold": 1e-9},  # 3 times a mean
        ),
        Gold(
            "network_flow_requests",
            ("uid", "transaction_depth"),
            FLOW_REQUESTS,
            (*S_FLOWS, *S_REQUESTS),
            with_datetimes(network_gold.flow_requests, "time"),
            closes_at=unasked_for_good,
        ),
    ),
)
