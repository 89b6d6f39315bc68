"""What a JVM gets from us instead of from its surroundings: locale, names, temporary folder, no other Spark's settings.

A run must give the same rows whatever shell, service or container starts it. Java takes the encoding of file names from
the locale, and passes over a file whose name it cannot decode; Spark reads settings from SPARK_… variables and from
system properties in JAVA_TOOL_OPTIONS.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.cache import cache_dir

# glibc and musl have it without any language pack; macOS uses UTF-8 in any locale.
UTF8_LOCALE = "C.UTF-8"
FILE_NAME_ENCODING = "sun.jnu.encoding"  # the property in which Java reports what it made of the locale
# Settings of another Spark or Hadoop on this machine: its folders, its user, ANSI mode, the address to bind to.
_OTHER_SETTINGS = ("SPARK_", "HADOOP_", "YARN_", "HIVE_")
_OTHER_MASTERS = ("MASTER", "DEPLOY_MODE", "PYSPARK_SUBMIT_ARGS", "PYSPARK_PIN_THREAD")
# Those that somebody has set on purpose, and will miss.
_REPORTED = ("SPARK_HOME", "SPARK_CONF_DIR", "SPARK_LOCAL_DIRS", "PYSPARK_SUBMIT_ARGS", "HADOOP_CONF_DIR")
# Java reads these itself; the last one would win over the command line.
_JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
# A word as Java divides these variables: quotes may enclose blanks.
_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
_OURS = ("-Dspark.", "-Duser.", "-Dfile.encoding=", "-Dsun.jnu.encoding=", "-Djava.io.tmpdir=", "-Dstderr.encoding=")

log = logging.getLogger(__name__)


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables of a JVM and of the Python workers that it starts; a warning names the settings left out."""
    if ignored := [name for name in _REPORTED if inherited.get(name)]:
        log.warning("%s: no effect here; local runs have settings of their own", ", ".join(ignored))
    given = {name: value for name, value in inherited.items() if not _is_of_another_spark(name)}
    given |= {name: _without_settings(name, given[name]) for name in _JAVA_VARIABLES if name in given}
    # Java applies _JAVA_OPTIONS after the command line, JAVA_TOOL_OPTIONS before it.
    if last := given.pop("_JAVA_OPTIONS", ""):
        given["JAVA_TOOL_OPTIONS"] = f"{given.get('JAVA_TOOL_OPTIONS', '')} {last}".strip()
    ours = {
        "LC_ALL": UTF8_LOCALE,
        "TZ": "UTC",
        # Spark would look up this machine's own name, which need not resolve.
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    return given | ours


def _is_of_another_spark(name: str) -> bool:
    return name in _OTHER_MASTERS or name.startswith(_OTHER_SETTINGS)


def _without_settings(variable: str, text: str) -> str:
    words = _WORD.findall(text)
    ours = [word for word in words if word.strip("'\"").startswith(_OURS)]
    if names := ", ".join(word.strip("'\"").partition("=")[0] for word in ours):
        log.warning("%s: %s: no effect here; local runs have settings of their own", variable, names)
    return " ".join(word for word in words if word not in ours)


def system_properties() -> list[str]:
    """The same for Java's own properties. Raises LakehouseError where no temporary folder can be used."""
    return [
        "-Duser.timezone=UTC",
        # Texts: Java 17 would take their encoding from the locale.
        "-Dfile.encoding=UTF-8",
        "-Dstdout.encoding=UTF-8",
        "-Dstderr.encoding=UTF-8",
        # Arabic digits, Turkish capitals and the like, where code formats without naming a locale.
        "-Duser.language=en",
        "-Duser.country=US",
        "-Duser.script=",
        "-Duser.variant=",
        f"-Djava.io.tmpdir={temporary_folder()}",
        *_names(),
    ]


def _names() -> Iterator[str]:
    if name := unnamed_user():
        yield f"-Duser.name={name}"
        yield f"-Duser.home={os.environ.get('HOME') or temporary_folder()}"


def unnamed_user() -> str | None:
    """A name for a user id without an entry in passwd, as containers run with; None for any other."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return f"uid-{os.getuid()}"
    return None


def temporary_folder() -> Path:
    """Where Java unpacks native libraries (zstd, snappy, RocksDB) and Spark spills: $TMPDIR, else below the cache.

    Raises LakehouseError where neither can be written to, or both are mounted `noexec`.
    """
    try:
        usual = Path(tempfile.gettempdir())
    except OSError as error:
        raise LakehouseError(
            f"no temporary folder can be written to ({error.strerror}); set TMPDIR to one that can"
        ) from error
    if _can_execute(usual):
        return usual
    own = cache_dir() / "tmp"
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LakehouseError(
            f"the temporary folder {usual} is mounted noexec, so Java cannot load libraries from it, and {own} cannot "
            f"be created ({error.strerror}); set TMPDIR to another folder"
        ) from error
    if not _can_execute(own):
        raise LakehouseError(
            f"the temporary folder {usual} is mounted noexec, and so is {own}: Java cannot load libraries from them; "
            "set TMPDIR to another folder"
        )
    return own


def _can_execute(folder: Path) -> bool:
    return not os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0)  # on Linux only
