"""The class-data archive: made by a training run, used where it fits, never in the way."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streaming_lakehouse.local import archive, cache, java

SESSION = """
import sys
from streaming_lakehouse.session import get_session
spark = get_session()
spark.range(3).write.format("delta").save(sys.argv[1])
spark.stop()
"""


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without archives, which shares the jars of the usual one."""
    own = tmp_path / "cache"
    own.mkdir()
    (own / "jars").symlink_to(cache.cache_dir() / "jars")
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(own))
    monkeypatch.delenv(archive.TRAINING_VARIABLE, raising=False)
    return own


def run_java(options: list[str]) -> subprocess.CompletedProcess[str]:
    command = [java.java_home() / "bin" / "java", *options, "-version"]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_without_an_archive_there_are_no_flags(own_cache: Path) -> None:
    """A JVM starts as ever where no archive was made."""
    assert archive.flags() == []


def test_training_writes_where_the_variable_says(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in training has its JVM write an archive, and use none."""
    monkeypatch.setenv(archive.TRAINING_VARIABLE, "/some/draft.jsa")
    assert archive.flags() == ["-XX:ArchiveClassesAtExit=/some/draft.jsa"]


def test_spark_and_delta_come_from_the_archive(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a training with a real session, the next one takes the classes of Spark and Delta from the archive."""
    made = archive.train([sys.executable, "-c", SESSION, str(tmp_path / "trained")])
    assert made is not None
    assert archive.train(["false"]) == made, "a second training is not needed"
    assert list(made.parent.iterdir()) == [made]

    loaded = tmp_path / "loaded"
    loaded.mkdir()
    monkeypatch.setenv("JDK_JAVA_OPTIONS", f"-Xlog:class+load:file={loaded}/%p")
    subprocess.run([sys.executable, "-c", SESSION, str(tmp_path / "second")], check=True, capture_output=True)
    lines = [line for log in loaded.iterdir() for line in log.read_text().splitlines()]
    for name in ("org.apache.spark.sql.delta.DeltaLog", "org.apache.spark.SparkContext"):
        (source,) = (line.partition(f" {name} source: ")[2] for line in lines if f" {name} source: " in line)
        assert source == "shared objects file (top)"


def test_archives_that_nobody_used_for_a_week_are_removed(own_cache: Path) -> None:
    """Another installation's, that shares the cache, stays as long as it is used; so does a training under way."""
    folder = own_cache / "archives"
    folder.mkdir()
    for name, days in {"old.jsa": 8, "other.jsa": 6, ".training-other": 8}.items():
        (folder / name).touch()
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
    made = archive.train(["sh", "-c", f'echo archive > "${archive.TRAINING_VARIABLE}"'])
    assert made is not None
    assert {file.name for file in folder.iterdir()} == {".training-other", "other.jsa", made.name}
    assert made.read_text() == "archive\n"


def test_a_start_uses_its_archive_for_another_week(own_cache: Path) -> None:
    """What a JVM is started with counts as used from then on."""
    kept = archive._path()
    kept.parent.mkdir(parents=True)
    kept.touch()
    os.utime(kept, (0, 0))
    assert f"-XX:SharedArchiveFile={kept}" in archive.flags()
    assert time.time() - kept.stat().st_mtime < 60


@pytest.mark.parametrize("content", [b"", b"not an archive" * 1000], ids=["empty", "damaged"])
def test_an_archive_that_does_not_fit_is_passed_over_in_silence(
    content: bytes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java starts without a word about an archive that it cannot use."""
    damaged = archive._path()
    damaged.parent.mkdir()
    damaged.write_bytes(content)
    used = run_java(archive.flags())
    assert (used.stdout, used.returncode) == ("", 0)
    assert used.stderr.replace(", sharing", "") == run_java([]).stderr.replace(", sharing", "")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([sys.executable, "-c", "import sys; print('first'); sys.exit('no such pipeline')"], "no such pipeline"),
        ([sys.executable, "-c", "print('nothing to archive')"], "nothing to archive"),
        (["/no/such/command"], "/no/such/command"),
    ],
    ids=["failed", "made none", "not started"],
)
def test_a_training_that_makes_no_archive_only_warns(
    command: list[str], reason: str, own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever goes wrong is one line on stderr with the reason, and leaves nothing behind."""
    assert archive.train(command) is None
    warning = capfd.readouterr().err
    assert warning.count("\n") == 1
    assert reason in warning
    assert list((own_cache / "archives").iterdir()) == []


def test_a_training_that_hangs_is_ended(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A training that does not end is stopped with all that it started."""
    monkeypatch.setattr(archive, "TRAINING_TIMEOUT_S", 1)
    assert archive.train(["sh", "-c", "cat /dev/zero >/dev/null & wait"]) is None
    assert "more than 1 s" in capfd.readouterr().err


def test_another_class_path_is_another_archive(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jar that was replaced, even by its equal, makes a new archive necessary, as Java compares its time."""
    before = archive._path()
    jar = own_cache / "one.jar"
    jar.write_text("")
    monkeypatch.setattr(archive, "jars", lambda name: [jar])
    assert archive._path() != before
