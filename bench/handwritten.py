"""The weather pipeline in plain PySpark, without a framework: `lakehouse run weather` is measured against it.

`handwritten.py` uses our session and our batch sizes; `handwritten.py --defaults` uses Spark's and Delta's own.
One function per layer; it handles only the faults that the generator makes. Prints its times as a line of JSON.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import arguments
from pyspark.sql import Column, DataFrame, SparkSession, Window, functions as F

TABLE = "weather_readings"
WATERMARK = timedelta(hours=2)
KAFKA_PACKAGE = "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"

FIELDS = (
    "event_id STRING, device STRING, time TIMESTAMP, temperature_c DOUBLE, humidity_pct DOUBLE, "
    "pressure_hpa DOUBLE, wind_speed_m_s DOUBLE, rain_mm DOUBLE"
)
RANGES = {
    "temperature_c": ("temperature_in_range", -90, 60),
    "humidity_pct": ("humidity_in_range", 0, 100),
    "pressure_hpa": ("pressure_in_range", 850, 1090),
    "wind_speed_m_s": ("wind_speed_in_range", 0, 120),
    "rain_mm": ("rain_in_range", 0, 500),
}
ENVELOPE = ("key", "value", "headers", "source", "partition", "offset", "source_timestamp", "ingested_at")
RECORD_ID = ("source", "partition", "offset")


def our_session() -> SparkSession:
    from streaming_lakehouse.session import get_session

    return get_session()


# As in streaming_lakehouse.sources.kafka and streaming_lakehouse.sources.delta.
OUR_BATCHES = {
    "kafka": {"maxOffsetsPerTrigger": "350000", "kafka.max.poll.records": "10000"},
    "bronze": {"maxFilesPerTrigger": str(2**31 - 1)},
    "silver": {"maxFilesPerTrigger": str(2**31 - 1)},
}


def default_session() -> SparkSession:
    from delta import configure_spark_with_delta_pip

    builder = (
        SparkSession.builder.appName("weather")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    return configure_spark_with_delta_pip(builder, extra_packages=[KAFKA_PACKAGE]).getOrCreate()


class Weather:
    """The three layers below one root. `options` are the reader options of each source, by its name."""

    def __init__(self, spark: SparkSession, root: Path, options: dict[str, dict[str, str]]) -> None:
        self.spark, self.root, self.options = spark, root, options

    def table(self, layer: str, name: str = TABLE) -> str:
        return str(self.root / layer / name)

    def stream(self, layer: str) -> DataFrame:
        return self.spark.readStream.format("delta").options(**self.options.get(layer, {})).load(self.table(layer))

    def append(self, rows: DataFrame, step: str, table: str) -> None:
        checkpoint = str(self.root / "_checkpoints" / step)
        writer = rows.writeStream.format("delta").outputMode("append").option("checkpointLocation", checkpoint)
        writer.trigger(availableNow=True).start(table).awaitTermination()

    def bronze(self, servers: str, topic: str) -> None:
        records = (
            self.spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", servers)
            .option("subscribe", topic)
            .option("startingOffsets", "earliest")
            .option("includeHeaders", "true")
            .options(**self.options.get("kafka", {}))
            .load()
            .withColumnsRenamed({"topic": "source", "timestamp": "source_timestamp"})
            .withColumn("ingested_at", F.current_timestamp())
            .select(*ENVELOPE)
        )
        self.append(records, "bronze", self.table("bronze"))

    def silver(self) -> None:
        checkpoint = self.root / "_checkpoints" / "silver"
        writer = self.stream("bronze").writeStream.foreachBatch(partial(self.silver_batch, checkpoint))
        writer.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start().awaitTermination()

    def silver_batch(self, checkpoint: Path, records: DataFrame, batch_id: int) -> None:
        """Quarantine, then silver; query id and batch number make each append idempotent."""
        batch = {"txnAppId": json.loads((checkpoint / "metadata").read_text())["id"], "txnVersion": str(batch_id)}
        events = to_events(records)
        if not (Path(self.table("silver")) / "_delta_log").is_dir():
            validated = with_rejections(events, None, None)
        else:
            silver = self.spark.read.format("delta").load(self.table("silver"))
            max_time = silver.agg(F.max("time")).collect()[0][0]
            recent = silver.where(F.col("time") >= F.lit(max_time - WATERMARK)) if max_time else None
            validated = with_rejections(events, max_time, recent)
        validated.persist()
        is_rejected = F.size("failed_expectations") > 0
        rejected = validated.where(is_rejected).select(*ENVELOPE, "failed_expectations")
        fields = [field.split()[0] for field in FIELDS.split(", ")]
        accepted = validated.where(~is_rejected).select(*fields, "_rescued_data", *ENVELOPE[3:])
        for layer, rows in (("quarantine", rejected), ("silver", accepted)):
            rows.write.format("delta").mode("append").options(**batch).save(self.table(layer))
        validated.unpersist()

    def gold(self) -> None:
        for name, transform in (
            ("weather_device_hourly", partial(per_window, slide="1 hour")),
            ("weather_device_sliding", partial(per_window, slide="30 minutes")),
            ("weather_alerts", alerts),
        ):
            readings = self.stream("silver").withWatermark("time", "2 hours")
            self.append(transform(readings), name, self.table("gold", name))


def to_events(records: DataFrame) -> DataFrame:
    """Bronze records with the event's fields, `_rescued_data` and `failed_expectations`."""
    text = F.col("value").cast("string")
    schema = f"{FIELDS}, firmware STRING, _corrupt STRING"  # firmware: the generator's only unknown field
    options = {"columnNameOfCorruptRecord": "_corrupt"}
    events = (
        records.withColumn("text", F.when(F.is_valid_utf8(text), text))
        .withColumn("event", F.from_json("text", schema, options))
        .select(*ENVELOPE, "text", "event.*")
    )
    rescued = F.when(F.col("firmware").isNotNull(), F.to_json(F.struct("firmware")))
    return events.withColumns({"_rescued_data": rescued, "failed_expectations": failures()})


def failures() -> Column:
    """The expectations that a record fails; for a record that cannot be parsed, only the reason for that."""
    wrong_types = [
        F.when(F.col(name).isNull() & F.get_json_object("text", f"$.{name}").isNotNull(), F.lit(f"{name}_is_double"))
        for name in RANGES
    ]
    failed = [
        F.when(F.coalesce(F.col("event_id"), F.lit("")) == "", F.lit("event_id_is_present")),
        F.when(F.col("time").isNull(), F.lit("time_is_present")),
        F.when(F.coalesce(F.col("device"), F.lit("")) == "", F.lit("device_is_present")),
        *(F.when(~F.col(column).between(low, high), F.lit(name)) for column, (name, low, high) in RANGES.items()),
        F.when(
            F.col("time") > F.least("source_timestamp", "ingested_at") + F.expr("INTERVAL 1 HOUR"),
            F.lit("time_is_not_ahead"),
        ),
    ]
    return (
        F.when(F.col("value").isNull(), F.array(F.lit("record_is_present")))
        .when(F.octet_length("value") == 0, F.array(F.lit("record_is_not_empty")))
        .when(F.col("text").isNull(), F.array(F.lit("record_is_utf8")))
        .when(
            F.col("_corrupt").isNotNull() & F.json_object_keys("text").isNull(),
            F.array(F.lit("record_is_one_json_object")),
        )
        .when(F.col("_corrupt").isNotNull(), F.array_compact(F.array(*wrong_types)))
        .otherwise(F.array_compact(F.array(*failed)))
    )


def with_rejections(events: DataFrame, max_time: object, recent: DataFrame | None) -> DataFrame:
    """Adds the reasons for late events (behind `max_time` minus WATERMARK) and duplicates (of `recent` or `events`)."""
    if max_time is not None:
        is_late = (F.size("failed_expectations") == 0) & (F.col("time") < F.lit(max_time - WATERMARK))
        late = F.when(is_late, F.array(F.lit("is_on_time"))).otherwise(F.col("failed_expectations"))
        events = events.withColumn("failed_expectations", late)
    is_valid = F.size("failed_expectations") == 0
    is_duplicate = F.row_number().over(Window.partitionBy("event_id", is_valid).orderBy(*RECORD_ID)) > 1
    if recent is not None:
        known = recent.select("event_id", F.lit(True).alias("is_known")).dropDuplicates(["event_id"])
        events = events.join(known, "event_id", "left")
        is_duplicate = is_duplicate | F.coalesce("is_known", F.lit(False))
    is_rejected = is_valid & is_duplicate
    failed = F.when(is_rejected, F.array(F.lit("is_first_delivery"))).otherwise(F.col("failed_expectations"))
    return events.withColumn("failed_expectations", failed)


def per_window(readings: DataFrame, slide: str) -> DataFrame:
    return (
        readings.groupBy("device", F.window("time", "1 hour", slide))
        .agg(
            F.count("*").alias("readings"),
            F.min("temperature_c").alias("temperature_min_c"),
            F.avg("temperature_c").alias("temperature_avg_c"),
            F.max("temperature_c").alias("temperature_max_c"),
            F.avg("humidity_pct").alias("humidity_avg_pct"),
            F.max("wind_speed_m_s").alias("wind_speed_max_m_s"),
            F.sum("rain_mm").alias("rain_total_mm"),
        )
        .withColumns({"window_start": F.col("window.start"), "window_end": F.col("window.end")})
        .drop("window")
    )


def alerts(readings: DataFrame) -> DataFrame:
    temperature, wind = F.col("temperature_c"), F.col("wind_speed_m_s")
    of_readings = readings.select(
        "device", "time", "event_id",
        F.inline(triggered(
            ("frost", temperature <= 0.0, temperature, "temperature_c", 0.0),
            ("heat", temperature >= 35.0, temperature, "temperature_c", 35.0),
            ("gale", wind >= 17.2, wind, "wind_speed_m_s", 17.2),
        )),
    )  # fmt: skip
    hours = readings.groupBy("device", F.window("time", "1 hour")).agg(
        F.sum("rain_mm").alias("rain"),
        F.count("temperature_c").alias("temperatures"),
        (F.max("temperature_c") - F.min("temperature_c")).alias("spread"),
    )
    rain, spread = F.col("rain"), F.col("spread")
    of_hours = hours.select(
        "device", F.col("window.end").alias("time"), F.lit(None).cast("string").alias("event_id"),
        F.inline(triggered(
            ("heavy_rain", rain > 7.6, rain, "rain_total_mm", 7.6),
            ("stuck_sensor", (F.col("temperatures") >= 30) & (spread < 0.1), spread, "temperature_spread_c", 0.1),
        )),
    )  # fmt: skip
    return of_readings.unionByName(of_hours)


def triggered(*conditions: tuple[str, Column, Column, str, float]) -> Column:
    """An array of the alerts whose condition is true."""
    found = [
        F.when(
            condition,
            F.struct(
                F.lit(alert).alias("alert"),
                F.lit(measure).alias("measure"),
                value.alias("value"),
                F.lit(threshold).alias("threshold"),
            ),
        )
        for alert, condition, value, measure, threshold in conditions
    ]
    return F.array_compact(F.array(*found))


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started_at = time.monotonic()
    yield
    seconds[step] = round(time.monotonic() - started_at, 3)


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--defaults", action="store_true", help="Spark's default settings and batch sizes")
    chosen = parser.parse_args()
    seconds: dict[str, float] = {}
    with timed(seconds, "total"):
        spark = default_session() if chosen.defaults else our_session()
        weather = Weather(spark, chosen.root, {} if chosen.defaults else OUR_BATCHES)
        with timed(seconds, "bronze"):
            weather.bronze(chosen.bootstrap_servers, chosen.topic)
        with timed(seconds, "silver"):
            weather.silver()
        with timed(seconds, "gold"):
            weather.gold()
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
