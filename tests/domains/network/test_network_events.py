"""Network's generators: pure functions of row and seed, whose two streams agree, with labelled anomalies."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from streaming_lakehouse.domains.network import events
from streaming_lakehouse.domains.network.schedule import STRETCHES
from streaming_lakehouse.domains.network.silver import FLOWS_WATERMARK, REQUESTS_WATERMARK
from streaming_lakehouse.pipeline.synthetic import CLEAN, Event

SEED, ROWS = 21, 14_000  # a cycle has about 13,300 rows
Rows = list[Event]


@pytest.fixture(scope="module")
def flows() -> Rows:
    return [events.generate_flow(row, SEED) for row in range(ROWS)]


@pytest.fixture(scope="module")
def requests() -> Rows:
    return [events.generate_request(row, SEED) for row in range(ROWS)]


def test_a_row_does_not_depend_on_the_rows_before(flows: Rows, requests: Rows) -> None:
    """Made alone and in another order, a row is the same; with another seed it is not."""
    chosen = random.Random(1).sample(range(ROWS), 400)
    assert [events.generate_flow(row, SEED) for row in chosen] == [flows[row] for row in chosen]
    assert [events.generate_request(row, SEED) for row in chosen] == [requests[row] for row in chosen]
    assert events.generate_flow(0, SEED + 1) != flows[0]


def test_every_request_belongs_to_a_flow(flows: Rows, requests: Rows) -> None:
    """The same connection, within the flow's time, and part of the same episode."""
    by_uid = {flow.fields["uid"]: flow for flow in flows}
    found = [(by_uid[request.fields["uid"]], request) for request in requests if request.fields["uid"] in by_uid]
    assert len(found) > 0.9 * ROWS  # the last ones' flows end after the last row
    for flow, request in found:
        assert flow.episode == request.episode
        for name in ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p"):
            assert flow.fields[name] == request.fields[name]
        assert flow.fields["ts"] <= request.fields["ts"] <= flow.fields["ts"] + flow.fields["duration"] + 1e-5


def test_keys_are_unique(flows: Rows, requests: Rows) -> None:
    assert len({flow.fields["uid"] for flow in flows}) == ROWS
    assert len({(request.fields["uid"], request.fields["trans_depth"]) for request in requests}) == ROWS


def test_rows_come_in_the_order_of_their_log(flows: Rows, requests: Rows) -> None:
    """A flow is logged at its end and stamped with its start; no valid event is behind its watermark."""
    ends = [flow.fields["ts"] + flow.fields["duration"] for flow in flows]
    assert max(_delays(ends)) < 1.5
    assert 60 < max(_delays([flow.fields["ts"] for flow in flows])) < FLOWS_WATERMARK.total_seconds()
    assert max(_delays([request.fields["ts"] for request in requests])) < REQUESTS_WATERMARK.total_seconds()
    assert datetime.fromtimestamp(ends[0], UTC).date().isoformat() == "2026-01-01"


def test_each_cycle_has_every_anomaly_once(flows: Rows) -> None:
    """And slow scans, of which there are four at a time."""
    rows = Counter(flow.label for flow in flows)
    for stretch in STRETCHES:
        if stretch.is_anomaly:
            assert stretch.flows <= rows[stretch.kind] <= 2 * stretch.flows
    assert 0.9 < rows[CLEAN] / ROWS < 0.95
    episodes = {flow.episode for flow in flows if flow.episode and flow.label == "slow_scan"}
    assert len({episode.id for episode in episodes}) >= 4


def test_labels_say_what_the_event_is(flows: Rows, requests: Rows) -> None:
    scan = [flow.fields for flow in flows if flow.label == "port_scan"]
    assert len({fields["id.resp_p"] for fields in scan}) == 90
    assert len({(fields["id.orig_h"], fields["id.resp_h"]) for fields in scan}) == 1
    assert 0.7 < sum(fields["conn_state"] == "REJ" for fields in scan) / 90 < 0.97
    guesses = [request.fields for request in requests if request.label == "login_brute_force"]
    assert {(fields["method"], fields["uri"], fields["status_code"]) for fields in guesses} == {("POST", "/login", 401)}
    held_open = {flow.fields["uid"] for flow in flows if flow.label == "slowloris"}
    assert held_open and not held_open & {request.fields["uid"] for request in requests}


def test_what_only_looks_like_an_attack_is_clean(flows: Rows) -> None:
    """Backscatter reaches many hosts and ports of ours, and has no label."""
    backscatter = [flow for flow in flows if flow.fields["conn_state"] in ("RSTRH", "SHR")]
    assert len({flow.fields["id.resp_p"] for flow in backscatter}) >= 50
    assert {flow.label for flow in backscatter} == {CLEAN}


def _delays(times: list[float]) -> list[float]:
    """How far each is behind the newest before it."""
    newest, delays = times[0], []
    for time in times:
        newest = max(newest, time)
        delays.append(newest - time)
    return delays
