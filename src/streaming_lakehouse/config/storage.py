"""Locations of tables and checkpoints, resolved once from the command line and the environment."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streaming_lakehouse.errors import LakehouseError

LAYERS = ("bronze", "silver", "quarantine", "reference", "gold", "ops")
DEFAULT_ROOT = ".lakehouse"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True)
class Table:
    """One Delta table, by its `path` in a folder or its `catalog_name` in Unity Catalog; exactly one of them is set."""

    layer: str
    name: str
    path: str | None = None
    catalog_name: str | None = None

    def __str__(self) -> str:
        return f"{self.layer}.{self.name}"

    @property
    def location(self) -> str:
        """The path of its folder, or its name in the catalog."""
        return self.path or str(self.catalog_name)

    @property
    def sql_identifier(self) -> str:
        """The quoted name for SQL statements."""
        return self.catalog_name if self.catalog_name is not None else f"delta.`{self.path}`"


@dataclass(frozen=True)
class Storage:
    """Either `root`, a folder, or `catalog`, a Unity Catalog catalog with one schema per layer.

    `schema_prefix` prefixes the names of the schemas, as a bundle's development mode does.
    """

    root: Path | None = None
    catalog: str | None = None
    schema_prefix: str = ""

    @classmethod
    def resolve(
        cls,
        root: str | None = None,
        catalog: str | None = None,
        schema_prefix: str | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Storage:
        """The storage by the arguments, else by LAKEHOUSE_ROOT, LAKEHOUSE_CATALOG and LAKEHOUSE_SCHEMA_PREFIX.

        Raises LakehouseError for both a root and a catalog, an invalid name, or a path with `..` or a scheme.
        """
        if not root and not catalog:
            root, catalog = environment.get("LAKEHOUSE_ROOT"), environment.get("LAKEHOUSE_CATALOG")
        prefix = schema_prefix if schema_prefix is not None else environment.get("LAKEHOUSE_SCHEMA_PREFIX", "")
        if root and catalog:
            raise LakehouseError("tables are either in a folder (--root) or in a catalog (--catalog): give one of them")
        if catalog:
            return cls(
                catalog=validate_identifier("catalog", catalog),
                schema_prefix=prefix and validate_identifier("prefix", prefix),
            )
        return cls(root=local_path("--root", root or DEFAULT_ROOT))

    def table(self, layer: str, name: str) -> Table:
        validate_identifier("table", name)
        if self.catalog:
            return Table(layer, name, catalog_name=f"`{self.catalog}`.`{self.schema_prefix}{layer}`.`{name}`")
        return Table(layer, name, path=str(self._root / layer / name))

    def checkpoint(self, pipeline: str, step: str) -> str:
        """The folder of a step's checkpoint; in a catalog, a folder of the volume `ops.checkpoints`."""
        if self.catalog:
            return f"/Volumes/{self.catalog}/{self.schema_prefix}ops/checkpoints/{pipeline}/{step}"
        return str(self._root / "_checkpoints" / pipeline / step)

    @property
    def options(self) -> str:
        """The options of the command that name this storage."""
        if self.root:
            return f"--root {shlex.quote(str(self.root))}"
        prefix = f" --schema-prefix {self.schema_prefix}" if self.schema_prefix else ""
        return f"--catalog {self.catalog}{prefix}"

    @property
    def _root(self) -> Path:
        assert self.root is not None, "storage has a root or a catalog"
        return self.root


def validate_identifier(what: str, name: str) -> str:
    """Returns `name`. Raises LakehouseError unless it is plain: names are quoted with backticks, never escaped."""
    if not _NAME.fullmatch(name):
        raise LakehouseError(f"invalid {what} name {name!r}: use letters, digits, _ and -, starting with a letter")
    return name


def local_path(option: str, text: str) -> Path:
    """The absolute path of `text`. Raises LakehouseError if it has a scheme or a `..`, or if Java cannot open it."""
    if "://" in text or ".." in Path(text).parts:
        raise LakehouseError(f"{option} {text!r}: give a plain local path, without a scheme and without '..'")
    check_working_folder()
    path = expand_user(option, text).absolute()
    if not is_utf8(os.fsencode(path)):
        raise LakehouseError(f"{option} {os.fsencode(path)!r} is not UTF-8, so Java cannot open it; rename it")
    return path


def check_working_folder() -> None:
    """Raises LakehouseError if the folder that this process works in has been removed: Java refuses to start there."""
    try:
        os.getcwd()
    except OSError as error:
        raise LakehouseError("the working folder has been removed; change to one that exists") from error


def is_utf8(name: bytes) -> bool:
    """True for a name that Java can open. An operating system accepts any bytes."""
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def expand_user(option: str, text: str | Path) -> Path:
    """The path with `~` expanded. Raises LakehouseError for the home folder of an unknown user."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise LakehouseError(f"{option} {str(text)!r}: no such home folder; give the full path") from error


@contextmanager
def translate_write_errors(option: str, path: Path) -> Iterator[None]:
    """Turns an OSError of a write to `path` into a LakehouseError with the reason."""
    try:
        yield
    except OSError as error:
        file = next((each for each in (path, *path.parents) if os.path.isfile(each)), None)
        reason = f"{file} is a file, not a folder" if file else error.strerror or str(error)
        raise LakehouseError(f"cannot write to {path}: {reason}; give another {option}") from error
