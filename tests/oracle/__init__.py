"""The truth about a pipeline's run, computed from the raw records alone and held against its Delta tables.

    .venv/bin/python -m tests.oracle lakes/kafka weather --kafka 127.0.0.1:9092 --topic weather-readings
    .venv/bin/python -m tests.oracle lakes/files weather --files lakes/landing

from the repository's top prints `rows_in 200,000, valid …`, for each bronze table where there are several, and exits
with 0, or prints the difference and exits with 1. Independent on purpose: no Spark, and nothing of the package under
test but lists of words.

A pipeline adds one module here, of its name, with a `DOMAIN` (weather.py is the example); `--domain` names one that is
somewhere else. In tests: `check(root, "weather", read_topic(…))["weather_readings"].valid`.
"""

from .classify import classify, rejected_deliveries
from .domain import Domain, load_domain
from .lake import check, check_gold_of_silver
from .records import RawRecord, read_files, read_topic
from .silver import Account

__all__ = [
    "Account",
    "Domain",
    "RawRecord",
    "check",
    "check_gold_of_silver",
    "classify",
    "load_domain",
    "read_files",
    "read_topic",
    "rejected_deliveries",
]
