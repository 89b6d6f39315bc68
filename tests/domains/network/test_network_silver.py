"""Which flows and requests are valid, and what of a request silver keeps."""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession, functions as F, types as T

from streaming_lakehouse.domains.network import events, silver
from streaming_lakehouse.pipeline.expectations import Expectation

ARRIVAL = datetime(2026, 1, 1, 12)
FLOW: dict[str, Any] = {
    "time": ARRIVAL - timedelta(minutes=1),
    "uid": "C1",
    "source_ip": "198.18.0.1",
    "source_port": 40_000,
    "destination_ip": "2001:db8::1",
    "destination_port": 443,
    "protocol": "tcp",
    "connection_state": "SF",
}
FLOW_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"destination_port": 70_000}, "destination_port_in_range"),
    ({"source_port": -1}, "source_port_in_range"),
    ({"source_port": None}, "source_port_in_range"),
    ({"protocol": "icmp", "source_port": 3, "destination_port": 0, "connection_state": "OTH"}, ""),
    ({"source_ip": "10.0.0.256"}, "source_ip_is_address"),
    ({"destination_ip": "2001:db8:::1"}, "destination_ip_is_address"),
    ({"destination_ip": None}, "destination_ip_is_address"),
    ({"protocol": "tcpp"}, "protocol_is_known"),
    ({"connection_state": "S9"}, "connection_state_is_known"),
    ({"connection_state": None}, ""),
    ({"duration_s": -0.1}, "duration_in_range"),
    ({"destination_bytes": -1}, "bytes_in_range"),
    ({"source_packets": -1, "destination_packets": 3}, "packets_in_range"),
    ({"time": ARRIVAL + timedelta(hours=1)}, ""),
    ({"time": ARRIVAL + timedelta(hours=1, seconds=1)}, "time_is_not_ahead"),
]
REQUEST_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"status_code": None}, ""),
    ({"status_code": 42}, "status_code_in_range"),
    ({"transaction_depth": -1}, "transaction_depth_in_range"),
    ({"request_bytes": -1}, "bytes_in_range"),
    ({"destination_port": 70_000}, "destination_port_in_range"),
]
IPV4 = "10.0.0.1 0.0.0.0 255.255.255.255 256.1.1.1 10.0.0.256 1.2.3 1.2.3.4.5 01.2.3.4 1.2.3.4/8 n/a"
IPV6 = (
    ":: ::1 1:: 2001:db8::1 1:2:3:4:5:6:7:8 1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1:2:3::6:7:8 ::ffff:10.0.0.1",
    "2001:db8:::1 1::2::3 1:2:3:4:5:6:7 1:2:3:4:5:6:7:8:9 1:2:3:4::5:6:7:8 12345::1 g::1 : 1: :1 ::ffff:10.0.0.256",
)
ADDRESSES = " ".join((IPV4, *IPV6)).split(" ")


def test_a_flow_is_valid_within_each_bound(spark: SparkSession) -> None:
    """One change at a time, and the one expectation that it violates."""
    rows = [FLOW | change for change, _ in FLOW_CHANGES]
    expected = [{name} - {""} for _, name in FLOW_CHANGES]
    assert _violations(spark, silver.FLOW_EXPECTATIONS, rows, events.FLOW) == expected


def test_a_request_is_valid_within_each_bound(spark: SparkSession) -> None:
    """As for flows."""
    rows = [FLOW | {"transaction_depth": 1, "status_code": 200} | change for change, _ in REQUEST_CHANGES]
    expected = [{name} - {""} for _, name in REQUEST_CHANGES]
    assert _violations(spark, silver.REQUEST_EXPECTATIONS, rows, events.REQUEST) == expected


def test_an_address_is_one_that_python_reads(spark: SparkSession) -> None:
    """Both kinds, and none of the broken ones."""
    rows = spark.createDataFrame([(text,) for text in ADDRESSES], "address string")
    valid = {row["address"] for row in rows.where(F.col("address").rlike(silver.ADDRESS)).collect()}
    assert valid == {text for text in ADDRESSES if _is_address(text)}


def test_masking_keeps_nothing_personal(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """No password, referrer or query; a name only as a hash that needs the salt."""
    monkeypatch.setenv(silver.SALT_VARIABLE, "pepper")
    row = {"uid": "C1", "path": "/a/b?token=secret", "host": "WWW.Example.org:8080", "username": "anna"}
    row |= {"password": "hunter2", "referrer": "http://elsewhere/?q=illness", "destination_ip": "10.0.0.80"}
    (masked,) = _masked(spark, row)
    assert masked["path"] == "/a/b" and masked["has_query"] is True
    assert masked["host"] == "www.example.org"
    assert masked["user_hash"] == hashlib.sha256(b"pepperanna").hexdigest()
    assert not {"username", "password", "referrer"} & set(masked)
    assert not any(secret in str(masked) for secret in ("secret", "anna", "hunter2", "illness"))


def test_masking_gives_the_declared_columns(spark: SparkSession) -> None:
    columns = silver.mask_requests(spark.createDataFrame([], events.REQUEST)).dtypes
    declared = silver.masked_schema(events.REQUEST)
    assert sorted(columns) == sorted((field.name, field.dataType.simpleString()) for field in declared)


def test_a_signature_is_found_in_path_and_query(spark: SparkSession) -> None:
    expected = {
        "/index.html": None,
        "/a/..b/c": None,
        "/environment": None,
        "/.env": "restricted_file",
        "/x/.git/config?a": "restricted_file",
        "/wp-config.php.bak": "restricted_file",
        "/static/../../etc/passwd": "path_traversal",
        "/f?name=..%2F..%2Fboot.ini": "path_traversal",
        "/f?name=%2e%2e/x": "path_traversal",
        None: None,
    }
    masked = _masked(spark, *({"uid": str(uri), "path": uri} for uri in expected))
    assert {row["uid"]: row["attack_signature"] for row in masked} == {str(uri): name for uri, name in expected.items()}


def test_a_request_without_a_host_has_its_servers_address(spark: SparkSession) -> None:
    (masked,) = _masked(spark, {"destination_ip": "10.0.0.80"})
    assert masked["host"] == "10.0.0.80"


def _violations(
    spark: SparkSession, expectations: tuple[Expectation, ...], rows: list[dict[str, Any]], schema: T.StructType
) -> list[set[str]]:
    """The names of the expectations that each row violates, with its arrival at noon."""
    names = [*schema.names, "source_timestamp", "ingested_at"]
    values = [(number, *(row.get(name) for name in schema.names), ARRIVAL, ARRIVAL) for number, row in enumerate(rows)]
    arrived = T.StructType([T.StructField(name, T.TimestampType()) for name in names[-2:]])
    frame = spark.createDataFrame(values, T.StructType([T.StructField("number", T.LongType()), *schema, *arrived]))
    judged = frame.select("number", *(each.is_violated.alias(each.name) for each in expectations)).orderBy("number")
    return [{name for name, value in row.asDict().items() if value is True} for row in judged.collect()]


def _masked(spark: SparkSession, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    requests = [tuple(row.get(name) for name in events.REQUEST.names) for row in rows]
    return [row.asDict() for row in silver.mask_requests(spark.createDataFrame(requests, events.REQUEST)).collect()]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
