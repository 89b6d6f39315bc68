"""What every pipeline must satisfy. A new folder in `domains/` is found here, without a change of this file.

Each pipeline runs once, from generated files with many faults among them; everything else asks that one lake.
"""

from __future__ import annotations

import json
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import yaml
from conftest import run_pipeline
from deltalake import DeltaTable
from oracle import RawRecord, check, classify, load_domain, read_files
from oracle.domain import Row
from oracle.tables import read_rows
from oracle.windows import keep_closed, watermark
from pyspark.sql import DataFrame, SparkSession, functions as F
from support.settings import CODEGEN

from streaming_lakehouse import domains
from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.layers import gold as gold_layer
from streaming_lakehouse.layers.backfill import GoldBackfill, Span
from streaming_lakehouse.pipeline import Gold, Pipeline, Reference, Silver
from streaming_lakehouse.pipeline.discovery import load_pipeline, pipeline_names
from streaming_lakehouse.pipeline.synthetic import FaultRates, generate_records

ROOT = Path(__file__).parents[2]
ROWS = 9_000
MINUTE_US, BACKFILL = 60_000_000, 1
RATES = {"malformed": "0.2", "duplicates": "0.05", "late": "0.02", "unknown_fields": "0.01"}
MALFORMED = {
    *("null", "empty", "not_utf8", "not_json", "wrong_type"),
    *("missing_field", "out_of_range", "far_future", "before_1970"),
}
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
    with applied(spark, CODEGEN):
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
        assert streamed, f"{gold.table} is empty, which proves nothing"
        assert not streamed - batch, f"{gold.table} has rows that a batch does not compute"
        lacking = _closed(lake, gold, [json.loads(row) for row in batch - streamed])
        assert not lacking, f"{gold.table} lacks {len(lacking)} rows that a batch computes, such as {lacking[0]}"


def test_a_backfill_computes_the_rows_within_reach_and_no_others(lake: Lake, spark: SparkSession) -> None:
    """The events of one minute are added: with the rows that differ, the table is that of a batch over all events."""
    for gold in (each for each in lake.pipeline.gold if each.reach is not None):
        times = [_start(lake.rows(spark, "silver", each.table), each) for each in gold.streams]
        span = (min(times) + 10 * MINUTE_US, min(times) + 11 * MINUTE_US)
        inputs = tuple(_backfilled(lake, spark, each, span) for each in gold.inputs)
        mode = gold.output_modes[0]
        found = GoldBackfill(gold, inputs, [span], mode, BACKFILL).differences()
        without = [_without_backfilled(rows) for rows in inputs]
        rows = {_key(row, gold): row for row in _rows(gold_layer.transform(without, gold, mode))}
        for row in _rows(found):
            is_removed = json.loads(row)["_is_removed"]
            rows.pop(_key(row, gold), None)
            rows |= {} if is_removed else {_key(row, gold): row.replace(',"_is_removed":false', "")}
        assert Counter(rows.values()) == _rows(_computed(lake, spark, gold)), gold.table


def _start(rows: DataFrame, silver: Silver) -> int:
    first: int = rows.agg(F.unix_micros(F.min(silver.event_time))).collect()[0][0]
    return first


def _backfilled(lake: Lake, spark: SparkSession, table: Silver | Reference, span: Span) -> DataFrame:
    if isinstance(table, Reference):
        return lake.rows(spark, "reference", table.table)
    is_added = F.unix_micros(table.event_time).between(span[0], span[1] - 1)
    backfilled_at = F.timestamp_micros(F.when(is_added, F.lit(BACKFILL)))
    return lake.rows(spark, "silver", table.table).withColumn("backfilled_at", backfilled_at)


def _without_backfilled(rows: DataFrame) -> DataFrame:
    return rows.where("backfilled_at IS NULL").drop("backfilled_at") if "backfilled_at" in rows.columns else rows


def _key(row: str, gold: Gold) -> str:
    values = json.loads(row)
    return json.dumps([values[name] for name in gold.key])


def _computed(lake: Lake, spark: SparkSession, gold: Gold) -> DataFrame:
    inputs = [
        lake.rows(spark, "silver" if isinstance(each, Silver) else "reference", each.table) for each in gold.inputs
    ]
    return gold_layer.transform(inputs, gold, gold.output_modes[0])


def _rows(rows: DataFrame) -> Counter[str]:
    """As JSON, with times in microseconds, and doubles in 9 digits: sums depend on the order of the rows."""
    shown = {"double": partial(F.format_string, "%.9g"), "timestamp": F.unix_micros}
    columns = [shown.get(kind, F.col)(name).alias(name) for name, kind in rows.dtypes]
    texts = rows.select(F.to_json(F.struct(*columns), {"ignoreNullFields": "false"}).alias("row"))
    return Counter(row["row"] for row in texts.collect())


def _closed(lake: Lake, gold: Gold, rows: list[Row]) -> list[Row]:
    """The rows that the watermark has passed: the oracle knows for each table when a row is final."""
    domain = load_domain(lake.pipeline.name)
    closes_at = next(each.closes_at for each in domain.gold if each.table == gold.table)
    if gold.output_modes[0] != "append" or closes_at is None:
        return rows
    names = {each.table for each in gold.streams}
    streams = [(each, read_rows(lake.root, f"silver/{each.table}")) for each in domain.silver if each.table in names]
    return keep_closed(rows, closes_at, watermark(streams))


def test_each_display_of_its_notebook_has_rows(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook runs unmodified; a pipeline need not have one."""
    displayed: list[DataFrame] = []
    monkeypatch.setenv("LAKEHOUSE_ROOT", str(lake.root))
    monkeypatch.chdir(ROOT / "notebooks")
    for notebook in Path().glob(f"{lake.pipeline.name}.py"):
        runpy.run_path(str(notebook), {"display": displayed.append})
    empty = [number for number, rows in enumerate(displayed, start=1) if not rows.take(1)]
    assert not empty, f"displays {empty} of {len(displayed)} have no rows"


def test_every_expectation_is_violated_by_some_generated_record(lake: Lake) -> None:
    """An expectation that nothing can violate proves nothing."""
    for bronze in lake.pipeline.bronze:
        reasons = lake.reasons(bronze.table)
        for silver in lake.pipeline.silver_of(bronze):
            expected = {each.name for each in silver.all_expectations if each.on_violation == "quarantine"}
            assert expected <= reasons, f"{silver.table}: no record violates {sorted(expected - reasons)}"


def test_labels_are_the_truth(lake: Lake) -> None:
    """Each record that is labelled as malformed is invalid, whatever was generated, and no other is."""
    domain = load_domain(lake.pipeline.name)
    for bronze in lake.pipeline.bronze:
        records = generate_records(bronze.generator, seed=4, start=0, end=ROWS // 3, rates=FaultRates(malformed=0.5))
        for row, record in enumerate(records):
            raw = RawRecord(record.key, record.value, bronze.table, 0, row, None)
            failures = classify(raw, datetime.now(UTC), *domain.silver_of(bronze.table))[1]
            assert bool(failures) == (record.label in MALFORMED), f"{record} fails {failures}"


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
    for name in filter(None, (silver.salt_variable for silver in lake.pipeline.silver)):
        assert any(word.startswith(f"--secret={name}=") for word in parameters), f"the job gives no {name}"


def test_detections_refer_to_columns_of_their_tables(lake: Lake, spark: SparkSession) -> None:
    for detection in lake.pipeline.detections:
        rows = lake.rows(spark, "gold", detection.table)
        assert rows.where(detection.where).select(detection.entity, detection.time).columns
