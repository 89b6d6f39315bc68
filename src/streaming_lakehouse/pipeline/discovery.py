"""Finds the declared pipelines: each folder below `domains` with a `pipeline.py` is one."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.pipeline.declaration import Pipeline

DOMAINS = "streaming_lakehouse.domains"
# Python packages, with commas between, whose folders are pipelines too: a project of its own need not live in this one.
DOMAINS_VARIABLE = "LAKEHOUSE_DOMAINS"
_DECLARATION = "pipeline.py"
# Where one file of a project's own cannot be imported, whatever it raises: one pipeline's mistake is not the others'.
_IMPORT_ERRORS = (Exception, SystemExit)


def pipeline_names() -> list[str]:
    """The names of all pipelines, also of those that cannot be imported.

    Raises LakehouseError for a package in LAKEHOUSE_DOMAINS that cannot be imported.
    """
    return sorted({folder.name for _, folder in _declared_folders()})


def load_pipeline(name: str) -> Pipeline:
    """The pipeline declared in `domains/<name>/pipeline.py`.

    Raises LakehouseError where there is none, where there are two, where it cannot be imported, or where it has another
    name: a copy with its original's name would resume the original's checkpoints.
    """
    package, folder = _find(name)
    declaration = folder / _DECLARATION
    try:
        declared = getattr(importlib.import_module(f"{package}.{name}.pipeline"), "PIPELINE", None)
    except LakehouseError as error:  # a declaration that is refused
        raise LakehouseError(f"{declaration}: {error}") from error
    except _IMPORT_ERRORS as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "pyspark":
            raise  # not the pipeline's mistake: the command says which extra to install
        raise LakehouseError(f"{declaration} cannot be imported: {_describe(error, folder)}") from error
    if not isinstance(declared, Pipeline):
        raise LakehouseError(f'{declaration} declares no pipeline; it needs PIPELINE = Pipeline("{name}", …)')
    if declared.name != name:
        raise LakehouseError(
            f"domains/{name}/pipeline.py declares a pipeline {declared.name!r}; call it {name!r} there"
        )
    return declared


def _find(name: str) -> tuple[str, Path]:
    """The pipeline's folder, and the package that it is in."""
    found = [(package, folder) for package, folder in _declared_folders() if folder.name == name]
    if len(found) > 1:
        folders = " and ".join(str(folder) for _, folder in found)
        raise LakehouseError(f"there are two pipelines {name!r}, in {folders}; rename one")
    if found:
        return found[0]
    for _, root in _roots():
        if (root / name).is_dir() and name.isidentifier():
            raise LakehouseError(f"there is no pipeline {name!r}: {root / name} has no {_DECLARATION}")
    raise LakehouseError(f"there is no pipeline {name!r}{did_you_mean(name, pipeline_names())}")


def _describe(error: BaseException, folder: Path) -> str:
    """The exception in one line, with the line of the pipeline's own code that raised it."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if Path(each.filename).is_relative_to(folder)] or frames[-1:]
    text = f": {' '.join(str(error).split())}" if str(error) else ""
    return f"{type(error).__name__}{text} ({own[-1].filename}, line {own[-1].lineno})"


def _declared_folders() -> Iterator[tuple[str, Path]]:
    """Each folder with a declaration, and the package that it is in."""
    for package, root in _roots():
        for declaration in sorted(root.glob(f"*/{_DECLARATION}")):
            if declaration.parent.name.isidentifier():
                yield package, declaration.parent


def _roots() -> Iterator[tuple[str, Path]]:
    """The folders of the packages that pipelines are in, with the package's name."""
    named = os.environ.get(DOMAINS_VARIABLE, "").split(",")
    for package in dict.fromkeys([DOMAINS, *filter(None, map(str.strip, named))]):
        try:
            imported = importlib.import_module(package)
        except _IMPORT_ERRORS as error:
            raise LakehouseError(f"{DOMAINS_VARIABLE} names {package}, which cannot be imported: {error}") from error
        if not hasattr(imported, "__path__"):
            raise LakehouseError(f"{DOMAINS_VARIABLE} names {package}, which is a module and no package")
        yield from ((package, Path(folder)) for folder in imported.__path__)
