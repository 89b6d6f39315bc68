"""Network's events: flows and HTTP requests, as Zeek logs them, and a generator of each.

A request's `uid` is its flow's. Rows of the two generators agree: a request's row derives the flow that it belongs to.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import types as T

from streaming_lakehouse.domains.network.attacks import slow_probe, stretch_flow
from streaming_lakehouse.domains.network.requests import Exchange, base_exchange, stretch_exchange
from streaming_lakehouse.domains.network.schedule import BASE_PER_CYCLE, flow_position, request_position
from streaming_lakehouse.domains.network.silver import FLOWS_WATERMARK, REQUESTS_WATERMARK
from streaming_lakehouse.domains.network.traffic import Flow, base_flow
from streaming_lakehouse.pipeline import Event, EventGenerator, field
from streaming_lakehouse.pipeline.synthetic import CLEAN

_CONNECTION = (
    field("time", T.TimestampType(), json="ts", time="epoch_seconds"),
    field("uid", T.StringType()),
    field("source_ip", T.StringType(), json="id.orig_h"),
    field("source_port", T.IntegerType(), json="id.orig_p"),
    field("destination_ip", T.StringType(), json="id.resp_h"),
    field("destination_port", T.IntegerType(), json="id.resp_p"),
)

# conn.log. `time` is the flow's start, and it is logged at its end.
FLOW = T.StructType(
    [
        *_CONNECTION,
        field("protocol", T.StringType(), json="proto"),
        field("service", T.StringType()),
        field("duration_s", T.DoubleType(), json="duration"),
        field("source_bytes", T.LongType(), json="orig_bytes"),
        field("destination_bytes", T.LongType(), json="resp_bytes"),
        field("connection_state", T.StringType(), json="conn_state"),
        field("history", T.StringType()),
        field("source_packets", T.LongType(), json="orig_pkts"),
        field("destination_packets", T.LongType(), json="resp_pkts"),
    ]
)

# http.log. What is personal is declared, so that silver can drop it: an unknown field would be rescued as it is.
REQUEST = T.StructType(
    [
        *_CONNECTION,
        field("transaction_depth", T.LongType(), json="trans_depth"),
        field("method", T.StringType()),
        field("host", T.StringType()),
        field("path", T.StringType(), json="uri"),
        field("referrer", T.StringType()),
        field("user_agent", T.StringType()),
        field("username", T.StringType()),
        field("password", T.StringType()),
        field("request_bytes", T.LongType(), json="request_body_len"),
        field("response_bytes", T.LongType(), json="response_body_len"),
        field("status_code", T.IntegerType()),
    ]
)


def generate_flow(row: int, seed: int) -> Event:
    """One flow: rows are ordered by when flows end, half a second of skew aside, and stamped with when they began.

    Labels: port_scan, host_scan, slow_scan, ssh_brute_force, ssh_success_after_failures, slowloris, few_source_flood,
    many_source_flood, login_brute_force, login_success_after_failures, web_probe. Backscatter and flash crowds are
    clean.
    """
    position = flow_position(row, seed)
    if position.stretch:
        flow, episode = stretch_flow(position, seed)
    else:
        number = position.cycle * BASE_PER_CYCLE + position.number
        flow, episode = slow_probe(number, seed) or (base_flow(number, seed), None)
    return Event(flow_fields(flow), episode.kind if episode else CLEAN, episode)


def generate_request(row: int, seed: int) -> Event:
    """One HTTP request of a flow of `generate_flow`. Labels: those of floods, logins and web_probe."""
    position = request_position(row, seed)
    if position.stretch:
        exchange, episode = stretch_exchange(position, seed)
    else:
        exchange, episode = base_exchange(position.cycle * BASE_PER_CYCLE + position.number, seed), None
    return Event(request_fields(exchange), episode.kind if episode else CLEAN, episode)


def flow_fields(flow: Flow) -> dict[str, Any]:
    """The JSON object in Zeek's own names; a field without a value is left out, as Zeek does."""
    fields = _connection_fields(flow, flow.start_s) | {
        "proto": flow.kind.protocol,
        "duration": round(flow.end_s - flow.start_s, 6),
        "orig_bytes": flow.source_bytes,
        "resp_bytes": flow.destination_bytes,
        "conn_state": flow.kind.state,
        "history": flow.kind.history,
        "orig_pkts": 4 + flow.source_bytes // 1_400 if flow.source_bytes else 1,
        "resp_pkts": 0 if flow.kind.state == "S0" else 1 + flow.destination_bytes // 1_400,
    }
    if flow.kind.service:
        fields["service"] = flow.kind.service
    return fields


def request_fields(exchange: Exchange) -> dict[str, Any]:
    """As `flow_fields`."""
    return _connection_fields(exchange.flow, exchange.time_s) | {
        "trans_depth": exchange.depth,
        "method": exchange.method,
        "host": exchange.flow.site,
        "uri": exchange.uri,
        "user_agent": exchange.user_agent,
        "request_body_len": exchange.request_bytes,
        "response_body_len": exchange.response_bytes,
        "status_code": exchange.status,
    }


def _connection_fields(flow: Flow, time_s: float) -> dict[str, Any]:
    return {
        "ts": round(time_s, 6),
        "uid": flow.uid,
        "id.orig_h": flow.source[0],
        "id.orig_p": flow.source[1],
        "id.resp_h": flow.destination[0],
        "id.resp_p": flow.destination[1],
    }


_BROKEN_CONNECTION: tuple[dict[str, Any], ...] = (
    {"uid": ""},
    {"id.orig_h": "10.0.0.256"},
    {"id.orig_h": "10.0.0.1\n"},
    {"id.orig_p": -1},
    {"id.resp_h": "2001:db8:::1"},
    {"id.resp_p": 70_000},
)

FLOWS = EventGenerator(
    generate=generate_flow,
    key="id.orig_h",
    time="ts",
    time_format="epoch_seconds",
    out_of_range=(
        *_BROKEN_CONNECTION,
        {"proto": "tpc"},
        {"conn_state": "S9"},
        {"duration": -1.0},
        {"orig_bytes": -40},
        {"resp_pkts": -1},
    ),
    unknown_field=("local_orig", True),
    lateness=3 * FLOWS_WATERMARK,
    identity=("uid",),
)
REQUESTS = EventGenerator(
    generate=generate_request,
    key="id.orig_h",
    time="ts",
    time_format="epoch_seconds",
    out_of_range=(
        *_BROKEN_CONNECTION,
        {"trans_depth": None},
        {"trans_depth": -1},
        {"status_code": 42},
        {"request_body_len": -1},
    ),
    unknown_field=("version", "1.1"),
    lateness=3 * REQUESTS_WATERMARK,
    identity=("uid", "trans_depth"),
)
