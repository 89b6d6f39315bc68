# Databricks notebook source
# MAGIC %md
# MAGIC # Sports: live scores, the table, momentum
# MAGIC Looks at what `lakehouse run sports` has written. The scoreboard and the table change with every report, and
# MAGIC take corrections back; the notebook shows them as they are now. It writes nothing. In a workspace, fill in the
# MAGIC widgets above; on a laptop, set `LAKEHOUSE_ROOT` to the folder that was given as `--root`. The notebook may be
# MAGIC started from its own folder.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.append(str(Path.cwd().parent / "src"))  # the package, as the bundle deploys it beside this folder

from pyspark.sql import functions as F

from streaming_lakehouse.notebook import Lake

lake = Lake.of_notebook(globals())
scoreboard = lake.table("gold.sports_scoreboard")
league_table = lake.table("gold.sports_league_table")
momentum = lake.table("gold.sports_momentum")

# COMMAND ----------

# MAGIC %md
# MAGIC ## The matches
# MAGIC Those that are being played first. Output mode update: a row a match, overwritten by its key.

# COMMAND ----------

lake.show(
    scoreboard.select(
        "status", "home_team", "home_score", "away_score", "away_team", "period", "last_report_at"
    ).orderBy(F.col("status") != "live", F.desc("last_report_at"))
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The table
# MAGIC Of the season with the newest report. Output mode complete: each batch writes it anew. Points of matches that
# MAGIC are being played are provisional.

# COMMAND ----------

season = scoreboard.orderBy(F.desc("last_report_at")).limit(1).select("season_id")
lake.show(
    league_table.join(season, "season_id")
    .select("position", "team", "played", "won", "drawn", "lost", "goal_difference", "points", "provisional_points")
    .orderBy("position", "team")
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What was corrected
# MAGIC Goals that do not stand, reports of a goal beyond its first, and corrections whose goal or card has not
# MAGIC arrived.

# COMMAND ----------

lake.show(
    scoreboard.where("goals_canceled + duplicate_goal_reports + open_corrections > 0")
    .select("home_team", "away_team", "goals_canceled", "duplicate_goal_reports", "open_corrections")
    .orderBy("home_team", "away_team")
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Who attacks
# MAGIC The newest match, 5 minutes every minute, from the home team's side. Pressure is in goals that such attacks
# MAGIC lead to.

# COMMAND ----------

match = scoreboard.orderBy(F.desc("last_report_at")).limit(1).selectExpr("match_id", "home_team AS team")
lake.show(
    momentum.join(match, ["match_id", "team"])
    .select("window_start", "team", "opponent", "pressure", "opponent_pressure", "momentum")
    .orderBy(F.desc("window_start"))
)
