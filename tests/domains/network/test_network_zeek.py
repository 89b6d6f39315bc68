"""Logs that Zeek wrote about real networks: every line is valid, and flows meet their requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession, functions as F
from support.settings import FEW_ROWS

from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.domains.network import gold, silver
from streaming_lakehouse.domains.network.pipeline import flows, requests
from streaming_lakehouse.layers.validation import validate
from streaming_lakehouse.pipeline import Silver
from streaming_lakehouse.sources.envelope import BRONZE

DATA = Path(__file__).parent / "data"
ARRIVAL = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = {"time": float, "interval": float, "double": float, "count": int, "int": int, "port": int}


def tab_separated(name: str) -> Iterator[dict[str, Any]]:
    """The lines of a log with the values that Zeek's JSON form has: `-` is no field, and numbers are numbers."""
    names, types = [], []
    for line in (DATA / name).read_text("utf-8").splitlines():
        first, *others = line.split("\t")
        if first == "#fields":
            names = others
        elif first == "#types":
            types = others
        elif not first.startswith("#"):
            cells = zip(names, types, (first, *others), strict=False)
            yield {name: NUMBERS.get(type_, str)(cell) for name, type_, cell in cells if cell != "-"}


def judged(spark: SparkSession, log: str, table: Silver) -> DataFrame:
    lines = [json.dumps(fields).encode() for fields in tab_separated(f"{log}.log")]
    lines += (DATA / f"{log}.json.log").read_bytes().splitlines()
    rows = [(None, line, None, log, 0, number, ARRIVAL, ARRIVAL) for number, line in enumerate(lines)]
    return validate(spark.createDataFrame(rows, BRONZE), table)


@pytest.fixture(scope="module")
def spark(spark: SparkSession) -> Iterator[SparkSession]:
    """Few rows under many expressions: code made for them costs more than it saves."""
    with applied(spark, FEW_ROWS):
        yield spark


@pytest.fixture(scope="module")
def conn(spark: SparkSession) -> DataFrame:
    return judged(spark, "conn", flows).cache()


@pytest.fixture(scope="module")
def http(spark: SparkSession) -> DataFrame:
    return judged(spark, "http", requests).cache()


def test_every_line_is_valid(conn: DataFrame, http: DataFrame) -> None:
    """Fields that the schema does not have are kept beside it."""
    for lines, number, unknown in ((conn, 410, "missed_bytes"), (http, 178, "resp_fuids")):
        found = lines.groupBy("failed_expectations").agg(
            F.count("*"), F.count_if(F.col("_rescued_data").contains(unknown)) > 0
        )
        assert [tuple(row) for row in found.collect()] == [([], number, True)]


def test_the_flows_of_other_peoples_notices_are_found_with_their_requests(conn: DataFrame, http: DataFrame) -> None:
    """Both notices are about the hash of a file, which neither log has; flow and request of each are there."""
    notices = {notice["uid"]: notice for notice in tab_separated("notice.log")}
    assert {notice["note"] for notice in notices.values()} == {"TeamCymruMalwareHashRegistry::Match"}
    once = silver.mask_requests(http.dropDuplicates(list(requests.dedup_key)))
    joined = gold.flow_requests(conn, once).where(F.col("uid").isin(*notices)).collect()
    assert len(joined) == 2
    for row in joined:
        url = f"http://{row['host']}{row['path']}"
        assert notices[row["uid"]]["file_desc"].startswith(url)
        assert (row["destination_ip"], row["status_code"]) == (notices[row["uid"]]["id.resp_h"], 200)
