"""The messaging pipeline: what is posted in chat channels, its mood, conversations, and alerts where a mood falls."""

from streaming_lakehouse.domains.messaging import events, gold, silver
from streaming_lakehouse.pipeline import Bronze, Detection, Gold, Pipeline, Silver, State

records = Bronze("messaging_messages", generator=events.MESSAGES)
messages = Silver(
    "messaging_messages",
    source=records,
    schema=events.SCHEMA,
    expectations=silver.EXPECTATIONS,
    watermark=silver.WATERMARK,
    transform=silver.to_scored_messages,
    transformed_schema=silver.SCHEMA,
    salt_variable=silver.SALT_VARIABLE,
)
PIPELINE = Pipeline(
    "messaging",
    # One aggregation feeds another, for a message's versions: Spark has that in append mode only.
    Gold(
        "messaging_channel_sentiment",
        gold.channel_sentiment,
        key=("channel", "window_start"),
        inputs=(messages,),
        output_modes=("append",),
        reach=gold.WINDOW,
    ),
    Gold(
        "messaging_conversations",
        gold.conversations,
        key=("channel", "thread_ts", "window_start"),
        inputs=(messages,),
        state=State.SESSION,
        output_modes=("append",),
    ),
    Gold(
        "messaging_mood_alerts",
        gold.mood_alerts,
        key=("channel", "window_start"),
        inputs=(messages,),
        state=State.CUSTOM,
        output_modes=("append",),
    ),
    detections=(
        Detection("mood_drop", "messaging_mood_alerts", entity="channel", time="window_end", tolerance=gold.WINDOW),
    ),
)
