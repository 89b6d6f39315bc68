"""Each pipeline over as many events as a small topic has, from a real broker; on demand: `make test-exhaustive`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from conftest import run_pipeline
from pyspark.sql import SparkSession
from support.topics import Topics

from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.pipeline.discovery import load_pipeline, pipeline_names

# Events of each bronze table.
ROWS = int(os.environ.get("LAKEHOUSE_ROWS", "200000"))
# Available-now gives silver and gold one batch a run, and bronze as many as it takes.
RUNS, BRONZE_BATCHES = 3, 2
RATES = {"late": "0.01", "duplicates": "0.02", "malformed": "0.02"}


@pytest.mark.parametrize("name", pipeline_names())
def test_every_table_equals_what_the_oracle_computes(
    spark: SparkSession, broker: Broker, tmp_path: Path, name: str
) -> None:
    """A topic that grows between three runs: each record is in one table, and each gold row is what it must be.

    State, late rows and duplicates reach across the runs. The oracle reads the records from the topic and computes all
    tables in plain Python. Prints where the records went, and the seconds of each part.
    """
    pipeline = load_pipeline(name)
    topics = Topics(pipeline, broker.bootstrap_servers, "volume", seed=5, rates=RATES)
    seconds, batches = dict.fromkeys(("published", "run", "confirmed"), 0.0), 0
    print(f"\n{name}", flush=True)
    for number in range(RUNS):
        started_at = time.monotonic()
        topics.publish(ROWS * (number + 1) // RUNS - topics.rows)
        published_at = time.monotonic()
        limit = str(-(-ROWS // (RUNS * BRONZE_BATCHES)))
        options = {**topics.source_options, "maxOffsetsPerTrigger": limit}
        progress = run_pipeline(tmp_path, "kafka", options, pipeline=name)
        batches += min(progress.states[f"bronze.{bronze.table}"].batches for bronze in pipeline.bronze)
        seconds["published"] += published_at - started_at
        seconds["run"] += time.monotonic() - published_at
    started_at = time.monotonic()
    topics.confirmed(tmp_path)
    seconds["confirmed"] = time.monotonic() - started_at
    print(f"{batches} batches of bronze; " + ", ".join(f"{part} in {s:.0f} s" for part, s in seconds.items()))
    assert topics.rows == ROWS
    assert batches >= RUNS * BRONZE_BATCHES
