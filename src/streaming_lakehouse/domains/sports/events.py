"""Sports' events: the timeline of football matches, one JSON object an event, and a generator of them.

Field names and event types are those of Sportradar's soccer timeline. Its push feed names the season and the match in
the metadata of a message. It does not say which event a review is about: `related_event_id` is Sportmonks' name for
that, and `canceled_goal` and `delete_event` are how live feeds of betting sites report corrections.
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import types as T

from streaming_lakehouse.domains.sports.fixtures import MATCHES_AT_ONCE, SLOTS
from streaming_lakehouse.domains.sports.timeline import event_at
from streaming_lakehouse.pipeline import Event, EventGenerator

_STRING = T.StringType()
_PLAYER = T.StructType([T.StructField(name, _STRING) for name in ("id", "name", "type")])

# competitor is home or away: the team that the event counts for, of an own goal too. match_clock is minutes:seconds and
# stops at 45:00 and 90:00, where stoppage_time_clock starts. home_score and away_score are the feed's, after the event.
SCHEMA = T.StructType(
    [
        T.StructField("event_id", _STRING),
        T.StructField("season_id", _STRING),
        T.StructField("match_id", _STRING),
        T.StructField("home_team", _STRING),
        T.StructField("away_team", _STRING),
        T.StructField("type", _STRING),
        T.StructField("time", T.TimestampType()),
        T.StructField("period", T.LongType()),
        T.StructField("match_clock", _STRING),
        T.StructField("stoppage_time_clock", _STRING),
        T.StructField("competitor", _STRING),
        T.StructField("method", _STRING),
        T.StructField("description", _STRING),
        T.StructField("related_event_id", _STRING),
        T.StructField("home_score", T.LongType()),
        T.StructField("away_score", T.LongType()),
        T.StructField("players", T.ArrayType(_PLAYER)),
    ]
)


def generate(row: int, seed: int) -> Event:
    """One event of one match: rows go round the matches of a kick-off, slot by slot, then on to the next kick-off.

    Labels: duplicate_goal (one goal under two event ids), unstarted_match (a goal of a match that is never played),
    early_correction (delivered before its goal), goal_canceled_after_end, goal_canceled_next_day. The first two have an
    episode, whose entity is the match.
    """
    block, position = divmod(row, MATCHES_AT_ONCE * SLOTS)
    slot, lane = divmod(position, MATCHES_AT_ONCE)
    event = event_at(block * MATCHES_AT_ONCE + lane, slot, seed)
    return event._replace(fields=dict(event.fields))  # the caller may change it, and the match is cached


TIMELINE = EventGenerator(
    generate=generate,
    key="match_id",
    time="time",
    out_of_range=(
        *({name: ""} for name in ("event_id", "season_id", "match_id", "home_team", "type")),
        {"competitor": "guest"},
        {"type": "corner_kick", "competitor": None},
        {"type": "score_change", "competitor": "home", "match_clock": None},
        {"type": "delete_event", "related_event_id": None},
        {"match_clock": "90+4"},
        {"match_clock": "45:00\n"},
        {"stoppage_time_clock": "4 min"},
        {"period": 99},
        {"home_score": -1},
        {"away_score": 100},
    ),
    unknown_field=("coverage_level", "gold"),
    lateness=timedelta(hours=4),
)
