"""The JVM of a local session: started directly, used by pyspark, and ended with its Python process."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from pyspark.accumulators import AccumulatorTCPServer
from pyspark.sql import SparkSession

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import cds_archive, jvm

TIMEOUT_SECONDS = 60
VECTOR_MODULE = "--add-modules=jdk.incubator.vector"

# Prints the process id of its JVM, and waits to be killed.
BOOTING = "from streaming_lakehouse.local import jvm; print(jvm.start().process.pid, flush=True); input()"
IN_USE = f"from streaming_lakehouse.session import get_session; spark = get_session(); {BOOTING}"
# Starts like the CLI, and exits without a session, as after a wrong argument.
UNUSED = f"import sys; {BOOTING.replace('input()', 'sys.exit(3)')}"


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def is_gone(pid: int) -> bool:
    # Without an init process that reaps, as in some containers, an orphan that has ended remains a zombie.
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def python(code: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def lakehouse(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streaming_lakehouse", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("code", [BOOTING, IN_USE], ids=["booting", "in use"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_jvm_does_not_outlive_its_python(code: str, number: signal.Signals) -> None:
    """However Python ends, its JVM ends too, even while it boots."""
    with python(code) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert psutil.pid_exists(pid)
        process.send_signal(number)
        process.wait()
        assert wait_for(lambda: is_gone(pid))


def test_an_unused_jvm_ends_with_python_and_prints_nothing() -> None:
    """If no session uses the JVM, it has ended when Python has."""
    with python(UNUSED) as process:
        output, errors = process.communicate()
    assert process.returncode == 3
    assert errors == ""
    assert is_gone(int(output))


def test_a_jvm_ignores_ctrl_c() -> None:
    """A terminal sends SIGINT to all processes of a command; the JVM continues."""
    with python(f"{IN_USE}; print(spark.range(3).count(), flush=True)") as process:
        assert process.stdin is not None and process.stdout is not None
        pid = int(process.stdout.readline())
        os.kill(pid, signal.SIGINT)
        output, _ = process.communicate("\n")
    assert output == "3\n"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("-XX:+UseSerialGC", "Multiple garbage collectors selected"),
        ("-Xmx99999999g", "heap"),
        ("-Dspark.authenticate.secretBitLength=0x", "start: org.apache.spark.SparkIllegalArgumentException: [INVALID_"),
    ],
    ids=["contradiction", "no memory", "exception"],
)
def test_a_failed_start_of_java_reports_the_reason(
    options: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with one line that contains Java's own message, without a stack trace."""
    monkeypatch.setenv(jvm.OPTIONS_VARIABLE, options)
    ran = lakehouse("run", "weather", "--root", str(tmp_path))
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith("lakehouse: Java did not start: ")
    assert reason in line


def test_java_that_starts_the_second_time_is_reported() -> None:
    """Then there is no message of its own to show."""
    options = f"os.environ['{jvm.OPTIONS_VARIABLE}']"
    code = f"import os; from streaming_lakehouse.local import jvm; {options} = '-Xmx99999999g'; started = jvm.start()"
    with python(f"{code}; {options} = ''; started.process.wait(); started.connect()") as process:
        _, errors = process.communicate()
    assert "LakehouseError: Java did not start: a second start succeeded" in errors


def test_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    """If older than a day; a newer one may belong to a JVM that boots."""
    left, booting, foreign = (tmp_path / name for name in ("lakehouse-jvm-a", "lakehouse-jvm-b", "others"))
    for folder in (left, booting, foreign):
        folder.mkdir()
        (folder / "file").touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    for folder in (left, foreign):
        os.utime(folder, (two_days_ago, two_days_ago))
    unused = [sys.executable, "-c", "from streaming_lakehouse.local import jvm; jvm.start()"]
    subprocess.run(unused, env=os.environ | {"TMPDIR": str(tmp_path)}, check=True)
    assert not left.exists()
    assert (booting / "file").exists() and (foreign / "file").exists()


@pytest.mark.parametrize("chosen", ["4g", "0", "-1", "1e3"])
def test_an_invalid_heap_size_is_refused(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error shows a valid one."""
    monkeypatch.setenv(jvm.HEAP_VARIABLE, chosen)
    with pytest.raises(LakehouseError, match=f"LAKEHOUSE_HEAP_MIB is a positive integer .* not '{chosen}'"):
        jvm.heap_mib()


def test_the_module_options_are_sparks_own(spark: SparkSession) -> None:
    """They equal those of this Spark's launcher, without the module that Java would warn about."""
    launcher = spark._jvm.org.apache.spark.launcher.JavaModuleOptions  # type: ignore[union-attr]
    expected = [option for option in launcher.defaultModuleOptionArray() if option != VECTOR_MODULE]
    assert list(jvm.MODULE_OPTIONS) == expected


def test_the_packages_excluded_from_c2_exist(spark: SparkSession) -> None:
    """C2 would compile a package again if Spark moved it to another name."""
    one_of_each = {
        "org/codehaus/janino": "UnitCompiler",
        "org/antlr/v4": "runtime.Parser",
        "org/apache/xbean/asm9": "ClassReader",
        "jdk/internal/org/objectweb/asm": "ClassReader",
    }
    patterns = re.findall(r'"([\w/]+)/\*\.\*"', Path(jvm.__file__).with_name("compiler_directives.json").read_text())
    assert patterns == list(one_of_each)
    for package, name in one_of_each.items():
        spark._jvm.java.lang.Class.forName(f"{package.replace('/', '.')}.{name}")  # type: ignore[union-attr]


def test_the_class_path_is_the_one_of_the_archive(spark: SparkSession) -> None:
    """In the same order: the locked jars, then pyspark's."""
    system = spark._jvm.java.lang.System  # type: ignore[union-attr]
    used = system.getProperty("java.class.path").split(os.pathsep)
    *first, last = cds_archive.class_path()
    assert used[: len(first)] == first
    assert set(used[len(first) :]) == {str(jar) for jar in Path(last).parent.glob("*.jar")}


def test_child_processes_do_not_connect_to_this_jvm(spark: SparkSession) -> None:
    """The variables with its port and secret are unset once pyspark is connected."""
    assert jvm.PORT_VARIABLE not in os.environ
    assert jvm.SECRET_VARIABLE not in os.environ


def test_a_server_of_pyspark_prints_no_trace_when_the_jvm_has_ended(
    spark: SparkSession, capfd: pytest.CaptureFixture[str]
) -> None:
    """But one of any other exception."""
    for error in (EOFError("one"), ConnectionResetError("two"), ValueError("three")):
        try:
            raise error
        except Exception:
            AccumulatorTCPServer.handle_error(None, None, "client")
    printed = capfd.readouterr().err
    assert "ValueError: three" in printed
    assert "EOFError" not in printed and "ConnectionResetError" not in printed


def test_lines_of_stateful_workers_are_dropped_and_all_others_are_forwarded(capfd: pytest.CaptureFixture[str]) -> None:
    """They come with each batch, and would break the progress bar."""
    said = "one\nStreaming TransformWithStateInPandas Python worker Starting execution of UDF: f.\n\ntwo\n\nthree\n"
    process = subprocess.Popen(["/bin/sh", "-c", f"printf '{said}' >&2"], stderr=subprocess.PIPE)
    jvm.Jvm(process, Path(), connection=(1, "")).forward_errors()
    assert process.wait() == 0
    assert capfd.readouterr().err == "one\ntwo\n\nthree\n"
