"""Weather's events: readings of IoT stations, one JSON object each, and a generator of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from pyspark.sql import types as T

from streaming_lakehouse.pipeline import Episode, Event, EventGenerator
from streaming_lakehouse.pipeline.synthetic import iso_utc, uniform_randoms

# event_id names a reading for good; time is ISO-8601 UTC; rain_mm fell since the station's reading before.
SCHEMA = T.StructType(
    [
        T.StructField("event_id", T.StringType()),
        T.StructField("device", T.StringType()),
        T.StructField("time", T.TimestampType()),
        T.StructField("temperature_c", T.DoubleType()),
        T.StructField("humidity_pct", T.DoubleType()),
        T.StructField("pressure_hpa", T.DoubleType()),
        T.StructField("wind_speed_m_s", T.DoubleType()),
        T.StructField("rain_mm", T.DoubleType()),
    ]
)

DEVICES = 50
CADENCE = timedelta(minutes=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
_EPISODE_SHARE = 0.01  # of a device's hours, for each kind of episode
_EPISODES = ("frost", "heat", "gale", "heavy_rain", "stuck_sensor")


def generate(row: int, seed: int) -> Event:
    """The reading of one device in one minute: rows go round the devices, then on to the next minute.

    A device's hour may be an episode, and its readings are labelled so: frost, heat, gale, heavy_rain, stuck_sensor.
    """
    minute, device = divmod(row, DEVICES)
    hour = minute // 60
    second, warmth, damp, press, wind, rain, gap, _ = uniform_randoms(seed, row)
    episode = _episode(device, hour, seed)
    time = START + minute * CADENCE + timedelta(milliseconds=int(second * 5_000))
    # A day's course around 14 °C, coolest at 3 h, and each device a little warmer or cooler than the others.
    temperature = 14 - 6 * math.cos((minute / 60 - 3) / 24 * math.tau) + device % 7 - 3
    event = {
        "event_id": f"w{seed}-{row}",
        "device": f"station-{device:03d}",
        "time": iso_utc(time),
        "temperature_c": round(temperature + warmth, 1),
        "humidity_pct": round(55 + 30 * damp, 1),
        "pressure_hpa": round(1005 + 15 * press, 1),
        "wind_speed_m_s": round(8 * wind, 1),
        "rain_mm": round(rain - 0.95, 2) if rain > 0.95 else 0.0,
    }
    if gap < 0.01:
        event["humidity_pct"] = None
    if episode:
        event |= _in_episode(episode, temperature, warmth, wind, rain)
    if not episode:
        return Event(event)
    station = str(event["device"])
    return Event(event, episode, Episode(episode, station, f"{station}/{hour}"))


def _episode(device: int, hour: int, seed: int) -> str | None:
    index = int(uniform_randoms(seed, device, hour, 7)[0] / _EPISODE_SHARE)
    return _EPISODES[index] if index < len(_EPISODES) else None


def _in_episode(episode: str, temperature: float, warmth: float, wind: float, rain: float) -> dict[str, float]:
    return {
        "frost": {"temperature_c": round(-8 + 7 * warmth, 1)},
        "heat": {"temperature_c": round(36 + 5 * warmth, 1)},
        "gale": {"wind_speed_m_s": round(18 + 12 * wind, 1)},
        "heavy_rain": {"rain_mm": round(0.3 + rain, 2)},
        # Constant within the hour, whatever the weather does: the day's course is taken at its coolest.
        "stuck_sensor": {"temperature_c": 11.1},
    }[episode]


# The registry lacks the last two stations: their readings count, and are marked in gold.
STATION = T.StructType(
    [
        T.StructField("device", T.StringType()),
        T.StructField("region", T.StringType()),
        T.StructField("elevation_m", T.DoubleType()),
    ]
)
REGIONS = ("coast", "valley", "plateau", "mountain")


def stations() -> list[tuple[str, str, float]]:
    """The registry's first content: device, region, elevation in metres."""
    return [
        (f"station-{device:03d}", REGIONS[device % len(REGIONS)], 20.0 + 35.0 * (device % 40))
        for device in range(DEVICES - 2)
    ]


READINGS = EventGenerator(
    generate=generate,
    key="device",
    time="time",
    identity=("event_id",),
    out_of_range=(
        {"event_id": ""},
        {"device": ""},
        {"temperature_c": 1000.0},
        {"humidity_pct": -1.0},
        {"pressure_hpa": 0.0},
        {"wind_speed_m_s": 999.9},
        {"rain_mm": -9999.0},
    ),
    unknown_field=("firmware", "2.1"),
)
