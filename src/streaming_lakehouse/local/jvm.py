"""Starts the JVM of a local session: directly, and early, so that it boots while Python imports modules.

pyspark would start it through a shell script and a second JVM, which only assembles the command line, and would wait
for it. Here Python assembles the command line, and passes the JVM's port to pyspark in pyspark's own variables.
"""

import atexit
import os
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streaming_lakehouse.config.storage import check_working_folder
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import cds_archive, java, surroundings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OPTIONS_VARIABLE, HEAP_VARIABLE = "LAKEHOUSE_JAVA_OPTIONS", "LAKEHOUSE_HEAP_MIB"
PIN_VARIABLE = "PYSPARK_PIN_THREAD"  # with another value pyspark would not understand the JVM
PORT_VARIABLE, SECRET_VARIABLE = "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"

# Spark's own list (org.apache.spark.launcher.JavaModuleOptions) except --add-modules=jdk.incubator.vector: only the
# linear algebra of MLlib uses that module, optionally, and Java prints a warning about it at every start.
_OPENED_PACKAGES = (
    "java.base/java.lang",
    "java.base/java.lang.invoke",
    "java.base/java.lang.reflect",
    "java.base/java.io",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.base/sun.nio.cs",
    "java.base/sun.security.action",
    "java.base/sun.util.calendar",
    "java.security.jgss/sun.security.krb5",
)
MODULE_OPTIONS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED_PACKAGES),
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    "-Dio.netty.handler.ssl.defaultEndpointVerificationAlgorithm=NONE",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)
# What SparkSubmit starts for pyspark, without its search for the settings of another Spark.
_MAIN = ("org.apache.spark.api.python.PythonGatewayServer",)

# C2, Java's optimizing compiler, starts here after ten times its default number of calls. It took a third of the
# CPU time up to the first commit, most of it for code that soon ran no more; per-row code still reaches the threshold.
# With five and with fifteen times, a run of a million events took 6 % less wall time and 9 to 11 % less CPU time.
_DELAYED_C2 = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)

# Spark generates one Java method for a chain of projections, and Java only interprets a method above 8,000 bytes.
# With a field or two more than weather's, silver's validation would take twice the time.
_COMPILE_HUGE_METHODS = "-XX:-DontCompileHugeMethods"

# Before a batch Spark compiles each plan with Janino and reads the classes of every closure. That code processes no
# rows, but is called often enough to reach C2, which spent a third of its time on it. With C1 only, a run of a million
# events takes 12 % less CPU time. Java would announce the directives file on standard output, among the tables. The
# only way to suppress that suppresses all output of the VM: thread dumps on `kill -3` (jstack works), the output of
# -XX:+Print…, and out-of-memory messages. LAKEHOUSE_JAVA_OPTIONS=-XX:+DisplayVMOutput shows them again.
_EXCLUDE_CODEGEN_FROM_C2 = (
    "-XX:+UnlockDiagnosticVMOptions",
    f"-XX:CompilerDirectivesFile={Path(__file__).with_name('compiler_directives.json')}",
    "-XX:-DisplayVMOutput",
)

# Every plan becomes classes of its own. Java reserves 48 MB for compiled code where C2 is off, and 240 MB otherwise: a
# pipeline of a dozen queries fills the former, and what is not compiled then is interpreted, or fails.
_CODE_CACHE = "-XX:ReservedCodeCacheSize=512m"

# As with pyspark's launcher, the JVM ignores Ctrl-C: a run stops at a batch boundary, for which it needs the JVM.
# The shell sets the trap, since Python code between fork and exec is unsafe with threads.
_IGNORE_SIGINT = ("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh")
_CAUSE = re.compile(r'(?:Caused by|Exception in thread "[^"]*")[: ]+')
_GENERIC_ERRORS = ("Error: Could not create the Java", "Error: A fatal exception has occurred")
# Each batch of transformWithState in Python prints several lines about its worker, each with an empty one after it.
_STATEFUL_WORKER = (b"Streaming TransformWithStateIn", b"Starting Streaming TransformWithStateIn")
_POLL_SECONDS = 0.01
_FOLDER = "lakehouse-jvm-"
_STALE_AFTER_S = 24 * 3600


@dataclass
class Jvm:
    """A JVM that boots or runs. It ends when its standard input closes, that is with this process, in any case."""

    process: subprocess.Popen[bytes]
    folder: Path
    connection: tuple[int, str] | None = None  # port and secret, once it is up
    errors: list[bytes] = field(default_factory=list)  # lines of its standard error while it boots
    forwarding: threading.Thread | None = None

    def connect(self) -> tuple[int, str]:
        """Waits until the JVM is up; returns port and secret. Raises LakehouseError if it has ended instead."""
        while self.connection is None:
            if _connection_file(self.folder).is_file():  # Spark moves the complete file there
                content = _connection_file(self.folder).read_bytes()
                self.connection = int.from_bytes(content[:4]), content[8:].decode()
                shutil.rmtree(self.folder, ignore_errors=True)
            elif self.process.poll() is not None:
                raise LakehouseError(f"Java did not start: {self._reason()}")
            else:
                time.sleep(_POLL_SECONDS)
        return self.connection

    def _reason(self) -> str:
        """Why it has ended: what it printed last, else what Java prints at a second start."""
        if self.forwarding:
            self.forwarding.join()
        return _cause(self.errors) or _startup_error() or f"exit status {self.process.returncode}"

    def forward_errors(self) -> None:
        """Copies its standard error to that of this process, without what Spark's stateful workers print.

        While it boots the lines are held back: should it end, one of them is the reason, and the others are a stack
        trace.
        """
        assert self.process.stderr is not None
        was_dropped = False
        for line in self.process.stderr:
            was_dropped = line.startswith(_STATEFUL_WORKER) or (was_dropped and not line.strip())
            if not was_dropped:
                self.errors.append(line)
            while self.connection and self.errors:
                with suppress(OSError):  # a closed terminal is no reason to stop the JVM
                    os.write(2, self.errors.pop(0))

    def end(self) -> None:
        """Kills the JVM; only for one that is not in use."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


_jvms: list[Jvm] = []  # at most one; never removed once in use, since its standard input must stay open


def start() -> Jvm:
    """The JVM of this process; the first call starts it, without waiting until it is up."""
    if not _jvms:
        check_working_folder()
        command = _command()
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
        process = subprocess.Popen(
            [*_IGNORE_SIGINT, *command], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(folder)
        )
        started = Jvm(process, folder)
        started.forwarding = threading.Thread(target=started.forward_errors, daemon=True)
        started.forwarding.start()
        _jvms.append(started)
        _remove_stale_folders()
    return _jvms[0]


def _remove_stale_folders() -> None:
    """Removes the folders of processes that were killed while their JVM booted: those older than a day."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with suppress(OSError):  # already removed by another process, or another user's
            status = folder.stat(follow_symlinks=False)
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > _STALE_AFTER_S:
                shutil.rmtree(folder)


def stop_unused() -> None:
    """Kills a JVM that was started but that no session uses."""
    if _jvms and not _jvms[0].connection:
        _jvms.pop().end()


atexit.register(stop_unused)


@contextmanager
def gateway() -> Iterator[None]:
    """Within this context, pyspark connects to the JVM of this process instead of starting one.

    Afterwards its variables are unset again: child processes must not connect to this JVM.
    Raises LakehouseError with Java's own message if Java cannot start.
    """
    from pyspark import SparkContext

    if SparkContext._gateway or PORT_VARIABLE in os.environ:
        yield  # already connected, or started by spark-submit, which brings its JVM
        return
    try:
        port, secret = start().connect()
    finally:
        stop_unused()
    os.environ |= {PORT_VARIABLE: str(port), SECRET_VARIABLE: secret, PIN_VARIABLE: "true"}
    try:
        _prepare_connection()
        yield
    finally:
        del os.environ[PORT_VARIABLE], os.environ[SECRET_VARIABLE]


def _prepare_connection() -> None:
    """Connects pyspark, and gives Hadoop a user where the operating system has none: it would refuse each file."""
    from pyspark import SparkContext, accumulators

    for server in (accumulators.AccumulatorTCPServer, accumulators.AccumulatorUnixServer):
        server.handle_error = _report_unless_ended  # type: ignore[assignment, method-assign]
    SparkContext._ensure_initialized()
    java_side: Any = SparkContext._jvm
    if name := surroundings.unnamed_user():
        users = java_side.org.apache.hadoop.security.UserGroupInformation
        users.setLoginUser(users.createRemoteUser(name))


def _report_unless_ended(server: socketserver.BaseServer, request: Any, client_address: Any) -> None:
    """PySpark's server for accumulators prints a trace of each exception; of a JVM that has died, a run says it."""
    if not isinstance(sys.exception(), EOFError | ConnectionError):
        socketserver.BaseServer.handle_error(server, request, client_address)


def check_file_names(spark: "SparkSession") -> None:
    """Raises LakehouseError if the session's JVM, which somebody else may have started, passes over some names."""
    java_side: Any = spark._jvm
    if (encoding := java_side.System.getProperty(surroundings.FILE_NAME_ENCODING)) != "UTF-8":
        raise LakehouseError(
            f"Java reads file names as {encoding} here and would pass over some: it needs the locale "
            f"{surroundings.UTF8_LOCALE}; install it, and set LC_ALL={surroundings.UTF8_LOCALE} where another program "
            "has started Spark"
        )


def heap_mib() -> int:
    """The maximum heap: LAKEHOUSE_HEAP_MIB, else a third of the machine's memory, between 1 and 8 GiB.

    Raises LakehouseError if LAKEHOUSE_HEAP_MIB is not a positive integer.
    """
    if chosen := os.environ.get(HEAP_VARIABLE):
        if not chosen.isdecimal() or not int(chosen):
            raise LakehouseError(f"{HEAP_VARIABLE} is a positive integer of MiB, such as 4096, not {chosen!r}")
        return int(chosen)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return max(1024, min(8192, machine // 3))


def _command(main: tuple[str, ...] = _MAIN) -> list[str]:
    log4j = Path(__file__).with_name("log4j2.properties")
    options = [
        f"-Xmx{heap_mib()}m",
        *surroundings.system_properties(),
        "-XX:+UseParallelGC",
        _CODE_CACHE,
        *_DELAYED_C2,
        *_EXCLUDE_CODEGEN_FROM_C2,
        _COMPILE_HUGE_METHODS,
        f"-Dlog4j2.configurationFile={log4j.as_uri()}",
        *cds_archive.jvm_flags(),
        *os.environ.get(OPTIONS_VARIABLE, "").split(),
        *MODULE_OPTIONS,
    ]
    return [str(java.java_home() / "bin" / "java"), *options, "-cp", os.pathsep.join(cds_archive.class_path()), *main]


def _environment(folder: Path) -> dict[str, str]:
    # Without SPARK_HOME too: with it, Spark's Python workers import pyspark from a zip of sources, which each of them
    # compiles again (0.6 s); without it they import the installed package, as this process does.
    return surroundings.environment(os.environ) | {
        "_PYSPARK_DRIVER_CONN_INFO_PATH": str(_connection_file(folder)),
        "JAVA_HOME": str(java.java_home()),
    }


def _connection_file(folder: Path) -> Path:
    return folder / "connection"


def _cause(errors: list[bytes]) -> str:
    """The innermost cause of a stack trace, else the last line that is not part of one."""
    lines = [line.decode(errors="replace").rstrip() for line in errors if line.strip() and not line[:1].isspace()]
    causes = [_CAUSE.sub("", line, count=1) for line in lines if _CAUSE.match(line)]
    return [*lines[-1:], *causes][-1] if lines else ""


def _startup_error() -> str:
    """Java's own message why it does not start, from a second start with its output on."""
    command = _command(("-XX:+DisplayVMOutput", "-version"))
    second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if second.returncode == 0:
        return "a second start succeeded, and the first gave no reason; start again"
    lines = [line for line in (second.stdout + second.stderr).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if not line.startswith(_GENERIC_ERRORS)), "")
