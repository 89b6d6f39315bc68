"""The weather pipeline by hand, as a live one: five queries that run until SIGTERM.

from_json, a filter, Spark's own deduplication, Delta's streaming sink, and three gold queries: no quarantine, no
reasons. On our session, with pauses between the batches of bronze and gold, and one file a batch of bronze and silver.
With `--defaults` on Spark's and Delta's own configuration, without either.
"""

import signal
import threading
from pathlib import Path

import arguments
from handwritten import ENVELOPE, FIELDS, RANGES, TABLE, alerts, default_session, our_session, per_window
from pyspark.sql import DataFrame, SparkSession, functions as F

PAUSES = {"bronze": "1 second", "gold": "2 seconds"}


class LiveWeather:
    """All queries below one root. `is_tuned` is how they run best on our session, else each has Spark's defaults."""

    def __init__(self, spark: SparkSession, root: Path, *, is_tuned: bool) -> None:
        self.spark, self.root, self.is_tuned = spark, root, is_tuned

    def start(self, servers: str, topic: str) -> None:
        """Each query once the table that it reads is there."""
        self._append(self._records(servers, topic), "bronze", TABLE)
        self._append(self._events(self._stream("bronze")), "silver", TABLE)
        readings = self._stream("silver").withWatermark("time", "2 hours")
        self._append(per_window(readings, "1 hour"), "gold", "weather_device_hourly")
        self._append(per_window(readings, "30 minutes"), "gold", "weather_device_sliding")
        self._append(alerts(readings), "gold", "weather_alerts")

    def _records(self, servers: str, topic: str) -> DataFrame:
        records = self.spark.readStream.format("kafka").option("kafka.bootstrap.servers", servers)
        records = records.option("subscribe", topic).option("startingOffsets", "earliest")
        loaded = records.option("includeHeaders", "true").load()
        renamed = loaded.withColumnsRenamed({"topic": "source", "timestamp": "source_timestamp"})
        return renamed.withColumn("ingested_at", F.current_timestamp()).select(*ENVELOPE)

    def _events(self, records: DataFrame) -> DataFrame:
        event = F.from_json(F.col("value").cast("string"), FIELDS).alias("event")
        events = records.select(event, *ENVELOPE[3:]).select("event.*", *ENVELOPE[3:])
        in_range = [F.col(name).between(low, high) for name, (_, low, high) in RANGES.items()]
        valid = events.where("event_id <> '' AND device <> '' AND time IS NOT NULL").where(
            F.array_min(F.array(*(F.coalesce(each, F.lit(True)) for each in in_range)))
        )
        return valid.withWatermark("time", "2 hours").dropDuplicatesWithinWatermark(["event_id"])

    def _stream(self, layer: str) -> DataFrame:
        table = self.root / layer / TABLE
        while not any((table / "_delta_log").glob("*.json")):
            threading.Event().wait(0.2)
        return self.spark.readStream.format("delta").load(str(table))

    def _append(self, rows: DataFrame, layer: str, table: str) -> None:
        checkpoint = str(self.root / "_checkpoints" / layer / table)
        if self.is_tuned and layer in ("bronze", "silver"):
            rows = rows.coalesce(1)
        writer = rows.writeStream.format("delta").option("checkpointLocation", checkpoint)
        if self.is_tuned and layer in PAUSES:
            writer = writer.trigger(processingTime=PAUSES[layer])
        writer.start(str(self.root / layer / table))


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--defaults", action="store_true", help="Spark's and Delta's own configuration")
    chosen = parser.parse_args()
    stop = threading.Event()
    spark = default_session() if chosen.defaults else our_session()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    LiveWeather(spark, chosen.root, is_tuned=not chosen.defaults).start(chosen.bootstrap_servers, chosen.topic)
    while not stop.wait(0.5):
        for query in spark.streams.active:
            if error := query.exception():
                raise error
    for query in spark.streams.active:
        query.stop()


if __name__ == "__main__":
    main()
