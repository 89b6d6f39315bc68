"""A replayed batch is written once: by path and in a catalog, over our commits and over those of version 0.1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.sinks.delta import Batch, read, write_batch

NAME = "`spark_catalog`.`default`.`replayed_batches`"


@pytest.fixture(params=["path", "catalog"])
def table(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Iterator[Table]:
    path = str(tmp_path / "table")
    if request.param == "path":
        yield Table("bronze", "replayed_batches", path=path)
        return
    spark.sql(f"CREATE TABLE {NAME} (id BIGINT) USING delta LOCATION '{path}'")
    yield Table("bronze", "replayed_batches", catalog_name=NAME)
    spark.sql(f"DROP TABLE {NAME}")


def rows(spark: SparkSession, number: int) -> DataFrame:
    return spark.createDataFrame([(number,)], "id bigint")


def ids(spark: SparkSession, table: Table) -> list[int]:
    return sorted(row["id"] for row in read(spark, table).collect())


def test_a_replayed_batch_is_skipped_where_its_commit_is_there(spark: SparkSession, table: Table) -> None:
    """Batch 2 was not committed before the crash, and another query has its own numbers."""
    for number in (0, 1):
        write_batch(rows(spark, number), table, Batch("ours", number))
    write_batch(rows(spark, 10), table, Batch("theirs", 5))
    write_batch(rows(spark, 1), table, Batch("ours", 1, is_replayed=True))
    write_batch(rows(spark, 2), table, Batch("ours", 2, is_replayed=True))
    write_batch(rows(spark, 2), table, Batch("ours", 2, is_replayed=True))
    assert ids(spark, table) == [0, 1, 2, 10]


def test_a_batch_of_version_0_1_is_found_by_its_transaction(spark: SparkSession, table: Table) -> None:
    """Its commits have no userMetadata of ours."""
    write_batch(rows(spark, 0), table, Batch("theirs", 0))
    by_0_1 = rows(spark, 7).write.format("delta").mode("append").option("txnAppId", "ours").option("txnVersion", "7")
    by_0_1.save(table.path) if table.path else by_0_1.saveAsTable(NAME)
    write_batch(rows(spark, 7), table, Batch("ours", 7, is_replayed=True))
    write_batch(rows(spark, 8), table, Batch("ours", 8))
    assert ids(spark, table) == [0, 7, 8]
