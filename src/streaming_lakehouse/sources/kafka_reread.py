"""Reads a batch of Kafka again where Spark's source cannot: a record has a timestamp that Spark has no value for.

Spark turns Kafka's milliseconds into microseconds and fails where that overflows, as after a producer that sends
nanoseconds. librdkafka reads the same offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, SparkSession, types as T

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.sources.envelope import RECORD
from streaming_lakehouse.sources.kafka_admin import Partition
from streaming_lakehouse.sources.librdkafka import consumer_config

if TYPE_CHECKING:
    import pyarrow as pa

_RANGES = T.StructType(
    [
        T.StructField("topic", T.StringType()),
        T.StructField("partition", T.IntegerType()),
        T.StructField("start", T.LongType()),
        T.StructField("end", T.LongType()),
    ]
)
_CHUNK = 10_000
_CHUNK_BYTES = 64 << 20
_SILENT_POLLS = 60
_EARLIEST = -2  # librdkafka's offset of the first record that there still is
_MAX_TIMESTAMP_MS = ((1 << 63) - 1) // 1000


def records(
    spark: SparkSession,
    client: Mapping[str, str],
    start: Mapping[Partition, int],
    end: Mapping[Partition, int],
    *,
    fails_on_data_loss: bool,
) -> DataFrame:
    """The records between the offsets, in bronze's envelope; a partition without a start is read from its earliest.

    `client` is the configuration of Kafka's Java client. Where offsets are gone from the topic, the query fails or
    continues with the earliest ones. `source_timestamp` is null where Spark's type does not have the record's. Raises
    LakehouseError where librdkafka does not support the configuration.
    """
    try:
        import confluent_kafka  # noqa: F401 - the tasks need it
    except ImportError as error:
        raise LakehouseError("install confluent-kafka, which reads what Spark cannot") from error
    ranges = [
        (topic, number, start.get((topic, number), _EARLIEST), last)
        for (topic, number), last in sorted(end.items())
        if start.get((topic, number), _EARLIEST) < last
    ]
    parts = spark.createDataFrame(ranges, _RANGES).repartition(max(len(ranges), 1), "topic", "partition")
    config = {**consumer_config(client), "auto.offset.reset": "error" if fails_on_data_loss else "earliest"}
    return parts.mapInArrow(partial(_read, config=config), RECORD)


def _read(ranges: Iterator[pa.RecordBatch], config: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """Runs in a Python worker."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema

    schema = to_arrow_schema(RECORD, timezone="UTC")
    for batch in ranges:
        for part in batch.to_pylist():
            for rows in _chunks(_consume(config, part["topic"], part["partition"], part["start"], part["end"])):
                yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """By number and by size: a record may have 10 MB."""
    chunk, size = [], 0
    for row in rows:
        chunk.append(row)
        size += len(row["value"] or b"")
        if len(chunk) == _CHUNK or size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _consume(config: Mapping[str, str], topic: str, number: int, start: int, end: int) -> Iterator[dict[str, Any]]:
    """The records of one partition from `start` to before `end`; offsets without a record are passed."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    with closing(Consumer(dict(config))) as consumer:
        consumer.assign([TopicPartition(topic, number, start)])
        silent_polls = 0
        while silent_polls < _SILENT_POLLS:
            messages: list[Any] = consumer.consume(num_messages=1000, timeout=1)
            silent_polls = 0 if messages else silent_polls + 1
            for message in messages:
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise RuntimeError(f"LakehouseError: topic {topic}, partition {number}: {error.str()}")
                if error is None and message.offset() < end:
                    yield _row(message)
                if message.offset() >= end - (error is None):
                    return
        raise RuntimeError(f"LakehouseError: topic {topic}, partition {number}: no record came for {_SILENT_POLLS} s")


def _row(message: Any) -> dict[str, Any]:
    headers = [{"key": key, "value": value} for key, value in message.headers() or ()]
    return {
        "key": message.key(),
        "value": message.value(),
        "headers": headers or None,
        "source": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "source_timestamp": _microseconds(*message.timestamp()),
    }


def _microseconds(kind: int, milliseconds: int) -> int | None:
    """The timestamp in Spark's unit; None where it has none, or one beyond Spark's years."""
    return milliseconds * 1000 if kind and milliseconds != -1 and abs(milliseconds) <= _MAX_TIMESTAMP_MS else None
