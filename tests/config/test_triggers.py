"""The values of --trigger."""

import pytest
from pyspark.sql import SparkSession

from streaming_lakehouse.config.triggers import MIN_REAL_TIME_MS, parse_trigger
from streaming_lakehouse.errors import LakehouseError


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("available-now", {"availableNow": True}),
        ("default", {}),
        ("30 seconds", {"processingTime": "30 seconds"}),
        (" 1  minute ", {"processingTime": "1 minute"}),
        ("continuous 1 second", {"continuous": "1 second"}),
        ("real-time 5 minutes", {"realTime": "5 minutes"}),
        ("real-time 5000 milliseconds", {"realTime": "5000 milliseconds"}),
        ("8784 hours", {"processingTime": "8784 hours"}),
    ],
)
def test_a_trigger_becomes_an_argument_of_the_writer(text: str, arguments: dict[str, object]) -> None:
    """Each form becomes the matching argument of DataStreamWriter.trigger."""
    assert parse_trigger(text).writer_options == arguments


@pytest.mark.parametrize("text", ["", "once", "30", "thirty seconds", "-1 seconds", "continuous", "30 parsecs"])
def test_anything_else_is_refused_with_the_valid_forms(text: str) -> None:
    """The message lists what is accepted."""
    with pytest.raises(LakehouseError, match="available-now, default"):
        parse_trigger(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 seconds", 'too short; use "default"'),
        ("continuous 0 seconds", 'too short; .* "continuous 1 second"'),
        ("real-time 0 seconds", 'too short; .* "real-time 5 seconds" at least'),
        ("real-time 4999 milliseconds", 'too short; .* "real-time 5 seconds" at least'),
        ("8785 hours", "'8785 hours': the interval is too long; give a year, 8784 hours, at most"),
        ("continuous 9223372036854775807 milliseconds", "too long"),
        ("real-time " + "9" * 5000 + " hours", "too long"),
    ],
)
def test_an_interval_out_of_bounds_is_refused_at_once(text: str, message: str) -> None:
    """Spark would refuse it when the query starts, or never start a second batch."""
    with pytest.raises(LakehouseError, match=message) as refused:
        parse_trigger(text)
    assert len(str(refused.value)) < 200


def test_the_minimum_real_time_interval_is_sparks(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.streaming.realTimeMode.minBatchDuration") == f"{MIN_REAL_TIME_MS}ms"
