"""The envelope that every source puts its records in: bronze's columns."""

from pyspark.sql import types as T

# One definition of Kafka's header list, as Spark reads it.
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
"""What bronze holds of a record, whatever its source.

key, value: as delivered; value null for a tombstone. headers: Kafka's, else null. source: topic, or file. partition and
offset: the record's place in its source; `source`, `partition` and `offset` together name a record for good.
source_timestamp: when the source got it. ingested_at: when bronze did (the start of its micro-batch).
"""

QUARANTINE = T.StructType([*BRONZE.fields, T.StructField("failed_expectations", T.ArrayType(T.StringType()))])

# Where a silver row came from.
PROVENANCE = ("source", "partition", "offset", "source_timestamp", "ingested_at")
PLACE = ("source", "partition", "offset")
