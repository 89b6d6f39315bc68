# Databricks notebook source
# MAGIC %md
# MAGIC # Weather: from raw records to gold
# MAGIC Looks at what `lakehouse run weather` has written: where each record went, why some are in quarantine, and
# MAGIC what the gold tables contain. It writes nothing. In a workspace, fill in the widgets above; on a laptop, set
# MAGIC `LAKEHOUSE_ROOT` to the folder that was given as `--root`. The notebook may be started from its own folder.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.append(str(Path.cwd().parent / "src"))  # the package, as the bundle deploys it beside this folder

from streaming_lakehouse.notebook import Lake

lake = Lake.of_notebook(globals())
bronze = lake.table("bronze.weather_readings")
silver = lake.table("silver.weather_readings")
quarantine = lake.table("quarantine.weather_readings")
hourly = lake.table("gold.weather_device_hourly")
alerts = lake.table("gold.weather_alerts")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Each record is in exactly one table
# MAGIC The left number is the sum of the two on the right. Late and duplicate records are in quarantine, for the
# MAGIC reasons `is_on_time` and `is_first_delivery`.

# COMMAND ----------

print(f"{bronze.count():,} in bronze = {silver.count():,} in silver + {quarantine.count():,} in quarantine")
lake.show(quarantine.selectExpr("explode(failed_expectations) AS reason").groupBy("reason").count().orderBy("reason"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## The raw records
# MAGIC Bronze and quarantine have the unmodified bytes of a record, and its source.

# COMMAND ----------

lake.show(
    quarantine.selectExpr(
        "failed_expectations", "try_validate_utf8(cast(value AS string)) AS record", "source", "partition", "offset"
    )
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## A day's course
# MAGIC One row a device and hour, written once, when the watermark has passed the hour's end.

# COMMAND ----------

lake.show(
    hourly.groupBy("window_start")
    .agg({"readings": "sum", "temperature_min_c": "min", "temperature_max_c": "max", "wind_speed_max_m_s": "max"})
    .orderBy("window_start")
)

# COMMAND ----------

lake.show(alerts.groupBy("alert", "measure", "threshold").count().orderBy("alert"))
