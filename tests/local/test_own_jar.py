"""The jar that comes first in the class path: Hadoop's defaults, and the listing of Delta's log."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from streaming_lakehouse.local import own_jar

VERSION = "00000000000000000012"
MAKE = "from streaming_lakehouse.local.own_jar import own_jar; print(own_jar())"


def test_the_class_is_what_the_source_gives(spark: SparkSession) -> None:
    compiler: Any = spark._jvm.org.codehaus.janino.SimpleCompiler()  # type: ignore[union-attr]
    compiler.cook(own_jar.SOURCE.read_text())
    compiled = bytes(compiler.getBytecodes().get(own_jar.LOG_STORE))
    if os.environ.get("LAKEHOUSE_WRITE_CLASSES") == "1":
        own_jar.CLASS.write_bytes(compiled)
    assert own_jar.CLASS.read_bytes() == compiled


def test_processes_that_start_at_once_make_one_jar(tmp_path: Path) -> None:
    """The jar that the first one has made stays: its time is in the class archive."""
    environment = os.environ | {"LAKEHOUSE_CACHE": str(tmp_path)}
    starting = [
        subprocess.Popen([sys.executable, "-c", MAKE], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    made = {process.communicate(timeout=60)[0].strip() for process in starting}
    (jar,) = (tmp_path / "jars").iterdir()
    assert made == {str(jar)}
    with zipfile.ZipFile(jar) as archive:
        assert archive.read("streaming_lakehouse/LocalLogStore.class") == own_jar.CLASS.read_bytes()
        assert archive.read("yarn-default.xml") == b"<configuration/>\n"


def test_a_log_is_listed_as_delta_lists_it(spark: SparkSession, tmp_path: Path) -> None:
    """Commits, checksums and checkpoints from a version on, in order, without temporary files."""
    log = tmp_path / "t" / "_delta_log"
    log.mkdir(parents=True)
    names = [f"{version:020}.{kind}" for version in range(9, 14) for kind in ("json", "crc", "checkpoint.parquet")]
    for name in (*names, f".{VERSION}.json.crc", f".{VERSION}.json.1.tmp", "_last_checkpoint"):
        (log / name).write_text("x" * len(name))
    java: Any = spark._jvm
    configuration = spark._jsc.hadoopConfiguration()  # type: ignore[attr-defined]
    ours = java.streaming_lakehouse.LocalLogStore(configuration)
    delta = java.io.delta.storage.LocalLogStore(configuration)

    def listed(store: Any, path: Path) -> list[str]:
        found = store.listFrom(java.org.apache.hadoop.fs.Path(path.as_uri()), configuration)
        statuses = []
        while found.hasNext():
            statuses.append(found.next())
        return [f"{each.getPath()} {each.getLen()} {each.getModificationTime()}" for each in statuses]

    for start in ("00000000000000000000.json", f"{VERSION}.json", f"{VERSION}.", "00000000000000000014.json"):
        assert listed(ours, log / start) == listed(delta, log / start)
    assert len(listed(ours, log / f"{VERSION}.json")) == 5
    with pytest.raises(Py4JJavaError, match="FileNotFoundException"):
        listed(ours, tmp_path / "none" / "_delta_log" / "0.json")


def test_a_session_lists_by_name(spark: SparkSession, tmp_path: Path) -> None:
    spark.range(3).write.format("delta").save(str(tmp_path / "t"))
    java: Any = spark._jvm
    log = java.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, str(tmp_path / "t"))
    store = log.store().getDelegate(log.logPath())
    assert store.logStoreImpl().getClass().getName() == own_jar.LOG_STORE
