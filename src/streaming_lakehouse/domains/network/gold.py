"""Network's gold tables: scans, floods, alerts, and flows with their requests."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame, functions as F

from streaming_lakehouse.domains.network import thresholds as limit
from streaming_lakehouse.domains.network.detectors import ALERT_SCHEMA, WindowDetector
from streaming_lakehouse.domains.network.floods import FloodDetector
from streaming_lakehouse.domains.network.logins import LoginDetector
from streaming_lakehouse.domains.network.scans import ScanStart, SourceDetector
from streaming_lakehouse.domains.network.silver import FLOWS_WATERMARK

# A first packet that nothing answered, or a refusal. Not the states of a half connection that the responder began
# (RSTRH, SHR): they are answers to addresses of ours that somebody forged, and their source is a victim.
FAILED_STATES = ("S0", "REJ", "RSTOS0", "SH")
ESTABLISHED_STATES = ("SF", "S1", "S2", "S3", "RSTO", "RSTR")
WEB_PORTS = (80, 8080)
LOGIN_PATH = r"(?i)/(login|signin|sign-in|wp-login[.]php)/?$"
# From a flow to the last request that is joined with it; a request may be a second before its flow.
FLOW_REQUESTS_REACH = FLOWS_WATERMARK + timedelta(seconds=1)
SALTS = 16  # parts in which one source's failures are counted
# Sources are counted in so many buckets, whoever invents them: what a window of a host can occupy.
SOURCE_BUCKETS = 1_024


def port_scans(flows: DataFrame, *, output_mode: str) -> DataFrame:
    """One row a scan: the first 5 minutes, by the minute, in which a source failed at enough ports or hosts.

    In: time timestamp, source_ip, destination_ip string, destination_port int, protocol, connection_state string.
    Out: source_ip string, scan string (port_scan, host_scan), window_start and window_end timestamp (end exclusive),
    failed_flows bigint, failed_ports and failed_hosts int (distinct, exact).
    """
    window = F.window("time", "5 minutes", "1 minute")
    salt = F.pmod(F.crc32(_pair().cast("binary")), F.lit(SALTS))
    parts = _failed_attempts(flows).groupBy("source_ip", salt.alias("salt"), window.alias("window"))
    # Sets of one part may share ports with those of another, so that sizes cannot be added.
    counted = parts.agg(
        F.count("*").alias("flows"),
        F.collect_set("destination_port").alias("ports"),
        F.collect_set("destination_ip").alias("hosts"),
    )
    windows = counted.groupBy("source_ip", "window").agg(
        F.sum("flows").alias("failed_flows"),
        _distinct("ports").alias("failed_ports"),
        _distinct("hosts").alias("failed_hosts"),
    )
    is_vertical = F.col("failed_ports") >= limit.SCAN_PORTS
    suspects = _with_bounds(windows.where(is_vertical | (F.col("failed_hosts") >= limit.SCAN_HOSTS)))
    scans = _detect(suspects, "source_ip", ScanStart(), ScanStart.output_schema, output_mode)
    kind = F.when(is_vertical, "port_scan").otherwise("host_scan").alias("scan")
    return scans.select("source_ip", kind, *_bounds(), "failed_flows", "failed_ports", "failed_hosts")


def intrusion_alerts(flows: DataFrame, *, output_mode: str) -> DataFrame:
    """One row an attack that flows show: scans, slow scans, brute force on SSH, a success after failures.

    In: as `port_scans`, and service string, destination_bytes bigint.
    Out: source_ip string, alert string (port_scan, host_scan, slow_scan, ssh_brute_force,
    ssh_success_after_failures), time timestamp (of the login, or the end of the minute), destination string (the host
    logged in to, null for scans), measure string, value and threshold double (both in the measure's unit).
    """
    is_failed = F.col("connection_state").isin(*FAILED_STATES)
    # Zeek has seen the protocol's greeting: a scanner of port 22 that leaves at once has tried no password.
    is_login = (F.col("service") == "ssh") & F.col("connection_state").isin(*ESTABLISHED_STATES)
    received = F.coalesce("destination_bytes", F.lit(0))
    tcp = _keep(flows, (F.col("protocol") == "tcp") & (is_failed | is_login))
    minutes = tcp.groupBy("source_ip", F.window("time", "1 minute").alias("window")).agg(
        F.collect_set(F.when(is_failed, _pair())).alias("failed_pairs"),
        _logins(is_login, received < limit.SSH_SUCCESS_BYTES, "destination_ip"),
    )
    detected = _detect(_with_bounds(minutes), "source_ip", SourceDetector(), ALERT_SCHEMA, output_mode)
    return detected.select("source_ip", "alert", _time(), "destination", "measure", "value", "threshold")


def request_floods(requests: DataFrame, *, output_mode: str) -> DataFrame:
    """Each host's minute, every 10 seconds, against the host's own recent level.

    In: time timestamp, host string, source_ip string, status_code int.
    Out: host string, window_start and window_end timestamp (end exclusive), requests bigint, clients bigint (by linear
    counting: the standard error is 3 % at 1,000), error_share double (of status 400 and above), source_entropy_bits
    double (of the buckets of sources, at most 10), usual_requests and usual_entropy_bits double (means of the host's
    minutes before; null where there are none), flood string (few_source_flood, many_source_flood, null), is_start
    boolean (true in the first window of a flood).
    """
    # Two levels: a busy host's requests are counted in the buckets of their sources, then the buckets are added up.
    bucket = F.pmod(F.crc32(F.col("source_ip").cast("binary")), F.lit(SOURCE_BUCKETS))
    window = F.window("time", "1 minute", "10 seconds")
    buckets = requests.groupBy("host", bucket.alias("bucket"), window.alias("window")).agg(
        F.count("*").alias("n"), F.count_if(F.col("status_code") >= 400).alias("errors")
    )
    n, total = F.col("n"), F.sum("n")
    occupied = F.least(F.count("*"), F.lit(SOURCE_BUCKETS - 1))
    # Linear counting (Whang, 1990): how many sources leave so many buckets empty.
    clients = F.round(-SOURCE_BUCKETS * F.log(1 - occupied / SOURCE_BUCKETS)).cast("bigint")
    windows = buckets.groupBy("host", "window").agg(
        total.alias("requests"),
        clients.alias("clients"),
        (F.sum("errors") / total).alias("error_share"),
        (F.log2(total) - F.sum(n * F.log2(n)) / total).alias("source_entropy_bits"),
    )
    judged = _detect(_with_bounds(windows), "host", FloodDetector(), FloodDetector.output_schema, output_mode)
    measures = [name for name in judged.columns if name not in ("host", "window_start_us", "window_end_us")]
    return judged.select("host", *_bounds(), *measures)


def request_alerts(requests: DataFrame, *, output_mode: str) -> DataFrame:
    """One row an attack that requests show: floods, brute force on a login path, a success after failures; and one row
    a request that asks for what only an attacker asks for.

    In: time timestamp, uid, source_ip, host, method, path, attack_signature string, status_code int.
    Out: source_ip string (null for floods), host string, alert string (few_source_flood, many_source_flood,
    login_brute_force, login_success_after_failures, path_traversal, restricted_file), time timestamp, uid string (of
    the one request, else null), measure string, value and threshold double (both in the measure's unit).
    """
    return (
        _flood_alerts(requests, output_mode)
        .unionByName(_login_alerts(requests, output_mode))
        .unionByName(_signature_alerts(requests))
    )


def request_alerts_now(requests: DataFrame) -> DataFrame:
    """The alerts of single requests, by selection and projection only, as a hot path must be.

    In: as `request_alerts`. Out: time timestamp, uid, source_ip, host, path string, alert string (path_traversal,
    restricted_file), status_code int, is_served boolean (true where the server answered with content).
    """
    is_served = F.coalesce(F.col("status_code").between(200, 299), F.lit(False))
    found = requests.where(F.col("attack_signature").isNotNull())
    return found.select(
        "time",
        "uid",
        "source_ip",
        "host",
        "path",
        F.col("attack_signature").alias("alert"),
        "status_code",
        is_served.alias("is_served"),
    )


def flow_requests(flows: DataFrame, requests: DataFrame) -> DataFrame:
    """Web flows with their requests, one row a request; a flow without one has a row too, with nulls.

    In: flows as `port_scans`, and uid, service string, duration_s double, source_bytes, destination_bytes bigint;
    requests as `request_alerts`, and transaction_depth bigint.
    Out: time timestamp (the flow's start), uid, source_ip, destination_ip string, destination_port int, duration_s
    double, connection_state string, source_bytes, destination_bytes bigint; requested_at timestamp, transaction_depth
    bigint, method, host, path string, status_code int; is_held_open boolean (true where nothing was answered in
    40 seconds or more: slowloris).
    """
    is_web = (F.col("protocol") == "tcp") & ((F.col("service") == "http") | F.col("destination_port").isin(*WEB_PORTS))
    web = _keep(flows, is_web).select(*_FLOW_COLUMNS)
    asked = requests.select(F.col("uid").alias("request_uid"), F.col("time").alias("requested_at"), *_REQUEST_COLUMNS)
    # Bounds on both sides let Spark drop state. A flow that lasts longer than the watermark is late and not here.
    limit_s = int(FLOWS_WATERMARK.total_seconds())
    is_during = F.col("requested_at").between(
        F.col("time") - F.expr("INTERVAL 1 SECOND"), F.col("time") + F.expr(f"INTERVAL {limit_s} SECONDS")
    )
    joined = web.join(asked, (F.col("uid") == F.col("request_uid")) & is_during, "left_outer")
    is_held_open = (F.col("duration_s") >= limit.HELD_OPEN_S) & F.col("status_code").isNull()
    return joined.select(
        *_FLOW_COLUMNS, "requested_at", *_REQUEST_COLUMNS, F.coalesce(is_held_open, F.lit(False)).alias("is_held_open")
    )


_FLOW_COLUMNS = (
    "time",
    "uid",
    "source_ip",
    "destination_ip",
    "destination_port",
    "duration_s",
    "connection_state",
    "source_bytes",
    "destination_bytes",
)
_REQUEST_COLUMNS = ("transaction_depth", "method", "host", "path", "status_code")


def _flood_alerts(requests: DataFrame, output_mode: str) -> DataFrame:
    starts = request_floods(requests, output_mode=output_mode).where("is_start")
    return starts.select(
        F.lit(None).cast("string").alias("source_ip"),
        "host",
        F.col("flood").alias("alert"),
        F.col("window_end").alias("time"),
        F.lit(None).cast("string").alias("uid"),
        F.lit("requests").alias("measure"),
        F.col("requests").cast("double").alias("value"),
        F.greatest(F.lit(float(limit.FLOOD_REQUESTS)), limit.FLOOD_FACTOR * F.col("usual_requests")).alias("threshold"),
    )


def _login_alerts(requests: DataFrame, output_mode: str) -> DataFrame:
    status = F.col("status_code")
    is_failure = status.isin(401, 403)
    is_login = (F.col("method") == "POST") & F.col("path").rlike(LOGIN_PATH) & (is_failure | status.between(200, 399))
    logins = _keep(requests, is_login)
    minutes = logins.groupBy("source_ip", F.window("time", "1 minute").alias("window")).agg(
        _logins(is_login, is_failure, "host")
    )
    detected = _detect(_with_bounds(minutes), "source_ip", LoginDetector(), ALERT_SCHEMA, output_mode)
    return detected.select(
        "source_ip",
        F.col("destination").alias("host"),
        "alert",
        _time(),
        F.lit(None).cast("string").alias("uid"),
        "measure",
        "value",
        "threshold",
    )


def _signature_alerts(requests: DataFrame) -> DataFrame:
    return request_alerts_now(requests).select(
        "source_ip",
        "host",
        "alert",
        "time",
        "uid",
        F.lit("status_code").alias("measure"),
        F.col("status_code").cast("double").alias("value"),
        F.lit(None).cast("double").alias("threshold"),
    )


def _failed_attempts(flows: DataFrame) -> DataFrame:
    """TCP only, as Zeek's scan detector: a datagram without an answer is how much of UDP works."""
    return _keep(flows, (F.col("protocol") == "tcp") & F.col("connection_state").isin(*FAILED_STATES))


def _keep(events: DataFrame, condition: Column) -> DataFrame:
    """The events that meet the condition, under a watermark of them all.

    Spark moves a filter below the watermark, which then sees what the filter lets through: a window would stay open
    until the next such event. A filter that reads the event time is not moved.
    """
    return events.where(F.when(F.unix_micros("time") >= 0, condition))


def _pair() -> Column:
    return F.concat_ws(" ", "destination_ip", "destination_port")


def _distinct(sets: str) -> Column:
    return F.size(F.array_distinct(F.flatten(F.collect_list(sets))))


def _logins(is_login: Column, is_failure: Column, target: str) -> Column:
    """The window's logins in the order of their time, as an array of structs."""
    login = F.struct(
        F.unix_micros("time").alias("time_us"), is_failure.alias("is_failure"), F.col(target).alias("target")
    )
    return F.sort_array(F.collect_list(F.when(is_login, login))).alias("logins")


def _with_bounds(windows: DataFrame) -> DataFrame:
    """The windows' bounds as numbers, beside the windows: with these travels the watermark."""
    return windows.withColumns(
        {
            "window_start_us": F.unix_micros(F.col("window.start")),
            "window_end_us": F.unix_micros(F.col("window.end")),
        }
    )


def _detect(windows: DataFrame, key: str, detector: WindowDetector, schema: str, output_mode: str) -> DataFrame:
    return windows.groupBy(key).transformWithState(detector, schema, output_mode, "EventTime")


def _bounds() -> tuple[Column, Column]:
    return (
        F.timestamp_micros("window_start_us").alias("window_start"),
        F.timestamp_micros("window_end_us").alias("window_end"),
    )


def _time() -> Column:
    return F.timestamp_micros("time_us").alias("time")
