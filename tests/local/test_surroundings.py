"""Whatever starts a run, its JVM has the same locale, names, folders and settings."""

from __future__ import annotations

import json
import logging
import os
import pwd
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from deltalake import DeltaTable

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import surroundings
from streaming_lakehouse.local.java import java_home

SHOW = ("-XshowSettings:properties", "-version")
EXPECTED = {
    "sun.jnu.encoding": "UTF-8",
    "file.encoding": "UTF-8",
    "user.language": "en",
    "user.timezone": "UTC",
    "java.io.tmpdir": tempfile.gettempdir(),
}


@pytest.mark.parametrize(
    "inherited",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "", "LANG": "xx_YY.UTF-8", "TZ": "Asia/Tokyo"},
        {"JAVA_TOOL_OPTIONS": "-Dfile.encoding=ISO-8859-1 -Duser.timezone=Asia/Tokyo"},
        {"_JAVA_OPTIONS": "-Duser.language=ar '-Djava.io.tmpdir=/no such folder'"},
        {"JDK_JAVA_OPTIONS": '-Dsun.jnu.encoding="ANSI_X3.4-1968"'},
    ],
    ids=["ASCII", "locale not installed", "tool options", "last options", "launcher's options"],
)
def test_java_has_the_same_view_in_every_shell(inherited: dict[str, str]) -> None:
    """Of names, texts, languages and times; it would read names as ASCII in a locale that is not installed."""
    given = surroundings.environment({**os.environ, **inherited})
    command = [str(java_home() / "bin" / "java"), *surroundings.system_properties(), *SHOW]
    shown = subprocess.run(command, env=given, capture_output=True, text=True, check=True).stderr
    found = {name: value.strip() for name, value in re.findall(r"^\s+([\w.]+) = (.*)$", shown, re.MULTILINE)}
    assert {name: found[name] for name in EXPECTED} == EXPECTED


def test_settings_of_another_spark_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """The variables of other programs stay, and so do Java's options that are no settings of ours."""
    inherited = {
        "SPARK_CONF_DIR": "/etc/spark",
        "SPARK_HOME": "/opt/spark",
        "SPARK_ANSI_SQL_MODE": "false",
        "SPARK_LOCAL_IP": "10.1.2.3",
        "SPARK_LOCAL_DIRS": "/scratch",
        "HADOOP_USER_NAME": "hdfs",
        "MASTER": "yarn",
        "MASTER_KEY": "mine",
        "PYSPARK_SUBMIT_ARGS": "--master yarn pyspark-shell",
        "JAVA_TOOL_OPTIONS": '-Dspark.master=yarn -Dproxy="a b" "-Dspark.x=c d"',
        "_JAVA_OPTIONS": "-Xss2m -Duser.language=ar",
    }
    with caplog.at_level(logging.WARNING):
        given = surroundings.environment(inherited)
    assert given == {
        "SPARK_LOCAL_IP": "127.0.0.1",
        "MASTER_KEY": "mine",
        "JAVA_TOOL_OPTIONS": '-Dproxy="a b" -Xss2m',
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    hint = "no effect here; local runs have settings of their own"
    assert [record.message for record in caplog.records] == [
        f"SPARK_HOME, SPARK_CONF_DIR, SPARK_LOCAL_DIRS, PYSPARK_SUBMIT_ARGS: {hint}",
        f"JAVA_TOOL_OPTIONS: -Dspark.master, -Dspark.x: {hint}",
        f"_JAVA_OPTIONS: -Duser.language: {hint}",
    ]


def test_libraries_are_unpacked_where_they_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the temporary folder, else below the cache; where both are mounted noexec, the error names both."""
    monkeypatch.setenv("LAKEHOUSE_CACHE", str(tmp_path / "cache"))
    usual, own = Path(tempfile.gettempdir()), tmp_path / "cache" / "tmp"
    assert surroundings.temporary_folder() == usual
    noexec = {usual}
    monkeypatch.setattr(surroundings, "_can_execute", lambda folder: folder not in noexec)
    assert surroundings.temporary_folder() == own
    noexec.add(own)
    with pytest.raises(LakehouseError, match=rf"{usual} is mounted noexec, and so is {own}: .* set TMPDIR to another"):
        surroundings.temporary_folder()
    monkeypatch.setenv("LAKEHOUSE_CACHE", "/proc/version")
    with pytest.raises(LakehouseError, match=r"/proc/version/tmp cannot be created \(Not a directory\); set TMPDIR"):
        surroundings.temporary_folder()


# A user id without an entry in passwd, as in many containers, cannot be had without privileges.
UNNAMED = """
import pwd, sys

def unknown(uid):
    raise KeyError(uid)

pwd.getpwuid = unknown
from pyspark import SparkContext
from streaming_lakehouse.cli import main
try:
    main(sys.argv[1:])
finally:
    java = SparkContext._jvm
    print(java.org.apache.hadoop.security.UserGroupInformation.getCurrentUser().getShortUserName())
    print(java.System.getProperty("user.name"))
"""


def test_a_run_in_a_bare_container_reads_every_file(tmp_path: Path) -> None:
    """An ASCII locale, a host name that does not resolve, a user without a name, and another Spark's settings."""
    landing = tmp_path / "Länder" / "weather_readings"
    landing.mkdir(parents=True)
    for name in ("plain", "Zürich", "東京"):
        (landing / f"{name}.json").write_text(json.dumps({"event_id": name}))
    (tmp_path / "spark-defaults.conf").write_text("spark.master yarn\nspark.sql.files.ignoreMissingFiles true\n")
    (tmp_path / "hosts").touch()  # all that Java resolves: not even this machine's own name
    words = ["run", "weather", "--source", "files", "--step", "bronze", "--option", f"path={landing.parent}"]
    surrounding = {
        "LC_ALL": "C",
        "SPARK_CONF_DIR": str(tmp_path),
        "SPARK_API_MODE": "connect",
        "MASTER": "yarn",
        "PYSPARK_PIN_THREAD": "false",
        "_JAVA_OPTIONS": "-Dspark.master=yarn",
        "LAKEHOUSE_JAVA_OPTIONS": f"-XX:TieredStopAtLevel=1 -Djdk.net.hosts.file={tmp_path / 'hosts'}",
    }
    ended = subprocess.run(
        [sys.executable, "-c", UNNAMED, *words, "--root", str(tmp_path / "lake")],
        env=os.environ | surrounding,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [f"uid-{os.getuid()}"] * 2
    records = DeltaTable(tmp_path / "lake/bronze/weather_readings").to_pyarrow_table().to_pylist()
    assert sorted(json.loads(record["value"])["event_id"] for record in records) == ["Zürich", "plain", "東京"]
    assert "SPARK_CONF_DIR: no effect here" in ended.stderr
    assert "Exception" not in ended.stderr


def test_users_with_a_name_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pwd.getpwuid(os.getuid())
    assert surroundings.unnamed_user() is None
    monkeypatch.setattr(os, "getuid", lambda: 2**31)
    assert surroundings.unnamed_user() == f"uid-{2**31}"
