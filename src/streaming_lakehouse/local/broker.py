"""A real Kafka broker on loopback: one node that is its own controller, without ZooKeeper or containers."""

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

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.jars import jars
from streaming_lakehouse.local.java import java_home
from streaming_lakehouse.local.ports import HOST, free_port, is_free
from streaming_lakehouse.local.topics import answers, create_topic
from streaming_lakehouse.settings import writing_to

__all__ = ["Broker", "create_topic"]

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# Becomes Java by `exec` and so keeps its process id, after leaving a watch behind that reads a pipe of ours.
# However this process ends, the pipe closes and the watch kills the broker; a line sent first dismisses it.
# Unlike PR_SET_PDEATHSIG this also works on macOS, and when the thread that started the broker ends earlier.
_WATCHED = 'exec 3<&0; (read -r _ <&3 || kill -9 $$) & exec "$@" </dev/null 3<&-'


class Broker:
    """A Kafka broker that keeps its topics in `data_dir` and listens on loopback, in plain text.

    Port 0 is the port that `data_dir` was used with before, else a free one. `properties` are added to the
    server's and win over them: that is the way to further listeners; PLAINTEXT stays the broker's own.
    Raises LakehouseError where the port is taken or the broker does not come up.
    """

    def __init__(self, data_dir: Path, port: int = 0, properties: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.properties = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What a client connects to; with port 0 it is known after the start."""
        return f"{HOST}:{self.port}"

    @property
    def log_path(self) -> Path:
        """What the broker printed, warnings and errors only, over all its starts."""
        return self.data_dir / "broker.log"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start the broker, unless it runs, and return when it answers."""
        if self.pid:
            return
        self._end(signal.SIGKILL)
        with writing_to("--data", self.data_dir):
            config, log_start = self._prepare()
        if not (self.data_dir / "log" / "meta.properties").exists():
            with self.log_path.open("ab") as log:
                command = _java("kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(config))
                if subprocess.run(command, stdout=log, stderr=log, timeout=START_TIMEOUT_S, check=False).returncode:
                    raise self._failure("its storage could not be formatted", log_start)
        with self.log_path.open("ab") as log:
            # A session of its own: Ctrl-C in a terminal reaches the streams, which then still have a broker.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHED, "broker", *_java("kafka.Kafka", str(config))],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._await_answer(log_start)

    def _prepare(self) -> tuple[Path, int]:
        """Writes the server's properties; returns their file, and where this start's part of the log begins."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._is_taken():
            raise LakehouseError(f"Another broker runs in {self.data_dir}: stop it, or choose another folder (--data)")
        self.port = self._chosen_port()
        config = self.data_dir / "server.properties"
        properties = _server_properties(self.data_dir, self.port) | self.properties
        config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        with self.log_path.open("ab") as log:
            return config, log.tell()

    def _is_taken(self) -> bool:
        """Whether a broker holds the lock on its log, as each does while it lives; looking leaves it as it is."""
        with contextlib.suppress(FileNotFoundError), (self.data_dir / "log" / ".lock").open("r+b") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def stop(self) -> None:
        """Shut the broker down in order; one that takes too long is killed, which loses nothing either."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker at once, as a crash would."""
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

    def _await_answer(self, log_start: int) -> None:
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not answers(self.bootstrap_servers):
                if self.pid is None:
                    raise self._failure("it ended while starting", log_start)
                if time.monotonic() > deadline:
                    raise self._failure(f"it did not answer within {START_TIMEOUT_S} s", log_start)
                time.sleep(0.05)
        except BaseException:
            self.kill()
            raise

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._dismiss_watch()
        self._process = None

    def _dismiss_watch(self) -> None:
        # Only now: until its end was waited for, the process id of a dead broker cannot become another's.
        if self._process and self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(b"\n")
                self._process.stdin.close()

    def _failure(self, what: str, log_start: int) -> LakehouseError:
        lines = self.log_path.read_bytes()[log_start:].decode(errors="replace").splitlines()
        # The frames of a Java exception would crowd its message out.
        told = [line for line in lines if line.strip() and not line.startswith("\t")]
        tail = "".join(f"\n  {line}" for line in told[-8:])
        return LakehouseError(f"The Kafka broker on {self.bootstrap_servers}: {what}. Log: {self.log_path}{tail}")

    def _chosen_port(self) -> int:
        if self.port:
            if is_free(self.port):
                return self.port
            raise LakehouseError(
                f"Port {self.port} on {HOST} is in use: stop what listens there or choose another port"
            )
        with contextlib.suppress(FileNotFoundError):
            config = (self.data_dir / "server.properties").read_text()
            used = re.search(rf"^listeners=PLAINTEXT://{HOST}:(\d+)", config, re.MULTILINE)
            if used and is_free(int(used[1])):
                return int(used[1])
        return free_port()


def _cluster_id() -> str:
    """A new one in Kafka's form, by which a lake tells this folder's topics from those of another broker."""
    return base64.urlsafe_b64encode(b"lake" + os.urandom(12)).decode().rstrip("=")  # never with a dash first


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
        # Readings of past years are replayed: with the usual week of retention they would go at once.
        "log.retention.ms": "-1",
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
        "auto.create.topics.enable": "true",  # a sink's topic need not be there before its first record
        # Until this has passed the controller takes the return of a crashed broker for a double: 9 s by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        # One node holds everything; one partition instead of 50 makes the first consumer start sooner.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
    }


def _java(*arguments: str) -> list[str]:
    class_path = os.pathsep.join(map(str, jars("broker")))
    # Without a file of settings log4j prints errors only, to standard output.
    options = ["-Xmx512m", "-XX:+ExitOnOutOfMemoryError", "-Dorg.apache.logging.log4j.level=WARN"]
    return [str(java_home() / "bin" / "java"), *options, "-cp", class_path, *arguments]
