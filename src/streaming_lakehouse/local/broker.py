"""A real Kafka broker on loopback: one KRaft node, broker and controller, without ZooKeeper or containers."""

import base64
import contextlib
import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from streaming_lakehouse.config.storage import translate_write_errors
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import surroundings
from streaming_lakehouse.local.jars import jars
from streaming_lakehouse.local.java import java_home
from streaming_lakehouse.local.ports import HOST, free_port, is_free
from streaming_lakehouse.local.topics import create_topic, is_reachable

__all__ = ["Broker", "create_topic"]

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# The shell starts a watchdog that reads from our pipe, then becomes Java by `exec`, with the same process id.
# However this process ends, the pipe closes and the watchdog kills the broker; a line sent first disarms it.
# Unlike PR_SET_PDEATHSIG this also works on macOS, and when the thread that started the broker ends earlier.
_PARENT_WATCHDOG = 'exec 3<&0; (read -r _ <&3 || kill -9 $$) & exec "$@" </dev/null 3<&-'


class Broker:
    """A Kafka broker that stores its topics in `data_dir` and listens on loopback, in plaintext.

    Port 0 is the port that `data_dir` was last used with, else a free one. `properties` override the server's, for
    example to add listeners; PLAINTEXT stays the broker's own.
    Raises LakehouseError if the port is in use or the broker does not start.
    """

    def __init__(self, data_dir: Path, port: int = 0, properties: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.properties = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients; with port 0 it is known after the start."""
        return f"{HOST}:{self.port}"

    @property
    def log_path(self) -> Path:
        """The broker's log of all its starts: warnings and errors only."""
        return self.data_dir / "broker.log"

    @property
    def pid(self) -> int | None:
        """The broker's process id, or None if it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start the broker, unless it runs, and return when it is reachable."""
        if self.pid:
            return
        self._end(signal.SIGKILL)
        with translate_write_errors("--data", self.data_dir):
            config, log_start = self._prepare()
        environment = surroundings.environment(os.environ)
        if not (self.data_dir / "log" / "meta.properties").exists():
            with self.log_path.open("ab") as log:
                command = _java("kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(config))
                if subprocess.run(
                    command, stdout=log, stderr=log, env=environment, timeout=START_TIMEOUT_S, check=False
                ).returncode:
                    raise self._failure("its storage could not be formatted", log_start)
        with self.log_path.open("ab") as log:
            # A new session: Ctrl-C in a terminal reaches the streams, which still need the broker to stop.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _PARENT_WATCHDOG, "broker", *_java("kafka.Kafka", str(config))],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        self._wait_until_ready(log_start)

    def _prepare(self) -> tuple[Path, int]:
        """Writes the server's properties; returns their file, and the log's size before this start."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._is_locked():
            raise LakehouseError(f"Another broker runs in {self.data_dir}: stop it, or choose another folder (--data)")
        self.port = self._chosen_port()
        config = self.data_dir / "server.properties"
        properties = _server_properties(self.data_dir, self.port) | self.properties
        config.write_text("".join(f"{key}={_escape(value)}\n" for key, value in properties.items()))
        with self.log_path.open("ab") as log:
            return config, log.tell()

    def _is_locked(self) -> bool:
        """True if a running broker holds the lock on its data."""
        with contextlib.suppress(FileNotFoundError), (self.data_dir / "log" / ".lock").open("r+b") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def stop(self) -> None:
        """Shut the broker down; if that takes too long, kill it, which loses no records either."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the broker at once, as a crash would."""
        self._end(signal.SIGKILL)

    def wait(self) -> None:
        """Return when the broker has ended; Ctrl-C and SIGTERM of this process end the wait."""
        assert self._process is not None, "not started"
        self._process.wait()
        raise self._failure("it ended by itself", 0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _wait_until_ready(self, log_start: int) -> None:
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not is_reachable(self.bootstrap_servers):
                if self.pid is None:
                    raise self._failure("it ended while starting", log_start)
                if time.monotonic() > deadline:
                    raise self._failure(f"it was not reachable within {START_TIMEOUT_S} s", log_start)
                time.sleep(0.05)
        except BaseException:
            self.kill()
            raise

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._disarm_watchdog()
        self._process = None

    def _disarm_watchdog(self) -> None:
        # Only after wait(): until then the operating system cannot reuse the broker's process id.
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(b"\n")
                self._process.stdin.close()

    def _failure(self, what: str, log_start: int) -> LakehouseError:
        lines = self.log_path.read_bytes()[log_start:].decode(errors="replace").splitlines()
        # Without the stack frames of a Java exception, which would leave no room for its message.
        messages = [line for line in lines if line.strip() and not line.startswith("\t")]
        tail = "".join(f"\n  {line}" for line in messages[-8:])
        return LakehouseError(f"The Kafka broker on {self.bootstrap_servers}: {what}. Log: {self.log_path}{tail}")

    def _chosen_port(self) -> int:
        if self.port:
            if is_free(self.port):
                return self.port
            raise LakehouseError(
                f"Port {self.port} on {HOST} is in use: stop the process that listens there or choose another port"
            )
        with contextlib.suppress(FileNotFoundError):
            config = (self.data_dir / "server.properties").read_text()
            last = re.search(rf"^listeners=PLAINTEXT://{HOST}:(\d+)", config, re.MULTILINE)
            if last and is_free(int(last[1])):
                return int(last[1])
        return free_port()


def _cluster_id() -> str:
    """A new cluster id, by which a checkpoint distinguishes this folder's topics from those of another broker."""
    return base64.urlsafe_b64encode(b"lake" + os.urandom(12)).decode().rstrip("=")  # never starts with a dash


def _server_properties(data_dir: Path, port: int) -> dict[str, str]:
    controller_port = free_port()
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data_dir / "log"),
        # Record timestamps may be years old: the default retention of a week would delete such records at once.
        "log.retention.ms": "-1",
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
        "auto.create.topics.enable": "true",  # a sink's topic need not exist before its first record
        # Until the old session has timed out (9 s by default), the controller rejects a restarted broker.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        # There is one node; one partition instead of 50 makes the first consumer start sooner.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
    }


def _escape(value: str) -> str:
    """The value for a file that Java reads as Latin-1, with a backslash as its escape character."""
    utf16 = value.replace("\\", "\\\\").encode("utf-16-be")
    units = (int.from_bytes(utf16[i : i + 2]) for i in range(0, len(utf16), 2))
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for unit in units)


def _java(*arguments: str) -> list[str]:
    class_path = os.pathsep.join(map(str, jars("broker")))
    # Without a configuration file log4j prints errors only, to standard output.
    options = ["-Xmx512m", "-XX:+ExitOnOutOfMemoryError", "-Dorg.apache.logging.log4j.level=WARN"]
    options += surroundings.system_properties()
    return [str(java_home() / "bin" / "java"), *options, "-cp", class_path, *arguments]
