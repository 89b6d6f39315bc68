"""The Spark session: Databricks' own, Databricks Connect where it is configured, otherwise a local one."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from streaming_lakehouse.errors import LakehouseError

if TYPE_CHECKING:  # in the functions otherwise: start_early() is there to be ahead of that import
    from pyspark.sql import SparkSession

    from streaming_lakehouse.settings import Settings

APP_NAME = "streaming-lakehouse"

# Every one of these can be set on a running session, on Connect and on serverless too.
RUNTIME_SETTINGS = {
    # Results must not depend on where a machine stands.
    "spark.sql.session.timeZone": "UTC",
}


def start_early() -> None:
    """Lets the JVM of a local session boot while Python goes on; `get_session` waits for what is then left of that.

    Does nothing where the session will not be a local one. Where it comes to none, the JVM ends with this process.
    """
    if on_databricks() or "SPARK_REMOTE" in os.environ or _has_databricks_connect():
        return
    from streaming_lakehouse.local import jvm

    with suppress(LakehouseError):  # get_session() raises it again, after what is wrong with the arguments
        jvm.start()


def get_session() -> SparkSession:
    """The session this process works with; made on the first call, the same one afterwards."""
    from pyspark.sql import SparkSession

    if on_databricks():
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


def on_databricks() -> bool:
    """True in a cluster of a workspace, classic or serverless."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def check_place(settings: Settings, *, is_run: bool) -> None:
    """Raises LakehouseError where this process and its Spark would not see the same tables and checkpoints.

    A catalog is seen over Connect too; but a run looks at its checkpoints itself, and those are in a volume.
    """
    there = "do it in the workspace, as a job (databricks bundle run …)"
    if settings.root and _is_elsewhere():
        raise LakehouseError(
            f"--root {settings.root} is a folder of this machine, which Spark at the other end of Connect does not "
            f"see; {there}, or here with the extra 'local' instead of 'connect' and without SPARK_REMOTE"
        )
    if settings.catalog and is_run and not on_databricks():
        raise LakehouseError(
            f"--catalog {settings.catalog} has its checkpoints in a volume, /Volumes/{settings.catalog}/…, which only "
            f"a cluster of the workspace sees; {there}, or here with --root DIR"
        )


def _is_elsewhere() -> bool:
    """True where Spark is reached over Connect, and on another machine."""
    is_remote = re.match(r"sc://(?!localhost\b|127\.|\[::1\])", os.environ.get("SPARK_REMOTE", ""))
    return not on_databricks() and (_has_databricks_connect() or bool(is_remote))


def compute() -> str:
    """What a run of this process computes on: local, connect, classic or serverless."""
    if on_databricks():
        # The runtime of serverless compute is versioned with its client: client.4.9 and so on.
        return "serverless" if os.environ["DATABRICKS_RUNTIME_VERSION"].startswith("client") else "classic"
    return "connect" if _is_elsewhere() else "local"


def is_local(session: SparkSession) -> bool:
    """True where the session's JVM is on this machine and this process started it."""
    return not is_connect(session) and not on_databricks()


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
    from pyspark.sql import SparkSession

    from streaming_lakehouse.local import jvm

    # Workers must be this Python: another one on the PATH may lack the packages.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.appName(APP_NAME)
    for name, value in local_settings(cores=_cores(), memory_mib=jvm.heap_mib()).items():
        builder = builder.config(name, value)
    with jvm.gateway():
        return builder.getOrCreate()


def _cores() -> int:
    """Those this process may use, where the system tells; macOS tells how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        # One file's listing should not wait for a thread pool that a laptop does not need.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(cores),
    }
