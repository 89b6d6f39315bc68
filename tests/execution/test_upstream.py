"""Deletes and updates in a table that a layer reads: passed over and reported, or refused with the way out."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import HALF, Prepare, RunWeather
from delta.tables import DeltaTable as Delta
from deltalake import DeltaTable, write_deltalake
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession, functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.cli.report import Report
from streaming_lakehouse.config.storage import Storage, Table
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution.spark_errors import to_user_message
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.sources.delta import find_changes, read_stream

ALERTS = "gold.weather_alerts"
STEPS = ("bronze", "silver", ALERTS)
FORTY_DAYS = 40 * 86_400


def ids(spark: SparkSession, lake: Path, *layers: str) -> list[int]:
    """The offsets of the records in these layers' tables; the generator has one partition."""
    tables = (spark.read.format("delta").load(str(lake / layer / "weather_readings")) for layer in layers)
    return sorted(row["offset"] for table in tables for row in table.select("offset").collect())


def alerts(lake: Path) -> list[str]:
    return sorted(map(str, DeltaTable(lake / "gold/weather_alerts").to_pyarrow_table().to_pylist()))


def sums(lake: Path) -> str:
    parts = Report(load_pipeline("weather"), Storage(root=lake)).render(gold_rows=0)
    return next(str(part).strip() for part in parts if "rows in" in str(part))


def change(spark: SparkSession, lake: Path, *statements: str) -> None:
    """Runs statements on the lake's tables, which they name as `@layer`."""
    for statement in statements:
        layer = statement.partition("@")[2].split()[0]
        spark.sql(statement.replace(f"@{layer}", f"delta.`{lake / layer / 'weather_readings'}`"))


def test_an_erasure_in_every_layer_is_passed_over_and_reported_once(
    spark: SparkSession, run_weather: RunWeather, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next rows go through all layers; what gold has made of the rows before stays as it was."""
    lake = tmp_path / "lake"
    run_weather(options={"numRows": "500"}, steps=STEPS)
    before = alerts(lake)
    change(
        spark,
        lake,
        *(f"DELETE FROM @{layer} WHERE offset < 10" for layer in ("bronze", "silver", "quarantine")),
        "UPDATE @silver SET temperature_c = -80 WHERE offset = 20",
        "ALTER TABLE @silver SET TBLPROPERTIES ('delta.enableDeletionVectors' = true)",
        "DELETE FROM @silver WHERE offset = 30",
        "OPTIMIZE @silver",
    )
    assert sums(lake).startswith("490 rows in + 10 deleted since = ") and sums(lake).endswith(" + 11 deleted since")
    caplog.clear()
    run_weather(options={"numRows": "600"}, steps=STEPS)
    run_weather(steps=(ALERTS,))
    assert ids(spark, lake, "bronze") == list(range(10, 600))
    assert ids(spark, lake, "silver", "quarantine") == [offset for offset in range(10, 600) if offset != 30]
    new = [alert for alert in alerts(lake) if alert not in before]
    assert len(alerts(lake)) == len(before) + len(new) > len(before) > 0
    assert all(int(row) >= 500 for row in re.findall(r"'event_id': 'w0-(\d+)'", str(new)))
    reports = [record.getMessage() for record in caplog.records if "passes over" in record.getMessage()]
    assert [report.partition(";")[0] for report in reports] == [
        "step 'silver.weather_readings' passes over a change of bronze.weather_readings: "
        "DELETE in version 1 (10 rows deleted)",
        *(
            f"step '{ALERTS}' passes over a change of silver.weather_readings: {found}"
            for found in (
                "DELETE in version 1 (10 rows deleted)",
                "UPDATE in version 2 (1 row updated)",
                "DELETE in version 4 (1 row deleted)",
            )
        ),
    ]


def test_rows_that_a_merge_or_an_overwrite_adds_are_refused_until_the_step_is_rebuilt(
    spark: SparkSession, run_weather: RunWeather, prepare: Prepare, tmp_path: Path
) -> None:
    """Delta's stream passes over them with the rest of their commit. A MERGE that only adds rows is read."""
    lake, silver = tmp_path / "lake", str(tmp_path / "lake/silver/weather_readings")
    prepare(HALF)
    run_weather(steps=(ALERTS,))

    def merge(name: str, *, updates: int) -> None:
        rows = spark.read.format("delta").load(silver).orderBy("offset")
        new = rows.limit(3).withColumn("event_id", F.lit(name)).withColumn("temperature_c", F.lit(-40.0)).limit(1)
        source = new.unionByName(rows.limit(updates)).localCheckpoint()
        merging = Delta.forPath(spark, silver).alias("t").merge(source.alias("s"), "t.event_id = s.event_id")
        merging.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()

    merge("only-added", updates=0)
    run_weather(steps=(ALERTS,))
    merge("beside-an-update", updates=1)
    spark.read.format("delta").load(silver).localCheckpoint().write.format("delta").mode("overwrite").save(silver)
    rebuild = f"lakehouse reset weather --step {ALERTS} --root {lake}"
    refused = rf"'{ALERTS}' failed: .* by MERGE in version \d \(1 row updated, 1 row added\); .*{rebuild}"
    for _ in range(2):
        with pytest.raises(LakehouseError, match=refused):
            run_weather(steps=(ALERTS,))
    assert "only-added" in str(alerts(lake)) and "beside-an-update" not in str(alerts(lake))
    shutil.rmtree(lake / "gold/weather_alerts")
    shutil.rmtree(lake / "_checkpoints/weather" / ALERTS)
    run_weather(steps=(ALERTS,))
    assert "only-added" in str(alerts(lake)) and "beside-an-update" in str(alerts(lake))


class Upstream:
    """A table whose rows a stream reads, and a checkpoint with all of them as read."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.table = spark, Table("silver", "numbers", path=str(folder / "numbers"))
        self.checkpoint = str(folder / "checkpoint")
        self.append(0)
        self.read()

    def append(self, number: int) -> None:
        self.spark.range(number, number + 1).write.format("delta").mode("append").save(self.table.path)

    def read(self) -> None:
        rows = read_stream(self.spark, self.table).writeStream.format("noop")
        query: StreamingQuery = rows.option("checkpointLocation", self.checkpoint).trigger(availableNow=True).start()
        query.awaitTermination()

    def failure(self) -> str:
        with pytest.raises(PySparkException) as failed:
            self.read()
        return to_user_message(failed.value)


@pytest.fixture
def upstream(spark: SparkSession, tmp_path: Path) -> Upstream:
    return Upstream(spark, tmp_path)


def test_a_file_that_was_vacuumed_before_it_was_read_is_reported(upstream: Upstream) -> None:
    """Its rows were deleted, or are in another file since: which of both, a stream cannot know."""
    upstream.append(1)
    upstream.spark.sql(f"DELETE FROM {upstream.table.sql_identifier} WHERE id = 1")
    unchecked = "spark.databricks.delta.retentionDurationCheck.enabled"
    upstream.spark.conf.set(unchecked, "false")
    try:
        upstream.spark.sql(f"VACUUM {upstream.table.sql_identifier} RETAIN 0 HOURS")
    finally:
        upstream.spark.conf.unset(unchecked)
    assert upstream.failure().startswith("a file that it has not read yet is gone from the table that it reads, ")
    assert ".parquet; archive this step's table and checkpoint" in upstream.failure()


def test_versions_that_were_removed_before_they_were_read_are_reported(upstream: Upstream) -> None:
    """Delta removes commits of more than 30 days ago that a checkpoint of its own replaces."""
    upstream.append(1)
    upstream.append(2)
    log = Path(str(upstream.table.path)) / "_delta_log"
    for file in log.iterdir():
        age = file.stat().st_mtime - FORTY_DAYS
        os.utime(file, (age, age))
    upstream.spark.sql(f"ALTER TABLE {upstream.table.sql_identifier} SET TBLPROPERTIES (delta.checkpointInterval = 1)")
    for number in (3, 4):
        upstream.append(number)
    assert not (log / f"{1:020}.json").exists()
    assert upstream.failure().startswith("versions that it has not read yet are gone from the log of the table")
    assert find_changes(upstream.spark, upstream.table, range(1, 3)) == []


def test_a_delete_by_another_writer_is_counted(spark: SparkSession, tmp_path: Path) -> None:
    """delta-rs has other names for its metrics than Spark."""
    write_deltalake(tmp_path / "table", pa.table({"id": [1, 2, 3]}))
    DeltaTable(tmp_path / "table").delete("id < 3")
    (change,) = find_changes(spark, Table("bronze", "table", path=str(tmp_path / "table")))
    assert (change.operation, change.deleted) == ("DELETE", 2)
