"""Matches written down by hand, as timeline events, and events as Spark and the reference read them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.domains.sports.events import SCHEMA, generate
from streaming_lakehouse.domains.sports.silver import with_clock_s

KICK_OFF = datetime(2026, 1, 10, 14, tzinfo=UTC)


class MatchScript:
    """One match: each call adds an event, at a second after the kick-off, and returns its id."""

    def __init__(
        self, match_id: str = "m1", home: str = "A", away: str = "B", season: str = "s1", day: int = 0
    ) -> None:
        self.base = {"season_id": season, "match_id": match_id, "home_team": home, "away_team": away}
        self.kick_off = KICK_OFF + timedelta(days=day)
        self.events: list[dict[str, Any]] = []

    def add(self, kind: str, at_s: int, **fields: Any) -> str:
        event_id = fields.pop("event_id", f"{self.base['match_id']}-{len(self.events)}")
        time = self.kick_off + timedelta(seconds=at_s)
        self.events.append({**self.base, "event_id": event_id, "type": kind, "time": time, **fields})
        return event_id

    def goal(self, side: str, at_s: int, **fields: Any) -> str:
        half, second = (1, at_s) if at_s < 2700 else (2, at_s)
        usual = {"method": "shot", "period": half, "match_clock": f"{second // 60}:{second % 60:02d}"}
        return self.add("score_change", at_s, competitor=side, **usual | fields)

    def start(self) -> MatchScript:
        self.add("match_started", 0)
        self.add("period_start", 0, period=1)
        return self

    def end(self) -> MatchScript:
        self.add("match_ended", 6600)
        return self


def played(
    home: str, away: str, home_goals: int, away_goals: int, season: str = "s1", day: int = 0
) -> list[dict[str, Any]]:
    """A whole match with goals a minute apart."""
    script = MatchScript(f"{season}-{day}-{home}-{away}", home, away, season, day).start()
    for number in range(home_goals):
        script.goal("home", 300 + 60 * number)
    for number in range(away_goals):
        script.goal("away", 330 + 60 * number)
    return script.end().events


def shuffled(events: Iterable[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    mixed = list(events)
    random.Random(seed).shuffle(mixed)
    return mixed


def silver(spark: SparkSession, events: Iterable[dict[str, Any]]) -> DataFrame:
    """The events as silver has them."""
    rows = [tuple(event.get(name) for name in SCHEMA.names) for event in events]
    return with_clock_s(spark.createDataFrame(rows, SCHEMA))


def generated(start: int, end: int, seed: int) -> list[dict[str, Any]]:
    """Events of the generator, with times as datetimes."""
    made = [dict(generate(row, seed).fields) for row in range(start, end)]
    return [event | {"time": datetime.fromisoformat(event["time"])} for event in made]


def rows_of(table: DataFrame) -> list[dict[str, Any]]:
    """A table's rows, with times in UTC as the reference has them."""
    return [{name: _utc(value) for name, value in row.asDict(recursive=True).items()} for row in table.collect()]


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value
