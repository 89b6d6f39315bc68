"""Sports: the timeline of football matches, as scores, tables and momentum."""

from __future__ import annotations

import re
from collections.abc import Callable

from .domain import Domain, Expectation, Gold, Row, Silver, not_ahead, present, within
from .json_types import BOOLEAN, DOUBLE, INTEGER, LONG, STRING, TIMESTAMP
from .json_values import Array, Field, Struct
from .moments import HOUR
from .sports_matches import clock_s, momentum, scoreboard
from .sports_table import league_table
from .windows import window_end, with_datetimes

PLAYER = Struct(tuple(Field(name, STRING) for name in ("id", "name", "type")))
FIELDS = (
    *(Field(name, STRING) for name in ("event_id", "season_id", "match_id", "home_team", "away_team", "type")),
    Field("time", TIMESTAMP),
    Field("period", LONG),
    *(Field(name, STRING) for name in ("match_clock", "stoppage_time_clock", "competitor", "method", "description")),
    Field("related_event_id", STRING),
    *(Field(name, LONG) for name in ("home_score", "away_score")),
    Field("players", Array(PLAYER)),
)
OF_A_TEAM = {"score_change", "yellow_card", "yellow_red_card", "red_card"}
OF_A_TEAM |= {"shot_on_target", "shot_off_target", "corner_kick"}


def unless(is_exempt: Callable[[str], bool], is_met: Callable[[Row], bool]) -> Callable[[Row], bool]:
    """What events of these types need not have; one without a type needs everything."""
    return lambda row: is_met(row) or (row["type"] is not None and is_exempt(row["type"]))


def is_clock(name: str) -> Callable[[Row], bool]:
    return lambda row: row[name] is None or re.fullmatch("[0-9]{1,3}:[0-5][0-9]", row[name]) is not None


def is_correction(kind: str) -> bool:
    return kind.startswith("canceled_") or kind == "delete_event"


RULES: dict[str, Callable[[Row], bool]] = {
    "match_id_is_present": present("match_id"),
    "season_id_is_present": present("season_id"),
    "teams_are_two": lambda row: len({row["home_team"], row["away_team"]} - {None, ""}) == 2,
    "type_is_present": present("type"),
    "competitor_is_known": lambda row: row["competitor"] in (None, "home", "away"),
    "competitor_is_present": unless(lambda kind: kind not in OF_A_TEAM, lambda row: row["competitor"] is not None),
    "goal_has_clock": unless(
        lambda kind: kind != "score_change", lambda row: None not in (row["period"], row["match_clock"])
    ),
    "match_clock_is_valid": is_clock("match_clock"),
    "stoppage_time_clock_is_valid": is_clock("stoppage_time_clock"),
    "period_in_range": within("period", 1, 4),
    "home_score_in_range": within("home_score", 0, 99),
    "away_score_in_range": within("away_score", 0, 99),
    "related_event_id_is_present": unless(lambda kind: not is_correction(kind), present("related_event_id")),
    "time_is_not_ahead": not_ahead("time", HOUR),
}
TIMELINE = Silver(
    "sports_timeline",
    bronze="sports_timeline",
    fields=FIELDS,
    expectations=tuple(Expectation(name, is_met) for name, is_met in RULES.items()),
    watermark=3 * HOUR,
    transform=lambda row: {**row, "clock_s": clock_s(row)},
    transformed=(*FIELDS, Field("clock_s", INTEGER)),
)
COUNTS = ("score", "yellow_cards", "yellow_red_cards", "red_cards")
SCOREBOARD = {
    **dict.fromkeys(("match_id", "season_id", "home_team", "away_team", "status"), STRING),
    **dict.fromkeys(("last_report_at", "started_at", "ended_at"), TIMESTAMP),
    "period": LONG,
    **dict.fromkeys((f"{side}_{count}" for side in ("home", "away") for count in COUNTS), INTEGER),
    **dict.fromkeys(("goals_canceled", "duplicate_goal_reports", "open_corrections"), INTEGER),
}
LEAGUE_TABLE = {
    "season_id": STRING,
    "position": INTEGER,
    "team": STRING,
    **dict.fromkeys(("played", "won", "drawn", "lost", "goals_for", "goals_against", "goal_difference"), INTEGER),
    **dict.fromkeys(("points", "provisional_points"), INTEGER),
    "is_playing": BOOLEAN,
    "fair_play_points": INTEGER,
}
MOMENTUM = {
    **dict.fromkeys(("match_id", "team", "opponent"), STRING),
    **dict.fromkeys(("window_start", "window_end"), TIMESTAMP),
    **dict.fromkeys(("shots_on_target", "shots_off_target", "corners", "saves"), LONG),
    **dict.fromkeys(("pressure", "opponent_pressure", "momentum"), DOUBLE),
}
INPUTS = ("silver/sports_timeline",)
BY_WINDOW = ("match_id", "team", "window_start")
DOMAIN = Domain(
    "sports",
    silver=(TIMELINE,),
    gold=(
        Gold("sports_scoreboard", ("match_id",), SCOREBOARD, INPUTS, scoreboard),
        Gold("sports_league_table", ("season_id", "team"), LEAGUE_TABLE, INPUTS, league_table),
        Gold("sports_momentum", BY_WINDOW, MOMENTUM, INPUTS, with_datetimes(momentum, "time"), window_end),
    ),
)
