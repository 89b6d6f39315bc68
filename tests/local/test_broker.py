"""A real Kafka broker: its topics outlive it, and it ends with the process that started it."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import topics
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.local.ports import free_port

COMMAND = (sys.executable, "-m", "streaming_lakehouse", "broker")


def produce(broker: Broker, topic: str, *values: bytes) -> None:
    # Leaves room for the record's framing within the broker's 16 MiB.
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 16_000_000})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def consume(broker: Broker, topic: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    try:
        return [bytes(message.value() or b"") for message in consumer.consume(count, timeout=30)]
    finally:
        consumer.close()


def has_ended(pid: int, timeout_s: float) -> bool:
    """True if the process, whose child it may be, ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    return bool(select.select([descriptor], [], [], timeout_s)[0])


def test_topics_and_records_outlive_a_restart(tmp_path: Path) -> None:
    """A broker restarted on the same folder has the same port, topics and records, large ones too."""
    large = os.urandom(10_000_000)
    with Broker(tmp_path / "Köln 東京") as first:
        create_topic(first.bootstrap_servers, "readings", 1)
        produce(first, "readings", b"one", large)
        assert first.pid is not None
    assert first.pid is None
    assert (tmp_path / "Köln 東京" / "log" / "meta.properties").is_file()
    with Broker(tmp_path / "Köln 東京") as second:
        assert second.bootstrap_servers == first.bootstrap_servers
        assert consume(second, "readings", 2) == [b"one", large]


def test_records_outlive_a_crash(tmp_path: Path) -> None:
    """After SIGKILL the same object starts again, on the same port, with all acknowledged records."""
    broker = Broker(tmp_path / "kafka", free_port())
    with broker:
        create_topic(broker.bootstrap_servers, "readings", 1)
        produce(broker, "readings", b"one")
        pid = broker.pid
        assert pid
        broker.kill()
        assert broker.pid is None
        assert has_ended(pid, 0)
        broker.start()
        broker.start()
        assert broker.pid not in (None, pid)
        assert consume(broker, "readings", 1) == [b"one"]


def test_a_crash_of_the_broker_itself_is_seen(tmp_path: Path) -> None:
    """A broker that somebody else killed has no pid any more, stops without error and can be started."""
    broker = Broker(tmp_path / "kafka")
    with broker:
        assert broker.pid
        os.kill(broker.pid, signal.SIGKILL)
        assert has_ended(broker.pid or 0, 10)
        assert broker.pid is None
    broker.stop()


def test_it_listens_on_loopback_only(broker: Broker) -> None:
    """No other machine can reach the broker."""
    assert broker.pid
    inodes = {os.readlink(link) for link in Path(f"/proc/{broker.pid}/fd").iterdir() if link.is_symlink()}
    listening = [
        row.split()[1]
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if row.split()[3] == "0A" and f"socket:[{row.split()[9]}]" in inodes
    ]
    assert len(listening) == 2, "the clients' and the controller's"
    # 127.0.0.1, also as mapped into IPv6, in the kernel's byte order.
    assert all(address.split(":")[0].endswith("0100007F") for address in listening)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The error names the port, before any JVM is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LakehouseError, match=f"Port {port} on 127.0.0.1 is in use"):
            Broker(tmp_path / "kafka", port).start()
    assert not (tmp_path / "kafka" / "log").exists()


def test_a_file_in_the_path_is_named(tmp_path: Path) -> None:
    """A folder cannot be created below a file: the error names the file."""
    (tmp_path / "file").touch()
    with pytest.raises(LakehouseError, match=rf"{tmp_path}/file is a file, not a folder; give another --data"):
        Broker(tmp_path / "file" / "below" / "kafka").start()


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    """With the reason; here one that applies to root too, whom no permission stops."""
    folder = tmp_path / ("x" * 300)
    with pytest.raises(LakehouseError, match=rf"cannot write to {folder}: File name too long"):
        Broker(folder).start()


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_command_though_its_shell_ignores_ctrl_c(
    tmp_path: Path, signal_sent: signal.Signals
) -> None:
    """`lakehouse broker &` in a script inherits an ignored SIGINT; both signals still stop it."""
    with subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *COMMAND, "--port", "0", "--data", str(tmp_path / "kafka")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stdout and command.stderr
        assert "Kafka broker at 127.0.0.1" in command.stdout.readline()
        command.send_signal(signal_sent)
        assert command.wait(40) == 0
        assert command.stderr.read() == ""


def test_a_signal_while_the_broker_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    """The command ends with the status of Ctrl-C and one line, and its JVM with it."""
    data = tmp_path / "kafka"
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--data", str(data)], stderr=subprocess.PIPE, text=True
    ) as command:  # fmt: skip
        while not (data / "log" / "meta.properties").exists():  # formatted: the broker itself comes next
            assert command.poll() is None
            select.select([], [], [], 0.02)
        command.send_signal(signal.SIGTERM)
        assert command.wait(40) == 130
        assert command.stderr
        assert command.stderr.read() == "lakehouse: stopped\n"
    assert not [each for each in Path("/proc").glob("[0-9]*/cmdline") if str(data).encode() in _bytes(each)]


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def test_a_second_broker_in_the_folder_is_refused(tmp_path: Path) -> None:
    """Before it has changed anything of the first one, which continues."""
    with Broker(tmp_path / "kafka") as first:
        properties = (tmp_path / "kafka" / "server.properties").read_text()
        with pytest.raises(LakehouseError, match=rf"Another broker runs in {tmp_path}/kafka"):
            Broker(tmp_path / "kafka").start()
        assert (tmp_path / "kafka" / "server.properties").read_text() == properties
        create_topic(first.bootstrap_servers, "second", 1)


def test_a_failed_start_reports_the_reason(tmp_path: Path) -> None:
    """The error of a broker that ends while starting has the end of its log, and the log's path."""
    broker = Broker(tmp_path / "kafka", properties={"metric.reporters": "no.such.Reporter"})
    with pytest.raises(LakehouseError, match=r"(?s)ended while starting.*no\.such\.Reporter") as raised:
        broker.start()
    assert str(broker.log_path) in str(raised.value)
    assert broker.pid is None


def test_an_invalid_property_is_named(tmp_path: Path) -> None:
    """The error names a server property that Kafka refuses."""
    with pytest.raises(LakehouseError, match=r"(?s)could not be formatted.*num\.io\.threads"):
        Broker(tmp_path / "kafka", properties={"num.io.threads": "many"}).start()


def test_the_broker_dies_with_its_parent(tmp_path: Path) -> None:
    """When the process that started it is killed with SIGKILL, the broker ends too."""
    script = (
        "import pathlib, sys; from streaming_lakehouse.local.broker import Broker; "
        "broker = Broker(pathlib.Path(sys.argv[1])); broker.start(); print(broker.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "kafka")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert not has_ended(pid, 0)
        parent.kill()
    assert has_ended(pid, 10)


def test_creating_a_topic_is_idempotent(broker: Broker) -> None:
    """Creating a topic a second time changes nothing."""
    create_topic(broker.bootstrap_servers, "created-once", 3)
    create_topic(broker.bootstrap_servers, "created-once", 3)
    topics = AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=10).topics
    assert len(topics["created-once"].partitions) == 3


def test_a_topic_is_created_with_the_client_configuration(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection's options apply: over TLS this broker is not reachable."""
    monkeypatch.setattr(topics, "CLIENT_TIMEOUT_S", 2)
    with pytest.raises(LakehouseError, match="No Kafka broker is reachable"):
        create_topic(broker.bootstrap_servers, "in-tls", 1, {"security.protocol": "SSL"})


def test_an_invalid_topic_name_is_an_error(broker: Broker) -> None:
    """The error has the broker's reason."""
    with pytest.raises(LakehouseError, match=r"Topic no spaces at .* could not be created"):
        create_topic(broker.bootstrap_servers, "no spaces", 1)


def test_an_unreachable_broker_is_an_error_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the address and the remedy."""
    monkeypatch.setattr(topics, "CLIENT_TIMEOUT_S", 2)
    started = time.monotonic()
    with pytest.raises(LakehouseError, match=r"No Kafka broker is reachable at 127\.0\.0\.1:\d+"):
        create_topic(f"127.0.0.1:{free_port()}", "readings", 1)
    assert 2 <= time.monotonic() - started < 7
