"""The cache folder for files that can be fetched or built again."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$LAKEHOUSE_CACHE`, else the `streaming-lakehouse` folder of the user's cache; it may not exist yet."""
    if chosen := os.environ.get("LAKEHOUSE_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "streaming-lakehouse"
