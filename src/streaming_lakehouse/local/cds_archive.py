"""The class-data sharing (CDS) archive, which shortens the start of a Spark JVM by a third.

A training run writes it once, for one Java build and one class path. It is used for those only.
"""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.cache import cache_dir
from streaming_lakehouse.local.ivy import pyspark_jars
from streaming_lakehouse.local.jars import jars
from streaming_lakehouse.local.java import java_home, java_version
from streaming_lakehouse.local.own_jar import own_jar

TRAINING_VARIABLE = "LAKEHOUSE_ARCHIVE_TRAINING"
TRAINING_TIMEOUT_S = 300
EXIT_TIMEOUT_S = 120  # for the JVM to write the archive, which takes seconds
UNUSED_AFTER_S = 7 * 24 * 3600
_TRAINING = (sys.executable, "-m", "streaming_lakehouse.cli.cds_training")


def jvm_flags() -> list[str]:
    """The CDS options for a Spark JVM: to use the matching archive, or to write one in training; else none."""
    if destination := os.environ.get(TRAINING_VARIABLE):
        return [f"-XX:ArchiveClassesAtExit={destination}"]
    archive = _path()
    if not archive.is_file():
        return []
    with suppress(OSError):  # another user's, or a read-only cache
        os.utime(archive)  # marks it as used: see _evict_unused()
    # If the archive does not match after all, Java runs without it; these options suppress its warnings.
    return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def build(command: Sequence[str] | None = None) -> Path | None:
    """Build the archive, unless it exists, by running a command whose Spark JVM uses `jvm_flags()`.

    The default command runs the weather pipeline briefly from each source. Without an archive everything works, only
    slower: if none is built, this prints a warning with the reason on stderr and returns None.
    """
    try:
        archive = _path()
        if archive.is_file():
            return archive
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".training-") as folder:
            draft = Path(folder) / "draft.jsa"
            _run(command or [*_TRAINING, folder], draft)
            # Atomic: readers never see a partial archive, and the last of two trainings wins.
            draft.replace(archive)
        _evict_unused(archive.parent)
        return archive
    except (LakehouseError, OSError) as error:
        print(f"streaming-lakehouse: continuing without a class-data archive: {error}", file=sys.stderr)
        return None


def _evict_unused(folder: Path) -> None:
    """Removes archives that no JVM has used for a week; they have 200 MB each, and most would never match again.

    Newer ones stay: other installations, with other paths of their jars, may share the cache. Running JVMs are not
    affected: they have the archive mapped.
    """
    for archive in folder.glob("*.jsa"):
        with suppress(OSError):  # already removed by another training, or another user's
            if time.time() - archive.stat().st_mtime > UNUSED_AFTER_S:
                archive.unlink()


def _run(command: Sequence[str], draft: Path) -> None:
    environment = os.environ | {TRAINING_VARIABLE: str(draft)}
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as training:
        try:
            # Waits for the end of the output: the JVM outlives the command and writes the archive at its exit.
            output, _ = _end_of_output(training)
        except BaseException as error:
            os.killpg(training.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LakehouseError(f"the training took more than {TRAINING_TIMEOUT_S} s") from error
            raise
    if training.returncode == -signal.SIGKILL and draft.is_file():
        return
    if training.returncode != 0 or not draft.is_file():
        lines = output.decode(errors="replace").splitlines()
        # Without the indented stack frames of a Java exception.
        messages = [line for line in lines if line and not line[0].isspace()] or ["no output"]
        raise LakehouseError(
            f"the training exited with status {training.returncode} and wrote no archive: {messages[-1]}"
        )


def _end_of_output(training: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Waits until the training and its JVM have ended.

    Where it takes too long, only the command is killed. Its JVM then ends too, and writes an archive of the classes
    that it has loaded so far: on a slow machine most of them.
    """
    try:
        return training.communicate(timeout=TRAINING_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        training.kill()
        return training.communicate(timeout=EXIT_TIMEOUT_S)


def class_path() -> list[str]:
    """The class path of a Spark JVM. Java uses an archive only with the class path that it was written with."""
    folder = pyspark_jars()
    # slf4j's API first, as in Spark's launcher: older jars contain copies of some of its classes.
    first = [own_jar(), *jars("spark"), *folder.glob("slf4j-api-*.jar")]
    return [*map(str, first), str(folder / "*")]


def _path() -> Path:
    """The archive's file, named by a hash of all that Java validates, so that any change leads to a new archive."""
    home = java_home()
    key = hashlib.sha256(f"{home} {java_version(home)} pyspark {version('pyspark')} {class_path()}".encode())
    # Java compares the time and size of each jar too: a reinstalled pyspark would never match its old archive.
    for jar in [own_jar(), *jars("spark"), *sorted(pyspark_jars().glob("*.jar"))]:
        status = jar.stat()
        key.update(f"{jar} {status.st_size} {status.st_mtime_ns}\n".encode())
    return cache_dir() / "archives" / f"{key.hexdigest()[:16]}.jsa"
