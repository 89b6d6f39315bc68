"""The Spark session: the workspace's own on Databricks, Databricks Connect where installed, else a local one."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from streaming_lakehouse.config.spark_settings import REQUIRED_SETTINGS
from streaming_lakehouse.errors import LakehouseError

if TYPE_CHECKING:  # imported in the functions otherwise: prestart_jvm() must run before this slow import
    from pyspark.sql import SparkSession

    from streaming_lakehouse.config.storage import Storage

APP_NAME = "streaming-lakehouse"


def prestart_jvm() -> None:
    """Starts the JVM of a local session in the background; `get_session` waits until it is up.

    Does nothing if the session will not be local. If no session is created, the JVM ends with this process.
    """
    if on_databricks() or is_reached_over_connect():
        return
    from streaming_lakehouse.local import jvm

    with suppress(LakehouseError):  # get_session() raises it again, after the arguments were checked
        jvm.start()


def get_session() -> SparkSession:
    """The session of this process; created on the first call, the same one afterwards.

    It has REQUIRED_SETTINGS, whatever the cluster or an earlier user of the session has set.
    Raises LakehouseError where one of them has another value that cannot be changed.
    """
    from pyspark.sql import SparkSession

    if on_databricks():
        session = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    elif _has_databricks_connect():
        session = _databricks_connect()
    elif "SPARK_REMOTE" in os.environ:
        session = SparkSession.builder.remote(os.environ["SPARK_REMOTE"]).getOrCreate()
    else:
        session = _local()
    for name, value in REQUIRED_SETTINGS.items():
        _require_setting(session, name, value)
    return session


def _require_setting(session: SparkSession, name: str, value: str) -> None:
    from pyspark.errors import PySparkException

    try:
        session.conf.set(name, value)
    except PySparkException as error:
        try:
            found = session.conf.get(name)
        except PySparkException:
            return  # serverless compute hides most settings from everybody, and has Spark's defaults
        if found is not None and found.lower() != value.lower():
            raise LakehouseError(
                f"the Spark setting {name} is {found} here and cannot be changed by a run, which needs {value}; "
                "correct it in the configuration of the compute"
            ) from error


def is_reached_over_connect() -> bool:
    """True if `get_session` would connect to a server."""
    return not on_databricks() and ("SPARK_REMOTE" in os.environ or _has_databricks_connect())


def on_databricks() -> bool:
    """True on Databricks compute, classic or serverless."""
    return "DATABRICKS_RUNTIME_VERSION" in os.environ


def check_storage_visible(settings: Storage, *, is_run: bool) -> None:
    """Raises LakehouseError if this process and its Spark do not see the same tables and checkpoints.

    Tables in a catalog are visible over Connect. Checkpoints are not: a run reads them itself, from a volume.
    """
    in_workspace = "run this in the workspace as a job (databricks bundle run …)"
    if settings.root and _is_remote():
        raise LakehouseError(
            f"--root {settings.root} is a local folder, which the remote Spark of Connect cannot read; {in_workspace}, "
            "or locally with the extra 'local' instead of 'connect' and without SPARK_REMOTE"
        )
    if settings.catalog and is_run and not on_databricks():
        raise LakehouseError(
            f"--catalog {settings.catalog} has its checkpoints in a volume, /Volumes/{settings.catalog}/…, which is "
            f"mounted in the workspace only; {in_workspace}, or locally with --root DIR"
        )


def _is_remote() -> bool:
    """True if Spark is reached over Connect and runs on another machine."""
    is_remote = re.match(r"sc://(?!localhost\b|127\.|\[::1\])", os.environ.get("SPARK_REMOTE", ""))
    return not on_databricks() and (_has_databricks_connect() or bool(is_remote))


def detect_compute() -> str:
    """The compute that this process runs on: local, connect, classic or serverless."""
    if on_databricks():
        # The version of the serverless runtime is its client's: client.4.9 and so on.
        return "serverless" if os.environ["DATABRICKS_RUNTIME_VERSION"].startswith("client") else "classic"
    return "connect" if _is_remote() else "local"


def is_local(session: SparkSession) -> bool:
    """True if the session's JVM runs on this machine, started by this process."""
    return not is_connect(session) and not on_databricks()


def is_connect(session: SparkSession) -> bool:
    return type(session).__module__.startswith("pyspark.sql.connect")


def _has_databricks_connect() -> bool:
    """True in an environment with the extra `connect`, which excludes pyspark's own Spark."""
    return bool(importlib.util.find_spec("databricks") and importlib.util.find_spec("databricks.connect"))


def _databricks_connect() -> SparkSession:
    from databricks.connect import DatabricksSession  # installed with the extra `connect` only

    try:
        session: SparkSession = DatabricksSession.builder.getOrCreate()
    except Exception as error:
        raise LakehouseError(
            f"Databricks Connect is installed but could not connect: {str(error).splitlines()[0]} "
            "Set DATABRICKS_HOST and a token, or DATABRICKS_CONFIG_PROFILE; "
            "to run locally, use an environment with the extra 'local' instead of 'connect'."
        ) from error
    return session


def _local() -> SparkSession:
    from pyspark.sql import SparkSession

    from streaming_lakehouse.local import jvm

    # Python workers must use this interpreter: another one on the PATH may lack the packages.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.appName(APP_NAME)
    for name, value in local_conf(cores=_cores(), memory_mib=jvm.heap_mib()).items():
        builder = builder.config(name, value)
    with jvm.gateway():
        session = builder.getOrCreate()
    jvm.check_file_names(session)
    return session


def _cores() -> int:
    """The cores this process may use; on macOS, all cores of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Without Hadoop's native library its file system starts `chmod` for each file that it creates, and what uses its
# FileContext starts `readlink` too: live, 150 processes a second. This one asks Java; creating a file takes 0.7 ms with
# it, 7.3 ms without. Logs and checkpoints are renamed into place by it as by FileContext. LocalLogStore, in
# local/own_jar.py, lists Delta's log by name: to look at each of 14,000 files, an hour of live commits, takes 0.3 s.
_LOCAL_FILES = {
    "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
    "spark.delta.logStore.file.impl": "streaming_lakehouse.LocalLogStore",
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
}

# Spark sets these in the environment of a registered Python data source, the generator, whenever a query starts. A name
# that is new changes the map's size, and a task of another query that is serialized at that moment cannot be read.
_WORKER_VARIABLES = ("SPARK_LOCAL_DIRS", "SPARK_AUTH_SOCKET_TIMEOUT", "SPARK_BUFFER_SIZE", "SPARK_PYTHON_RUNTIME")


def local_conf(*, cores: int, memory_mib: int) -> dict[str, str]:
    """The Spark configuration of a local session, each entry for a measured or named reason."""
    return {
        "spark.master": f"local[{cores}]",
        # Whatever SPARK_API_MODE says: a local session needs its JVM.
        "spark.api.mode": "classic",
        "spark.driver.memory": f"{memory_mib}m",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        **_LOCAL_FILES,
        **{f"spark.executorEnv.{name}": "" for name in _WORKER_VARIABLES},
        # With 200 partitions, the default, a stateful batch on a laptop costs twelve times what the data costs.
        # A checkpoint retains its first number, also on a machine with more cores.
        "spark.sql.shuffle.partitions": str(cores),
        # A query without new rows asks its source again after this time: with 10 ms, the default, a run of six queries
        # that all wait takes 0.45 of a core, with this 0.09.
        "spark.sql.streaming.pollingDelay": "100ms",
        # Spark jobs write a checkpoint of a table's log: after 10 commits by default, which live takes seconds.
        "spark.databricks.delta.properties.defaults.checkpointInterval": "100",
        # Delta rebuilds a table's snapshot with 50 tasks by default.
        "spark.databricks.delta.snapshotPartitions": str(min(cores, 2)),
        # Live, each commit is a small file. Delta compacts a table's, up to 16 MiB each, once a process has added 200;
        # with 50, the default, gold's rows were visible 0.4 s later. By default it also compacts after the first
        # commit of a process, which a run of a few batches would wait for.
        "spark.databricks.delta.autoCompact.enabled": "true",
        "spark.databricks.delta.autoCompact.minNumFiles": "200",
        "spark.databricks.delta.autoCompact.minFileSize": str(16 * 2**20),
        "spark.databricks.delta.autoCompact.modifiedPartitionsOnly.enabled": "false",
        # Half of snappy's bytes at the same speed.
        "spark.sql.parquet.compression.codec": "zstd",
        # A batch is persisted for a few seconds: compressing it takes longer than that saves.
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        # Classes of compiled plans: with 100, the default, a pipeline of several queries compiles them anew.
        "spark.sql.codegen.cache.maxEntries": "1000",
        # Each action's plan is made into text for the UI, which took a tenth of a small batch's time.
        "spark.sql.ui.explainMode": "simple",
        # For each function of a plan pyspark looks for its caller, for the end of messages, of which we show the first
        # line. It took a third of the time to make silver's plan.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.ui.enabled": os.environ.get("LAKEHOUSE_SPARK_UI", "false"),
        "spark.ui.showConsoleProgress": "false",
        # Options that match show as (redacted) in plans, logs and the UI; Spark's own pattern misses SASL.
        "spark.redaction.regex": "(?i)secret|password|token|access[.]?key|sasl|jaas|connection.?string",
        # Listing one file should not wait for a large thread pool.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(cores),
    }
