"""Network's gold tables: by hand on a few rows, against a computation in plain Python on many, and as streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from oracle import network_gold as reference
from pyspark.sql import DataFrame, SparkSession, functions as F, types as T
from support.settings import FEW_ROWS, ROCKSDB

from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.domains.network import events, gold, silver
from streaming_lakehouse.domains.network.pipeline import PIPELINE
from streaming_lakehouse.pipeline import Gold

NOON = datetime(2026, 1, 1, 12)
SEED, ROWS = 22, 13_500  # more than a cycle, so that every anomaly is there
TABLES = {table.table: table for table in PIPELINE.gold}
Row = dict[str, Any]


@pytest.fixture(scope="module")
def spark(spark: SparkSession) -> Iterator[SparkSession]:
    """`transformWithState` needs RocksDB, and for a batch the coordinator of state, which `streams` starts.

    Few rows in many small queries: one partition, and no code made for each.
    """
    with applied(spark, FEW_ROWS | ROCKSDB):
        assert spark.streams.active is not None
        yield spark


@pytest.fixture(scope="module")
def silver_rows() -> dict[str, list[Row]]:
    """Flows and requests of the generator as silver has them; the signature is judged by the label alone."""
    flows = [events.generate_flow(row, SEED).fields for row in range(ROWS)]
    generated = [events.generate_request(row, SEED) for row in range(ROWS)]
    requests = reference.silver_rows((event.fields for event in generated), _names(events.REQUEST))
    for row, event in zip(requests, generated, strict=True):
        signature = "path_traversal" if "passwd" in row["path"] else "restricted_file"
        row["attack_signature"] = signature if event.label == "web_probe" else None
        row["path"] = row["path"].split("?")[0]
    return {"network_flows": reference.silver_rows(flows, _names(events.FLOW)), "network_requests": requests}


@pytest.fixture(scope="module")
def frames(spark: SparkSession, silver_rows: dict[str, list[Row]]) -> dict[str, DataFrame]:
    return {
        "network_flows": _frame(spark, silver_rows["network_flows"], events.FLOW).cache(),
        "network_requests": _frame(
            spark, silver_rows["network_requests"], silver.masked_schema(events.REQUEST)
        ).cache(),
    }


@pytest.fixture(scope="module")
def batch_rows(frames: dict[str, DataFrame]) -> Callable[[str], list[Row]]:
    """A table's rows made of the frames as a batch, computed once."""
    return cache(lambda name: _rows(_transform(TABLES[name], frames)))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_equals_an_independent_computation(
    silver_rows: dict[str, list[Row]], batch_rows: Callable[[str], list[Row]], name: str
) -> None:
    """A cycle of synthetic traffic with every anomaly, the same rows to the last digit but nine."""
    compute: Callable[..., list[Row]] = getattr(reference, name.removeprefix("network_"))
    expected = compute(*(silver_rows[each.table] for each in TABLES[name].streams))
    assert len(expected) >= 2
    assert batch_rows(name) == _sorted(expected)


@pytest.mark.parametrize("name", TABLES)
def test_a_stream_equals_the_batch(
    spark: SparkSession,
    frames: dict[str, DataFrame],
    batch_rows: Callable[[str], list[Row]],
    name: str,
    tmp_path: Path,
) -> None:
    """Three micro-batches, cut anywhere, in the output mode of the table; a last event days later closes what is open.

    That event is one which every filter drops: the watermark must see it too.
    """
    table, streams = TABLES[name], {}
    for each in table.streams:
        rows = frames[each.table]
        for number, part in enumerate((*_cut(rows), _closing(spark, rows.schema))):
            part.coalesce(1).write.parquet(str(tmp_path / each.table / f"{number}"))
        pieces = spark.readStream.schema(rows.schema).option("maxFilesPerTrigger", 1)
        read = pieces.option("recursiveFileLookup", True).parquet(str(tmp_path / each.table))
        streams[each.table] = read.withWatermark(each.event_time, each.watermark_delay)
    query = (
        _transform(table, streams)
        .writeStream.format("memory")
        .queryName(name)
        .outputMode(table.output_modes[0])
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    assert len([progress for progress in query.recentProgress if progress["numInputRows"]]) >= 3
    assert all(
        operator["numRowsDroppedByWatermark"] == 0
        for progress in query.recentProgress
        for operator in progress["stateOperators"]
    )
    # Days later no source and no host is remembered.
    detectors = [each for each in query.recentProgress[-1]["stateOperators"] if "transform" in each["operatorName"]]
    assert [each["numRowsTotal"] for each in detectors] == [0] * len(detectors)
    assert _rows(spark.table(name).where(_is_not_closing(table))) == batch_rows(name)


def test_a_scan_of_fifteen_ports_is_one_row(spark: SparkSession) -> None:
    """Five sliding windows see it; fourteen ports are none."""
    scan = [_flow(second, destination_port=port, connection_state="REJ") for second, port in enumerate(range(1, 16))]
    fewer = [_flow(port, source_ip="198.18.0.2", destination_port=port, connection_state="S0") for port in range(14)]
    assert _scans(spark, scan + fewer) == [
        {
            "source_ip": "198.18.0.1",
            "scan": "port_scan",
            "window_start": NOON - timedelta(minutes=4),
            "window_end": NOON + timedelta(minutes=1),
            "failed_flows": 15,
            "failed_ports": 15,
            "failed_hosts": 1,
        }
    ]


def test_a_scan_after_a_pause_is_another(spark: SparkSession) -> None:
    """Windows that end until 12:05 see the first; a second at 12:05 still overlaps them, one at 12:11 does not."""

    def scan(source: str, minute: int) -> list[Row]:
        fields = {"source_ip": source, "connection_state": "S0"}
        return [_flow(60 * minute + host, destination_ip=f"10.0.0.{host}", **fields) for host in range(25)]

    found = _scans(spark, scan("one", 0) + scan("one", 5) + scan("two", 0) + scan("two", 11))
    assert [(row["source_ip"], row["scan"], row["window_end"].minute) for row in found] == [
        ("one", "host_scan", 1),
        ("two", "host_scan", 1),
        ("two", "host_scan", 12),
    ]


def test_only_failed_attempts_count(spark: SparkSession) -> None:
    """Not successes, not backscatter, not datagrams without an answer."""
    kinds = ({"connection_state": "SF"}, {"connection_state": "RSTRH"}, {"protocol": "udp", "connection_state": "S0"})
    flows = [_flow(port, source_ip=str(kind), destination_port=port, **kind) for kind in kinds for port in range(60)]
    assert _scans(spark, flows) == []


def test_a_slow_scan_is_found_by_memory(spark: SparkSession) -> None:
    """A probe every ten minutes: the 25th raises one alert, at the end of its minute, and ten more raise none."""
    probes = [_flow(600 * probe, destination_ip=f"10.0.1.{probe}", connection_state="S0") for probe in range(35)]
    assert _intrusions(spark, probes) == [("slow_scan", NOON + timedelta(minutes=241), 25.0, 25.0)]


def test_a_fast_scan_is_no_slow_one_too(spark: SparkSession) -> None:
    """What it probed does not count again when one more attempt fails an hour later."""
    scan = [_flow(second, destination_port=port, connection_state="REJ") for second, port in enumerate(range(1, 41))]
    later = [_flow(3_600, destination_port=9_999, connection_state="REJ")]
    assert [alert[0] for alert in _intrusions(spark, scan + later)] == ["port_scan"]


def test_thirty_refusals_at_ssh_are_brute_force(spark: SparkSession) -> None:
    """Within half an hour, at the time of the 30th; 29 are none, nor are 30 in 31 minutes."""
    guesses = [_ssh("often", 10 * number, 2_000) for number in range(40)]
    guesses += [_ssh("fewer", 10 * number, 2_000) for number in range(29)]
    guesses += [_ssh("slower", 64.2 * number, 2_000) for number in range(30)]
    assert _intrusions(spark, guesses) == [("ssh_brute_force", NOON + timedelta(seconds=290), 30.0, 30.0)]


def test_a_success_after_five_failures_is_an_alert(spark: SparkSession) -> None:
    """Within 20 minutes, across the windows; four failures and a success are a person."""
    logins = [_ssh(source, 50 * number, 2_000) for source in ("soon", "late") for number in range(5)]
    logins += [_ssh("person", 50 * number, 2_000) for number in range(4)]
    logins += [_ssh("soon", 300, 9_000), _ssh("person", 300, 9_000), _ssh("late", 1_201, 9_000)]
    assert _intrusions(spark, logins) == [("ssh_success_after_failures", NOON + timedelta(minutes=5), 5.0, 5.0)]


def test_a_scan_of_port_22_tries_no_password(spark: SparkSession) -> None:
    """It leaves open ports without a greeting, so that Zeek names no service."""
    probes = [_flow(second, destination_port=22, connection_state="RSTO", destination_bytes=0) for second in range(40)]
    assert _intrusions(spark, probes) == []


def test_a_hosts_minute_is_measured(spark: SparkSession) -> None:
    """Sources a, a, b and c: 2/4, 1/4, 1/4 are 1.5 bits; one of four requests failed."""
    requests = [_request(0, "a"), _request(1, "a"), _request(2, "b", status_code=500), _request(3, "c")]
    found = _rows(gold.request_floods(_requests(spark, requests), output_mode="append"))
    assert [row["window_start"].second for row in found] == [10, 20, 30, 40, 50, 0]
    names = ("requests", "clients", "error_share", "source_entropy_bits", "usual_requests", "flood", "is_start")
    assert {tuple(row[name] for name in names) for row in found} == {(4, 3, 0.25, 1.5, None, None, False)}


def test_a_flood_is_one_alert(spark: SparkSession) -> None:
    """Ten minutes of four requests from each of five sources, then 200 a minute. A crowd that is served is no flood."""
    requests = [
        _request(60 * minute + 2 * number, f"client-{number % 5}", host=host)
        for host in ("loud", "quiet", "crowd")
        for minute in range(10)
        for number in range(20)
    ]
    for number in range(200):
        second = 600 + 0.3 * number
        requests.append(_request(second, "z", host="loud"))
        requests.append(_request(second, f"bot-{number}", host="quiet", status_code=503))
        requests.append(_request(second, f"reader-{number}", host="crowd"))
    found = _rows(gold.request_alerts(_requests(spark, requests), output_mode="append"))
    # At 12:10:20 the window holds 60 requests or more for the first time: 14 usual ones and 67 new.
    at = NOON + timedelta(minutes=10, seconds=20)
    assert sorted((row["alert"], row["host"], row["time"], row["threshold"]) for row in found) == [
        ("few_source_flood", "loud", at, 60.0),
        ("many_source_flood", "quiet", at, 60.0),
    ]


def test_a_flow_has_a_row_for_each_request_and_one_without(spark: SparkSession) -> None:
    """A flow that was held open for 40 s and never asked is marked, a short one is not."""
    flows = [
        _flow(0, uid="two", destination_port=80, duration_s=50.0),
        _flow(0, uid="held", destination_port=80, duration_s=40.0),
        _flow(0, uid="brief", destination_port=80, duration_s=39.9),
        _flow(0, uid="mail", destination_port=25, duration_s=90.0),
    ]
    requests = [_request(second, "a", uid="two", transaction_depth=second) for second in (1, 2)]
    late = [_request(601, "a", uid="held", transaction_depth=1)]
    found = _rows(gold.flow_requests(_flows(spark, flows), _requests(spark, requests + late)))
    assert [(row["uid"], row["transaction_depth"], row["is_held_open"]) for row in found] == [
        ("brief", None, False),
        ("held", None, True),
        ("two", 1, False),
        ("two", 2, False),
    ]


def test_the_hot_path_selects_and_projects_single_requests(spark: SparkSession) -> None:
    requests = [
        _request(0, "a", uid="C1", path="/.env", attack_signature="restricted_file", status_code=200),
        _request(1, "a", uid="C2", path="/.env", attack_signature="restricted_file", status_code=404),
        _request(2, "a", uid="C3"),
    ]
    found = _rows(gold.request_alerts_now(_requests(spark, requests)))
    assert {(row["uid"], row["alert"], row["is_served"]) for row in found} == {
        ("C1", "restricted_file", True),
        ("C2", "restricted_file", False),
    }


def _names(schema: T.StructType) -> dict[str, str]:
    return {field.metadata.get("json.name", field.name): field.name for field in schema}


def _transform(table: Gold, frames: dict[str, DataFrame]) -> DataFrame:
    inputs = [frames[each.table] for each in table.streams]
    return table.transform(*inputs, **({"output_mode": "append"} if table.state.name == "CUSTOM" else {}))


def _frame(spark: SparkSession, rows: list[Row], schema: T.StructType) -> DataFrame:
    plain = T.StructType([T.StructField(field.name, field.dataType) for field in schema])
    return spark.createDataFrame([tuple(row.get(name) for name in plain.names) for row in rows], plain)


def _cut(rows: DataFrame) -> Iterator[DataFrame]:
    """In two parts, as they were logged: the second has flows that began before the first part's last ones ended."""
    is_first = F.col("time") < NOON.replace(hour=0, minute=31)
    if "duration_s" in rows.columns:
        is_first = F.timestamp_seconds(F.unix_seconds("time") + F.col("duration_s")) < NOON.replace(hour=0, minute=31)
    yield rows.where(is_first)
    yield rows.where(~is_first)


def _closing(spark: SparkSession, schema: T.StructType) -> DataFrame:
    row = {"time": NOON + timedelta(days=9), "uid": "closing", "source_ip": "10.9.9.9", "host": "closing"}
    return _frame(spark, [row | {"protocol": "udp", "connection_state": "SF"}], schema)


def _is_not_closing(table: Gold) -> str:
    return "host <> 'closing'" if table.table == "network_request_floods" else "true"


def _rows(frame: DataFrame) -> list[Row]:
    return _sorted(row.asDict() for row in frame.collect())


def _sorted(rows: Any) -> list[Row]:
    rounded = [
        {name: round(value, 9) if isinstance(value, float) else value for name, value in row.items()} for row in rows
    ]
    return sorted(rounded, key=lambda row: str(sorted(row.items())))


def _flow(second: float, **fields: Any) -> Row:
    row = {"uid": f"C{second}", "source_ip": "198.18.0.1", "destination_ip": "10.0.0.1", "destination_port": 443}
    return row | {"time": NOON + timedelta(seconds=second), "protocol": "tcp", "connection_state": "SF"} | fields


def _ssh(source: str, second: float, received: int) -> Row:
    fields = {"service": "ssh", "destination_port": 22, "destination_bytes": received}
    return _flow(second, source_ip=source, **fields)


def _request(second: float, source: str, **fields: Any) -> Row:
    row = {"uid": f"C{second}", "source_ip": source, "host": "www", "method": "GET", "path": "/"}
    return row | {"time": NOON + timedelta(seconds=second), "status_code": 200} | fields


def _flows(spark: SparkSession, rows: list[Row]) -> DataFrame:
    return _frame(spark, rows, events.FLOW)


def _requests(spark: SparkSession, rows: list[Row]) -> DataFrame:
    return _frame(spark, rows, silver.masked_schema(events.REQUEST))


def _scans(spark: SparkSession, rows: list[Row]) -> list[Row]:
    found = _rows(gold.port_scans(_flows(spark, rows), output_mode="append"))
    return sorted(found, key=lambda row: (row["source_ip"], row["window_end"]))


def _intrusions(spark: SparkSession, rows: list[Row]) -> list[tuple[Any, ...]]:
    found = _rows(gold.intrusion_alerts(_flows(spark, rows), output_mode="append"))
    return sorted((row["alert"], row["time"], row["value"], row["threshold"]) for row in found)
