"""`lakehouse new`: the files of a new pipeline, from a small template or from another pipeline's files."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from pathlib import Path

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.pipeline.discovery import pipeline_names

PACKAGE = Path(__file__).parents[1]
PROJECT = PACKAGE.parents[1]
TEMPLATE = "template"
_SUFFIX = ".template"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def create(name: str, origin: str | None = None, project: Path = PROJECT) -> list[Path]:
    """Creates the pipeline's folder, its tests, its oracle module and its job file; returns the files.

    Raises LakehouseError for a name that is taken or cannot be one, an unknown `origin`, outside of a checkout, and
    where one of the files exists.
    """
    _check_name(name)
    _check_project(project)
    if origin is not None and origin not in pipeline_names():
        raise LakehouseError(f"there is no pipeline {origin!r}{did_you_mean(origin, pipeline_names())}")
    sources = dict(_copies(project, origin, name) if origin else _from_template(project, name))
    if existing := [file for file in sources.values() if file.exists()]:
        raise LakehouseError(f"{existing[0]} exists; choose another name, or move it away")
    for source, file in sources.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_renamed(source.read_text(), origin or TEMPLATE, name))
    return list(sources.values())


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name == TEMPLATE:
        raise LakehouseError(f"a pipeline's name is lower-case letters, digits and _, such as orders, not {name!r}")
    if name in pipeline_names():
        raise LakehouseError(f"there is a pipeline {name!r} already; choose another name")


def _check_project(project: Path) -> None:
    if not (project / "databricks.yml").is_file():
        raise LakehouseError(
            "a new pipeline is created in a checkout of this project; here is an installed package. In a project of "
            "your own, write the folder by hand and name its package in LAKEHOUSE_DOMAINS"
        )


def _from_template(project: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Each template file with the file that it becomes."""
    for source in sorted((PACKAGE / "cli" / "template").glob(f"*{_SUFFIX}")):
        file = source.name.removesuffix(_SUFFIX)
        special = {
            "test_gold.py": project / "tests" / "domains" / name / f"test_{name}_gold.py",
            "oracle.py": project / "tests" / "oracle" / f"{name}.py",
            "job.yml": project / "resources" / f"{name}.job.yml",
        }
        yield source, special.get(file, _folder(project, name) / file)


def _copies(project: Path, origin: str, name: str) -> Iterator[tuple[Path, Path]]:
    """Each of the other pipeline's files with its copy."""
    pairs = {
        _folder(project, origin): _folder(project, name),
        project / "tests" / "domains" / origin: project / "tests" / "domains" / name,
    }
    for folder, copy in pairs.items():
        for source in sorted(folder.rglob("*")):
            if source.is_file() and source.suffix in (".py", ".md"):
                yield source, copy / str(source.relative_to(folder)).replace(origin, name)
    for source in (project / "tests" / "oracle" / f"{origin}.py", project / "resources" / f"{origin}.job.yml"):
        if source.is_file():
            yield source, source.with_name(source.name.replace(origin, name))


def _folder(project: Path, name: str) -> Path:
    return project / "src" / "streaming_lakehouse" / "domains" / name


def _renamed(text: str, origin: str, name: str) -> str:
    return text.replace(origin, name).replace(origin.capitalize(), name.capitalize())
