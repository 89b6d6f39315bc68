"""The truth about a weather run, computed from the raw records alone and held against its Delta tables.

Independent on purpose: no Spark, and nothing of the package under test. Moments are integers,
microseconds since the epoch in UTC, so that no time zone and no year outside 1..9999 can interfere.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, TopicPartition
from deltalake import DeltaTable
from pyarrow.dataset import ParquetReadOptions

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
CYCLE = 146_097 * 24 * HOUR  # of the Gregorian calendar, 400 years
FARTHEST_ZONE = 18 * HOUR
WATERMARK = 2 * HOUR
AHEAD = HOUR
LARGEST_RECORD = 1_048_576
DEEPEST_NESTING = 999
MOST_DIGITS = 1000
EXACT_DIGITS = 38
LONGEST_NAME = 50_000
RELATIVE = 1e-9
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STRINGS = ("event_id", "device")
RANGES = {
    "temperature_c": ("temperature_in_range", -90, 60),
    "humidity_pct": ("humidity_in_range", 0, 100),
    "pressure_hpa": ("pressure_in_range", 850, 1090),
    "wind_speed_m_s": ("wind_speed_in_range", 0, 120),
    "rain_mm": ("rain_in_range", 0, 500),
}
THRESHOLDS = (
    ("frost", "temperature_c", "<=", 0.0),
    ("heat", "temperature_c", ">=", 35.0),
    ("gale", "wind_speed_m_s", ">=", 17.2),
)
FIELDS = (*STRINGS, "time", *RANGES)
TIME_PATTERN = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)

KEY = ("source", "partition", "offset")
ENVELOPE = {
    "key": ("binary",),
    "value": ("binary",),
    "headers": (),
    "source": ("string",),
    "partition": ("integer",),
    "offset": ("long",),
    "source_timestamp": ("timestamp",),
    "ingested_at": ("timestamp",),
}
WINDOW = {
    "device": ("string",),
    "window_start": ("timestamp",),
    "window_end": ("timestamp",),
    "readings": ("long", "integer"),
    "temperature_min_c": ("double",),
    "temperature_avg_c": ("double",),
    "temperature_max_c": ("double",),
    "humidity_avg_pct": ("double",),
    "wind_speed_max_m_s": ("double",),
    "rain_total_mm": ("double",),
}
# table -> column -> the Delta types it may have; an empty tuple stands for any type
TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "bronze/weather_readings": ENVELOPE,
    "silver/weather_readings": {
        "event_id": ("string",),
        "device": ("string",),
        "time": ("timestamp",),
        **dict.fromkeys(RANGES, ("double",)),
        "_rescued_data": ("string",),
        **{name: ENVELOPE[name] for name in (*KEY, "source_timestamp", "ingested_at")},
    },
    "quarantine/weather_readings": {**ENVELOPE, "failed_expectations": ("array<string>",)},
    "gold/weather_device_hourly": WINDOW,
    "gold/weather_device_sliding": WINDOW,
    "gold/weather_alerts": {
        **dict.fromkeys(("device", "alert", "event_id", "measure"), ("string",)),
        "time": ("timestamp",),
        **dict.fromkeys(("value", "threshold"), ("double",)),
    },
}
MOMENTS = {"time", "source_timestamp", "ingested_at", "window_start", "window_end"}
ARROW_TYPES = {
    "binary": pa.binary(),
    "string": pa.string(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "double": pa.float64(),
    "array<string>": pa.list_(pa.string()),
}
CLASSIFIED = pa.schema(
    [
        ("row", pa.int64()),
        *((name, pa.string()) for name in STRINGS),
        ("time", pa.int64()),
        *((name, pa.float64()) for name in RANGES),
        ("rescued_data", pa.string()),
        ("reasons", pa.list_(pa.string())),
    ]
)


class RawRecord(NamedTuple):
    """One record as its source holds it; `partition` is None for a line of a file, `offset` then its line number."""

    key: bytes | None
    value: bytes | None
    source: str
    partition: int | None
    offset: int
    source_timestamp: datetime | None


class Event(NamedTuple):
    """A reading that passed every expectation; `time` in microseconds, `rescued_data` as canonical JSON."""

    event_id: str
    device: str
    time: int
    temperature_c: float | None
    humidity_pct: float | None
    pressure_hpa: float | None
    wind_speed_m_s: float | None
    rain_mm: float | None
    rescued_data: str | None


class Account(NamedTuple):
    """Where the rows went: `rows_in` is the sum of the other four, none of which overlap."""

    rows_in: int
    valid: int
    quarantined: int
    duplicates: int
    late: int


def read_topic(bootstrap_servers: str, topic: str) -> list[RawRecord]:
    """All records of the topic, tombstones included, up to the high watermarks at the time of the call."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "oracle",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_uncommitted",
            "auto.offset.reset": "error",
        }
    )
    try:
        ends: dict[int, int] = {}
        starts = []
        for partition in _partitions(consumer, topic):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            if high > low:
                ends[partition] = high
                starts.append(TopicPartition(topic, partition, low))
        consumer.assign(starts)
        return list(_consume(consumer, topic, ends))
    finally:
        consumer.close()


def _partitions(consumer: Any, topic: str) -> list[int]:
    """The topic's partition numbers; a topic that does not exist is an error, not an empty answer."""
    found = consumer.list_topics(topic, timeout=30).topics[topic]
    if found.error is not None:
        raise ValueError(f"topic {topic}: {found.error}")
    return sorted(found.partitions)


def _consume(consumer: Any, topic: str, ends: dict[int, int]) -> Iterator[RawRecord]:
    """The records below each partition's end; a partition is done at its end or where the broker says EOF."""
    open_partitions = set(ends)
    silent_polls = 0
    while open_partitions:
        messages = consumer.consume(num_messages=10_000, timeout=1)
        silent_polls = 0 if messages else silent_polls + 1
        if silent_polls > 60:
            raise TimeoutError(f"topic {topic}: nothing came for a minute from partitions {sorted(open_partitions)}")
        for message in messages:
            partition, offset, error = message.partition(), message.offset(), message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise RuntimeError(f"topic {topic}: {error}")
            if error is not None or offset >= ends[partition] - 1:
                open_partitions.discard(partition)
            if error is None and offset < ends[partition]:
                kind, milliseconds = message.timestamp()
                at = None if kind == TIMESTAMP_NOT_AVAILABLE else EPOCH + timedelta(milliseconds=milliseconds)
                yield RawRecord(message.key(), message.value(), topic, partition, offset, at)


def read_files(folder: Path | str) -> list[RawRecord]:
    """Each line of each file under the folder, plain, .gz or .bz2; names that begin with `_` or `.` are not data.

    A line ends at a line feed, which is not part of the record; a carriage return is. A byte order mark is not data.
    """
    folder = Path(folder)
    records = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_dir() or any(part[0] in "_." or part.endswith("._COPYING_") for part in parts):
            continue
        unpacked = {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix.lower(), bytes)
        lines = unpacked(path.read_bytes()).removeprefix(b"\xef\xbb\xbf").split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        modified_at = EPOCH + timedelta(microseconds=path.stat().st_mtime_ns // 1000)
        records += [RawRecord(None, line, str(path), None, n, modified_at) for n, line in enumerate(lines)]
    return records


class JsonObject(dict[str, Any]):
    """A JSON object that remembers whether a key was repeated in its text, in it or in an object within."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        if any(len(name) > LONGEST_NAME for name in self):
            raise ValueError("a name is too long")
        self.has_repeated_key = len(self) != len(pairs) or any(map(_repeats_key, self.values()))


def _repeats_key(value: Any) -> bool:
    return any(map(_repeats_key, value)) if isinstance(value, list) else getattr(value, "has_repeated_key", False)


def _check_digits(number: str) -> None:
    """Before the point a zero alone is not counted."""
    if sum(map(str.isdigit, number)) - number.lstrip("-").startswith("0.") > MOST_DIGITS:
        raise ValueError("a number has too many digits")


def _integer(text: str) -> int | float:
    """Exact as far as a decimal of Spark is."""
    _check_digits(text)
    return int(text) if len(text.lstrip("-")) <= EXACT_DIGITS else float(text)


def _real(text: str) -> int | float:
    """1.0 and 1 are the same JSON number, so that one has the other's form where a double holds it exactly."""
    _check_digits(text)
    number = float(text)
    return int(number) if abs(number) < 2**53 and number.is_integer() else number


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=JsonObject, parse_int=_integer, parse_float=_real, parse_constant=_refuse_constant
)


def _nesting(text: str) -> int:
    """The greatest number of objects and arrays open at once."""
    depth = deepest = 0
    for character in re.findall(r"[][{}]", JSON_STRING.sub("", text)):
        depth += 1 if character in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _json_value(text: str) -> Any:
    """The value of a strict JSON text; ValueError where it is none or is nested too deep."""
    if text.count("{") + text.count("[") > 100:
        if _nesting(text) > DEEPEST_NESTING:
            raise ValueError("nested too deep")
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 10 * DEEPEST_NESTING))
    return _DECODER.decode(text)


def _canonical(fields: dict[str, Any]) -> str:
    """One text for all JSON texts of the same meaning; a number that no double can hold is a string."""
    return json.dumps(_finite(fields), sort_keys=True, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(within) for name, within in value.items()}
    if isinstance(value, list):
        return list(map(_finite, value))
    return f"{'-' * (value < 0)}Infinity" if isinstance(value, float) and math.isinf(value) else value


def _decode(value: bytes | None) -> JsonObject | str:
    """Stage 1: the record's JSON object, or the name of the first expectation of a record that it fails."""
    if value is None or len(value) > LARGEST_RECORD:
        return "record_is_present" if value is None else "record_is_at_most_1_mib"
    if not value or value.isspace():
        return "record_is_not_empty"
    try:
        decoded = _json_value(value.decode("utf-8"))
    except UnicodeDecodeError:
        return "record_is_utf8"
    except ValueError:
        decoded = None
    if not isinstance(decoded, JsonObject):
        return "record_is_one_json_object"
    if b"\\u" in value and not _is_text(decoded):
        return "record_is_utf8"
    return "record_has_unique_keys" if decoded.has_repeated_key else decoded


def _is_text(value: Any) -> bool:
    """False where a string or name within has half of a surrogate pair, which is a JSON string but no character."""
    if isinstance(value, dict):
        return all(map(_is_text, value)) and all(map(_is_text, value.values()))
    if isinstance(value, list):
        return all(map(_is_text, value))
    return not isinstance(value, str) or not re.search("[\ud800-\udfff]", value)


def parse_time(text: Any) -> int | None:
    """Microseconds since the epoch of `YYYY-MM-DDTHH:MM:SS[.fraction](Z|±HH:MM)`; None for anything else."""
    match = TIME_PATTERN.fullmatch(text) if type(text) is str else None
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, ahead_hours, ahead_minutes = match.groups()
    cycles = 0 if int(year) else 1  # a year 0 is as long as the year 400, which datetime knows
    try:
        moment = datetime(int(year) + 400 * cycles, *map(int, (month, day, hour, minute, second)), tzinfo=UTC)
    except ValueError:
        return None
    micros = micros_of(moment) - cycles * CYCLE + int((fraction or "")[:6].ljust(6, "0"))
    if sign is None:
        return micros
    ahead = int(ahead_hours) * HOUR + int(ahead_minutes) * MINUTE
    if int(ahead_minutes) > 59 or ahead > FARTHEST_ZONE:
        return None
    return micros - ahead if sign == "+" else micros + ahead


def micros_of(moment: datetime) -> int:
    """Microseconds since the epoch; a moment without a zone is UTC."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def _typed(fields: JsonObject) -> tuple[dict[str, Any], list[str]]:
    """Stage 2: the known fields in their types, and the names of those that have another."""
    values: dict[str, Any] = {name: fields.get(name) for name in FIELDS}
    failed = []
    for name, value in values.items():
        if value is None:
            continue
        if name == "time":
            values[name] = parse_time(value)
            if values[name] is None:
                failed.append("time_is_timestamp")
        elif name in STRINGS:
            if type(value) is not str:
                failed.append(f"{name}_is_string")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            values[name] = float(value)
        else:
            failed.append(f"{name}_is_double")
    return values, failed


def _unmet(values: dict[str, Any], latest: int | None) -> list[str]:
    """Stage 3: the names of the expectations that typed values do not meet; `latest` is the greatest time allowed."""
    failed = [] if values["event_id"] else ["event_id_is_present"]
    time = values["time"]
    if time is None:
        failed.append("time_is_present")
    elif time < 0:
        failed.append("time_is_not_before_1970")
    if not values["device"]:
        failed.append("device_is_present")
    for column, (name, low, high) in RANGES.items():
        if values[column] is not None and not low <= values[column] <= high:
            failed.append(name)
    if time is not None and latest is not None and time > latest:
        failed.append("time_is_not_ahead")
    return failed


def _classify_value(value: bytes | None, latest: int | None) -> tuple[Event | None, list[str]]:
    fields = _decode(value)
    if isinstance(fields, str):
        return None, [fields]
    values, failed = _typed(fields)
    failed = failed or _unmet(values, latest)
    if failed:
        return None, failed
    unknown = {name: field for name, field in fields.items() if name not in values}
    return Event(**values, rescued_data=_canonical(unknown) if unknown else None), []


def classify(record: RawRecord, ingested_at: datetime | None) -> tuple[Event | None, list[str]]:
    """Stages 1 to 3 for one record: its event and no reasons, or no event and the failed expectations in order."""
    arrivals = [micros_of(moment) for moment in (record.source_timestamp, ingested_at) if moment is not None]
    return _classify_value(record.value, min(arrivals) + AHEAD if arrivals else None)


def rejected_deliveries(rows: Iterable[tuple[int, int, str, int]]) -> Iterator[tuple[int, str]]:
    """Stages 4 and 5: (row, failed expectation) of the valid rows that do not go to silver.

    `rows` are (batch, row, event_id, time), ordered by batch and, in a batch, by source, partition and offset.
    """
    newest_time: int | None = None
    times_in_silver: dict[str, int] = {}  # the newest time of each event_id
    for _, batch in groupby(rows, key=lambda row: row[0]):
        watermark = None if newest_time is None else newest_time - WATERMARK
        accepted: dict[str, int] = {}
        for _, row, event_id, time in batch:
            known_time = times_in_silver.get(event_id)
            if watermark is not None and time < watermark:
                yield row, "is_on_time"
            elif event_id in accepted or (watermark is not None and known_time is not None and known_time >= watermark):
                yield row, "is_first_delivery"
            else:
                accepted[event_id] = time
        for event_id, time in accepted.items():
            times_in_silver[event_id] = max(time, times_in_silver.get(event_id, time))
            newest_time = time if newest_time is None else max(time, newest_time)


def _type_name(delta_type: Any) -> str:
    described = json.loads(delta_type.to_json())
    if isinstance(described, str):
        return described
    return f"array<{described['elementType']}>" if described["type"] == "array" else described["type"]


def _check_columns(table: str, delta: DeltaTable) -> None:
    found = {field.name: _type_name(field.type) for field in delta.schema().fields}
    expected = TABLES[table]
    wrong = [f"{table}: no column {name}" for name in expected if name not in found]
    wrong += [f"{table}: unexpected column {name}" for name in found if name not in expected]
    wrong += [
        f"{table}: column {name} is {found[name]}, not {' or '.join(types)}"
        for name, types in expected.items()
        if types and name in found and found[name] not in types
    ]
    _refuse(wrong)


def _canonical_text(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        fields = _json_value(text)
    except ValueError:
        fields = None
    return _canonical(fields) if isinstance(fields, JsonObject) else f"not a JSON object: {text}"


def _comparable(rows: pa.Table) -> pa.Table:
    """Timestamps as microseconds, rescued data as canonical JSON."""
    for index, field in enumerate(rows.schema):
        column = rows.column(index)
        if pa.types.is_timestamp(field.type):
            column = column.cast(pa.timestamp("us", tz=field.type.tz)).cast(pa.int64())
        elif field.name == "_rescued_data" and column.null_count < len(column):
            column = pa.array([_canonical_text(text) for text in column.to_pylist()], pa.string())
        rows = rows.set_column(index, field.name, column)
    return rows


def _load(database: duckdb.DuckDBPyConnection, root: Path, table: str, view: str) -> None:
    """Copies the Delta table's current snapshot to `view`; a table that was never created counts as empty."""
    path = str(root / table)
    if DeltaTable.is_deltatable(path):
        delta = DeltaTable(path)
        _check_columns(table, delta)
        # Spark's timestamps are read in nanoseconds otherwise, which end in 1677 and 2262.
        in_microseconds = ParquetReadOptions(coerce_int96_timestamp_unit="us")
        rows = _comparable(delta.to_pyarrow_dataset(parquet_read_options=in_microseconds).to_table())
    else:
        types = {name: ARROW_TYPES[(*types, "string")[0]] for name, types in TABLES[table].items()}
        rows = _comparable(pa.schema(types.items()).empty_table())
    database.register("loaded", rows)
    headers = "REPLACE (headers::VARCHAR AS headers)" if "headers" in TABLES[table] else ""
    database.execute(f"CREATE TABLE {view} AS SELECT * {headers} FROM loaded")
    database.unregister("loaded")


def _batch_files(path: Path) -> tuple[set[str], dict[int, list[str]]]:
    """The appIds, and for each batch number the files that its commit added, from the Delta log's JSON."""
    apps: set[str] = set()
    files: dict[int, list[str]] = {}
    for log in sorted((path / "_delta_log").glob("*.json")):
        if not re.fullmatch(r"\d{20}", log.stem):
            continue
        actions = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.strip()]
        transactions = [action["txn"] for action in actions if "txn" in action]
        if not transactions:
            continue
        batch = transactions[0]["version"]
        if len(transactions) > 1 or batch in files:
            raise AssertionError(f"{path.name}: batch {batch} has more than one commit or txn action, see {log.name}")
        apps.add(transactions[0]["appId"])
        added = [action["add"]["path"] for action in actions if "add" in action]
        files[batch] = [str(path / unquote(urlsplit(name).path)) for name in added]
    return apps, files


def _load_batches(database: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Makes the table `batches`: layer, batch and key of each row that a silver micro-batch wrote."""
    columns = 'layer VARCHAR, batch BIGINT, source VARCHAR, partition INT, "offset" BIGINT'
    database.execute(f"CREATE TABLE batches ({columns})")
    all_apps: set[str] = set()
    for layer in ("silver", "quarantine"):
        apps, files = _batch_files(root / layer / "weather_readings")
        all_apps |= apps
        batch_of = {name: batch for batch, names in files.items() for name in names}
        gone = [Path(name).name for name in batch_of if not Path(name).exists()]
        _refuse([f"{layer}: {len(gone)} files that its batches wrote are gone, such as {gone[:3]}"] if gone else [])
        if not batch_of:
            continue
        database.register("batch_files", pa.table({"filename": list(batch_of), "batch": list(batch_of.values())}))
        database.execute(
            """INSERT INTO batches SELECT ?, batch, source, partition, "offset"
               FROM read_parquet(?, filename = true, hive_partitioning = false) JOIN batch_files USING (filename)""",
            [layer, list(batch_of)],
        )
    if len(all_apps) > 1:
        raise AssertionError(f"silver and quarantine: txn actions of one appId expected, not of {sorted(all_apps)}")


def _refuse(differences: Sequence[str]) -> None:
    if differences:
        raise AssertionError("\n".join(differences))


def _shown(column: str, value: Any) -> str:
    if column in MOMENTS and isinstance(value, int):
        try:
            return (EPOCH + timedelta(microseconds=value)).isoformat()
        except OverflowError:
            return f"{value} µs"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


def _found(database: duckdb.DuckDBPyConnection, what: str, query: str) -> list[str]:
    """One line that says what, how many rows the query has, and the first 3 of them; nothing where it has none."""
    rows = database.execute(f"SELECT *, count(*) OVER () FROM ({query}) ORDER BY ALL LIMIT 3").fetchall()
    if not rows:
        return []
    columns = [column[0] for column in database.description or []][:-1]
    examples = ["  " + ", ".join(f"{c}={_shown(c, v)}" for c, v in zip(columns, row, strict=False)) for row in rows]
    return ["\n".join([f"{what}: {rows[0][-1]}, such as", *examples])]


def _quoted(columns: Sequence[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{column}"' for column in columns)


def compare(
    database: duckdb.DuckDBPyConnection,
    what: str,
    views: tuple[str, str],
    key: Sequence[str],
    *,
    exact: Sequence[str] = (),
    close: Sequence[str] = (),
) -> None:
    """Raises AssertionError unless the second view has exactly the first one's rows.

    `key` identifies a row of the first view; `exact` columns are equal, `close` ones within 1e-9 of the
    expected value, or of 1 where that is smaller (an average near 0 has no relative precision).
    """
    expected, actual = views
    on = " AND ".join(f'e."{column}" IS NOT DISTINCT FROM a."{column}"' for column in key)
    listed = _quoted(key)
    found = _found(
        database,
        f"{what}: rows more than once",
        f"SELECT {listed}, count(*) AS copies FROM {actual} GROUP BY {listed} HAVING count(*) > 1",
    )
    for label, one, other in (("missing", "e", "a"), ("unexpected", "a", "e")):
        names = {"e": expected, "a": actual}
        query = f"SELECT {_quoted(key, one + '.')} FROM {names[one]} {one} ANTI JOIN {names[other]} {other} ON {on}"
        found += _found(database, f"{what}: rows {label}", query)
    for column in (*exact, *close):
        e, a = f'e."{column}"', f'a."{column}"'
        is_close = f"abs({e} - {a}) <= {RELATIVE} * greatest(1, abs({e}))"
        differs = f"{e} IS DISTINCT FROM {a}" + (f" AND ({is_close}) IS NOT TRUE" if column in close else "")
        both = f"SELECT {_quoted(key, 'e.')}, {e} AS expected, {a} AS actual FROM {expected} e JOIN {actual} a ON {on}"
        found += _found(database, f"{what}: rows with another {column}", f"{both} WHERE {differs}")
    _refuse(found)


def _check_bronze(database: duckdb.DuckDBPyConnection, raw: Sequence[RawRecord]) -> None:
    """Each record of a topic under its own partition and offset, each file's lines in their order, no other row."""
    topics = {record.source for record in raw if record.partition is not None}
    database.register("topics", pa.table({"source": pa.array(sorted(topics), pa.string())}))
    columns = {
        name: pa.array([getattr(record, name) for record in raw], ARROW_TYPES[ENVELOPE[name][0]])
        for name in ("key", "value", *KEY, "source_timestamp")
    }
    database.register("raw", _comparable(pa.table(columns)))
    database.execute("CREATE VIEW raw_topics AS FROM raw WHERE partition IS NOT NULL")
    database.execute("CREATE VIEW bronze_topics AS FROM bronze SEMI JOIN topics USING (source)")
    database.execute("CREATE VIEW bronze_files AS FROM bronze ANTI JOIN topics USING (source)")
    unstamped = f"SELECT {_quoted(KEY)} FROM bronze WHERE ingested_at IS NULL"
    _refuse(_found(database, "bronze: rows without ingested_at", unstamped))
    compare(database, "bronze", ("raw_topics", "bronze_topics"), KEY, exact=("key", "value", "source_timestamp"))
    _check_files(database)


def _file_name(source: str | None) -> str | None:
    """The last part of a path or URI; a URI's escapes are undone."""
    if source is None:
        return None
    path = unquote(urlsplit(source).path) if re.match(r"[A-Za-z][\w+.-]*:/", source) else source
    return path.rsplit("/", 1)[-1]


def _check_files(database: duckdb.DuckDBPyConnection) -> None:
    """Lines as a multiset for each file name, then each file's sequence of lines."""
    for view in ("raw", "bronze_files"):
        sources = [row[0] for row in database.execute(f"SELECT DISTINCT source FROM {view}").fetchall()]
        names = {"source": pa.array(sources, pa.string()), "file": pa.array(map(_file_name, sources), pa.string())}
        database.register(f"{view}_names", pa.table(names))
    database.execute(
        """CREATE TABLE lines AS
           SELECT 1 AS side, file, source, 0 AS partition, "offset", value, key
           FROM raw JOIN raw_names USING (source) WHERE partition IS NULL
           UNION ALL SELECT -1, n.file, b.source, b.partition, b."offset", b.value, b.key
           FROM bronze_files b LEFT JOIN bronze_files_names n USING (source)"""
    )
    surplus = "SELECT file, value, abs(sum(side)) AS times FROM lines GROUP BY file, value HAVING sum(side)"
    found = _found(database, "bronze: lines of files missing", f"{surplus} > 0")
    found += _found(database, "bronze: lines of files unexpected or more than once", f"{surplus} < 0")
    listed = _quoted(KEY)
    keyed = f"SELECT {listed} FROM lines WHERE key IS NOT NULL"
    found += _found(database, "bronze: lines of files with a key", keyed)
    doubled = f"SELECT {listed}, count(*) AS copies FROM lines WHERE side < 0 GROUP BY {listed} HAVING count(*) > 1"
    found += _found(database, "bronze: lines of files under one partition and offset", doubled)
    _refuse(found)
    digests = """SELECT file, side, md5(string_agg(md5(value), '' ORDER BY partition, "offset")) AS digest
                 FROM lines GROUP BY file, side, source"""
    _refuse(
        _found(
            database,
            "bronze: files whose lines are not in the file's order",
            f"SELECT DISTINCT file FROM (SELECT file FROM ({digests}) GROUP BY file, digest HAVING sum(side) <> 0)",
        )
    )


def _classify_bronze(database: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables `numbered` (bronze in order, with a row number) and `classified` (stages 1 to 3 of each)."""
    number = f"row_number() OVER (ORDER BY {_quoted(KEY)}) AS row"
    database.execute(f"CREATE TABLE numbered AS SELECT {number}, * FROM bronze")
    nothing = (None,) * len(Event._fields)
    chunks = []
    query = f"SELECT row, value, least(source_timestamp, ingested_at) + {AHEAD} FROM numbered"
    result = database.execute(query)
    while rows := result.fetchmany(50_000):
        classified = []
        for row, value, latest in rows:
            event, reasons = _classify_value(value, latest)
            classified.append((row, *(event or nothing), reasons))
        columns = zip(*classified, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, CLASSIFIED, strict=True)]
        chunks.append(pa.record_batch(arrays, schema=CLASSIFIED))
    database.register("classified_rows", pa.Table.from_batches(chunks, CLASSIFIED))
    database.execute("CREATE TABLE classified AS FROM classified_rows")


def _judge(database: duckdb.DuckDBPyConnection) -> None:
    """Makes the table `judged`: each bronze row with its event and all that it fails; nothing means silver."""
    rows = database.execute(
        f"""SELECT batch, row, event_id, time FROM classified
            JOIN numbered USING (row) JOIN batches USING ({_quoted(KEY)})
            WHERE len(reasons) = 0 ORDER BY batch, row"""
    )
    rejected = list(rejected_deliveries(_stream(rows)))
    columns = {
        "row": pa.array([row for row, _ in rejected], pa.int64()),
        "reason": pa.array([reason for _, reason in rejected], pa.string()),
    }
    database.register("rejected", pa.table(columns))
    database.execute(
        """CREATE TABLE judged AS
           SELECT * EXCLUDE (reasons, reason, rescued_data), rescued_data AS _rescued_data,
                  CASE WHEN reason IS NULL THEN reasons ELSE [reason] END AS failed_expectations
           FROM numbered JOIN classified USING (row) LEFT JOIN rejected USING (row)"""
    )
    database.execute("CREATE VIEW expected_silver AS FROM judged WHERE len(failed_expectations) = 0")
    database.execute("CREATE VIEW expected_quarantine AS FROM judged WHERE len(failed_expectations) > 0")


def _stream(result: duckdb.DuckDBPyConnection) -> Iterator[Any]:
    while rows := result.fetchmany(50_000):
        yield from rows


def _check_rows(database: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Each bronze row once in silver or quarantine, where it belongs, for the right reasons, with the right values."""
    key = _quoted(KEY)
    database.execute(
        f"""CREATE VIEW placed AS SELECT {key}, []::VARCHAR[] AS failed_expectations FROM silver
            UNION ALL SELECT {key}, failed_expectations FROM quarantine"""
    )
    compare(database, "silver and quarantine together, against bronze", ("bronze", "placed"), KEY)
    _load_batches(database, root)
    for layer in ("silver", "quarantine"):
        database.execute(f"CREATE VIEW {layer}_batches AS FROM batches WHERE layer = '{layer}'")
        compare(database, f"{layer}, files of its batches against the table", (layer, f"{layer}_batches"), KEY)
    _classify_bronze(database)
    _judge(database)
    what = "failed expectations, [] for a row of silver"
    compare(database, what, ("judged", "placed"), KEY, exact=("failed_expectations",))
    silver = [name for name in TABLES["silver/weather_readings"] if name not in KEY]
    compare(database, "silver", ("expected_silver", "silver"), KEY, exact=silver)
    envelope = [name for name in ENVELOPE if name not in KEY]
    compare(database, "quarantine", ("expected_quarantine", "quarantine"), KEY, exact=envelope)


def _make_windows(database: duckdb.DuckDBPyConnection, view: str, slide: int) -> None:
    """Makes the view: the closed 1-hour windows per device that begin every `slide` microseconds."""
    database.execute(
        f"""CREATE TABLE {view} AS
            WITH ends AS (
                SELECT max(time) - (max(time) % 1000 + 1000) % 1000 - {WATERMARK} AS closed_until FROM expected_silver
            ),
            placed AS (
                SELECT *, time - (time % {slide} + {slide}) % {slide} - step * {slide} AS window_start
                FROM expected_silver, range({HOUR // slide}) AS steps (step)
            )
            SELECT device, window_start, window_start + {HOUR} AS window_end, count(*) AS readings,
                   min(temperature_c) AS temperature_min_c, favg(temperature_c) AS temperature_avg_c,
                   max(temperature_c) AS temperature_max_c, favg(humidity_pct) AS humidity_avg_pct,
                   max(wind_speed_m_s) AS wind_speed_max_m_s, fsum(rain_mm) AS rain_total_mm,
                   count(temperature_c) AS temperatures
            FROM placed, ends WHERE window_start + {HOUR} <= closed_until GROUP BY device, window_start"""
    )


def _check_windows(database: duckdb.DuckDBPyConnection, root: Path, table: str, slide: int) -> None:
    _make_windows(database, f"expected_{table}", slide)
    _load(database, root, f"gold/{table}", table)
    exact = ("window_end", "readings", "temperature_min_c", "temperature_max_c", "wind_speed_max_m_s")
    close = ("temperature_avg_c", "humidity_avg_pct", "rain_total_mm")
    views = (f"expected_{table}", table)
    compare(database, f"gold/{table}", views, ("device", "window_start"), exact=exact, close=close)


def _check_alerts(database: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Alerts of readings and of closed hours; a sum of rain within rounding of the threshold may be either."""
    _load(database, root, "gold/weather_alerts", "weather_alerts")
    readings = [
        f"""SELECT device, '{alert}' AS alert, time, event_id, '{measure}' AS measure, {measure} AS value,
                   {threshold}::DOUBLE AS threshold
            FROM expected_silver WHERE {measure} {relation} {threshold}::DOUBLE"""
        for alert, measure, relation, threshold in THRESHOLDS
    ]
    stuck = """SELECT device, 'stuck_sensor', window_end, NULL, 'temperature_spread_c',
                      temperature_max_c - temperature_min_c, 0.1::DOUBLE
               FROM expected_weather_device_hourly
               WHERE temperatures >= 30 AND temperature_max_c - temperature_min_c < 0.1::DOUBLE"""
    database.execute(f"CREATE VIEW expected_alerts AS {' UNION ALL '.join([*readings, stuck])}")
    database.execute("CREATE VIEW alerts AS FROM weather_alerts WHERE alert IS DISTINCT FROM 'heavy_rain'")
    database.execute("CREATE VIEW rains AS FROM weather_alerts WHERE alert = 'heavy_rain'")
    rounding = 7.6 * RELATIVE
    database.execute(
        f"""CREATE VIEW expected_rains AS
            SELECT device, window_end AS time, NULL::VARCHAR AS event_id, 'rain_total_mm' AS measure,
                   rain_total_mm AS value, 7.6::DOUBLE AS threshold
            FROM expected_weather_device_hourly e
            WHERE rain_total_mm > 7.6::DOUBLE + {rounding} OR (rain_total_mm > 7.6::DOUBLE - {rounding} AND EXISTS (
                FROM rains r WHERE r.device = e.device AND r.time = e.window_end))"""
    )
    key = ("device", "alert", "time", "event_id")
    columns = ("measure", "value", "threshold")
    compare(database, "gold/weather_alerts", ("expected_alerts", "alerts"), key, exact=columns)
    what, views = "gold/weather_alerts, heavy_rain", ("expected_rains", "rains")
    compare(database, what, views, ("device", "time", "event_id"), exact=("measure", "threshold"), close=("value",))


def check(root: Path | str, raw: Sequence[RawRecord]) -> Account:
    """The account of a run that has caught up; AssertionError with the difference where a table is not the truth."""
    root = Path(root)
    with duckdb.connect(config={"threads": 2}) as database:
        for layer in ("bronze", "silver", "quarantine"):
            _load(database, root, f"{layer}/weather_readings", layer)
        _check_bronze(database, raw)
        _check_rows(database, root)
        _check_windows(database, root, "weather_device_hourly", HOUR)
        _check_windows(database, root, "weather_device_sliding", 30 * MINUTE)
        _check_alerts(database, root)
        counted = database.execute(
            """SELECT count(*), count(*) FILTER (failed = []), count(*) FILTER (failed = ['is_first_delivery']),
                      count(*) FILTER (failed = ['is_on_time'])
               FROM (SELECT failed_expectations AS failed FROM judged)"""
        ).fetchone()
    rows_in, valid, duplicates, late = counted or (0, 0, 0, 0)
    return Account(rows_in, valid, rows_in - valid - duplicates - late, duplicates, late)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the account and returns 0, or the difference and returns 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="the folder that holds bronze, silver, quarantine and gold")
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument("--kafka", metavar="HOST:PORT", help="read the raw records from this broker")
    origin.add_argument("--files", type=Path, metavar="DIR", help="read the raw records from these files")
    parser.add_argument("--topic", default="weather-readings")
    options = parser.parse_args(arguments)
    raw = read_topic(options.kafka, options.topic) if options.kafka else read_files(options.files)
    try:
        account = check(options.root, raw)
    except AssertionError as difference:
        print(difference, file=sys.stderr)
        return 1
    print(", ".join(f"{name} {count:,}" for name, count in account._asdict().items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
