"""Weather's measures and alerts, compared with values worked out by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.domains.weather import gold

HOUR = datetime(2026, 1, 1, 10)
SCHEMA = (
    "device string, time timestamp, event_id string, temperature_c double, humidity_pct double, "
    "wind_speed_m_s double, rain_mm double"
)


def readings(
    spark: SparkSession, *rows: tuple[float, float | None, float | None, float | None, float | None]
) -> DataFrame:
    """Rows of (minute after ten, temperature, humidity, wind, rain) of one device."""
    made = [("d", HOUR + timedelta(minutes=row[0]), f"e{number}", *row[1:]) for number, row in enumerate(rows)]
    return spark.createDataFrame(made, SCHEMA)


def test_an_hours_measures_leave_nulls_out(spark: SparkSession) -> None:
    """Count, least, mean and greatest of what was measured; the hour's end belongs to the next hour."""
    rows = readings(
        spark,
        (0, 1.0, 50.0, 3.0, 0.2),
        (30, 3.0, None, 5.0, 0.1),
        (59, None, 70.0, None, None),
        (60, 9.0, 0.0, 9.0, 9.0),
    )
    first = gold.device_hourly(rows).orderBy("window_start").first()
    assert first is not None
    assert tuple(first)[:6] == ("d", HOUR, HOUR + timedelta(hours=1), 3, 1.0, 2.0)
    assert tuple(first)[6:9] == (3.0, 60.0, 5.0)
    assert first["rain_total_mm"] == pytest.approx(0.3)


def test_a_reading_counts_in_both_sliding_windows(spark: SparkSession) -> None:
    """One hour every half: 10:45 is in 10:00-11:00 and in 10:30-11:30."""
    windows = gold.device_sliding(readings(spark, (45, 1.0, None, None, None))).orderBy("window_start").collect()
    assert [(row["window_start"], row["readings"]) for row in windows] == [(HOUR, 1), (HOUR + timedelta(minutes=30), 1)]


@pytest.mark.parametrize(
    ("temperature", "wind", "raised"),
    [
        (0.0, 0.0, [("frost", 0.0, 0.0)]),
        (0.1, 17.1, []),
        (34.9, 17.2, [("gale", 17.2, 17.2)]),
        (35.0, 20.0, [("heat", 35.0, 35.0), ("gale", 20.0, 17.2)]),
        (None, None, []),
    ],
)
def test_a_reading_raises_alerts_at_the_threshold(
    spark: SparkSession, temperature: float | None, wind: float | None, raised: list[tuple[str, float, float]]
) -> None:
    """Each alert tells the value and the threshold that it reached."""
    alerts = gold.reading_alerts(readings(spark, (1, temperature, None, wind, None))).collect()
    assert [(row["alert"], row["value"], row["threshold"]) for row in alerts] == raised


def test_an_hour_of_rain_and_a_sensor_that_is_stuck_raise_alerts(spark: SparkSession) -> None:
    """Both are of the hour: they carry its end, and no reading's id."""
    rows = readings(spark, *[(minute, 11.1, None, None, 0.26) for minute in range(30)])
    alerts = {row["alert"]: row for row in gold.alerts(rows).collect()}
    assert set(alerts) == {"heavy_rain", "stuck_sensor"}
    assert alerts["heavy_rain"]["value"] == pytest.approx(7.8)
    assert alerts["stuck_sensor"]["value"] == 0.0
    assert {(row["time"], row["event_id"]) for row in alerts.values()} == {(HOUR + timedelta(hours=1), None)}


def test_few_readings_say_nothing_about_a_sensor(spark: SparkSession) -> None:
    """29 equal readings are too few, and a change of 0.1 °C is enough to be alive."""
    few = readings(spark, *[(minute, 11.1, None, None, 0.0) for minute in range(29)])
    alive = readings(spark, *[(minute, 11.0 + minute % 2 / 8, None, None, 0.0) for minute in range(40)])
    assert gold.alerts(few).isEmpty()
    assert gold.alerts(alive).isEmpty()
