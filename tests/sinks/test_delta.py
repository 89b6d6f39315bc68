"""A batch is written once, in few files: by path and in a catalog, over our commits and over those of version 0.1."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.checkpointing import delta_log, metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.sinks import QueryConfig
from streaming_lakehouse.sinks.delta import Batch, BatchWriter, _write_unless_stopped, for_each_batch, read, write_batch

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


def files_of_latest_commit(table: Path) -> int:
    version = delta_log.latest_version(table)
    assert version is not None
    return sum("add" in action for action in delta_log.actions(delta_log.commit(table, version).read_text()))


def test_a_batch_is_one_file_if_the_batch_before_was_small(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one of a process is written as it is, and so is one after a large batch."""
    path, table = tmp_path / "table", Table("bronze", "files", path=str(tmp_path / "table"))
    monkeypatch.setattr(metadata, "query_id", lambda checkpoint: "ours")
    writer = BatchWriter(str(tmp_path / "checkpoint"), replayed_batch=None)
    files = []
    # Random numbers of 8 bytes do not compress: 300,000 of them take 2.4 MB.
    for batch_id, rows_of_batch in enumerate((10, 10, 300_000, 10, 10)):
        numbers = spark.range(rows_of_batch, numPartitions=2).selectExpr("cast(rand() * 9e18 AS bigint) AS id")
        writer.write(numbers, table, batch_id)
        files.append(files_of_latest_commit(path))
    assert files == [2, 1, 1, 2, 1]


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


def test_the_error_of_an_interrupted_batch_is_short(spark: SparkSession, tmp_path: Path) -> None:
    """Any other error has all of its text."""

    def message(error: str) -> str:
        def write(batch: DataFrame, batch_id: int) -> None:
            raise ValueError(error)

        with pytest.raises((ValueError, LakehouseError)) as raised:
            _write_unless_stopped(write, spark.range(1), 7)
        return str(raised.value)

    assert message("a" * 9_000) == "a" * 9_000
    interrupted = message("a" * 9_000 + "java.nio.channels.ClosedByInterruptException")
    assert interrupted.startswith("batch 7 was interrupted; the next start writes it again") and len(interrupted) < 200
