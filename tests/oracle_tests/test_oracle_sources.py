"""Raw records from files and topics, and the command that reads them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from oracle import Account, RawRecord, read_files, read_topic
from oracle.cli import main
from weather_lake import (
    BRONZE,
    INGESTED,
    PROVENANCE,
    QUARANTINE,
    RAW,
    SENT,
    SILVER,
    TOPIC,
    VALUES,
    Lake,
    account_of,
    changed,
    doubled,
    refusal,
    scenario,
    write,
)


def landed(folder: Path) -> list[RawRecord]:
    """Two files, one of them packed, with the marker files that writers leave."""
    folder.mkdir(parents=True)
    (folder / "one part.json").write_bytes(VALUES[0] + b"\n\n" + VALUES[1])
    (folder / "two.json.gz").write_bytes(gzip.compress(VALUES[5] + b"\n"))
    (folder / "_SUCCESS").touch()
    (folder / ".one part.json.crc").write_bytes(b"crc")
    return read_files(folder)


def test_files_have_a_record_a_line(tmp_path: Path) -> None:
    """An empty line is a record, the end of the last line is not; hidden files are no data."""
    records = landed(tmp_path / "in")
    assert [(Path(r.source).name, r.offset, r.value) for r in records] == [
        ("one part.json", 0, VALUES[0]),
        ("one part.json", 1, b""),
        ("one part.json", 2, VALUES[1]),
        ("two.json.gz", 0, VALUES[5]),
    ]
    assert {r.partition for r in records} == {None}


def lake_of_files() -> Lake:
    """The lake of `landed`: URIs as Spark writes them, and offsets of its own that keep the lines' order."""
    lake = scenario()
    lines = [("one%20part.json", 7, VALUES[0]), ("one%20part.json", 8, b""), ("one%20part.json", 20, VALUES[1])]
    lines.append(("two.json.gz", 0, VALUES[5]))
    rows = [
        {"value": v, "source": f"file:///landing/{name}", "partition": 0, "offset": offset, "ingested_at": INGESTED}
        for name, offset, v in lines
    ]
    lake[BRONZE] = rows
    for row, bronze in zip(lake[SILVER], (rows[0], rows[2], rows[3]), strict=True):
        row.update({name: bronze.get(name) for name in PROVENANCE})
    lake[QUARANTINE] = [{**rows[1], "batch": 0, "failed_expectations": ["record_is_not_empty"]}]
    return lake


def test_accepts_files_under_bronzes_own_offsets(tmp_path: Path) -> None:
    """Only name, lines and their order must agree."""
    raw = landed(tmp_path / "in")
    write(tmp_path / "lake", lake_of_files())
    assert account_of(tmp_path / "lake", raw) == Account(4, 3, 1, 0, 0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed(BRONZE, 0, offset=9), "files whose lines are not in the file's order: 1"),
        (changed(BRONZE, 0, value=b"x"), f"{BRONZE}: lines of files missing: 1"),
        (doubled(BRONZE, 3), f"{BRONZE}: lines of files unexpected or more than once: 1"),
        (
            changed(BRONZE, 0, source="file:///landing/two.json.gz"),
            f"{BRONZE}: lines of files missing: 1",
        ),
        (changed(BRONZE, 2, offset=8), f"{BRONZE}: lines of files under one partition and offset: 1"),
    ],
)
def test_refuses_other_lines_of_files(tmp_path: Path, spoil: Callable[[Lake], None], message: str) -> None:
    """A lost, doubled, changed, moved or reordered line is named."""
    raw = landed(tmp_path / "in")
    lake = lake_of_files()
    spoil(lake)
    assert message in refusal(tmp_path / "lake", lake, raw)


def test_the_command_prints_the_account_or_the_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0 and the account, or 1 and the difference."""
    landed(tmp_path / "in")
    write(tmp_path / "lake", lake_of_files())
    assert main([str(tmp_path / "lake"), "weather", "--domain", "weather_lake", "--files", str(tmp_path / "in")]) == 0
    assert capsys.readouterr().out == "rows_in 4, valid 3, quarantined 1, duplicates 0, late 0\n"
    (tmp_path / "in" / "three.json").write_bytes(b"{}\n")
    assert main([str(tmp_path / "lake"), "weather", "--domain", "weather_lake", "--files", str(tmp_path / "in")]) == 1
    assert "lines of files missing: 1" in capsys.readouterr().err


def test_a_topic_is_read_whole() -> None:
    """All partitions of librdkafka's own broker, tombstones, empty values and absent keys as they are."""
    producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
    sent = [(0, b"k", b"v"), (0, None, None), (1, b"", b""), (1, b"k", b"\xff\n"), (1, None, b"{}")]
    for partition, key, value in sent:
        producer.produce(TOPIC, value, key, partition, timestamp=1_767_268_740_123)
    assert producer.flush(10) == 0
    records = sorted(read_topic(f"{broker.host}:{broker.port}", TOPIC), key=lambda r: (r.partition, r.offset))
    assert [(r.partition, r.key, r.value) for r in records] == sent
    assert [r.offset for r in records] == [0, 1, 0, 1, 2]
    assert {r.source_timestamp for r in records} == {SENT + timedelta(milliseconds=123)}


@pytest.mark.parametrize("topics", [[], ["--topic", TOPIC], ["--topic", f"weather_readings={TOPIC}"]])
def test_the_command_reads_a_topic(topics: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default that of the bronze table's name; a single table's needs no prefix."""
    write(tmp_path, scenario())
    producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
    for record in RAW:
        producer.produce(TOPIC, record.value, record.key, 0, timestamp=int(SENT.timestamp() * 1000))
    assert producer.flush(10) == 0
    assert (
        main([str(tmp_path), "weather", "--domain", "weather_lake", "--kafka", f"{broker.host}:{broker.port}", *topics])
        == 0
    )
    assert capsys.readouterr().out == "rows_in 7, valid 3, quarantined 2, duplicates 1, late 1\n"
