# Databricks notebook source
# MAGIC %md
# MAGIC # Weather: from raw records to gold
# MAGIC
# MAGIC Looks at what `lakehouse run weather` has written: where each record went, why some are in quarantine, and what
# MAGIC the gold tables contain. It writes nothing. In a workspace, fill in the widgets above; on a laptop, set
# MAGIC `LAKEHOUSE_ROOT` to the folder that was given as `--root`. The notebook may be started from its own folder.

# COMMAND ----------

import os
import sys
from pathlib import Path

sys.path.append(str(Path.cwd().parent / "src"))  # the package, as the bundle deploys it beside this folder

from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.session import get_session
from streaming_lakehouse.sinks import delta

if "dbutils" in globals():
    dbutils.widgets.text("catalog", "main")  # noqa: F821
    dbutils.widgets.text("schema_prefix", "")  # noqa: F821
    storage = Storage.resolve(None, dbutils.widgets.get("catalog"), dbutils.widgets.get("schema_prefix"))  # noqa: F821
else:
    project = Path.cwd() if Path("src").is_dir() else Path.cwd().parent  # a notebook runs in its own folder
    storage = Storage(root=project / os.environ.get("LAKEHOUSE_ROOT", ".lakehouse"))

spark = get_session()
show = globals().get("display", lambda rows: rows.show(20, truncate=False))

bronze = delta.read(spark, storage.table("bronze", "weather_readings"))
silver = delta.read(spark, storage.table("silver", "weather_readings"))
quarantine = delta.read(spark, storage.table("quarantine", "weather_readings"))
hourly = delta.read(spark, storage.table("gold", "weather_device_hourly"))
alerts = delta.read(spark, storage.table("gold", "weather_alerts"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Each record is in exactly one table
# MAGIC The left number is the sum of the two on the right. Late and duplicate records are in quarantine, for
# MAGIC the reasons `is_on_time` and `is_first_delivery`.

# COMMAND ----------

print(f"{bronze.count():,} in bronze = {silver.count():,} in silver + {quarantine.count():,} in quarantine")
show(quarantine.selectExpr("explode(failed_expectations) AS reason").groupBy("reason").count().orderBy("reason"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## The raw records
# MAGIC Bronze and quarantine have the unmodified bytes of a record, and its source.

# COMMAND ----------

show(
    quarantine.selectExpr(
        "failed_expectations", "try_validate_utf8(cast(value AS string)) AS record", "source", "partition", "offset"
    )
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## A day's course
# MAGIC One row a device and hour, written once, when the watermark has passed the hour's end.

# COMMAND ----------

show(
    hourly.groupBy("window_start")
    .agg({"readings": "sum", "temperature_min_c": "min", "temperature_max_c": "max", "wind_speed_max_m_s": "max"})
    .orderBy("window_start")
)

# COMMAND ----------

show(alerts.groupBy("alert", "measure", "threshold").count().orderBy("alert"))
