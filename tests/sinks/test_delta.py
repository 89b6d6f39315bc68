"""A batch is written once: by path and in a catalog, over our commits and over those of version 0.1; and a stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.checkpointing import consistency, delta_log
from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.sinks import QueryConfig
from streaming_lakehouse.sinks.delta import (
    Batch,
    _write_unless_stopped,
    create_if_missing,
    for_each_batch,
    merge_batch,
    read,
    write_batch,
)

COMPACTED_OFTEN = {"spark.databricks.delta.autoCompact.minNumFiles": "3"}
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


def compactions(path: Path) -> list[int]:
    """The versions that Delta's auto compaction has written."""
    return [
        version for version in delta_log.versions(path) if '"OPTIMIZE"' in delta_log.commit(path, version).read_text()
    ]


def test_a_replayed_batch_is_skipped_where_its_commit_is_there(spark: SparkSession, table: Table) -> None:
    """Batch 2 was not committed before the crash, and another query has its own numbers."""
    for number in (0, 1):
        write_batch(rows(spark, number), table, Batch("ours", number))
    write_batch(rows(spark, 10), table, Batch("theirs", 5))
    write_batch(rows(spark, 1), table, Batch("ours", 1, is_replayed=True))
    write_batch(rows(spark, 2), table, Batch("ours", 2, is_replayed=True))
    write_batch(rows(spark, 2), table, Batch("ours", 2, is_replayed=True))
    assert ids(spark, table) == [0, 1, 2, 10]


def test_small_files_are_compacted_and_batches_found_behind_it(spark: SparkSession, tmp_path: Path) -> None:
    """The compaction is the latest commit then; its file is not that of a batch. Files of another process stay until
    this one has added enough."""
    table, path = Table("bronze", "compacted", path=str(tmp_path / "table")), tmp_path / "table"
    write_deltalake(path, pa.table({"id": [-1]}))
    sizes = []
    with applied(spark, {"spark.databricks.delta.autoCompact.minNumFiles": "4"}):
        for number in range(6):
            write_batch(rows(spark, number), table, Batch("ours", number))
            sizes.append(delta_log.added_bytes(path))
    assert compactions(path) == [5]
    assert len(DeltaTable(path).file_uris()) == 3
    assert len(set(sizes)) == 1
    assert consistency.last_committed_batch(path, "ours") == 5
    write_batch(rows(spark, 5), table, Batch("ours", 5, is_replayed=True))
    assert ids(spark, table) == [-1, 0, 1, 2, 3, 4, 5]


def test_a_table_whose_rows_are_updated_is_compacted(spark: SparkSession, tmp_path: Path) -> None:
    """Each batch has a new row, every third also the first row again."""
    table, path = Table("gold", "changing", path=str(tmp_path / "table")), tmp_path / "table"
    with applied(spark, COMPACTED_OFTEN):
        for number in range(8):
            ids_of_batch = [number, 0] if number and number % 3 == 0 else [number]
            batch = spark.createDataFrame([(each, number) for each in ids_of_batch], "id bigint, batch bigint")
            merge_batch(batch, table, ("id",))
    assert {row["id"]: row["batch"] for row in read(spark, table).collect()} == {0: 6, **{n: n for n in range(1, 8)}}
    assert compactions(path), "nothing was compacted, which proves nothing"


def test_a_table_that_is_overwritten_is_compacted(spark: SparkSession, tmp_path: Path) -> None:
    table, path = Table("gold", "overwritten", path=str(tmp_path / "table")), tmp_path / "table"
    with applied(spark, COMPACTED_OFTEN):
        for number in range(3):
            batch = spark.range(8).selectExpr("id", f"{number} AS batch").repartition(4)
            write_batch(batch, table, Batch("ours", number), mode="overwrite")
    assert sorted(tuple(row) for row in read(spark, table).collect()) == [(each, 2) for each in range(8)]
    assert compactions(path), "nothing was compacted, which proves nothing"
    assert consistency.last_committed_batch(path, "ours") == 2


def test_two_queries_write_a_table_that_both_compact(spark: SparkSession, tmp_path: Path) -> None:
    """As two silver tables with one quarantine do."""
    table, path = Table("quarantine", "shared", path=str(tmp_path / "table")), tmp_path / "table"
    create_if_missing(spark, table, rows(spark, 0).schema)

    def write(name: str, start: int) -> None:
        for number in range(10):
            write_batch(rows(spark, start + number), table, Batch(name, number))

    with applied(spark, COMPACTED_OFTEN), ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ("ours", "theirs"), (0, 10)))
    assert ids(spark, table) == list(range(20))
    assert compactions(path), "nothing was compacted, which proves nothing"
    assert [consistency.last_committed_batch(path, name) for name in ("ours", "theirs")] == [9, 9]


def test_a_batch_of_version_0_1_is_found_by_its_transaction(spark: SparkSession, table: Table) -> None:
    """Its commits have no userMetadata of ours."""
    write_batch(rows(spark, 0), table, Batch("theirs", 0))
    by_0_1 = rows(spark, 7).write.format("delta").mode("append").option("txnAppId", "ours").option("txnVersion", "7")
    by_0_1.save(table.path) if table.path else by_0_1.saveAsTable(NAME)
    write_batch(rows(spark, 7), table, Batch("ours", 7, is_replayed=True))
    write_batch(rows(spark, 8), table, Batch("ours", 8))
    assert ids(spark, table) == [0, 7, 8]


def test_a_query_that_is_stopped_while_it_writes_ends_without_an_error(spark: SparkSession, tmp_path: Path) -> None:
    """Java's stack traces in the error's text would overflow the stack of the query's thread."""
    has_begun = threading.Event()

    def write(batch: DataFrame, batch_id: int) -> None:
        has_begun.set()
        try:
            batch.selectExpr("java_method('java.lang.Thread', 'sleep', 60000L)").collect()
        except Exception as error:  # an append has more of Java's frames in its error
            frames = "calling\n" + "at org.apache.spark.sql.delta\n" * 1_000
            raise RuntimeError(f"py4j.protocol.Py4JJavaError: An error occurred while {frames}{error}") from None

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("a")
    config = QueryConfig("stopped", str(tmp_path / "checkpoint"), parse_trigger("default"))
    query = for_each_batch(spark.readStream.text(str(tmp_path / "in")), write, config)
    assert has_begun.wait(60)
    query.stop()
    assert query.exception() is None
    assert query.status["message"] == "Stopped"


def test_the_error_of_an_interrupted_batch_is_short(spark: SparkSession) -> None:
    """Its first line stays. Any other error has all of its text, also ours that quotes such a word."""

    def message(error: Exception) -> str:
        def write(batch: DataFrame, batch_id: int) -> None:
            raise error

        with pytest.raises((ValueError, LakehouseError)) as raised:
            _write_unless_stopped(write, spark.range(1), 7)
        return str(raised.value)

    frames = "at java.nio.channels.ClosedByInterruptException\n" * 200
    interrupted = message(ValueError(f"cannot write\n{frames}"))
    assert interrupted.startswith("batch 7 was interrupted: cannot write (py4j.")
    assert len(interrupted) < 200
    assert message(ValueError("a" * 9_000)) == "a" * 9_000
    ours = "2 rows violate the expectation 'words' (text <> 'InterruptedException')"
    assert message(LakehouseError(ours)) == ours
