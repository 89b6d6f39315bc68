"""A lower bound without Spark: live weather in one Python process, with librdkafka, PyArrow and delta-rs.

Bronze, silver and the alerts of single readings, one commit each a batch. It has no checkpoint, no quarantine and no
windows, deduplicates within one process only, and reads the topic from its start again after a restart.
"""

import json
import signal
import threading
from datetime import UTC, datetime

import arguments
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition
from deltalake import write_deltalake
from duckdb_baseline import RANGES, TABLE, TIMESTAMP, batch

BATCH_SECONDS = 0.5
EVENT = pa.schema(
    [
        ("event_id", pa.string()),
        ("device", pa.string()),
        ("time", TIMESTAMP),
        *((name, pa.float64()) for name in RANGES),
    ]
)
FROST_C, HEAT_C, GALE_M_S = 0.0, 35.0, 17.2
ALERT = pa.schema([("device", pa.string()), ("alert", pa.string()), ("time", TIMESTAMP), ("event_id", pa.string())])


def events_of(records: pa.RecordBatch, seen: set[str]) -> list[dict]:
    """The valid events that are new."""
    events = []
    for value in records["value"].to_pylist():
        event = json.loads(value)
        event["time"] = datetime.fromisoformat(event["time"])
        if event["event_id"] in seen or not all(is_in_range(event, name) for name in RANGES):
            continue
        seen.add(event["event_id"])
        events.append(event)
    return events


def is_in_range(event: dict, name: str) -> bool:
    _, low, high = RANGES[name]
    value = event.get(name)
    return value is None or low <= value <= high


def alerts_of(event: dict) -> list[dict]:
    temperature, wind = event.get("temperature_c"), event.get("wind_speed_m_s")
    raised = {
        "frost": temperature is not None and temperature <= FROST_C,
        "heat": temperature is not None and temperature >= HEAT_C,
        "gale": wind is not None and wind >= GALE_M_S,
    }
    return [event | {"alert": name} for name, is_raised in raised.items() if is_raised]


def main() -> None:
    chosen = arguments.parser(__doc__).parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    options = {"bootstrap.servers": chosen.bootstrap_servers, "group.id": "bench", "enable.auto.commit": False}
    consumer = Consumer(options)
    partitions = consumer.list_topics(chosen.topic, timeout=30).topics[chosen.topic].partitions
    consumer.assign([TopicPartition(chosen.topic, number, 0) for number in partitions])
    seen: set[str] = set()
    while not stop.is_set():
        messages = consumer.consume(100_000, timeout=BATCH_SECONDS)
        if not messages:
            continue
        records = batch(messages, chosen.topic, datetime.now(UTC))
        write_deltalake(chosen.root / "bronze" / TABLE, records, mode="append")
        events = events_of(records, seen)
        write_deltalake(chosen.root / "silver" / TABLE, pa.Table.from_pylist(events, schema=EVENT), mode="append")
        alerts = [alert for event in events for alert in alerts_of(event)]
        write_deltalake(chosen.root / "gold/weather_alerts", pa.Table.from_pylist(alerts, schema=ALERT), mode="append")
    consumer.close()


if __name__ == "__main__":
    main()
