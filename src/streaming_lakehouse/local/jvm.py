"""Starts the JVM of a local session: directly, and early, so that it boots while Python goes on importing.

pyspark would start it through a shell script and a second JVM, which only puts the command line together, and would
wait for it. Here the command line is put together, and pyspark is told by its own variables where the JVM listens.
"""

import atexit
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import archive, java

OPTIONS_VARIABLE, HEAP_VARIABLE = "LAKEHOUSE_JAVA_OPTIONS", "LAKEHOUSE_HEAP_MIB"
PORT_VARIABLE, SECRET_VARIABLE = "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"

# Spark's own list (org.apache.spark.launcher.JavaModuleOptions) but for --add-modules=jdk.incubator.vector: only the
# linear algebra of MLlib asks for that module and does without it, and Java warns of it at every start.
_OPENED = (
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
    *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED),
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    "-Dio.netty.handler.ssl.defaultEndpointVerificationAlgorithm=NONE",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)
_MAIN = ("org.apache.spark.deploy.SparkSubmit", "pyspark-shell")

# Java has two compilers, a quick one (C1) and a thorough one (C2), which waits for ten times its usual number
# of calls. A third of the processor's time up to the first commit was its work, most of it for code that soon ran no
# more; code that sees every row still comes to it.
# With five and with fifteen times, a run of a million events ended 6 % sooner and took 9 to 11 % less of the processor.
_PATIENT_COMPILER = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)

# Spark writes one Java method for a chain of projections, and Java leaves a method beyond 8,000 bytes to its
# interpreter. With a field or two more than weather's, silver's look at the records would take twice the time.
_LONG_METHODS_TOO = "-XX:-DontCompileHugeMethods"

# What Spark has to do before a batch is code of its own: a Java compiler (Janino) turns each plan into classes, readers
# of classes look through every closure. None of it sees a row, but it is called often enough for the thorough compiler,
# which spent a third of its time on it. Left to the quick one, a run of a million events takes 12 % less of the
# processor. Java would announce the file on the standard output, where the tables go, and knows no other way to be
# quiet than to keep all of its own words to itself: the dump of threads on `kill -3` (jstack works), what -XX:+Print…
# prints, and its last words when memory runs out. LAKEHOUSE_JAVA_OPTIONS=-XX:+DisplayVMOutput shows them again.
_PLANS_ARE_FOR_THE_QUICK_COMPILER = (
    "-XX:+UnlockDiagnosticVMOptions",
    f"-XX:CompilerDirectivesFile={Path(__file__).with_name('compiler_directives.json')}",
    "-XX:-DisplayVMOutput",
)

# The launcher of pyspark has the JVM ignore Ctrl-C too: a run stops at a batch boundary, for which it needs the JVM.
# The shell does it, since code of ours between fork and exec is unsafe beside threads.
_DEAF_TO_CTRL_C = ("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh")
_CLOSING_WORDS = ("Error: Could not create the Java", "Error: A fatal exception has occurred")
_POLL_SECONDS = 0.01
_FOLDER = "lakehouse-jvm-"
_LEFT_BEHIND_SECONDS = 24 * 3600


@dataclass
class Jvm:
    """A JVM that boots or runs. It ends when its standard input does, that is with this process, however that ends."""

    process: subprocess.Popen[bytes]
    folder: Path
    connection: tuple[int, str] | None = None  # the port it listens on and the secret it wants, once it is up

    def connect(self) -> tuple[int, str]:
        """Waits for its connection, if need be. Raises LakehouseError where it has ended instead."""
        while self.connection is None:
            if _told(self.folder).is_file():  # it is moved there when it is whole
                content = _told(self.folder).read_bytes()
                self.connection = int.from_bytes(content[:4]), content[8:].decode()
                shutil.rmtree(self.folder, ignore_errors=True)
            elif self.process.poll() is not None:
                raise LakehouseError(f"Java did not start: {_last_words() or f'exit status {self.process.returncode}'}")
            else:
                time.sleep(_POLL_SECONDS)
        return self.connection

    def end(self) -> None:
        """Ends it at once; only for one that nobody uses."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


_jvms: list[Jvm] = []  # at most one; never forgotten once it is taken, since its standard input must stay open


def start() -> Jvm:
    """The JVM of this process, which begins to boot on the first call; that takes a few milliseconds."""
    if not _jvms:
        command = _command()
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
        process = subprocess.Popen([*_DEAF_TO_CTRL_C, *command], stdin=subprocess.PIPE, env=_environment(folder))
        _jvms.append(Jvm(process, folder))
        _remove_left_behind()
    return _jvms[0]


def _remove_left_behind() -> None:
    """Removes the folders of processes that were killed while their JVM booted, which takes seconds and not a day."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with suppress(OSError):  # another was faster, or it is another user's
            status = folder.stat(follow_symlinks=False)
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > _LEFT_BEHIND_SECONDS:
                shutil.rmtree(folder)


def end_unused() -> None:
    """Ends a JVM that was started but that no session has taken."""
    if _jvms and not _jvms[0].connection:
        _jvms.pop().end()


atexit.register(end_unused)


@contextmanager
def gateway() -> Iterator[None]:
    """Within, pyspark connects to the JVM of this process instead of starting one.

    Outside, the variables that say so are gone again: children of this process must not take this JVM for theirs.
    Raises LakehouseError where Java cannot start, with what it said.
    """
    from pyspark import SparkContext

    if SparkContext._gateway or PORT_VARIABLE in os.environ:
        yield  # connected to a JVM already, or started by a spark-submit, whose JVM it then is
        return
    try:
        port, secret = start().connect()
    finally:
        end_unused()
    os.environ |= {PORT_VARIABLE: str(port), SECRET_VARIABLE: secret}
    try:
        yield
    finally:
        del os.environ[PORT_VARIABLE], os.environ[SECRET_VARIABLE]


def heap_mib() -> int:
    """A third of the machine's memory, between 1 and 8 GiB: a laptop has other things to do.

    Or as much as LAKEHOUSE_HEAP_MIB says. Raises LakehouseError where that is no number.
    """
    if chosen := os.environ.get(HEAP_VARIABLE):
        if not chosen.isdecimal() or not int(chosen):
            raise LakehouseError(f"{HEAP_VARIABLE} is a whole number of MiB, such as 4096, not {chosen!r}")
        return int(chosen)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return max(1024, min(8192, machine // 3))


def _command(main: tuple[str, ...] = _MAIN) -> list[str]:
    log4j = Path(__file__).with_name("log4j2.properties")
    options = [
        f"-Xmx{heap_mib()}m",
        "-Duser.timezone=UTC",
        "-XX:+UseParallelGC",
        *_PATIENT_COMPILER,
        *_PLANS_ARE_FOR_THE_QUICK_COMPILER,
        _LONG_METHODS_TOO,
        f"-Dlog4j2.configurationFile={log4j.as_uri()}",
        *archive.flags(),
        *os.environ.get(OPTIONS_VARIABLE, "").split(),
        *MODULE_OPTIONS,
    ]
    return [str(java.java_home() / "bin" / "java"), *options, "-cp", os.pathsep.join(archive.class_path()), *main]


def _environment(folder: Path) -> dict[str, str]:
    environment = os.environ | {
        "_PYSPARK_DRIVER_CONN_INFO_PATH": str(_told(folder)),
        "JAVA_HOME": str(java.java_home()),
        "SPARK_CONNECT_MODE": "0",
    }
    # With SPARK_HOME set, Spark's Python workers would import pyspark from a zip of sources there, which are compiled
    # anew in each of them (0.6 s); without, they import the installed package, as this process does.
    environment.pop("SPARK_HOME", None)
    return environment


def _told(folder: Path) -> Path:
    return folder / "connection"


def _last_words() -> str:
    """Why Java does not start, in its own words: asked again, since the first time it keeps them to itself."""
    command = _command(("-XX:+DisplayVMOutput", "-version"))
    asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return "asked again, it did; the machine may have been short of memory for a moment"
    lines = [line for line in (asked.stdout + asked.stderr).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if not line.startswith(_CLOSING_WORDS)), "")
