"""The locked jars: fetched once, verified, and stored completely or not at all."""

import hashlib
import re
import socket
import time
from pathlib import Path

import pytest

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import ivy, jars

DELTA = "io.delta:delta-storage:4.4.0"
POOL = "org.apache.commons:commons-pool2:2.13.1"


def lock_lines(*coordinates: str) -> list[str]:
    return [line for line in jars.LOCK.read_text().splitlines() if line.split()[1] in coordinates]


def settings(resolver: str) -> str:
    return f'<ivysettings><settings defaultResolver="it"/><resolvers>{resolver}</resolvers></ivysettings>'


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a lock of two jars, and a mirror to fetch them from: the user's cache."""
    mirror = jars.jars("spark")[0].parents[3]
    pattern = f"{mirror}/[organisation]/[module]/[revision]/[artifact]-[revision].[ext]"
    ivysettings = tmp_path / "ivysettings.xml"
    ivysettings.write_text(settings(f'<filesystem name="it"><artifact pattern="{pattern}"/></filesystem>'))
    lock = tmp_path / "jars.lock"
    lock.write_text("\n".join(lock_lines(DELTA, POOL)))
    monkeypatch.setattr(jars, "LOCK", lock)
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAKEHOUSE_IVY_SETTINGS", str(ivysettings))
    return tmp_path


def left_in_cache(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["spark", "broker"])
def test_the_jars_are_the_locked_ones(name: jars.JarSet) -> None:
    """Every jar of a set exists at its path and has the locked checksum."""
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in jars.jars(name)}
    locked = {line.split()[2] for line in jars.LOCK.read_text().splitlines() if line.startswith(name)}
    assert digests == locked != set()


def test_the_roots_are_locked() -> None:
    """A root version that was changed without a new lock is detected."""
    locked = {tuple(line.split()[:2]) for line in jars.LOCK.read_text().splitlines()}
    assert {(name, root) for name, roots in jars.ROOT_COORDINATES.items() for root in roots} <= locked


def test_no_jar_shadows_one_of_pyspark() -> None:
    """The set for Spark has no artifact that pyspark ships, in any version."""
    own = {re.split(r"-\d", path.name)[0] for path in ivy.pyspark_jars().glob("*.jar")}
    assert own.isdisjoint(path.parents[1].name for path in jars.jars("spark"))


def test_a_second_call_needs_neither_java_nor_network(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once fetched, the jars are found at once, without a resolver."""
    first = jars.jars("spark")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("JAVA_HOME", str(small))
    started = time.perf_counter()
    assert jars.jars("spark") == first
    assert time.perf_counter() - started < 0.05


def test_a_fetch_is_announced(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One line on stderr reports a fetch; the second call prints nothing."""
    jars.jars("spark")
    notice = capfd.readouterr()
    assert (notice.out, notice.err.count("\n")) == ("", 1)
    assert "fetching 2 jars for spark" in notice.err
    jars.jars("spark")
    assert capfd.readouterr().err == ""


def test_an_altered_jar_is_refused(small: Path) -> None:
    """A jar with another checksum than the locked one is named, and no fetched jar is stored."""
    text = jars.LOCK.read_text()
    digest = lock_lines(POOL)[0].split()[2]
    jars.LOCK.write_text(text.replace(digest, "0" * 64))
    with pytest.raises(LakehouseError, match=rf"{POOL} is not the locked one.*{digest}"):
        jars.jars("spark")
    assert left_in_cache(small) == []


def test_a_missing_jar_is_named(small: Path) -> None:
    """A jar that the repository does not have is named."""
    jars.LOCK.write_text(jars.LOCK.read_text() + f"\nspark no.such:jar:1.0 {'0' * 64} 1\n")
    with pytest.raises(LakehouseError, match=r"no\.such#jar;1\.0"):
        jars.jars("spark")


def test_a_deleted_jar_is_fetched_again(small: Path) -> None:
    """A set with a deleted or truncated jar is fetched again."""
    first, second = jars.jars("spark")
    first.unlink()
    second.write_bytes(b"")
    assert [path.stat().st_size for path in jars.jars("spark")] == [
        int(line.split()[3]) for line in lock_lines(DELTA, POOL)
    ]


def test_a_fetch_that_comes_second_leaves_the_first(small: Path) -> None:
    """If two processes fetch at once, the later one uses the jars of the earlier."""
    paths = jars.jars("spark")
    before = [path.stat().st_ino for path in paths]
    jars._fetch(jars._locked("spark"), paths[0].parents[3])
    assert [path.stat().st_ino for path in paths] == before
    assert len(left_in_cache(small)) == 2


def test_a_closed_network_is_one_clear_error(small: Path) -> None:
    """The error names the settings used and the remedy."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        ibiblio = f'<ibiblio name="it" m2compatible="true" root="{root}"/>'
        (small / "ivysettings.xml").write_text(settings(ibiblio))
        with pytest.raises(LakehouseError, match=r"could not be fetched from .*ivysettings\.xml") as raised:
            jars.jars("spark")
    assert "\n" not in str(raised.value)
    assert left_in_cache(small) == []


def test_a_silent_network_does_not_wait_forever(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that accepts the connection and never responds leads to a timeout."""
    monkeypatch.setattr(ivy, "IDLE_TIMEOUT_S", 3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        root = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        ibiblio = f'<ibiblio name="it" m2compatible="true" root="{root}"/>'
        (small / "ivysettings.xml").write_text(settings(ibiblio))
        with pytest.raises(LakehouseError, match="no response for 3 s"):
            jars.jars("spark")


def test_a_missing_settings_file_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If LAKEHOUSE_IVY_SETTINGS is not a file, the error names it."""
    monkeypatch.setenv("LAKEHOUSE_IVY_SETTINGS", str(small / "gone.xml"))
    with pytest.raises(LakehouseError, match=r"LAKEHOUSE_IVY_SETTINGS names .*gone\.xml"):
        jars.jars("spark")


def test_a_cache_that_cannot_be_written_is_an_error(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the cache folder cannot be created, the error mentions LAKEHOUSE_CACHE."""
    (small / "file").write_text("")
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(small / "file"))
    with pytest.raises(LakehouseError, match="Set LAKEHOUSE_CACHE"):
        jars.jars("spark")
