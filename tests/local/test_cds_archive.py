"""The class-data archive: written by a training run, used if it matches, ignored otherwise."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streaming_lakehouse.local import cache, cds_archive, java

SESSION = """
import sys
from streaming_lakehouse.session import get_session
spark = get_session()
spark.range(3).write.format("delta").save(sys.argv[1])
spark.stop()
"""


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without archives, which shares the jars of the user's cache."""
    own = tmp_path / "cache"
    own.mkdir()
    (own / "jars").symlink_to(cache.cache_dir() / "jars")
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(own))
    monkeypatch.delenv(cds_archive.TRAINING_VARIABLE, raising=False)
    return own


def run_java(options: list[str]) -> subprocess.CompletedProcess[str]:
    command = [java.java_home() / "bin" / "java", *options, "-version"]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_without_an_archive_there_are_no_flags(own_cache: Path) -> None:
    """Without an archive a JVM starts as usual."""
    assert cds_archive.jvm_flags() == []


def test_training_writes_to_the_file_of_the_variable(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training the JVM writes an archive, and uses none."""
    monkeypatch.setenv(cds_archive.TRAINING_VARIABLE, "/some/draft.jsa")
    assert cds_archive.jvm_flags() == ["-XX:ArchiveClassesAtExit=/some/draft.jsa"]


def test_spark_and_delta_come_from_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a training, which `make setup` does, a session loads their classes from it."""
    archive = cds_archive.build()
    assert archive is not None
    assert cds_archive.build(["false"]) == archive, "a second training is not needed"

    loaded = tmp_path / "loaded"
    loaded.mkdir()
    monkeypatch.setenv("JDK_JAVA_OPTIONS", f"-Xlog:class+load:file={loaded}/%p")
    subprocess.run([sys.executable, "-c", SESSION, str(tmp_path / "table")], check=True, capture_output=True)
    lines = [line for log in loaded.iterdir() for line in log.read_text().splitlines()]
    for name in ("org.apache.spark.sql.delta.DeltaLog", "org.apache.spark.SparkContext"):
        (source,) = (line.partition(f" {name} source: ")[2] for line in lines if f" {name} source: " in line)
        assert source == "shared objects file (top)"


def test_archives_unused_for_a_week_are_removed(own_cache: Path) -> None:
    """The archive of another installation stays while it is used; so does the folder of a running training."""
    folder = own_cache / "archives"
    folder.mkdir()
    for name, days in {"old.jsa": 8, "other.jsa": 6, ".training-other": 8}.items():
        (folder / name).touch()
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
    archive = cds_archive.build(["sh", "-c", f'echo archive > "${cds_archive.TRAINING_VARIABLE}"'])
    assert archive is not None
    assert {file.name for file in folder.iterdir()} == {".training-other", "other.jsa", archive.name}
    assert archive.read_text() == "archive\n"


def test_a_start_marks_its_archive_as_used(own_cache: Path) -> None:
    """By its modification time."""
    archive = cds_archive._path()
    archive.parent.mkdir(parents=True)
    archive.touch()
    os.utime(archive, (0, 0))
    assert f"-XX:SharedArchiveFile={archive}" in cds_archive.jvm_flags()
    assert time.time() - archive.stat().st_mtime < 60


@pytest.mark.parametrize("content", [b"", b"not an archive" * 1000], ids=["empty", "damaged"])
def test_an_archive_that_does_not_match_is_ignored_silently(
    content: bytes, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java starts without a warning about an archive that it cannot use."""
    damaged = cds_archive._path()
    damaged.parent.mkdir()
    damaged.write_bytes(content)
    used = run_java(cds_archive.jvm_flags())
    assert (used.stdout, used.returncode) == ("", 0)
    assert used.stderr.replace(", sharing", "") == run_java([]).stderr.replace(", sharing", "")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([sys.executable, "-c", "import sys; print('first'); sys.exit('no such pipeline')"], "no such pipeline"),
        ([sys.executable, "-c", "print('nothing to archive')"], "nothing to archive"),
        (["/no/such/command"], "/no/such/command"),
    ],
    ids=["failed", "no archive", "not started"],
)
def test_a_training_without_an_archive_only_warns(
    command: list[str], reason: str, own_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Any failure is one line on stderr with the reason, and leaves no files."""
    assert cds_archive.build(command) is None
    warning = capfd.readouterr().err
    assert warning.count("\n") == 1
    assert reason in warning
    assert list((own_cache / "archives").iterdir()) == []


def test_a_training_that_hangs_is_killed(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With all processes that it started."""
    monkeypatch.setattr(cds_archive, "TRAINING_TIMEOUT_S", 1)
    monkeypatch.setattr(cds_archive, "EXIT_TIMEOUT_S", 1)
    assert cds_archive.build(["sh", "-c", "cat /dev/zero >/dev/null & wait"]) is None
    assert "more than 1 s" in capfd.readouterr().err


def test_a_training_that_takes_too_long_leaves_what_it_has(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its JVM, here a shell, ends when the command does, and writes the archive at its end."""
    jvm = f'read line; echo archive > "${cds_archive.TRAINING_VARIABLE}"'
    command = f"import subprocess; subprocess.Popen(['sh', '-c', {jvm!r}], stdin=subprocess.PIPE).wait()"
    monkeypatch.setattr(cds_archive, "TRAINING_TIMEOUT_S", 1)
    archive = cds_archive.build([sys.executable, "-c", command])
    assert archive is not None and archive.read_text() == "archive\n"


def test_another_class_path_is_another_archive(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced jar, even with the same content, needs a new archive: Java compares modification times."""
    before = cds_archive._path()
    jar = own_cache / "one.jar"
    jar.write_text("")
    monkeypatch.setattr(cds_archive, "jars", lambda name: [jar])
    assert cds_archive._path() != before
