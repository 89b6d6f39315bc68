"""The record envelope of every source: bronze's columns."""

from pyspark.sql import types as T

# Kafka's headers, in Spark's type.
HEADERS = T.ArrayType(
    T.StructType([T.StructField("key", T.StringType()), T.StructField("value", T.BinaryType())]),
)

RECORD = T.StructType(
    [
        T.StructField("key", T.BinaryType()),
        T.StructField("value", T.BinaryType()),
        T.StructField("headers", HEADERS),
        T.StructField("source", T.StringType()),
        T.StructField("partition", T.IntegerType()),
        T.StructField("offset", T.LongType()),
        T.StructField("source_timestamp", T.TimestampType()),
    ]
)

BRONZE = T.StructType([*RECORD.fields, T.StructField("ingested_at", T.TimestampType())])
"""Bronze's columns, the same for every source.

key, value: unmodified; value is null for a tombstone. headers: Kafka's, else null. source: topic, or file. partition,
offset: the record's position in its source; `source`, `partition` and `offset` together identify a record permanently.
source_timestamp: when the source received it; null where it has no such time, or none that Spark can represent.
ingested_at: when bronze did (the start of its micro-batch).
"""

QUARANTINE = T.StructType([*BRONZE.fields, T.StructField("failed_expectations", T.ArrayType(T.StringType()))])

# The columns of a silver row that identify its bronze record.
PROVENANCE = ("source", "partition", "offset", "source_timestamp", "ingested_at")
RECORD_ID = ("source", "partition", "offset")
# A row of bronze: with a second source, as of a backfill, it may have a record twice.
ROW_ID = (*RECORD_ID, "ingested_at")
