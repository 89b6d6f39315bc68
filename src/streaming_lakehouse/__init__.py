"""Streaming pipelines from raw events to gold tables, on a laptop and on Databricks."""
