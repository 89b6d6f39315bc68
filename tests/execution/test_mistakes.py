"""A mistake in a pipeline's own rules and functions is one line, with its table and name, before a record is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession, functions as F, types as T
from support.weather import WEATHER, declare, weather_with

from streaming_lakehouse import cli
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import mistakes
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.pipeline import Detection, Pipeline, State, expect, expect_or_fail, expect_or_quarantine
from streaming_lakehouse.pipeline.discovery import DOMAINS_VARIABLE, load_pipeline, pipeline_names
from streaming_lakehouse.pipeline.steps import pipeline_steps

SILVER = WEATHER.silver[0]
HOURLY = WEATHER.gold[0]


def check(spark: SparkSession, pipeline: Pipeline) -> dict[str, DataFrame]:
    steps = tuple(step.name for step in pipeline_steps(pipeline))
    plan = RunPlan(pipeline, Storage(root=Path("none")), "generator", {}, parse_trigger("available-now"), steps)
    return mistakes.check(plan, spark)


def lines(spark: SparkSession, pipeline: Pipeline) -> list[str]:
    with pytest.raises(LakehouseError) as refused:
        check(spark, pipeline)
    return str(refused.value).splitlines()


def with_expectations(*expectations: object) -> Pipeline:
    return weather_with(silver={"expectations": expectations})


def only(**changes: object) -> Pipeline:
    return Pipeline("weather", replace(HOURLY, **changes))  # type: ignore[arg-type]


def misspelt(readings: DataFrame) -> DataFrame:
    return readings.groupBy("device", F.window("time", "1 hour")).agg(F.avg("temprature_c"))  # the line that is named


def without_a_function(readings: DataFrame) -> DataFrame:
    return readings.select(F.windw("time"))  # type: ignore[attr-defined]


def without_a_window(readings: DataFrame) -> DataFrame:
    return readings.groupBy("device").count()


def sorted_by_time(readings: DataFrame) -> DataFrame:
    return readings.select("device", F.col("time").alias("window_start")).orderBy("window_start")


def twice(readings: DataFrame) -> DataFrame:
    return readings.select("device", F.col("device"), F.col("time").alias("window_start"))


def unnamed(readings: DataFrame) -> DataFrame:
    rain = readings.groupBy("device", F.window("time", "1 hour").alias("window")).agg(F.avg("rain_mm"))
    return rain.withColumn("window_start", F.col("window.start")).drop("window")


def to_text(readings: DataFrame) -> DataFrame:
    return readings.withColumn("rain_mm", F.col("rain_mm").cast("string")).drop("device")


STATELESS = {"state": State.NONE, "output_modes": ()}
TRANSFORMED = T.StructType([*SILVER.schema, T.StructField("station", T.StringType())])


@pytest.mark.parametrize(
    ("declare", "expected"),
    [
        (
            lambda: with_expectations(
                expect_or_quarantine("humid", "humidty_pct > 0"), expect("dry", "_rescued_data IS NULL")
            ),
            r"silver\.weather_readings \(.*test_mistakes\.py:\d+\): the expectation 'humid', 'humidty_pct > 0': there "
            r"is no column `humidty_pct`; did you mean `humidity_pct`",
        ),
        (lambda: with_expectations(expect("humid", "humidity_pct >")), r"'humid', .*: \[PARSE_SYNTAX_ERROR\] [^\n]*"),
        (lambda: with_expectations(expect_or_fail("few", "count(*) < 9")), r"'few', .*: \[MISSING_GROUP_BY\]"),
        (
            lambda: with_expectations(expect_or_quarantine("known", "_rescued_data IS NULL")),
            r"'known', .* no column `_rescued_data`",
        ),
        (lambda: weather_with(silver={"where": "headrs IS NULL"}), r"where='headrs IS NULL': .* no column `headrs`"),
        (
            lambda: weather_with(silver={"transform": to_text, "transformed_schema": TRANSFORMED}),
            r"transform gives no column 'device', which transformed_schema has",
        ),
        (
            lambda: only(transform=misspelt),
            r"gold\.weather_device_hourly: its transform \(.*test_mistakes\.py:\d+\): there is no column "
            r"`temprature_c`; did you mean `temperature_c`",
        ),
        (lambda: only(transform=without_a_function), r"test_mistakes\.py:\d+\): AttributeError: module .* 'windw'"),
        (lambda: only(key=("devce", "window_start")), r"no column 'devce', which is in key=; did you mean 'device'"),
        (lambda: only(transform=without_a_window, key=("device",)), r"\[STREAMING_OUTPUT_MODE\.UNSUPPORTED"),
        (lambda: only(transform=sorted_by_time, **STATELESS), r"Sorting is not supported on streaming"),
        (lambda: only(transform=twice, **STATELESS), r"gives 2 columns 'device'; give each a name"),
        (lambda: only(transform=unnamed), r"gives a column 'avg\(rain_mm\)', a name that no table can have; add"),
        (
            lambda: Pipeline("weather", HOURLY, detections=(Detection("d", HOURLY.table, "device", "at"),)),
            r"there is no column 'at', as the detection 'd' says",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_table_and_name(
    spark: SparkSession, declare: Callable[[], Pipeline], expected: str
) -> None:
    """Whatever Spark's own text is."""
    found = lines(spark, declare())
    assert re.search(expected, "\n".join(found)), found
    assert all(line.startswith(("silver.weather_readings", "gold.weather_device_hourly", "hot.")) for line in found)
    assert max(map(len, found)) < 700


def test_all_mistakes_are_reported_before_anything_is_written(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a run and by `check`, which does not say then that a query works."""
    wrong = {"weather_device_hourly": {"transform": misspelt}, "weather_alerts": {"key": ("devce",)}}
    declare(monkeypatch, weather_with(silver={"expectations": (expect("humid", "humidty_pct > 0"),)}, gold=wrong))
    here = Path(__file__).relative_to(Path.cwd())
    expected = (
        rf"lakehouse: silver\.weather_readings \({here}:\d+\): the expectation 'humid'.* no column .*\n"
        rf"lakehouse: gold\.weather_device_hourly: its transform \({here}:\d+\): there is no column .*\n"
        r"lakehouse: gold\.weather_alerts: its transform \(\S+\.py:\d+\) gives no column 'devce', which is in key=.*\n"
    )
    for words in (["run", "weather", "--root", str(tmp_path / "lake")], ["check", "weather"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 1
        printed = capsys.readouterr()
        assert re.fullmatch(expected, printed.err)
        assert not printed.out
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("name", [*pipeline_names(), "shop"])
def test_the_pipelines_have_none(spark: SparkSession, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transform of theirs has a plan, and Spark runs it as a stream."""
    monkeypatch.setenv(DOMAINS_VARIABLE, "support.domains")
    pipeline = load_pipeline(name)
    transforms = [each for each in pipeline.silver if each.transform]
    assert len(check(spark, pipeline)) == len(transforms) + len(pipeline.gold) + bool(pipeline.hot)
