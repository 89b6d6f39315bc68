"""A reference table is created once, read at a recorded version, and a replayed batch reads the version it had."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession, types as T

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Storage, Table
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.layers import reference
from streaming_lakehouse.pipeline import Reference
from streaming_lakehouse.sinks import QueryConfig, WriteRequest, delta

DEVICE = T.StructType([T.StructField("device", T.StringType()), T.StructField("region", T.StringType())])
DEVICES = Reference("devices", schema=DEVICE, rows=lambda: [("a", "coast"), ("b", "valley")])


@pytest.fixture
def table(spark: SparkSession, tmp_path: Path) -> Table:
    created = Storage(root=tmp_path).table("reference", "devices")
    reference.create_if_missing(spark, DEVICES, created)
    return created


def request(tmp_path: Path, replayed_batch: int | None = None) -> WriteRequest:
    query = QueryConfig("gold.devices", str(tmp_path / "checkpoint"), parse_trigger("available-now"))
    return WriteRequest(Storage(root=tmp_path).table("gold", "devices"), ("device",), query, {}, replayed_batch)


def regions(spark: SparkSession, table: Table, asked: WriteRequest) -> dict[str, str]:
    return {row["device"]: row["region"] for row in reference.read(spark, table, asked).collect()}


def test_its_first_content_is_written_once(spark: SparkSession, table: Table) -> None:
    """What its owner changes afterwards stays."""
    spark.sql(f"DELETE FROM {table.sql_identifier} WHERE device = 'a'")
    reference.create_if_missing(spark, DEVICES, table)
    assert [tuple(row) for row in delta.read(spark, table).collect()] == [("b", "valley")]


def test_a_replayed_batch_reads_the_version_that_it_read_before(
    spark: SparkSession, table: Table, tmp_path: Path
) -> None:
    assert regions(spark, table, request(tmp_path)) == {"a": "coast", "b": "valley"}
    spark.sql(f"UPDATE {table.sql_identifier} SET region = 'mountain' WHERE device = 'a'")
    assert regions(spark, table, request(tmp_path, replayed_batch=0)) == {"a": "coast", "b": "valley"}
    assert metadata.reference_version(str(tmp_path / "checkpoint"), "devices") == 0


def test_a_new_batch_reads_and_records_the_latest_version(spark: SparkSession, table: Table, tmp_path: Path) -> None:
    regions(spark, table, request(tmp_path))
    spark.sql(f"UPDATE {table.sql_identifier} SET region = 'mountain' WHERE device = 'a'")
    assert regions(spark, table, request(tmp_path)) == {"a": "mountain", "b": "valley"}
    assert metadata.reference_version(str(tmp_path / "checkpoint"), "devices") == 1
