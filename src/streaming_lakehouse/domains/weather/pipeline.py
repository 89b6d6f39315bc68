"""The weather pipeline: readings of IoT stations, per device and hour, with alerts."""

from streaming_lakehouse.domains.weather import events, gold, silver
from streaming_lakehouse.pipeline import Bronze, Gold, Hot, Pipeline, Silver

PIPELINE = Pipeline(
    name="weather",
    bronze=Bronze("weather_readings", events=events.EVENTS),
    silver=Silver(
        "weather_readings",
        schema=events.SCHEMA,
        expectations=silver.EXPECTATIONS,
        watermark_hours=silver.WATERMARK_HOURS,
    ),
    gold=(
        Gold("weather_device_hourly", gold.device_hourly, key=("device", "window_start")),
        Gold("weather_device_sliding", gold.device_sliding, key=("device", "window_start")),
        # The alerts of single readings are in no state, and one of an hour could be taken back until it has closed.
        Gold("weather_alerts", gold.alerts, key=("device", "alert", "time", "event_id"), modes=("append",)),
    ),
    hot=Hot("weather_alerts_now", gold.alerts_now, key=("event_id",)),
)
