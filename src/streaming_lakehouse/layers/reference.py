"""Reference tables: a static or slowly changing table beside the streams, read at a version that is recorded."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.checkpointing import metadata
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.pipeline import Reference
from streaming_lakehouse.sinks import WriteRequest, delta


def create_if_missing(spark: SparkSession, reference: Reference, table: Table) -> None:
    """Creates the table with its first content, in one commit."""
    if not delta.exists(spark, table):
        rows = spark.createDataFrame(list(reference.rows()), reference.schema)
        delta.create(rows, table)


def read(spark: SparkSession, table: Table, request: WriteRequest) -> DataFrame:
    """The table's latest version, which the query's checkpoint records; a replayed batch reads the one it had.

    The version is that of the whole run: a later one is read by the next run.
    """
    checkpoint = request.query.checkpoint
    version = None
    if checkpoint and request.replayed_batch is not None:
        version = metadata.reference_version(checkpoint, table.name)
    if version is None:
        version = delta.latest_version(spark, table)
    if checkpoint:
        metadata.record_reference_version(checkpoint, table.name, version)
    return delta.read(spark, table, version=version)
