"""The Spark settings that the guarantees depend on, each with the reason; every session gets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REQUIRED_SETTINGS = {
    # Results must not depend on the machine's time zone.
    "spark.sql.session.timeZone": "UTC",
    # A damaged or missing file stops its query; otherwise the rest of its records would be passed over in silence.
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    # An overflow or an impossible cast is an error, in a transform and where rows are written, not a null.
    "spark.sql.ansi.enabled": "true",
    "spark.sql.storeAssignmentPolicy": "ANSI",
    # What names, strings and types in expectations and transforms mean.
    "spark.sql.caseSensitive": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.ansi.doubleQuotedIdentifiers": "false",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.mapKeyDedupPolicy": "EXCEPTION",
    # JSON written by sinks omits absent fields.
    "spark.sql.jsonGenerator.ignoreNullFields": "true",
    # A watermark follows the slowest input, and the windows it closes are written without waiting for more rows.
    "spark.sql.streaming.multipleWatermarkPolicy": "min",
    "spark.sql.streaming.noDataMicroBatches.enabled": "true",
    # Spark refuses a query that it would compute wrongly, and state that belongs to another query.
    "spark.sql.streaming.unsupportedOperationCheck": "true",
    "spark.sql.streaming.statefulOperator.checkCorrectness.enabled": "true",
    "spark.sql.streaming.stateStore.stateSchemaCheck": "true",
    # Rows are counted, and dropped ones found, in the progress of every batch.
    "spark.sql.streaming.numRecentProgressUpdates": "100",
    # A record of a file is identified by the MiB at which its split starts: no two splits in one MiB.
    "spark.sql.files.maxPartitionBytes": "134217728",
    "spark.sql.files.openCostInBytes": "4194304",
    # Complete mode replaces the whole table, not only the partitions that have new rows.
    "spark.sql.sources.partitionOverwriteMode": "STATIC",
    # Batches are found by what each commit records of itself, and duplicates in the latest rows.
    "spark.databricks.delta.commitInfo.enabled": "true",
    "spark.databricks.delta.stalenessLimit": "0ms",
    # A table gets a column only where a pipeline declares it.
    "spark.databricks.delta.schema.autoMerge.enabled": "false",
}


@contextmanager
def applied(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Within, the session has these settings too; a streaming query that starts there has them until it ends."""
    before = {name: spark.conf.get(name, None) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            spark.conf.unset(name) if old is None else spark.conf.set(name, old)
