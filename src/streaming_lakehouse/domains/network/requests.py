"""The HTTP requests of the generated flows: which of them a flow has, and what each asks and receives."""

from __future__ import annotations

from typing import NamedTuple

from streaming_lakehouse.domains.network.attacks import stretch_flow
from streaming_lakehouse.domains.network.schedule import Position
from streaming_lakehouse.domains.network.traffic import FLOWS_PER_VISIT, REQUESTS_PER_VISIT, Flow, page, visit_flow
from streaming_lakehouse.pipeline.synthetic import Episode, uniform_randoms

LOGIN_PATH = "/login"
_LOGIN_VISITS = 0.04
_MISTYPED = 0.15
_BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15",
    "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0.0.0 Mobile Safari/537.36",
)
_TOOL = "python-requests/2.32"
_PROBES = (
    "/.env",
    "/.git/config",
    "/wp-config.php.bak",
    "/static/../../../../etc/passwd",
    "/download?f=..%2f..%2fetc%2fpasswd",
)


class Exchange(NamedTuple):
    """One request and its response, number `depth` of its flow, at `time_s` in seconds since 1970."""

    flow: Flow
    depth: int
    time_s: float
    method: str
    uri: str
    user_agent: str
    request_bytes: int
    response_bytes: int
    status: int


def base_exchange(number: int, seed: int) -> Exchange:
    """Base request `number`, counted over all cycles: a visit's last flow has all the requests that are left."""
    visit, turn = divmod(number, REQUESTS_PER_VISIT)
    member = min(turn, FLOWS_PER_VISIT - 1)
    is_login, browser, *_ = uniform_randoms(seed, visit, 61)
    where, luck, size, *_ = uniform_randoms(seed, number, 62)
    method, uri = "GET", page(where)
    # Of measured requests 91 % were answered with 200.
    status = 200 if luck < 0.91 else 304 if luck < 0.94 else 404 if luck < 0.985 else 403 if luck < 0.99 else 500
    if is_login < _LOGIN_VISITS and turn == FLOWS_PER_VISIT:
        method, uri, status = "POST", LOGIN_PATH, 401 if luck < _MISTYPED else 302
    elif uri != "/" and size < 0.1:
        uri += f"?session={visit}"
    return _exchange(
        visit_flow(visit, member, seed),
        (turn - member, REQUESTS_PER_VISIT - FLOWS_PER_VISIT + 1),
        (method, uri, status),
        _BROWSERS[int(browser * 3)],
        size,
    )


def stretch_exchange(position: Position, seed: int) -> tuple[Exchange, Episode | None]:
    """The request at a position in a stretch: each of its flows has as many as the others."""
    stretch = position.stretch
    assert stretch
    turns = stretch.requests // stretch.flows
    flow_number, turn = divmod(position.number, turns)
    flow, episode = stretch_flow(position._replace(number=flow_number), seed)
    where, luck, size, browser, *_ = uniform_randoms(seed, position.cycle, position.slot, position.number, 63)
    asked, agent = ("GET", page(where), 200), _BROWSERS[int(browser * 3)]
    if stretch.kind == "few_source_flood":
        asked, agent = ("GET", f"/search?q={int(where * 1e9)}", 503 if luck < 0.3 else 200), _TOOL
    elif stretch.kind == "many_source_flood":
        asked = ("GET", "/", 503 if luck < 0.3 else 200)
    elif stretch.kind == "web_probe":
        asked, agent = ("GET", _PROBES[position.number % len(_PROBES)], 404 if luck < 0.9 else 200), _TOOL
    elif stretch.kind.startswith("login"):
        is_success = stretch.kind.endswith("failures") and position.number == stretch.requests - 1
        asked, agent = ("POST", LOGIN_PATH, 302 if is_success else 401), _TOOL
    return _exchange(flow, (turn, turns), asked, agent, size), episode


def _exchange(flow: Flow, turn: tuple[int, int], asked: tuple[str, str, int], agent: str, size: float) -> Exchange:
    number, turns = turn
    method, uri, status = asked
    # In the first nine tenths of the flow, so that no request is later than its end.
    time_s = flow.start_s + (flow.end_s - flow.start_s) * (0.1 + 0.8 * number / turns)
    sent = int(80 * size) if method == "POST" else 0
    return Exchange(flow, number + 1, time_s, method, uri, agent, sent, 300 + int(size * size * 60_000), status)
