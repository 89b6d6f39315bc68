"""Weather: readings of stations, per device and hour, with alerts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence

from .compare import RELATIVE
from .domain import Domain, Expectation, Gold, Row, Silver, not_ahead, present, within
from .json_types import BOOLEAN, DOUBLE, LONG, STRING, TIMESTAMP
from .json_values import Field
from .moments import HOUR, MINUTE
from .windows import Window, greatest, mean, sliding, smallest, total, tumbling, window_end

RANGES = {
    "temperature_c": ("temperature_in_range", -90, 60),
    "humidity_pct": ("humidity_in_range", 0, 100),
    "pressure_hpa": ("pressure_in_range", 850, 1090),
    "wind_speed_m_s": ("wind_speed_in_range", 0, 120),
    "rain_mm": ("rain_in_range", 0, 500),
}
THRESHOLDS: tuple[tuple[str, str, Callable[[float, float], bool], float], ...] = (
    ("frost", "temperature_c", operator.le, 0.0),
    ("heat", "temperature_c", operator.ge, 35.0),
    ("gale", "wind_speed_m_s", operator.ge, 17.2),
)
HEAVY_RAIN_MM = 7.6
ROUNDING = HEAVY_RAIN_MM * RELATIVE

READINGS = Silver(
    "weather_readings",
    bronze="weather_readings",
    fields=(
        Field("event_id", STRING),
        Field("device", STRING),
        Field("time", TIMESTAMP),
        *(Field(name, DOUBLE) for name in RANGES),
    ),
    expectations=(
        Expectation("device_is_present", present("device")),
        *(Expectation(name, within(column, low, high)) for column, (name, low, high) in RANGES.items()),
        Expectation("time_is_not_ahead", not_ahead("time", HOUR)),
    ),
    watermark=2 * HOUR,
)
WINDOW_COLUMNS = {
    "device": STRING,
    "window_start": TIMESTAMP,
    "window_end": TIMESTAMP,
    "readings": LONG,
    "temperature_min_c": DOUBLE,
    "temperature_avg_c": DOUBLE,
    "temperature_max_c": DOUBLE,
    "humidity_avg_pct": DOUBLE,
    "wind_speed_max_m_s": DOUBLE,
    "rain_total_mm": DOUBLE,
}
REGION_COLUMNS = {
    "region": STRING,
    "is_known": BOOLEAN,
    "window_start": TIMESTAMP,
    "window_end": TIMESTAMP,
    "readings": LONG,
    **dict.fromkeys(("temperature_avg_c", "temperature_at_sea_level_avg_c"), DOUBLE),
}
UNKNOWN = {"region": "unknown", "elevation_m": None}
ALERT_COLUMNS = {
    **dict.fromkeys(("device", "alert", "event_id", "measure"), STRING),
    "time": TIMESTAMP,
    **dict.fromkeys(("value", "threshold"), DOUBLE),
}


def device_hourly(readings: Sequence[Row]) -> Iterator[Row]:
    return map(measures, tumbling(readings, ("device",), HOUR))


def device_sliding(readings: Sequence[Row]) -> Iterator[Row]:
    return map(measures, sliding(readings, ("device",), HOUR, 30 * MINUTE))


def measures(window: Window) -> Row:
    temperatures = window.values("temperature_c")
    return {
        "device": window.key[0],
        "window_start": window.start,
        "window_end": window.end,
        "readings": len(window.rows),
        "temperature_min_c": smallest(temperatures),
        "temperature_avg_c": mean(temperatures),
        "temperature_max_c": greatest(temperatures),
        "humidity_avg_pct": mean(window.values("humidity_pct")),
        "wind_speed_max_m_s": greatest(window.values("wind_speed_m_s")),
        "rain_total_mm": total(window.values("rain_mm")),
    }


def region_hourly(readings: Sequence[Row], stations: Sequence[Row]) -> Iterator[Row]:
    known = {station["device"]: station for station in stations}
    placed = [{**reading, **known.get(reading["device"], UNKNOWN), "device": reading["device"]} for reading in readings]
    for window in tumbling(placed, ("region",), HOUR):
        at_sea_level = [
            row["temperature_c"] + 0.0065 * row["elevation_m"]
            for row in window.rows
            if row["temperature_c"] is not None and row["elevation_m"] is not None
        ]
        yield {
            "region": window.key[0],
            "is_known": window.key[0] != "unknown",
            "window_start": window.start,
            "window_end": window.end,
            "readings": len(window.rows),
            "temperature_avg_c": mean(window.values("temperature_c")),
            "temperature_at_sea_level_avg_c": mean(at_sea_level),
        }


def alerts(readings: Sequence[Row]) -> Iterator[Row]:
    for reading in readings:
        of_reading = {name: reading[name] for name in ("device", "time", "event_id")}
        for alert, measure, is_reached, threshold in THRESHOLDS:
            value = reading[measure]
            if value is not None and is_reached(value, threshold):
                yield {**of_reading, "alert": alert, "measure": measure, "value": value, "threshold": threshold}
    for hour in tumbling(readings, ("device",), HOUR):
        of_hour = {"device": hour.key[0], "time": hour.end, "event_id": None}
        rain = total(hour.values("rain_mm"))
        if rain is not None and rain > HEAVY_RAIN_MM - ROUNDING:
            rained = {"measure": "rain_total_mm", "value": rain, "threshold": HEAVY_RAIN_MM}
            yield {**of_hour, "alert": "heavy_rain", **rained}
        temperatures = hour.values("temperature_c")
        if len(temperatures) >= 30 and (spread := max(temperatures) - min(temperatures)) < 0.1:
            stuck = {"measure": "temperature_spread_c", "value": spread, "threshold": 0.1}
            yield {**of_hour, "alert": "stuck_sensor", **stuck}


def hour_closes_at(alert: Row) -> int | None:
    """An alert of a reading is written at once."""
    time: int = alert["time"]
    return time if alert["event_id"] is None else None


def is_near_threshold(alert: Row) -> bool:
    """A sum of rain within rounding of the threshold may be either."""
    return alert["alert"] == "heavy_rain" and bool(alert["value"] <= HEAVY_RAIN_MM + ROUNDING)


INPUTS = ("silver/weather_readings",)
DOMAIN = Domain(
    "weather",
    silver=(READINGS,),
    gold=(
        Gold(
            "weather_device_hourly",
            ("device", "window_start"),
            WINDOW_COLUMNS,
            INPUTS,
            device_hourly,
            closes_at=window_end,
        ),
        Gold(
            "weather_device_sliding",
            ("device", "window_start"),
            WINDOW_COLUMNS,
            INPUTS,
            device_sliding,
            closes_at=window_end,
        ),
        Gold(
            "weather_region_hourly",
            ("region", "window_start"),
            REGION_COLUMNS,
            (*INPUTS, "reference/weather_stations"),
            region_hourly,
            closes_at=window_end,
        ),
        Gold(
            "weather_alerts",
            ("device", "alert", "time", "event_id"),
            ALERT_COLUMNS,
            INPUTS,
            alerts,
            closes_at=hour_closes_at,
            may_be_absent=is_near_threshold,
        ),
    ),
)
