"""The Spark session: Databricks' own, Databricks Connect where it is configured, otherwise a local one."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from streaming_lakehouse.errors import LakehouseError

APP_NAME = "streaming-lakehouse"

# Every one of these can be set on a running session, on Connect and on serverless too.
RUNTIME_SETTINGS = {
    # Results must not depend on where a machine stands.
    "spark.sql.session.timeZone": "UTC",
}


def get_session() -> SparkSession:
    """The session this process works with; made on the first call, the same one afterwards."""
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        session = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    elif _has_databricks_connect():
        session = _databricks_connect()
    elif "SPARK_REMOTE" in os.environ:
        session = SparkSession.builder.remote(os.environ["SPARK_REMOTE"]).getOrCreate()
    else:
        session = _local()
    for name, value in RUNTIME_SETTINGS.items():
        session.conf.set(name, value)
    return session


def is_local(session: SparkSession) -> bool:
    """True where the session's JVM is on this machine and this process started it."""
    return not is_connect(session) and "DATABRICKS_RUNTIME_VERSION" not in os.environ


def is_connect(session: SparkSession) -> bool:
    return type(session).__module__.startswith("pyspark.sql.connect")


def _has_databricks_connect() -> bool:
    """True in an environment made with the extra `connect`: it excludes pyspark's own Spark."""
    return bool(importlib.util.find_spec("databricks") and importlib.util.find_spec("databricks.connect"))


def _databricks_connect() -> SparkSession:
    from databricks.connect import DatabricksSession  # replaces pyspark: only where it is installed

    try:
        session: SparkSession = DatabricksSession.builder.getOrCreate()
    except Exception as error:
        raise LakehouseError(
            f"Databricks Connect is installed but could not connect: {str(error).splitlines()[0]} "
            "Set DATABRICKS_HOST and a token, or DATABRICKS_CONFIG_PROFILE; "
            "to work locally use an environment with the extra 'local' instead of 'connect'."
        ) from error
    return session


def _local() -> SparkSession:
    from streaming_lakehouse.local import archive, jars, java

    os.environ["JAVA_HOME"] = str(java.java_home())
    # Workers must be this Python: another one on the PATH may lack the packages.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    log4j = Path(__file__).parent / "local" / "log4j2.properties"
    class_path = os.pathsep.join(str(jar) for jar in jars.jars("spark"))
    settings = local_settings(cores=len(os.sched_getaffinity(0)), memory_mib=_heap_mib()) | {
        "spark.driver.extraClassPath": class_path,
        "spark.driver.extraJavaOptions": " ".join(
            [
                "-Duser.timezone=UTC",
                "-XX:+UseParallelGC",
                f"-Dlog4j2.configurationFile={log4j.as_uri()}",
                *archive.flags(),
                *os.environ.get("LAKEHOUSE_JAVA_OPTIONS", "").split(),
            ]
        ),
    }
    builder = SparkSession.builder.appName(APP_NAME)
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _heap_mib() -> int:
    """A third of the machine's memory, between 1 and 8 GiB: a laptop has other things to do."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    return int(os.environ.get("LAKEHOUSE_HEAP_MIB", "0")) or max(1024, min(8192, machine // 3))


def local_settings(*, cores: int, memory_mib: int) -> dict[str, str]:
    """The settings of a local session, each for a measured or named reason."""
    return {
        "spark.master": f"local[{cores}]",
        "spark.driver.memory": f"{memory_mib}m",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # 200 partitions, the default, cost a stateful batch of a laptop twelve times what the data costs. A
        # checkpoint keeps the number it began with, also on a machine with more cores.
        "spark.sql.shuffle.partitions": str(cores),
        # Delta rebuilds a table's snapshot with 50 tasks by default.
        "spark.databricks.delta.snapshotPartitions": str(min(cores, 2)),
        # Half of snappy's bytes at the same speed.
        "spark.sql.parquet.compression.codec": "zstd",
        # A batch is kept in memory for a few seconds: packing it tighter takes longer than that saves.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        "spark.ui.enabled": os.environ.get("LAKEHOUSE_SPARK_UI", "false"),
        "spark.ui.showConsoleProgress": "false",
        # What matches is shown as (redacted) in plans, logs and the UI; Spark's own pattern misses SASL.
        "spark.redaction.regex": "(?i)secret|password|token|access[.]?key|sasl|jaas|connection.?string",
        # The batches of a streaming query are asked for by the runner only; more of them would be kept for nothing.
        "spark.sql.streaming.numRecentProgressUpdates": "1000",
        # One file's listing should not wait for a thread pool that a laptop does not need.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(cores),
    }
