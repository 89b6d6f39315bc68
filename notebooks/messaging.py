# Databricks notebook source
# MAGIC %md
# MAGIC # Messaging: the mood of channels
# MAGIC Looks at what `lakehouse run messaging` has written: the sentiment of each channel, where a mood fell, and the
# MAGIC conversations behind it. It writes nothing. In a workspace, fill in the widgets above; on a laptop, set
# MAGIC `LAKEHOUSE_ROOT` to the folder that was given as `--root`. The notebook may be started from its own folder.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.append(str(Path.cwd().parent / "src"))  # the package, as the bundle deploys it beside this folder

from pyspark.sql import functions as F

from streaming_lakehouse.notebook import Lake

lake = Lake.of_notebook(globals())
messages = lake.table("silver.messaging_messages")
sentiment = lake.table("gold.messaging_channel_sentiment")
conversations = lake.table("gold.messaging_conversations")
alerts = lake.table("gold.messaging_mood_alerts")

# COMMAND ----------

# MAGIC %md
# MAGIC ## What silver retains of a message
# MAGIC Neither its text nor its author: a sentiment, a length, and a hash that is keyed by
# MAGIC `LAKEHOUSE_MESSAGING_SALT`. Without a sentiment are messages in other languages, without words, and what no
# MAGIC person has posted.

# COMMAND ----------

lake.show(
    messages.groupBy("kind", "language", "sentiment_label").count().orderBy("kind", "language", "sentiment_label")
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Each channel's mood
# MAGIC The mean over all messages with a sentiment, from -1 to 1, the lowest first.

# COMMAND ----------

lake.show(
    sentiment.groupBy("channel")
    .agg(
        F.sum("messages").alias("messages"),
        (F.sum(F.col("sentiment_mean") * F.col("scored_messages")) / F.sum("scored_messages")).alias("sentiment_mean"),
        F.min("sentiment_mean").alias("lowest_5_minutes"),
    )
    .orderBy("sentiment_mean")
)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Where a mood fell
# MAGIC A row each time that a channel's mean is at its limit or below: 4 standard errors, and at least 0.3, under the
# MAGIC level of the channel's recent windows.

# COMMAND ----------

lake.show(alerts.orderBy(F.desc("window_start")))

# COMMAND ----------

# MAGIC %md
# MAGIC ## The hour around the newest alert
# MAGIC The windows of its channel. One is written when the watermark, 10 minutes behind the newest message, has
# MAGIC passed it.

# COMMAND ----------

near = (F.col("window_start") - F.col("alert_start")).between(
    F.expr("INTERVAL -30 MINUTES"), F.expr("INTERVAL 30 MINUTES")
)
newest = alerts.orderBy(F.desc("window_start")).limit(1).selectExpr("channel", "window_start AS alert_start")
lake.show(sentiment.join(newest, "channel").where(near).drop("alert_start").orderBy("window_start"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## The longest conversations
# MAGIC A session window per channel and thread: it ends where nobody has posted for 10 minutes.

# COMMAND ----------

lake.show(conversations.orderBy(F.desc("duration_s")))
