"""The weather pipeline: readings of IoT stations, per device and hour, with alerts."""

from streaming_lakehouse.domains.weather import events, gold, silver
from streaming_lakehouse.pipeline import Bronze, Gold, Pipeline, Silver

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
        Gold("weather_device_hourly", gold.device_hourly),
        Gold("weather_device_sliding", gold.device_sliding),
        Gold("weather_alerts", gold.alerts),
    ),
)
