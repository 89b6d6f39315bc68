"""The sports pipeline: football matches from a timeline of events, as scores, tables and momentum."""

from datetime import timedelta

from streaming_lakehouse.domains.sports import events, gold, silver
from streaming_lakehouse.pipeline import Bronze, Detection, Gold, Pipeline, Silver, State

records = Bronze("sports_timeline", generator=events.TIMELINE)
timeline = Silver(
    "sports_timeline",
    source=records,
    schema=events.SCHEMA,
    expectations=silver.EXPECTATIONS,
    watermark=silver.WATERMARK,
    transform=silver.with_clock_s,
    transformed_schema=silver.TRANSFORMED_SCHEMA,
)
PIPELINE = Pipeline(
    "sports",
    Gold(
        "sports_scoreboard",
        gold.scoreboard,
        key=("match_id",),
        inputs=(timeline,),
        state=State.AGGREGATION,
        output_modes=("update",),
    ),
    # Another ranking: partial(gold.league_table, order=ranking.HEAD_TO_HEAD_FIRST)
    Gold(
        "sports_league_table",
        gold.league_table,
        key=("season_id", "team"),
        inputs=(timeline,),
        state=State.AGGREGATION,
        output_modes=("complete",),
    ),
    # In append mode a window would come three hours after it closed, when the match is over.
    Gold(
        "sports_momentum",
        gold.momentum,
        key=("match_id", "team", "window_start"),
        inputs=(timeline,),
        output_modes=("update", "append"),
        reach=gold.REACH,
    ),
    detections=(
        Detection(
            "unstarted_match",
            "sports_scoreboard",
            entity="match_id",
            time="last_report_at",
            where="status = 'not_started' AND home_score + away_score > 0",
        ),
        # The match plays on, and may be corrected on the day after.
        Detection(
            "duplicate_goal",
            "sports_scoreboard",
            entity="match_id",
            time="last_report_at",
            where="duplicate_goal_reports > 0",
            tolerance=timedelta(days=2),
        ),
    ),
)
