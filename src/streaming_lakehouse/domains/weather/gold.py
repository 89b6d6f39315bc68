"""Weather's gold tables: readings per device and window, and alerts."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import Column, DataFrame, functions as F

from streaming_lakehouse.pipeline import Detection

WINDOW, REACH = "1 hour", timedelta(hours=1)
SLIDE = "30 minutes"

FROST_C = 0.0  # air frost: at or below freezing (Met Office)
HEAT_C = 35.0  # the upper of the German Weather Service's two daytime heat marks (30 and 35 °C)
GALE_M_S = 17.2  # Beaufort 8 begins here (WMO-No. 306, code table 1100)
HEAVY_RAIN_MM = 7.6  # in an hour (AMS Glossary of Meteorology: heavy rain)
STUCK_SPREAD_C = 0.1  # least change of temperature in 60 minutes (WMO guidelines on quality control of AWS data, 2004)
LAPSE_RATE_C_PER_M = 0.0065  # ICAO Standard Atmosphere (Doc 7488)
STUCK_READINGS = 30  # of the 60 an hour should have: fewer say nothing about a sensor


def device_hourly(readings: DataFrame) -> DataFrame:
    """Measures per device and tumbling hour.

    In: device string, time timestamp, temperature_c, humidity_pct, wind_speed_m_s, rain_mm double.
    Out: device string, window_start and window_end timestamp (end exclusive), readings bigint, temperature_min_c,
    temperature_avg_c, temperature_max_c, humidity_avg_pct, wind_speed_max_m_s, rain_total_mm double.
    """
    return _measures_per_window(readings, F.window("time", WINDOW))


def device_sliding(readings: DataFrame) -> DataFrame:
    """The columns of `device_hourly` per hour that begins every 30 minutes: each reading counts in two windows."""
    return _measures_per_window(readings, F.window("time", WINDOW, SLIDE))


def _measures_per_window(readings: DataFrame, window: Column) -> DataFrame:
    measures = readings.groupBy("device", window.alias("window")).agg(
        F.count("*").alias("readings"),
        F.min("temperature_c").alias("temperature_min_c"),
        F.avg("temperature_c").alias("temperature_avg_c"),
        F.max("temperature_c").alias("temperature_max_c"),
        F.avg("humidity_pct").alias("humidity_avg_pct"),
        F.max("wind_speed_m_s").alias("wind_speed_max_m_s"),
        F.sum("rain_mm").alias("rain_total_mm"),
    )
    return measures.select("device", "window.start", "window.end", *measures.columns[2:]).withColumnsRenamed(
        {"start": "window_start", "end": "window_end"}
    )


def region_hourly(readings: DataFrame, stations: DataFrame) -> DataFrame:
    """Measures per region and tumbling hour, with the stations' registry.

    In: as `device_hourly`; stations: device, region string, elevation_m double.
    Out: region string (`unknown` for a device that the registry does not have), is_known boolean, window_start and
    window_end timestamp (end exclusive), readings bigint, temperature_avg_c, temperature_at_sea_level_avg_c double: the
    latter with 6.5 °C added per 1,000 m (ICAO Standard Atmosphere), null for an unknown elevation.
    """
    known = readings.join(F.broadcast(stations), "device", "left_outer")
    at_sea_level = F.col("temperature_c") + LAPSE_RATE_C_PER_M * F.col("elevation_m")
    measures = known.groupBy(
        F.coalesce("region", F.lit("unknown")).alias("region"), F.window("time", WINDOW).alias("window")
    ).agg(
        F.count("*").alias("readings"),
        F.avg("temperature_c").alias("temperature_avg_c"),
        F.avg(at_sea_level).alias("temperature_at_sea_level_avg_c"),
    )
    return measures.select(
        "region",
        (F.col("region") != "unknown").alias("is_known"),
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "readings",
        "temperature_avg_c",
        "temperature_at_sea_level_avg_c",
    )


def alerts(readings: DataFrame) -> DataFrame:
    """One row an alert, with the value and the threshold that it crossed.

    In: as `device_hourly`, and event_id string.
    Out: device string, alert string (frost, heat, gale, heavy_rain, stuck_sensor), time timestamp, event_id string,
    measure string (the column compared), value double, threshold double (both in the measure's unit). Frost, heat and
    gale are of one reading and come at once; heavy_rain and stuck_sensor are of an hour, come when it has closed, and
    have the hour's end as `time` and no event_id.
    """
    return reading_alerts(readings).unionByName(hour_alerts(readings))


def reading_alerts(readings: DataFrame) -> DataFrame:
    """The alerts that a single reading raises: they need no state. Columns as `alerts`."""
    alerting = reading_alerts_now(readings)
    return alerting.select("device", "time", "event_id", F.inline("alerts")).select(*_ALERT_COLUMNS)


def reading_alerts_now(readings: DataFrame) -> DataFrame:
    """One row a reading that raises alerts alone, by selection and projection only, as a hot path must be.

    In: as `alerts`. Out: device string, time timestamp, event_id string, alerts array of structs with alert, measure
    string and value, threshold double.
    """
    temperature, wind = F.col("temperature_c"), F.col("wind_speed_m_s")
    found = _alerts(
        _alert("frost", temperature <= FROST_C, "temperature_c", FROST_C),
        _alert("heat", temperature >= HEAT_C, "temperature_c", HEAT_C),
        _alert("gale", wind >= GALE_M_S, "wind_speed_m_s", GALE_M_S),
    )
    alerting = readings.select("device", "time", "event_id", found.alias("alerts"))
    return alerting.where(F.size("alerts") > 0)


def hour_alerts(readings: DataFrame) -> DataFrame:
    """The alerts that a device's whole hour raises. Columns as `alerts`."""
    temperature = F.col("temperature_c")
    hours = readings.groupBy("device", F.window("time", WINDOW)).agg(
        F.sum("rain_mm").alias("rain_total_mm"),
        F.count(temperature).alias("temperatures"),
        (F.max(temperature) - F.min(temperature)).alias("temperature_spread_c"),
    )
    is_stuck = (F.col("temperatures") >= STUCK_READINGS) & (F.col("temperature_spread_c") < STUCK_SPREAD_C)
    found = _alerts(
        _alert("heavy_rain", F.col("rain_total_mm") > HEAVY_RAIN_MM, "rain_total_mm", HEAVY_RAIN_MM),
        _alert("stuck_sensor", is_stuck, "temperature_spread_c", STUCK_SPREAD_C),
    )
    of_hour = [F.col("device"), F.col("window.end").alias("time"), F.lit(None).cast("string").alias("event_id")]
    return hours.select(*of_hour, F.inline(found)).select(*_ALERT_COLUMNS)


_ALERT_COLUMNS = ("device", "alert", "time", "event_id", "measure", "value", "threshold")


def _alert(name: str, is_raised: Column, measure: str, threshold: float) -> Column:
    alert = F.struct(
        F.lit(name).alias("alert"),
        F.lit(measure).alias("measure"),
        F.col(measure).alias("value"),
        F.lit(threshold).alias("threshold"),
    )
    return F.when(is_raised, alert)


def _alerts(*found: Column) -> Column:
    return F.array_compact(F.array(*found))


# Of one reading at once; of an hour with the hour's end as its time.
DETECTIONS = tuple(
    Detection(
        alert,
        table="weather_alerts",
        entity="device",
        time="time",
        where=f"alert = '{alert}'",
        tolerance=timedelta(hours=1),
    )
    for alert in ("frost", "heat", "gale", "heavy_rain", "stuck_sensor")
)
