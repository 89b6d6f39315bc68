"""The flows of the anomalies, and of what only looks like one: their shapes, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from streaming_lakehouse.domains.network.schedule import BASE_PER_SECOND, CYCLE_S, Position, event_time, slots
from streaming_lakehouse.domains.network.traffic import (
    CLIENTS,
    LANES,
    SITES,
    Flow,
    Kind,
    attacker,
    base_end,
    client,
    ephemeral,
    make_flow,
    server,
)
from streaming_lakehouse.pipeline.synthetic import Episode, uniform_randoms

BOTS = 320
_SCANNED_PORTS = (22, 23, 445, 1433, 3306, 3389, 5900, 8080)
_REJECTED, _UNANSWERED = Kind("tcp", None, "REJ", "Sr"), Kind("tcp", None, "S0", "S")
_HALF_OPEN = Kind("tcp", None, "RSTO", "ShR")  # an open port, as a scanner leaves it
_HTTP = Kind("tcp", "http", "SF", "ShADadFf")
_SSH = Kind("tcp", "ssh", "SF", "ShAdDaFf")


class SlowScan(NamedTuple):
    """A scan of which no window of minutes sees more than a few probes, one a span of `cycles`."""

    pace_s: int
    probes: int
    cycles: int


# Between nmap's T1, a probe every 15 s, and its T0, one every 300 s.
SLOW_SCANS = (SlowScan(30, 60, 1), SlowScan(60, 40, 1), SlowScan(120, 40, 2), SlowScan(300, 40, 4))
_TICK_S = LANES / BASE_PER_SECOND


class Shape(NamedTuple):
    """What the flow of a kind is like; without `source` it is the episode's one attacker's."""

    destination: tuple[str, int]
    kind: Kind = _HTTP
    sizes: tuple[int, int] = (500, 2_000)
    duration_s: float = 0.3
    source: str | None = None


class Scene(NamedTuple):
    """What a shape depends on: the flow's number, its own dice, and dice that the whole episode shares."""

    number: int
    is_last: bool
    dice: tuple[float, ...]
    shared: tuple[float, ...]
    attacker: Callable[[int], str]

    @property
    def site(self) -> int:
        return int(self.shared[0] * len(SITES))


@lru_cache(maxsize=256)  # the requests of a flow come one after the other
def stretch_flow(position: Position, seed: int) -> tuple[Flow, Episode | None]:
    """The flow at a position in a stretch, and the episode that it is part of."""
    cycle, slot, stretch, number = position
    assert stretch
    dice = uniform_randoms(seed, cycle, slot, number, 41)
    shared = uniform_randoms(seed, cycle, slot, 42)
    scene = Scene(number, number == stretch.flows - 1, dice, shared, lambda bot: attacker(seed, cycle, slot, 43 + bot))
    shape = _SHAPES[stretch.kind](scene)
    source = (shape.source or scene.attacker(0), ephemeral(dice[6]))
    _, start_s, length_s = slots(cycle, seed)[slot]
    end_s = event_time(cycle * CYCLE_S + start_s + length_s * (number + 1) / stretch.flows) + dice[7] / 2
    flow = make_flow(
        (seed, cycle, slot, number), (end_s, shape.duration_s), (source, shape.destination), shape.kind, shape.sizes
    )
    flow = flow._replace(site=SITES[scene.site])
    if not stretch.is_anomaly:
        return flow, None
    entity = flow.site if stretch.kind.endswith("flood") else scene.attacker(0)
    return flow, Episode(stretch.kind, entity, f"{stretch.kind}-{seed}-{cycle}")


def slow_probe(number: int, seed: int) -> tuple[Flow, Episode] | None:
    """The probe of a slow scan that takes base flow `number`'s turn, where one is due."""
    if number % LANES < LANES - 1:
        return None
    tick = number // LANES
    for phase, scan in enumerate(SLOW_SCANS, start=1):  # all periods divide by 12 ticks: phases 1 to 4 never meet
        period, span = round(scan.pace_s / _TICK_S), round(scan.cycles * CYCLE_S / _TICK_S)
        episode, tick_in_span = divmod(tick, span)
        probe, since_probe = divmod(tick_in_span, period)
        if since_probe == phase and probe < scan.probes:
            return _probe(number, seed, scan, (episode, probe))
    return None


def _probe(number: int, seed: int, scan: SlowScan, at: tuple[int, int]) -> tuple[Flow, Episode]:
    episode, probe = at
    source = attacker(seed, episode, scan.pace_s, 31)
    first_port, first_host, skew, *_ = uniform_randoms(seed, episode, scan.pace_s, 32)
    # The fastest tries many hosts on one port; on many ports a window of minutes would see it.
    step = probe if scan.pace_s > SLOW_SCANS[0].pace_s else 0
    port = _SCANNED_PORTS[(step + int(first_port * 8)) % len(_SCANNED_PORTS)]
    host = f"10.0.2.{1 + (probe * 7 + int(first_host * 200)) % 250}"
    kind = _UNANSWERED if probe % 3 else _REJECTED
    flow = make_flow(
        (seed, number), (base_end(number, skew), 0.01), ((source, 40_000 + probe), (host, port)), kind, (0, 0)
    )
    return flow, Episode("slow_scan", source, f"slow_scan-{scan.pace_s}s-{seed}-{episode}")


def _port_scan(scene: Scene) -> Shape:
    roll = scene.dice[0]
    # Of a measured vertical scan's ports 86 % rejected it.
    kind = _REJECTED if roll < 0.86 else _UNANSWERED if roll < 0.97 else _HALF_OPEN
    return Shape((f"10.0.1.{1 + int(scene.shared[1] * 200)}", 1 + scene.number * 11), kind, (0, 0), 0.01)


def _host_scan(scene: Scene) -> Shape:
    roll = scene.dice[0]
    kind = _UNANSWERED if roll < 0.8 else _REJECTED if roll < 0.95 else _HALF_OPEN
    port = _SCANNED_PORTS[int(scene.shared[1] * len(_SCANNED_PORTS))]
    return Shape((f"10.0.2.{1 + scene.number}", port), kind, (0, 0), 0.01)


def _backscatter(scene: Scene) -> Shape:
    """Answers of a victim to addresses of ours that somebody else forged: nobody here had asked."""
    kind = Kind("tcp", None, "RSTRH", "^r") if scene.dice[0] < 0.5 else Kind("tcp", None, "SHR", "^h")
    host = f"10.0.{1 + scene.number % 4}.{1 + scene.number * 3 % 250}"
    return Shape((host, 1_024 + int(scene.dice[1] * 60_000)), kind, (0, 0), 0.01)


def _ssh_failure(scene: Scene) -> Shape:
    sizes = 1_800, 1_500 + int(scene.dice[1] * 1_800)
    return Shape((f"10.0.1.{10 + int(scene.shared[1] * 20)}", 22), _SSH, sizes, 1 + scene.dice[2] * 3)


def _ssh_success_at_last(scene: Scene) -> Shape:
    return _ssh_failure(scene)._replace(sizes=(6_000, 20_000)) if scene.is_last else _ssh_failure(scene)


def _slowloris(scene: Scene) -> Shape:
    """A request that never ends holds a connection open until the server gives it up."""
    kind = Kind("tcp", None, "RSTR", "ShADaR")
    return Shape((server(scene.site), 80), kind, (240, 0), 60 + scene.dice[2] * 240)


def _to_site(scene: Scene) -> Shape:
    return Shape((server(scene.site), 80))


_SHAPES: Mapping[str, Callable[[Scene], Shape]] = {
    "backscatter": _backscatter,
    "port_scan": _port_scan,
    "host_scan": _host_scan,
    "ssh_brute_force": _ssh_failure,
    "ssh_success_after_failures": _ssh_success_at_last,
    "slowloris": _slowloris,
    "few_source_flood": lambda scene: _to_site(scene)._replace(source=scene.attacker(scene.number % 2), duration_s=4.0),
    "many_source_flood": lambda scene: _to_site(scene)._replace(source=scene.attacker(int(scene.dice[1] * BOTS))),
    "flash_crowd": lambda scene: _to_site(scene)._replace(source=client(int(scene.dice[1] * CLIENTS)), duration_s=1.5),
    "login_brute_force": _to_site,
    "login_success_after_failures": _to_site,
    "web_probe": _to_site,
}
