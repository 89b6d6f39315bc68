"""Sports' tables of matches, the scoreboard and the momentum, from silver rows: written from the README alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import groupby

from .domain import Row

CARD_POINTS = {"yellow_card": -1, "yellow_red_card": -2, "red_card": -4}
SAME_GOAL_S = 20


def clock_s(event: Row) -> int | None:
    """Seconds of play, stoppage time included; None without a match clock."""
    if event.get("match_clock") is None:
        return None
    clocks = [event["match_clock"], event.get("stoppage_time_clock") or "0:00"]
    return sum(60 * int(minutes) + int(seconds) for minutes, seconds in (clock.split(":") for clock in clocks))


class Match:
    """Everything about one match, read from its events in any order."""

    def __init__(self, events: list[Row]) -> None:
        unique = {event["event_id"]: event for event in events}
        removed = {event["related_event_id"] for event in unique.values() if event["type"] == "delete_event"}
        self.all = list(unique.values())
        self.kept = [event for event in self.all if event["event_id"] not in removed]
        self.ids = set(unique)
        self.removed = removed
        self.verdicts: dict[str, list[tuple[datetime, str, bool]]] = defaultdict(list)
        for event in self.kept:
            if event["type"].startswith("canceled_") or event["type"] == "video_assistant_referee_over":
                cancels = event["type"].startswith("canceled_") or (event.get("description") or "").startswith("no_")
                self.verdicts[event.get("related_event_id")].append((event["time"], event["event_id"], cancels))
        first = min(self.all, key=lambda event: event["time"])
        self.names = {name: first[name] for name in ("season_id", "home_team", "away_team")}
        self.started = [e["time"] for e in self.kept if e["type"] in ("match_started", "period_start")]
        self.ended = [
            event["time"]
            for event in self.kept
            if event["type"] == "match_ended"
            or (event["type"] == "match_status" and event.get("description") == "closed")
        ]
        self.goals = list(self._goals())

    def _goals(self) -> Iterable[tuple[str, set[str], bool]]:
        """Competitor, event ids of the reports, whether it stands."""
        reports = [event for event in self.all if event["type"] == "score_change"]
        for (side, _), group in groupby(
            sorted(reports, key=lambda e: (e["competitor"], e["period"], clock_s(e), e["event_id"])),
            key=lambda e: (e["competitor"], e["period"]),
        ):
            bundles: list[list[Row]] = []
            for report in group:
                if bundles and clock_s(report) - clock_s(bundles[-1][-1]) <= SAME_GOAL_S:  # type: ignore[operator]
                    bundles[-1].append(report)
                else:
                    bundles.append([report])
            for bundle in bundles:
                ids = {report["event_id"] for report in bundle}
                yield side, ids, bool(ids - self.removed) and not self.is_canceled(ids)

    def is_canceled(self, ids: set[str]) -> bool:
        verdicts = [verdict for event_id in ids for verdict in self.verdicts.get(event_id, [])]
        return bool(verdicts) and max(verdicts)[2]

    def score(self, side: str) -> int:
        return sum(1 for competitor, _, stands in self.goals if stands and competitor == side)

    def cards(self, side: str, card: str) -> int:
        return sum(
            1
            for event in self.kept
            if event["type"] == card and event["competitor"] == side and not self.is_canceled({event["event_id"]})
        )

    @property
    def status(self) -> str:
        return "ended" if self.ended else "live" if self.started else "not_started"

    @property
    def open_corrections(self) -> int:
        return sum(
            1
            for event in self.kept
            if event["type"].startswith("canceled_")
            or (event["type"] == "video_assistant_referee_over" and event.get("description") in ("goal", "no_goal"))
            if event.get("related_event_id") and event["related_event_id"] not in self.ids
        )


_OF_SCORE = {
    *("match_started", "period_start", "match_ended", "match_status", "score_change", *CARD_POINTS, "delete_event"),
    *("canceled_goal", "canceled_yellow_card", "canceled_red_card", "video_assistant_referee_over"),
}


def matches_of(events: Iterable[Row]) -> dict[str, Match]:
    by_match = defaultdict(list)
    for event in events:
        if event["type"] in _OF_SCORE:
            by_match[event["match_id"]].append(event)
    return {match_id: Match(rows) for match_id, rows in by_match.items()}


def scoreboard(events: Iterable[Row]) -> list[Row]:
    rows = []
    for match_id, match in matches_of(events).items():
        periods = [e["period"] for e in match.kept if e["type"] == "period_start" and e.get("period") is not None]
        row = {
            "match_id": match_id,
            **match.names,
            "status": match.status,
            "last_report_at": max(event["time"] for event in match.all),
            "started_at": min(match.started, default=None),
            "ended_at": min(match.ended, default=None),
            "period": max(periods, default=None),
            "goals_canceled": sum(1 for _, _, stands in match.goals if not stands),
            "duplicate_goal_reports": sum(len(ids) - 1 for _, ids, _ in match.goals),
            "open_corrections": match.open_corrections,
        }
        for side in ("home", "away"):
            row[f"{side}_score"] = match.score(side)
            row |= {f"{side}_{card}s": match.cards(side, card) for card in CARD_POINTS}
        rows.append(row)
    return rows


def momentum(events: Iterable[Row]) -> list[Row]:
    kinds = {"shot_on_target": 0, "score_change": 0, "shot_off_target": 1, "corner_kick": 2, "shot_saved": 3}
    counts: dict[tuple[str, str, str, datetime], list[int]] = defaultdict(lambda: [0] * 8)
    for event in events:
        if event["type"] not in kinds or not event.get("competitor"):
            continue
        own, other = event["home_team"], event["away_team"]
        if event["competitor"] == "away":
            own, other = other, own
        minute = event["time"].replace(second=0, microsecond=0)
        for back in range(5):
            start = minute - timedelta(minutes=back)
            counts[event["match_id"], own, other, start][kinds[event["type"]]] += 1
            counts[event["match_id"], other, own, start][4 + kinds[event["type"]]] += 1
    rows = []
    for (match_id, team, opponent, start), number in counts.items():
        own_pressure, other_pressure = (number[i] * 0.28 + number[i + 1] * 0.05 + number[i + 2] * 0.034 for i in (0, 4))
        rows.append(
            {
                **{"match_id": match_id, "team": team, "opponent": opponent},
                **{"window_start": start, "window_end": start + timedelta(minutes=5)},
                **dict(zip(("shots_on_target", "shots_off_target", "corners", "saves"), number[:4], strict=True)),
                "pressure": own_pressure,
                "opponent_pressure": other_pressure,
                "momentum": own_pressure - other_pressure,
            }
        )
    return rows
