"""The class-data archive that spares a Spark JVM a third of its start.

It is made once by a training run, for one Java build and one class path, and only ever used for those.
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

TRAINING_VARIABLE = "LAKEHOUSE_ARCHIVE_TRAINING"
TRAINING_TIMEOUT_S = 300
UNUSED_AFTER_S = 7 * 24 * 3600
_TRAINING = (sys.executable, "-m", "streaming_lakehouse.training")


def flags() -> list[str]:
    """The options for a Spark JVM: to use the archive that fits, which counts as used then; to write one; or none."""
    if destination := os.environ.get(TRAINING_VARIABLE):
        return [f"-XX:ArchiveClassesAtExit={destination}"]
    archive = _path()
    if not archive.is_file():
        return []
    with suppress(OSError):  # another user's, or a cache that is only read
        os.utime(archive)  # used just now: see _remove_unused()
    # Where it does not fit after all, Java would print warnings into the output, and go on without it.
    return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]


def train(command: Sequence[str] | None = None) -> Path | None:
    """Make the archive, unless it is there, by running a command whose Spark JVM takes `flags()`.

    By default that is a small run of the weather pipeline from each source. Without an archive everything works, only
    slower: where none comes out, a warning on stderr tells why, and the answer is None.
    """
    try:
        archive = _path()
        if archive.is_file():
            return archive
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".training-") as folder:
            draft = Path(folder) / "draft.jsa"
            _run(command or [*_TRAINING, folder], draft)
            # Readers see the old state or the whole new one, and the last of two trainings wins.
            draft.replace(archive)
        _remove_unused(archive.parent)
        return archive
    except (LakehouseError, OSError) as error:
        print(f"streaming-lakehouse: going on without a class-data archive: {error}", file=sys.stderr)
        return None


def _remove_unused(folder: Path) -> None:
    """Removes the archives no JVM was started with for a week; 200 MB each, and most would never fit again.

    Younger ones stay: other installations, with other paths of their jars, may share the cache. A JVM that has mapped
    an archive keeps what it has.
    """
    for archive in folder.glob("*.jsa"):
        with suppress(OSError):  # another training was faster, or it is another user's
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
            # Until the end of the output, not of the command: its JVM outlives it and writes the archive then.
            output, _ = training.communicate(timeout=TRAINING_TIMEOUT_S)
        except BaseException as error:
            os.killpg(training.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LakehouseError(f"the training took more than {TRAINING_TIMEOUT_S} s") from error
            raise
    if training.returncode != 0 or not draft.is_file():
        lines = output.decode(errors="replace").splitlines()
        # Indented are the frames of a Java exception, which say less than the line above them.
        said = [line for line in lines if line and not line[0].isspace()] or ["nothing"]
        raise LakehouseError(f"the training ended with {training.returncode} and made none; it said: {said[-1]}")


def class_path() -> list[str]:
    """The class path of a Spark JVM. Java takes an archive only for the very class path it was made with."""
    folder = pyspark_jars()
    # The API of the log first, as Spark's launcher has it: older jars hold copies of some of its classes.
    return [*(str(jar) for jar in [*jars("spark"), *folder.glob("slf4j-api-*.jar")]), str(folder / "*")]


def _path() -> Path:
    """One file a key; what Java compares itself is in the key, so that a new state makes a new archive."""
    home = java_home()
    key = hashlib.sha256(f"{home} {java_version(home)} pyspark {version('pyspark')} {class_path()}".encode())
    # Java compares the time and size of each jar too: a reinstalled pyspark would never fit its old archive.
    for jar in [*jars("spark"), *sorted(pyspark_jars().glob("*.jar"))]:
        status = jar.stat()
        key.update(f"{jar} {status.st_size} {status.st_mtime_ns}\n".encode())
    return cache_dir() / "archives" / f"{key.hexdigest()[:16]}.jsa"
