"""What a notebook needs to read a run's tables, in a workspace and on a laptop alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.session import get_session
from streaming_lakehouse.sinks import delta


@dataclass(frozen=True)
class Lake:
    """The tables of a run. `show` displays rows: as the workspace does, or the first 20 as text."""

    spark: SparkSession
    storage: Storage
    show: Callable[[DataFrame], object]

    @classmethod
    def of_notebook(cls, names: Mapping[str, Any]) -> Lake:
        """The lake that a notebook's widgets `catalog` and `schema_prefix` name, else the folder LAKEHOUSE_ROOT.

        `names` is the notebook's `globals()`: a workspace puts `dbutils` and `display` there. Without LAKEHOUSE_ROOT
        the folder is `.lakehouse`; a relative one is below the project, as for the command.
        """
        if dbutils := names.get("dbutils"):
            dbutils.widgets.text("catalog", "main")
            dbutils.widgets.text("schema_prefix", "")
            storage = Storage.resolve(None, dbutils.widgets.get("catalog"), dbutils.widgets.get("schema_prefix"))
        else:
            project = Path.cwd() if Path("src").is_dir() else Path.cwd().parent  # a notebook runs in its own folder
            storage = Storage(root=project / os.environ.get("LAKEHOUSE_ROOT", ".lakehouse"))
        return cls(get_session(), storage, names.get("display", _print))

    def table(self, name: str) -> DataFrame:
        """The rows of a table such as `gold.weather_alerts`. Raises LakehouseError where no run has written it."""
        layer, _, table = name.partition(".")
        stored = self.storage.table(layer, table)
        if not delta.exists(self.spark, stored):
            raise LakehouseError(
                f"there is no table {name} in {self.storage.catalog or self.storage.root}; "
                "run its pipeline first: lakehouse run"
            )
        return delta.read(self.spark, stored)


def _print(rows: DataFrame) -> None:
    rows.show(20, truncate=False)
