"""A baseline without Spark: the same tables from the same topic with librdkafka, DuckDB and delta-rs.

It reads the topic in one pass and handles only the faults that the generator makes. It can neither resume nor
deduplicate across batches. Prints its times as a line of JSON.
"""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import arguments
import duckdb
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake

TABLE = "weather_readings"
TIMESTAMP = pa.timestamp("us", tz="UTC")
BRONZE = pa.schema(
    [
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
        ("source", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("source_timestamp", TIMESTAMP),
        ("ingested_at", TIMESTAMP),
    ]
)
RANGES = {
    "temperature_c": ("temperature_in_range", -90, 60),
    "humidity_pct": ("humidity_in_range", 0, 100),
    "pressure_hpa": ("pressure_in_range", 850, 1090),
    "wind_speed_m_s": ("wind_speed_in_range", 0, 120),
    "rain_mm": ("rain_in_range", 0, 500),
}
ENVELOPE = ", ".join(f'"{name}"' for name in BRONZE.names)
SHAPE = json.dumps(
    {
        "event_id": "VARCHAR",
        "device": "VARCHAR",
        "time": "VARCHAR",
        **dict.fromkeys(RANGES, "VARCHAR"),
        "firmware": "VARCHAR",
    }
)

VALIDATED = f"""
CREATE TABLE validated AS
WITH texts AS (SELECT *, TRY(decode(value)) AS text FROM bronze),
read AS (
    SELECT *, CASE WHEN json_valid(text) THEN json_transform(text, '{SHAPE}') END AS event FROM texts
),
typed AS (
    SELECT * EXCLUDE (event), event.event_id, event.device, TRY_CAST(event.time AS TIMESTAMPTZ) AS time,
           {", ".join(f"TRY_CAST(event.{name} AS DOUBLE) AS {name}" for name in RANGES)},
           CASE WHEN event.firmware IS NOT NULL THEN json_object('firmware', event.firmware)::VARCHAR END
               AS _rescued_data,
           event IS NULL AS is_unread,
           {" OR ".join(f"(event.{n} IS NOT NULL AND TRY_CAST(event.{n} AS DOUBLE) IS NULL)" for n in RANGES)}
               AS has_wrong_type,
           [{
    ", ".join(
        f"CASE WHEN event.{n} IS NOT NULL AND TRY_CAST(event.{n} AS DOUBLE) IS NULL THEN '{n}_is_double' END"
        for n in RANGES
    )
}] AS wrong_types
    FROM read
),
found AS (
    SELECT *, CASE
        WHEN value IS NULL THEN ['record_is_present']
        WHEN octet_length(value) = 0 THEN ['record_is_not_empty']
        WHEN text IS NULL THEN ['record_is_utf8']
        WHEN is_unread THEN ['record_is_one_json_object']
        WHEN has_wrong_type THEN list_filter(wrong_types, lambda name: name IS NOT NULL)
        ELSE list_filter([
            CASE WHEN coalesce(event_id, '') = '' THEN 'event_id_is_present' END,
            CASE WHEN time IS NULL THEN 'time_is_present' END,
            CASE WHEN coalesce(device, '') = '' THEN 'device_is_present' END,
            {
    ", ".join(
        f"CASE WHEN {column} NOT BETWEEN {low} AND {high} THEN '{name}' END"
        for column, (name, low, high) in RANGES.items()
    )
},
            CASE WHEN time > least(source_timestamp, ingested_at) + INTERVAL 1 HOUR THEN 'time_is_not_ahead' END
        ], lambda name: name IS NOT NULL) END AS failed
    FROM typed
),
firsts AS (
    SELECT event_id, min(struct_pack(source, "partition", "offset")) AS record_id
    FROM found WHERE len(failed) = 0 GROUP BY event_id
)
SELECT found.*, CASE
    WHEN len(failed) = 0 AND record_id <> struct_pack(source, "partition", "offset") THEN ['is_first_delivery']
    ELSE failed END AS failed_expectations
FROM found LEFT JOIN firsts USING (event_id)
"""
SILVER = f"""
SELECT event_id, device, time, {", ".join(RANGES)}, _rescued_data,
       source, "partition", "offset", source_timestamp, ingested_at
FROM validated WHERE len(failed_expectations) = 0
"""
QUARANTINE = f"SELECT {ENVELOPE}, failed_expectations FROM validated WHERE len(failed_expectations) > 0"

# A window is closed if it ends at or before the watermark: the maximum event time, in milliseconds, minus the delay.
WINDOWS = """
SELECT device, window_start, window_start + INTERVAL 1 HOUR AS window_end, count(*) AS readings,
       min(temperature_c) AS temperature_min_c, avg(temperature_c) AS temperature_avg_c,
       max(temperature_c) AS temperature_max_c, avg(humidity_pct) AS humidity_avg_pct,
       max(wind_speed_m_s) AS wind_speed_max_m_s, sum(rain_mm) AS rain_total_mm{more}
FROM (SELECT *, time_bucket(INTERVAL '{slide}', time) - step * INTERVAL '{slide}' AS window_start
      FROM silver, range({steps}) AS steps (step))
WHERE window_start + INTERVAL 1 HOUR
      <= (SELECT date_trunc('milliseconds', max(time)) - INTERVAL 2 HOUR FROM silver)
GROUP BY device, window_start
"""
HOURLY = WINDOWS.format(more="", slide="1 hour", steps=1)
SLIDING = WINDOWS.format(more="", slide="30 minutes", steps=2)
ALERTS = f"""
WITH hours AS (
    {WINDOWS.format(more=", count(temperature_c) AS temperatures", slide="1 hour", steps=1)}
)
SELECT device, 'frost' AS alert, time, event_id, 'temperature_c' AS measure, temperature_c AS value,
       0.0::DOUBLE AS threshold
FROM silver WHERE temperature_c <= 0.0
UNION ALL SELECT device, 'heat', time, event_id, 'temperature_c', temperature_c, 35.0 FROM silver
WHERE temperature_c >= 35.0
UNION ALL SELECT device, 'gale', time, event_id, 'wind_speed_m_s', wind_speed_m_s, 17.2 FROM silver
WHERE wind_speed_m_s >= 17.2::DOUBLE
UNION ALL SELECT device, 'heavy_rain', window_end, NULL, 'rain_total_mm', rain_total_mm, 7.6 FROM hours
WHERE rain_total_mm > 7.6::DOUBLE
UNION ALL SELECT device, 'stuck_sensor', window_end, NULL, 'temperature_spread_c',
       temperature_max_c - temperature_min_c, 0.1
FROM hours WHERE temperatures >= 30 AND temperature_max_c - temperature_min_c < 0.1::DOUBLE
"""


def consumed(servers: str, topic: str) -> Iterator[pa.RecordBatch]:
    """All available records of the topic, in bronze's envelope."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False})
    ends = {}
    for number in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
        if high > low:
            ends[number] = high
    consumer.assign([TopicPartition(topic, number, 0) for number in ends])
    ingested_at = datetime.now(UTC)
    while ends:
        messages = consumer.consume(100_000, timeout=0.5)
        if messages:
            yield batch(messages, topic, ingested_at)
        for message in reversed(messages):
            if message.offset() + 1 >= ends.get(message.partition(), 2**63):
                del ends[message.partition()]
    consumer.close()


def batch(messages: list, topic: str, ingested_at: datetime) -> pa.RecordBatch:
    rows = len(messages)
    if any(message.error() for message in messages):
        raise RuntimeError(next(str(message.error()) for message in messages if message.error()))
    return pa.RecordBatch.from_arrays(
        [
            pa.array([message.key() for message in messages], pa.binary()),
            pa.array([message.value() for message in messages], pa.binary()),
            pa.nulls(rows, BRONZE.field("headers").type),
            pa.repeat(topic, rows),
            pa.array([message.partition() for message in messages], pa.int32()),
            pa.array([message.offset() for message in messages], pa.int64()),
            pa.array([message.timestamp()[1] for message in messages], pa.timestamp("ms", tz="UTC")).cast(TIMESTAMP),
            pa.repeat(pa.scalar(ingested_at, TIMESTAMP), rows),
        ],
        schema=BRONZE,
    )


def main() -> None:
    chosen = arguments.parser(__doc__).parse_args()
    commit = CommitProperties(app_transactions=[Transaction(app_id=str(uuid.uuid4()), version=0)])
    seconds: dict[str, float] = {}
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")

    def write(table: str, rows: object) -> None:
        writer = WriterProperties(compression="ZSTD")
        write_deltalake(chosen.root / table, rows, mode="append", writer_properties=writer, commit_properties=commit)

    def read(table: str, view: str) -> None:
        files = DeltaTable(chosen.root / table).file_uris()
        database.read_parquet(files).create_view(view)

    with timed(seconds, "total"):
        with timed(seconds, "bronze"):
            records = consumed(chosen.bootstrap_servers, chosen.topic)
            write(f"bronze/{TABLE}", pa.RecordBatchReader.from_batches(BRONZE, records))
        with timed(seconds, "silver"):
            read(f"bronze/{TABLE}", "bronze")
            database.execute(VALIDATED)
            write(f"quarantine/{TABLE}", database.sql(QUARANTINE).to_arrow_reader())
            write(f"silver/{TABLE}", database.sql(SILVER).to_arrow_reader())
        with timed(seconds, "gold"):
            read(f"silver/{TABLE}", "silver")
            for table, query in (
                ("weather_device_hourly", HOURLY),
                ("weather_device_sliding", SLIDING),
                ("weather_alerts", ALERTS),
            ):
                write(f"gold/{table}", database.sql(query).to_arrow_reader())
    print(json.dumps(seconds))


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started_at = time.monotonic()
    yield
    seconds[step] = round(time.monotonic() - started_at, 3)


if __name__ == "__main__":
    main()
