"""Where tables and checkpoints live: read once from the command line and the environment, then frozen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from streaming_lakehouse.errors import LakehouseError

LAYERS = ("bronze", "silver", "quarantine", "gold", "ops")
DEFAULT_ROOT = ".lakehouse"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True)
class Table:
    """One Delta table: by `path` on a laptop, by `name` in Unity Catalog; exactly one of the two is set."""

    layer: str
    title: str
    path: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.layer}.{self.title}"

    @property
    def place(self) -> str:
        """Where it is: the path of its folder, or its name in the catalog."""
        return self.path or str(self.name)

    @property
    def sql(self) -> str:
        """The table as it stands in SQL, quoted."""
        return self.name if self.name is not None else f"delta.`{self.path}`"


@dataclass(frozen=True)
class Settings:
    """Either `root`, a folder, or `catalog`, a Unity Catalog catalog whose schemas are the layers.

    `schema_prefix` stands before the layers' names in the catalog, as a bundle's development mode puts it there.
    """

    root: Path | None = None
    catalog: str | None = None
    schema_prefix: str = ""

    @classmethod
    def read(
        cls,
        root: str | None = None,
        catalog: str | None = None,
        schema_prefix: str | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Settings:
        """The settings as given, else as in LAKEHOUSE_ROOT, LAKEHOUSE_CATALOG and LAKEHOUSE_SCHEMA_PREFIX.

        Raises LakehouseError for both a root and a catalog, a name that is not one, or a path with `..` or a scheme.
        """
        if not root and not catalog:
            root, catalog = environment.get("LAKEHOUSE_ROOT"), environment.get("LAKEHOUSE_CATALOG")
        prefix = schema_prefix if schema_prefix is not None else environment.get("LAKEHOUSE_SCHEMA_PREFIX", "")
        if root and catalog:
            raise LakehouseError(
                "tables live either in a folder (--root) or in a catalog (--catalog): give one of them"
            )
        if catalog:
            return cls(
                catalog=checked_name("catalog", catalog), schema_prefix=prefix and checked_name("prefix", prefix)
            )
        return cls(root=local_path("--root", root or DEFAULT_ROOT))

    def table(self, layer: str, title: str) -> Table:
        checked_name("table", title)
        if self.catalog:
            return Table(layer, title, name=f"`{self.catalog}`.`{self.schema_prefix}{layer}`.`{title}`")
        return Table(layer, title, path=str(self._root / layer / title))

    def checkpoint(self, pipeline: str, step: str) -> str:
        """The folder of a step's checkpoint; in a catalog, a folder of the volume `ops.checkpoints`."""
        if self.catalog:
            return f"/Volumes/{self.catalog}/{self.schema_prefix}ops/checkpoints/{pipeline}/{step}"
        return str(self._root / "_checkpoints" / pipeline / step)

    @property
    def _root(self) -> Path:
        assert self.root is not None, "settings hold a root or a catalog"
        return self.root


def checked_name(what: str, name: str) -> str:
    """`name`, where it is a plain identifier: names are put between backticks, never escaped."""
    if not _NAME.fullmatch(name):
        raise LakehouseError(f"{what} name {name!r}: use letters, digits, _ and -, beginning with a letter")
    return name


def local_path(option: str, text: str) -> Path:
    """The absolute path `text` means. Raises LakehouseError for a foreign scheme or a `..` in it."""
    if "://" in text or ".." in Path(text).parts:
        raise LakehouseError(f"{option} {text!r}: give a plain path of this machine, without a scheme and without '..'")
    return expanded(option, text).absolute()


def expanded(option: str, text: str | Path) -> Path:
    """The path with `~` resolved. Raises LakehouseError for the home of a user that this machine does not know."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise LakehouseError(f"{option} {str(text)!r}: there is no such home folder; write the path out") from error


@contextmanager
def writing_to(option: str, path: Path) -> Iterator[None]:
    """Turns the system's refusal to write to `path` into one line with what is in the way."""
    try:
        yield
    except OSError as error:
        file = next((each for each in (path, *path.parents) if os.path.isfile(each)), None)
        why = f"{file} is a file, not a folder" if file else error.strerror or str(error)
        raise LakehouseError(f"cannot write to {path}: {why}; give another {option}") from error
