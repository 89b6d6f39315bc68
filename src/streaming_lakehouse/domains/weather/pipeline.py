"""The weather pipeline: readings of IoT stations, per device and hour, with alerts."""

from streaming_lakehouse.domains.weather import events, gold, silver
from streaming_lakehouse.pipeline import Bronze, Gold, HotPath, Pipeline, Reference, Silver

records = Bronze("weather_readings", generator=events.READINGS)
readings = Silver(
    "weather_readings",
    source=records,
    schema=events.SCHEMA,
    expectations=silver.EXPECTATIONS,
    watermark=silver.WATERMARK,
)
stations = Reference("weather_stations", schema=events.STATION, rows=events.stations)

PIPELINE = Pipeline(
    "weather",
    Gold(
        "weather_device_hourly",
        gold.device_hourly,
        key=("device", "window_start"),
        inputs=(readings,),
        reach=gold.REACH,
    ),
    Gold(
        "weather_device_sliding",
        gold.device_sliding,
        key=("device", "window_start"),
        inputs=(readings,),
        reach=gold.REACH,
    ),
    Gold(
        "weather_region_hourly",
        gold.region_hourly,
        key=("region", "window_start"),
        inputs=(readings, stations),
        reach=gold.REACH,
    ),
    # The alerts of single readings have no state, and one of an hour could be withdrawn until it has closed.
    Gold(
        "weather_alerts",
        gold.alerts,
        key=("device", "alert", "time", "event_id"),
        inputs=(readings,),
        output_modes=("append",),
        reach=gold.REACH,
    ),
    hot=HotPath("weather_alerts_now", gold.reading_alerts_now, key=("event_id",), input=readings),
    detections=gold.DETECTIONS,
)
