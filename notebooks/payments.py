# Databricks notebook source
# MAGIC %md
# MAGIC # Payments: unusual transactions
# MAGIC Looks at what `lakehouse run payments` has written: which authorisations are unusual for their account, why,
# MAGIC and what the account did before. It writes nothing. In a workspace, fill in the widgets above; on a laptop,
# MAGIC set `LAKEHOUSE_ROOT` to the folder that was given as `--root`. The notebook may be started from its own
# MAGIC folder.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.append(str(Path.cwd().parent / "src"))  # the package, as the bundle deploys it beside this folder

from pyspark.sql import functions as F

from streaming_lakehouse.notebook import Lake

lake = Lake.of_notebook(globals())
transactions = lake.table("silver.payments_transactions")
velocity = lake.table("gold.payments_account_velocity")
unusual = lake.table("gold.payments_unusual_transactions")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Why authorisations are unusual
# MAGIC An authorisation with a score of 50 or more has a row; the first of its reasons says most.

# COMMAND ----------

lake.show(
    unusual.select("score", F.explode("reasons").alias("reason"))
    .groupBy("reason")
    .agg(F.count("*").alias("authorisations"), F.round(F.avg("score"), 1).alias("mean_score"))
    .orderBy(F.desc("authorisations"))
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The most unusual ones
# MAGIC `amount_deviations` are standard deviations from the account's own mean, `speed_km_h` is from the card's last
# MAGIC terminal.

# COMMAND ----------

lake.show(
    unusual.select(
        *("time", "score", "reasons", "billing_amount", "billing_currency", "merchant_country", "mcc"),
        *("amount_deviations", "speed_km_h"),
    ).orderBy(F.desc("score"), "time")
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What the account of the first did
# MAGIC Its authorisations and reversals of the day before, and after. Accounts are hashes, keyed by
# MAGIC `LAKEHOUSE_PAYMENTS_SALT`.

# COMMAND ----------

first = unusual.orderBy(F.desc("score"), "time").limit(1).selectExpr("account_hash", "time AS unusual_at")
its_day = F.col("time").between(
    F.col("unusual_at") - F.expr("INTERVAL 1 DAY"), F.col("unusual_at") + F.expr("INTERVAL 1 DAY")
)
lake.show(
    transactions.join(first, "account_hash")
    .where(its_day)
    .join(unusual.select("event_id", "score"), "event_id", "left")
    .select("time", "mti", "billing_amount", "merchant_country", "is_card_present", "is_approved", "score")
    .orderBy("time")
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## The accounts with the most authorisations
# MAGIC 10 minutes sliding by 1 minute; a row is written when the watermark has passed its end.

# COMMAND ----------

lake.show(velocity.orderBy(F.desc("authorisations"), "window_start"))
