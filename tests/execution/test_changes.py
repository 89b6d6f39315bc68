"""Which changes of a pipeline a resumed run accepts, and which it refuses before anything runs."""

from __future__ import annotations

import importlib
import linecache
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession, functions as F, types as T
from support.domains.shop import gold as shop_gold
from support.domains.shop.pipeline import PIPELINE as SHOP, mask_visitor
from support.weather import WEATHER, weather_with

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.domains.weather import gold
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import changes, mistakes, plan_text
from streaming_lakehouse.execution.definition import Definition
from streaming_lakehouse.execution.frames import PlanFrames
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.python_code import reachable_source
from streaming_lakehouse.pipeline import Pipeline, expect
from streaming_lakehouse.pipeline.fields import field
from streaming_lakehouse.pipeline.steps import select_steps

READINGS = WEATHER.silver[0]
HOURLY = "weather_device_hourly"
VISITS = next(each for each in SHOP.silver if each.table == "shop_visits")
PRODUCTS = next(each for each in SHOP.gold if each.table == "shop_customer_products")
TWO_DAYS = timedelta(days=2)


@pytest.fixture
def resume(spark: SparkSession, tmp_path: Path) -> Callable[..., dict[str, Definition]]:
    """Checks a pipeline against the checkpoints that an earlier call left, as if it had written a batch."""

    def check(pipeline: Pipeline, *steps: str, **changed: str) -> dict[str, Definition]:
        arguments = {"trigger": "available-now", "sink": "delta", **changed}
        trigger, sink = parse_trigger(arguments["trigger"]), arguments["sink"]
        plan = RunPlan(pipeline, Storage(root=tmp_path), "generator", {}, trigger, steps, sink, changed.get("mode"))
        found = changes.check(plan, spark, mistakes.check(plan, spark))
        for checkpoint, definition in found.items():
            metadata.record_definition(checkpoint, definition)
            (Path(checkpoint) / "offsets").mkdir(exist_ok=True)
            (Path(checkpoint) / "offsets/0").touch()
        return found

    return check


def shop(**tables: object) -> Pipeline:
    """The shop's visits, and of its gold tables the one with custom state."""
    changed = {"visits": {}, "products": {}, **tables}
    visits = replace(VISITS, **changed["visits"])  # type: ignore[arg-type]
    products = replace(PRODUCTS, **changed["products"])  # type: ignore[arg-type]
    return Pipeline("shop", visits, products, hot=changed.get("hot", SHOP.hot))  # type: ignore[arg-type]


def hourly(transform: Callable[[DataFrame], DataFrame], **silver: object) -> Pipeline:
    return weather_with(silver=silver, gold={HOURLY: {"transform": transform}})


def rearranged(readings: DataFrame) -> DataFrame:
    """`device_hourly` in other words."""
    chosen = readings.withColumn("hour", F.window("time", "60 minutes")).where("true")
    return gold._measures_per_window(chosen.withColumnRenamed("hour", "window"), F.col("window"))


def without_the_first_minute(readings: DataFrame) -> DataFrame:
    return gold.device_hourly(readings.where(F.minute("time") > 0))


SILVER_FIELD = T.StructType([*READINGS.schema, T.StructField("battery_v", T.DoubleType())])


def with_time_read(**otherwise: Any) -> T.StructType:
    """Weather's schema, with its event time read in another way."""
    changed = field("time", T.TimestampType(), **otherwise)
    return T.StructType([changed if each.name == "time" else each for each in READINGS.schema])


def test_what_means_the_same_goes_on(
    resume: Callable[..., dict[str, Definition]], caplog: pytest.LogCaptureFixture
) -> None:
    steps = ("silver", HOURLY, "weather_alerts")
    first = resume(WEATHER, *steps)
    assert resume(hourly(rearranged), *steps).keys() == first.keys()
    assert resume(weather_with(silver={"schema": SILVER_FIELD}), *steps) != first
    assert resume(WEATHER, *steps, trigger="1 minute", sink="delta-native") == first
    assert not caplog.text
    other = (*READINGS.expectations, expect("wet", "rain_mm > 0"))
    resume(weather_with(silver={"expectations": other, "watermark": timedelta(hours=1)}), *steps)
    assert caplog.text.count("its expectations have changed; this applies from the next batch") == 1
    change = "the watermark of silver.weather_readings was 2:00:00 and is 1:00:00"
    assert caplog.text.count(change) == len(steps)


@pytest.mark.parametrize(
    ("changed", "steps", "message"),
    [
        (hourly(gold.device_sliding), (HOURLY,), f"'gold.{HOURLY}': its transform has changed: new rows"),
        (hourly(without_the_first_minute), (HOURLY,), "its transform has changed"),
        (weather_with(gold={HOURLY: {"key": ("device",)}}), (HOURLY,), "key was device, window_start and is device:"),
        (
            weather_with(silver={"watermark": TWO_DAYS}),
            ("silver", HOURLY),
            r"^step 'gold.weather_device_hourly': the watermark of silver.weather_readings was 2:00:00 and is 2 days",
        ),
        (weather_with(silver={"dedup_key": ("device", "time")}), ("silver",), "key was event_id and is device, time"),
        (
            weather_with(silver={"schema": with_time_read(time="epoch_millis")}),
            ("silver",),
            "^step 'silver.weather_readings': the JSON name, time format or zone of time has changed: new rows would",
        ),
        (
            weather_with(silver={"schema": with_time_read(zone="Asia/Tokyo")}),
            ("silver",),
            "or zone of time has changed",
        ),
        (weather_with(silver={"schema": with_time_read(json="at")}), ("silver",), "or zone of time has changed"),
    ],
)
def test_what_means_something_else_is_refused(
    resume: Callable[..., dict[str, Definition]],
    tmp_path: Path,
    changed: Pipeline,
    steps: tuple[str, ...],
    message: str,
) -> None:
    """With the command that rebuilds it, and the file to remove where the author knows better."""
    checkpoint = list(resume(WEATHER, *steps))[-1]
    with pytest.raises(LakehouseError, match=message) as refused:
        resume(changed, *steps)
    name = Path(checkpoint).name
    assert f"rebuild with: lakehouse reset weather --step {name} --root {tmp_path} (or," in str(refused.value)
    marker = metadata.definition_marker(checkpoint)
    assert f"remove {marker})" in str(refused.value)
    marker.unlink()
    resume(changed, *steps)
    resume(changed, *steps)


def masked_with_hour(visits: DataFrame) -> DataFrame:
    return mask_visitor(visits).withColumn("hour", F.hour("time"))


def masked_with_browser(visits: DataFrame) -> DataFrame:
    return masked_with_hour(visits).withColumn("browser", F.lower("agent"))


def masked_by_md5(visits: DataFrame) -> DataFrame:
    return visits.withColumn("visitor", F.md5("visitor"))


def with_now(visits: DataFrame) -> DataFrame:
    return mask_visitor(visits).withColumn("page", F.unix_seconds(F.current_timestamp()) + (F.rand() * 9).cast("long"))


def with_column(schema: T.StructType, name: str, kind: T.DataType) -> T.StructType:
    return T.StructType([*schema, T.StructField(name, kind)])


def test_columns_of_silver_may_be_added(
    resume: Callable[..., dict[str, Definition]], caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that is made of a new field; those that were there are compared."""
    resume(shop(), "shop_visits")
    hour = with_column(VISITS.schema, "hour", T.IntegerType())
    resume(shop(visits={"transform": masked_with_hour, "transformed_schema": hour}), "shop_visits")
    fields = with_column(VISITS.schema, "agent", T.StringType())
    both = with_column(T.StructType([*fields, hour["hour"]]), "browser", T.StringType())
    new = {"schema": fields, "transform": masked_with_browser, "transformed_schema": both}
    resume(shop(visits=new), "shop_visits")
    assert not caplog.text
    with pytest.raises(LakehouseError, match=r"'silver\.shop_visits': its transform has changed"):
        resume(shop(visits={"transform": masked_by_md5}), "shop_visits")
    with pytest.raises(LakehouseError, match=r"'silver\.shop_visits': it has no transform any more"):
        resume(shop(visits={"transform": None, "transformed_schema": None}), "shop_visits")


def test_a_plan_with_the_current_time_in_it_is_not_compared(
    resume: Callable[..., dict[str, Definition]], caplog: pytest.LogCaptureFixture
) -> None:
    """It is another one each time: the run says so, and is not refused for ever."""
    for _ in range(2):
        resume(shop(visits={"transform": with_now}), "shop_visits")
    assert caplog.text.count("its plan has the current time or a random number in it: it cannot be compared") == 1


def test_the_hot_path_reports_a_change(
    resume: Callable[..., dict[str, Definition]], caplog: pytest.LogCaptureFixture
) -> None:
    """Its rows were sent one by one: there is nothing to rebuild."""
    assert SHOP.hot
    resume(shop(), "hot")
    resume(
        shop(hot=replace(SHOP.hot, transform=lambda rows: shop_gold.large_payments(rows).where("amount_eur > 95"))),
        "hot",
    )
    assert (
        "step 'hot.shop_large_payments_now': its transform has changed; this applies from the next batch" in caplog.text
    )


def test_custom_state_is_compared_with_its_python_code(
    resume: Callable[..., dict[str, Definition]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query resumes where its input has another column; a transform of another class is refused."""
    resume(shop(), "shop_customer_products")
    orders = PRODUCTS.streams[0]
    wider = replace(orders, schema=with_column(orders.schema, "channel", T.StringType()))
    resume(shop(products={"inputs": (wider,)}), "shop_customer_products")
    with pytest.raises(LakehouseError, match="the Python code of its transform has changed"):
        resume(shop(products={"transform": count_all}), "shop_customer_products")


class CountAll(shop_gold.CountProducts):
    """Counts by other rules."""


def count_all(orders: DataFrame, *, output_mode: str) -> DataFrame:
    return orders.groupBy("customer").transformWithState(
        CountAll(), "customer string, products bigint", output_mode, "None"
    )


def test_the_digests_are_the_same_everywhere(resume: Callable[..., dict[str, Definition]]) -> None:
    """In every process, on every machine: these were computed in another one. Another Spark may give others."""
    found = resume(SHOP, "gold")
    assert {Path(checkpoint).name: definition["rows"][:8] for checkpoint, definition in found.items()} == {
        "gold.shop_category_hourly": "b0005316",
        "gold.shop_customer_products": "f18dc699",
        "gold.shop_customer_totals": "f89d7455",
        "gold.shop_large_payments": "cae27b23",
        "gold.shop_order_payments": "6968750b",
        "gold.shop_product_ranking": "42fd57fa",
        "gold.shop_visit_sessions": "b9d89e2d",
    }


@pytest.mark.parametrize(
    ("imported", "name"),
    [
        ("from rides import limits", "limits.SLOW_KM_H"),
        ("from rides.limits import SLOW_KM_H as SLOW", "SLOW"),
        ("from . import limits as of_rides", "of_rides.SLOW_KM_H"),
        ("import rides.limits", "rides.limits.SLOW_KM_H"),
        ("import rides.limits as limits", "limits.SLOW_KM_H"),
    ],
)
def test_comments_and_layout_are_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: str, name: str
) -> None:
    """What the code does is, in whichever module of its package."""
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "rides"
    package.mkdir()
    (package / "__init__.py").touch()
    limits = "SLOW_KM_H = 5\nUNUSED = 1\n"
    rules = f"{imported}\n\ndef is_slow(speed):\n    return speed < {name}\n\ndef other(): pass\n"

    def source(limits: str, rules: str) -> str:
        (package / "limits.py").write_text(limits)
        (package / "rules.py").write_text(rules)
        for module in ("rides", "rides.limits", "rides.rules"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        linecache.clearcache()
        return reachable_source(importlib.import_module("rides.rules").is_slow)

    before = source(limits, rules)
    documented = rules.replace("speed):\n", 'speed):\n    """Slow."""\n    # as a walker\n').replace("pass", "return 1")
    assert source(limits.replace("UNUSED = 1", "UNUSED = 2  # nothing"), documented) == before
    assert source(limits.replace("5", "6"), rules) != before
    assert source(limits, rules.replace("<", "<=")) != before


def test_a_connect_client_sees_the_same_plan(spark: SparkSession) -> None:
    """By `explain`, which is all that it has."""
    rows = PlanFrames(spark).rows(select_steps(WEATHER, (HOURLY,))[0], "append")
    assert rows is not None
    expected = plan_text.plan_text(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_text, "is_connect", lambda session: True)
        assert plan_text.plan_text(rows) == expected
