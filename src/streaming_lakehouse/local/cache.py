"""The cache folder for files that can be fetched or built again."""

import os
from pathlib import Path

from streaming_lakehouse.errors import LakehouseError


def cache_dir() -> Path:
    """`$LAKEHOUSE_CACHE`, else the `streaming-lakehouse` folder of the user's cache; it may not exist yet.

    Raises LakehouseError for a user without a home folder.
    """
    if chosen := os.environ.get("LAKEHOUSE_CACHE"):
        return Path(chosen).expanduser().absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "streaming-lakehouse"
    try:
        return Path.home() / ".cache" / "streaming-lakehouse"
    except RuntimeError as error:
        raise LakehouseError("this user has no home folder: set LAKEHOUSE_CACHE to a folder for jars") from error
