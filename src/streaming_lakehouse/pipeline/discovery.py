"""Finds the declared pipelines: each folder below `domains` is one."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.pipeline.declaration import Pipeline

DOMAINS = "streaming_lakehouse.domains"
# Python packages, with commas between, whose folders are pipelines too: a project of its own need not live in this one.
DOMAINS_VARIABLE = "LAKEHOUSE_DOMAINS"


def pipeline_names() -> list[str]:
    """The names of all pipelines. Raises LakehouseError for a package in LAKEHOUSE_DOMAINS that cannot be imported."""
    return sorted(_packages())


def load_pipeline(name: str) -> Pipeline:
    """The pipeline declared in `domains/<name>/pipeline.py`.

    Raises LakehouseError where there is none, or where it has another name: a copy with its original's name would
    resume the original's checkpoints.
    """
    packages = _packages()
    if name not in packages:
        raise LakehouseError(f"there is no pipeline {name!r}{did_you_mean(name, sorted(packages))}")
    declared: Pipeline = importlib.import_module(f"{packages[name]}.{name}.pipeline").PIPELINE
    if declared.name != name:
        raise LakehouseError(
            f"domains/{name}/pipeline.py declares a pipeline {declared.name!r}; call it {name!r} there"
        )
    return declared


def _packages() -> dict[str, str]:
    """Each pipeline's name, and the package that its folder is in."""
    found: dict[str, str] = {}
    for package in _domains():
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if module.ispkg:
                found.setdefault(module.name, package)
    return found


def _domains() -> Iterator[str]:
    yield DOMAINS
    for package in filter(None, map(str.strip, os.environ.get(DOMAINS_VARIABLE, "").split(","))):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise LakehouseError(f"{DOMAINS_VARIABLE} names {package}, which cannot be imported: {error}") from error
        yield package
