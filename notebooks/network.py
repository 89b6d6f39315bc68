# Databricks notebook source
# MAGIC %md
# MAGIC # Network: scans, floods and intrusions
# MAGIC Looks at what `lakehouse run network` has written: the alerts, the evidence for one of them, and a host under
# MAGIC a flood. It writes nothing. In a workspace, fill in the widgets above; on a laptop, set `LAKEHOUSE_ROOT` to
# MAGIC the folder that was given as `--root`. The notebook may be started from its own folder.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.append(str(Path.cwd().parent / "src"))  # the package, as the bundle deploys it beside this folder

from pyspark.sql import functions as F

from streaming_lakehouse.notebook import Lake

lake = Lake.of_notebook(globals())
flows = lake.table("silver.network_flows")
floods = lake.table("gold.network_request_floods")
flow_requests = lake.table("gold.network_flow_requests")
alerts = lake.table("gold.network_intrusion_alerts").unionByName(
    lake.table("gold.network_request_alerts"), allowMissingColumns=True
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What was found
# MAGIC Alerts from flows come 10 to 11 minutes of event time after the attack has crossed its threshold, those from
# MAGIC requests after 2 to 3: that is how late a record may be.

# COMMAND ----------

lake.show(
    alerts.groupBy("alert", "measure", "threshold")
    .agg(F.count("*").alias("alerts"), F.min("time").alias("first"), F.max("time").alias("newest"))
    .orderBy("alert")
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The evidence for the newest alert from flows
# MAGIC The flows of its source: how they ended, at how many hosts and ports. `S0` is a first packet that nothing has
# MAGIC answered, `REJ` a refusal, `SF` a session that ended as usual.

# COMMAND ----------

newest = alerts.where("host IS NULL").orderBy(F.desc("time")).limit(1).select("source_ip", "alert")
lake.show(
    flows.join(newest, "source_ip")
    .groupBy("source_ip", "alert", "protocol", "connection_state")
    .agg(
        F.count("*").alias("flows"),
        F.count_distinct("destination_ip").alias("hosts"),
        F.count_distinct("destination_port").alias("ports"),
    )
    .orderBy(F.desc("flows"))
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## A host under the most requests
# MAGIC Its minutes around the peak, every 10 seconds, with the level that is usual for it. A flood of few sources
# MAGIC lacks more of the entropy that its sources could have than usual, one of many sources less.

# COMMAND ----------

peak = floods.orderBy(F.desc("requests")).limit(1).selectExpr("host", "window_start AS peak")
around = F.col("window_start").between(
    F.col("peak") - F.expr("INTERVAL 2 MINUTES"), F.col("peak") + F.expr("INTERVAL 1 MINUTE")
)
lake.show(
    floods.join(peak, "host")
    .where(around)
    .select("host", "window_start", "requests", "usual_requests", "clients", "error_share", "flood", "is_start")
    .orderBy("window_start")
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Flows joined with their requests
# MAGIC The longest of those that carried no request, which is what slowloris looks like (`is_held_open`).

# COMMAND ----------

lake.show(
    flow_requests.where("requested_at IS NULL")
    .select("time", "source_ip", "destination_ip", "duration_s", "connection_state", "is_held_open")
    .orderBy(F.desc("duration_s"))
)
