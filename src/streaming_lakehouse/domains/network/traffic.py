"""The base traffic's flows: people at web sites, name look-ups, mail, a monitor, and what fails without ill will."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from streaming_lakehouse.domains.network.schedule import BASE_PER_SECOND, event_time
from streaming_lakehouse.pipeline.synthetic import uniform_randoms

CLIENTS = 400
SITES = tuple(f"{name}.example.org" for name in ("www", "shop", "news", "api", "media", "wiki", "forum", "mail"))
_PATHS = 200
_CLIENT_SKEW, _SITE_SKEW, _PATH_SKEW = (
    0.65,
    0.95,
    1.05,
)  # Zipf exponents, measured: clients 0.5 to 0.8, paths 1.0 to 1.1
_IPV6_SHARE = 0.05
FLOWS_PER_VISIT, REQUESTS_PER_VISIT = 3, 5  # one client at one site: arrivals come in bursts, as people's do
LANES = 10  # base flows go round them: two visits, then the other services
_DEAD_SERVICES = (("10.0.3.7", 445), ("10.0.3.8", 8080), ("10.0.3.9", 3389), ("10.0.3.9", 5432), ("10.0.4.2", 25))


class Kind(NamedTuple):
    protocol: str
    service: str | None
    state: str
    history: str


class Flow(NamedTuple):
    """One flow: `start_s` and `end_s` in seconds since 1970, `site` the host its requests name."""

    uid: str
    start_s: float
    end_s: float
    source: tuple[str, int]
    destination: tuple[str, int]
    kind: Kind
    source_bytes: int
    destination_bytes: int
    site: str = ""


def base_flow(number: int, seed: int) -> Flow:
    """Base flow `number`, counted over all cycles."""
    lane = number % LANES
    if lane < 2 * FLOWS_PER_VISIT:
        return visit_flow(number // LANES * 2 + lane // FLOWS_PER_VISIT, lane % FLOWS_PER_VISIT, seed)
    return _service_flow(number, lane, seed) if lane < LANES - 1 else _odd_flow(number, seed)


@lru_cache(maxsize=256)  # the requests of a flow come one after the other
def visit_flow(visit: int, member: int, seed: int) -> Flow:
    """Flow `member` of the visit of one client to one site: HTTP, with at least one request."""
    number = visit // 2 * LANES + visit % 2 * FLOWS_PER_VISIT + member
    who, where, *_ = uniform_randoms(seed, visit, 21)
    port, size, length, reset, skew, *_ = uniform_randoms(seed, number, 22)
    rank = zipf(len(SITES), _SITE_SKEW, where)
    kind = Kind("tcp", "http", "RSTO", "ShADadR") if reset < 0.02 else Kind("tcp", "http", "SF", "ShADadFf")
    ends = (client(zipf(CLIENTS, _CLIENT_SKEW, who)), ephemeral(port)), (server(rank), 80)
    flow = make_flow(
        (seed, number),
        (base_end(number, skew), min(60.0, _lognormal(0.4, 1.2, length))),
        ends,
        kind,
        (400 + int(size * 600), int(_lognormal(12_000, 1.3, size))),
    )
    return flow._replace(site=SITES[rank])


def _service_flow(number: int, lane: int, seed: int) -> Flow:
    """Name look-ups, TLS, and a monitor that reaches many hosts: its attempts succeed, and so it is no scanner."""
    who, port, size, length, skew, host, *_ = uniform_randoms(seed, number, 23)
    source = (client(zipf(CLIENTS, _CLIENT_SKEW, who)), ephemeral(port))
    duration = min(500.0, _lognormal(0.3, 2.0, length))
    if lane == 6:
        kind, destination, sizes = Kind("udp", "dns", "SF", "Dd"), ("10.0.0.53", 53), (60, 180)
    elif lane == 7:
        kind, destination = Kind("tcp", "ssl", "SF", "ShADadFf"), (server(int(host * len(SITES))), 443)
        sizes = (900, int(_lognormal(20_000, 1.2, size)))
    else:
        source, kind = ("10.0.0.5", ephemeral(port)), Kind("tcp", None, "SF", "ShADadFf")
        destination, sizes = (
            (f"10.0.{1 + int(host * 4)}.{number // LANES % 60}", 9_100 + number // LANES % 7),
            (80, 120),
        )
    return make_flow((seed, number), (base_end(number, skew), duration), (source, destination), kind, sizes)


def _odd_flow(number: int, seed: int) -> Flow:
    """Services that are down, people at SSH of whom some mistype a password, and mail."""
    chosen, who, port, size, length, skew, host, _ = uniform_randoms(seed, number, 24)
    source, duration = (client(zipf(CLIENTS, _CLIENT_SKEW, who)), ephemeral(port)), 0.2 + length
    kind, destination, sizes = Kind("tcp", "smtp", "SF", "ShAdDaFf"), ("10.0.0.25", 25), (4_000, 600)
    if chosen < 0.3:
        kind = Kind("tcp", None, "REJ", "Sr") if size < 0.5 else Kind("tcp", None, "S0", "S")
        destination, sizes = _DEAD_SERVICES[int(host * len(_DEAD_SERVICES))], (0, 0)
    elif chosen < 0.6:
        is_mistyped = length < 0.05
        received = 1_500 + int(size * 1_500) if is_mistyped else 5_000 + int(_lognormal(30_000, 1.0, size))
        kind, destination, sizes = (
            Kind("tcp", "ssh", "SF", "ShAdDaFf"),
            (f"10.0.1.{10 + int(host * 20)}", 22),
            (2_500, received),
        )
        source, duration = (f"10.0.9.{10 + int(who * 12)}", ephemeral(port)), 2 + length * 200
    return make_flow((seed, number), (base_end(number, skew), duration), (source, destination), kind, sizes)


def base_end(number: int, skew: float) -> float:
    """When base flow `number` ends, in seconds since 1970, with up to half a second of clock skew."""
    return event_time(number / BASE_PER_SECOND) + skew / 2


def make_flow(
    counter: tuple[int, ...],
    timing: tuple[float, float],
    ends: tuple[tuple[str, int], tuple[str, int]],
    kind: Kind,
    sizes: tuple[int, int],
) -> Flow:
    """A flow from `ends[0]` to `ends[1]`, with the bytes that each of them sent.

    `timing` is its end and how long it lasts, `counter` numbers that no other flow has.
    """
    end_s, duration_s = timing
    # As Zeek's uid: a C and a text without meaning.
    digest = blake2b(struct.pack(f"<{len(counter)}q", *counter), digest_size=9).hexdigest()
    return Flow(f"C{digest}", end_s - duration_s, end_s, *ends, kind, *sizes)


def client(rank: int) -> str:
    """The address of the client that comes `rank`-th most often: of the block for benchmarks, RFC 2544, or IPv6."""
    if rank % 20 == 7:
        return f"2001:db8:0:1::{rank + 1:x}"
    return f"198.18.{rank // 200}.{1 + rank % 200}"


def attacker(seed: int, *counter: int) -> str:
    high, low, ipv6, *_ = uniform_randoms(seed, *counter)
    if ipv6 < _IPV6_SHARE:
        return f"2001:db8:bad::{int(high * 65_535) + 1:x}"
    return f"198.19.{int(high * 256)}.{1 + int(low * 254)}"


def server(site: int) -> str:
    return f"10.0.0.{80 + site}"


def path(rank: int) -> str:
    return "/" if rank == 0 else f"/pages/{rank}"


def zipf(size: int, exponent: float, uniform: float) -> int:
    """A rank from 0 whose probability falls with its power `exponent`, by the inverse of the continuous law."""
    power = 1 - exponent
    rank = ((((size + 1) ** power) - 1) * uniform + 1) ** (1 / power)
    return min(size, int(rank)) - 1


def page(uniform: float) -> str:
    return path(zipf(_PATHS, _PATH_SKEW, uniform))


def _lognormal(median: float, sigma: float, uniform: float) -> float:
    """By the logistic law, which is near the normal one and has an inverse in closed form."""
    odds = min(max(uniform, 1e-9), 1 - 1e-9)
    return median * math.exp(sigma * math.log(odds / (1 - odds)) / 1.702)


def ephemeral(uniform: float) -> int:
    return 32_768 + int(uniform * 28_000)
