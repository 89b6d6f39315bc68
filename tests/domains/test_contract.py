"""What every pipeline must satisfy. A new folder in `domains/` is found here, without a change of this file.

Each pipeline runs once, from generated files with many faults among them; everything else asks that one lake.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import run_pipeline
from deltalake import DeltaTable
from oracle import check, load_domain, read_files
from pyspark.sql import DataFrame, SparkSession, functions as F

from streaming_lakehouse import domains
from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.layers import gold as gold_layer
from streaming_lakehouse.pipeline import Gold, Pipeline, Silver
from streaming_lakehouse.pipeline.discovery import load_pipeline, pipeline_names

ROOT = Path(__file__).parents[2]
ROWS = 9_000
RATES = {"malformed": "0.2", "duplicates": "0.05", "late": "0.02", "unknown_fields": "0.01"}
SECTIONS = ("In", "Late", "Out", "Trade-offs")


@dataclass(frozen=True)
class Lake:
    pipeline: Pipeline
    root: Path
    landing: Path

    def rows(self, spark: SparkSession, layer: str, table: str) -> DataFrame:
        return spark.read.format("delta").load(str(self.root / layer / table))

    def reasons(self, table: str) -> set[str]:
        quarantine = DeltaTable(self.root / "quarantine" / table).to_pyarrow_table(columns=["failed_expectations"])
        return {reason for row in quarantine["failed_expectations"].to_pylist() for reason in row}


@pytest.fixture(scope="module", params=pipeline_names())
def lake(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lake]:
    pipeline = load_pipeline(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    landing = {"path": str(folder / "landing")}
    for bronze in pipeline.bronze:
        publish(PublishJob(bronze, 3, 0, ROWS, {**landing, **RATES}), "files")
    run_pipeline(folder / "lake", "files", landing, pipeline=pipeline.name)
    yield Lake(pipeline, folder / "lake", folder / "landing")


def test_every_table_equals_what_the_oracle_computes(lake: Lake) -> None:
    """From the raw records, in plain Python: silver, quarantine, the reconciliation and every gold table."""
    raw = {bronze.table: read_files(lake.landing / bronze.table) for bronze in lake.pipeline.bronze}
    modes = {gold.table: gold.output_modes[0] for gold in lake.pipeline.gold}
    accounts = check(lake.root, load_domain(lake.pipeline.name), raw, modes)
    for account in accounts.values():
        assert account.rows_in == ROWS
        assert account.valid and account.quarantined and account.duplicates


def test_the_oracle_knows_every_table(lake: Lake) -> None:
    """A gold table that the oracle did not compare would pass by being left out."""
    domain = load_domain(lake.pipeline.name)
    assert {gold.table for gold in domain.gold} == {gold.table for gold in lake.pipeline.gold}
    assert {silver.table for silver in domain.silver} == {silver.table for silver in lake.pipeline.silver}


def test_a_batch_computation_equals_the_streamed_table(lake: Lake, spark: SparkSession) -> None:
    """Row by row; in append mode the batch may have more, but only what had not closed when the stream ended."""
    for gold in lake.pipeline.gold:
        streamed = _rows(lake.rows(spark, "gold", gold.table))
        batch = _rows(_computed(lake, spark, gold).select(*lake.rows(spark, "gold", gold.table).columns))
        assert not streamed - batch, f"{gold.table} has rows that a batch does not compute"
        assert streamed, f"{gold.table} is empty, which proves nothing"
        open_rows = batch - streamed
        if gold.output_modes[0] != "append":
            assert not open_rows, f"{gold.table} lacks rows that a batch computes"
        else:
            assert not _closed(lake, spark, gold, open_rows), f"{gold.table} lacks rows that have closed"


def _computed(lake: Lake, spark: SparkSession, gold: Gold) -> DataFrame:
    inputs = [
        lake.rows(spark, "silver" if isinstance(each, Silver) else "reference", each.table) for each in gold.inputs
    ]
    return gold_layer.transform(inputs, gold, gold.output_modes[0])


def _rows(rows: DataFrame) -> Counter[str]:
    """As JSON, with doubles in 9 digits: sums depend on the order of the rows."""
    rounded = [
        F.format_string("%.9g", name).alias(name) if kind == "double" else F.col(name) for name, kind in rows.dtypes
    ]
    texts = rows.select(F.to_json(F.struct(*rounded), {"ignoreNullFields": "false"}).alias("row"))
    return Counter(row["row"] for row in texts.collect())


def _closed(lake: Lake, spark: SparkSession, gold: Gold, rows: Counter[str]) -> list[str]:
    """Those whose last moment the watermark has passed; a join waits for its range as well."""
    watermark = min(_watermark(lake.rows(spark, "silver", each.table), each) for each in gold.streams)
    if not rows:
        return []
    texts = spark.createDataFrame([(row,) for row in rows], "row string")
    end = F.coalesce(*(F.get_json_object("row", f"$.{name}") for name in ("window_end", "closes_at", "time")))
    slack = "INTERVAL 1 DAY" if gold.state.name == "JOIN" else "INTERVAL 0 SECONDS"
    late = texts.where(end.cast("timestamp") + F.expr(slack) < F.timestamp_micros(F.lit(watermark)))
    return [row["row"] for row in late.limit(3).collect()]


def _watermark(events: DataFrame, silver: Silver) -> int:
    latest = events.agg(F.unix_micros(F.max(silver.event_time))).collect()[0][0]
    return int(latest) - int(silver.watermark.total_seconds() * 1e6)


def test_every_expectation_is_violated_by_some_generated_record(lake: Lake) -> None:
    """An expectation that nothing can violate proves nothing."""
    for bronze in lake.pipeline.bronze:
        reasons = lake.reasons(bronze.table)
        for silver in lake.pipeline.silver_of(bronze):
            expected = {each.name for each in silver.all_expectations if each.on_violation == "quarantine"}
            assert expected <= reasons, f"{silver.table}: no record violates {sorted(expected - reasons)}"


def test_the_readme_documents_every_column(lake: Lake, spark: SparkSession) -> None:
    text = _readme(lake.pipeline)
    named = set(re.findall(r"`([^`]+)`", text))
    for silver in lake.pipeline.silver:
        assert set(silver.event_schema.names) <= named, sorted(set(silver.event_schema.names) - named)
    for gold in lake.pipeline.gold:
        columns = set(lake.rows(spark, "gold", gold.table).columns)
        assert columns <= named, f"{gold.table}: {sorted(columns - named)}"
        assert any(gold.table in name for name in named), gold.table


def test_the_readme_has_every_section(lake: Lake) -> None:
    headings = re.findall(r"^## (.+)$", _readme(lake.pipeline), flags=re.MULTILINE)
    assert set(SECTIONS) <= set(headings)


def _readme(pipeline: Pipeline) -> str:
    return (Path(domains.__path__[0]) / pipeline.name / "README.md").read_text()


def test_a_job_runs_the_pipeline(lake: Lake) -> None:
    job = yaml.safe_load((ROOT / "resources" / f"{lake.pipeline.name}.job.yml").read_text())
    parameters = job["resources"]["jobs"][lake.pipeline.name]["tasks"][0]["python_wheel_task"]["parameters"]
    assert parameters[:2] == ["run", lake.pipeline.name]


def test_detections_refer_to_columns_of_their_tables(lake: Lake, spark: SparkSession) -> None:
    for detection in lake.pipeline.detections:
        rows = lake.rows(spark, "gold", detection.table)
        assert rows.where(detection.where).select(detection.entity, detection.time).columns
