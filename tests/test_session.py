"""Every session has the settings that the guarantees depend on."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from streaming_lakehouse import session
from streaming_lakehouse.config.spark_settings import REQUIRED_SETTINGS
from streaming_lakehouse.errors import LakehouseError

# A setting that takes none of these has other words for its values.
OTHERS = {"true": "false", "false": "true", "UTC": "Asia/Tokyo", "ANSI": "LEGACY", "min": "max", "STATIC": "DYNAMIC"}
OTHERS |= {"CORRECTED": "LEGACY", "EXCEPTION": "LAST_WIN", "TIMESTAMP_LTZ": "TIMESTAMP_NTZ", "0ms": "1h"}


def test_required_settings_replace_those_of_the_cluster(spark: SparkSession) -> None:
    """As a workspace's cluster, or a cell before ours in a notebook, may have set them."""
    for name, value in REQUIRED_SETTINGS.items():
        spark.conf.set(name, OTHERS.get(value, "1000"))
        assert spark.conf.get(name) != value
    assert session.get_session() is spark
    assert {name: spark.conf.get(name) for name in REQUIRED_SETTINGS} == REQUIRED_SETTINGS


def test_a_session_that_cannot_read_all_file_names_is_refused(spark: SparkSession) -> None:
    """As one that a notebook has started in another locale."""
    java = spark._jvm.System  # type: ignore[union-attr]
    java.setProperty("sun.jnu.encoding", "ANSI_X3.4-1968")
    try:
        with pytest.raises(
            LakehouseError, match=r"file names as ANSI_X3\.4-1968 .* install it, and set LC_ALL=C\.UTF-8"
        ):
            session.get_session()
    finally:
        java.setProperty("sun.jnu.encoding", "UTF-8")


def test_a_required_setting_that_cannot_be_changed_is_refused_by_name(spark: SparkSession) -> None:
    """Unless it has the value that is needed."""
    name = "spark.sql.warehouse.dir"  # fixed when a session is created
    session._require_setting(spark, name, str(spark.conf.get(name)))
    with pytest.raises(LakehouseError, match=f"setting {name} is file:.* cannot be changed by a run, which needs here"):
        session._require_setting(spark, name, "here")


def test_a_local_session_has_no_settings_of_yarn_and_mapreduce(spark: SparkSession) -> None:
    """Spark copies Hadoop's configuration for each plan, and sends it with each task."""
    configuration = spark._jsparkSession.sessionState().newHadoopConf()  # type: ignore[attr-defined]
    for prefix in ("yarn.", "mapreduce."):
        assert configuration.getPropsWithPrefix(prefix).size() < 10, prefix
    assert configuration.getPropsWithPrefix("fs.").size() > 10
