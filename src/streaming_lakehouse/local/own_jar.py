"""A small jar of ours, first in the class path of a local session: what makes Hadoop's local files cheap.

It leaves the defaults of YARN and MapReduce, which no local session uses, out of Hadoop's configuration: 720 of its
1,160 entries. Spark copies all of them for each plan, and serializes them for tasks that read, write or keep state:
without them a warm run over 2,000 rows takes a fifth less processor time.

It has LocalLogStore, which lists Delta's log by name. The class is compiled from `java/LocalLogStore.java`: a test
compares them, and writes the class with LAKEHOUSE_WRITE_CLASSES=1.
"""

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.cache import cache_dir

LOG_STORE = "streaming_lakehouse.LocalLogStore"
SOURCE = Path(__file__).with_name("java") / "LocalLogStore.java"
CLASS = SOURCE.with_suffix(".class")
_NO_ENTRIES = b"<configuration/>\n"


def own_jar() -> Path:
    """The jar. Raises LakehouseError where it is missing and cannot be written."""
    files = {
        # Hadoop reads the first resource of this name in the class path.
        "yarn-default.xml": _NO_ENTRIES,
        "mapred-default.xml": _NO_ENTRIES,
        f"{LOG_STORE.replace('.', '/')}.class": CLASS.read_bytes(),
    }
    content = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
    path = cache_dir() / "jars" / f"own-{content}.jar"
    if not path.is_file():
        try:
            _write(path, files)
        except OSError as error:
            raise LakehouseError(
                f"{path} cannot be written: {error}. Set LAKEHOUSE_CACHE to a writable folder"
            ) from error
    return path


def _write(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".own-") as folder:
        draft = Path(folder) / path.name
        with zipfile.ZipFile(draft, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        # The first of two processes wins: Java compares the jar's time with that in its class-data archive.
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            draft.replace(path)
