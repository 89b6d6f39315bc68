"""The names of all sources and sinks with their modules. Imports none of them, so that the CLI can list the names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from streaming_lakehouse.errors import LakehouseError, did_you_mean

SOURCES = {
    "generator": "generator:SOURCE",
    "files": "files:SOURCE",
    "kafka": "kafka:SOURCE",
    "eventhubs": "eventhubs:SOURCE",
    "socket": "socket:SOURCE",
    "rate": "rate:RATE",
    "rate-micro-batch": "rate:MICRO_BATCH",
}
SINKS = {
    "delta": "foreach_batch:SINK",
    "delta-native": "delta_native:SINK",
    "kafka": "kafka:SINK",
    "eventhubs": "eventhubs:SINK",
    "files": "files:SINK",
    "foreach": "foreach:SINK",
    "console": "console:SINK",
    "memory": "memory:SINK",
}
# By 0.1's names. What it called delta is delta-native now: such a checkpoint resumes with the sink delta.
RENAMED = {"foreachBatch": "delta"}


def load(kind: str, package: str, registry: Mapping[str, str], name: str) -> Any:
    """The object that `registry` names. Raises LakehouseError for an unknown name."""
    if name not in registry and RENAMED.get(name) in registry:
        raise LakehouseError(f"the {kind} {name!r} is called {RENAMED[name]!r} since version 0.2")
    if name not in registry:
        raise LakehouseError(f"there is no {kind} {name!r}{did_you_mean(name, registry)}")
    module, attribute = registry[name].split(":")
    return getattr(importlib.import_module(f"{package}.{module}"), attribute)
