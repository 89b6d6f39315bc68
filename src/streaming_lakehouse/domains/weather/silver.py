"""When a weather reading is valid."""

from datetime import timedelta

from streaming_lakehouse.pipeline import expect_not_ahead, expect_or_quarantine

# Stations send within minutes; an hour behind a hill without a network is common, two are not.
WATERMARK = timedelta(hours=2)

# Ranges are wider than anything recorded on the ground (WMO World Weather & Climate Extremes Archive: -89.2 to
# 56.7 °C; 870 to 1084 hPa at sea level, lower on mountains), so that a reading outside of one is a broken sensor.
EXPECTATIONS = (
    expect_or_quarantine("device_is_present", "device <> ''"),
    expect_or_quarantine("temperature_in_range", "temperature_c IS NULL OR temperature_c BETWEEN -90 AND 60"),
    expect_or_quarantine("humidity_in_range", "humidity_pct IS NULL OR humidity_pct BETWEEN 0 AND 100"),
    expect_or_quarantine("pressure_in_range", "pressure_hpa IS NULL OR pressure_hpa BETWEEN 850 AND 1090"),
    expect_or_quarantine("wind_speed_in_range", "wind_speed_m_s IS NULL OR wind_speed_m_s BETWEEN 0 AND 120"),
    expect_or_quarantine("rain_in_range", "rain_mm IS NULL OR rain_mm BETWEEN 0 AND 500"),
    expect_not_ahead(),
)
