"""Bronze: how many files a batch becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RunWeather
from pyspark.sql import SparkSession

from streaming_lakehouse.checkpointing import delta_log
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.layers import bronze
from streaming_lakehouse.layers.bronze import BatchSize


def files_of_commits(table: Path) -> list[int]:
    """Of those that add rows."""
    commits = [delta_log.commit(table, version).read_text() for version in delta_log.versions(table)]
    added = [sum("add" in action for action in delta_log.actions(text)) for text in commits]
    return [files for files in added if files]


def test_a_batch_is_one_file_if_the_batch_before_was_small(
    run_weather: RunWeather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one of a run is written as it is read, and so is one after a large batch."""
    table = tmp_path / "lake" / "bronze" / "weather_readings"
    run_weather("generator", {"numRows": "300", "maxRowsPerTrigger": "100"}, steps=("bronze",))
    assert files_of_commits(table) == [2, 1, 1]
    monkeypatch.setattr(bronze, "SMALL_BYTES", 100)
    run_weather("generator", {"numRows": "600", "maxRowsPerTrigger": "100"}, steps=("bronze",))
    assert files_of_commits(table) == [2, 1, 1, 2, 2, 2]


def test_the_size_of_a_batch_is_unknown_without_a_commit_that_can_be_read(spark: SparkSession, tmp_path: Path) -> None:
    """An unknown one counts as large: so do those of tables by name, whose log is not on this machine."""
    size = BatchSize(Table("bronze", "sizes", path=str(tmp_path / "sizes")))
    spark.range(10).write.format("delta").save(str(tmp_path / "sizes"))
    size.measure()
    assert size.was_small
    delta_log.commit(tmp_path / "sizes", 0).write_text("nonsense")
    size.measure()
    assert not size.was_small
    by_name = BatchSize(Table("bronze", "sizes", catalog_name="main.bronze.sizes"))
    by_name.measure()
    assert not by_name.was_small
