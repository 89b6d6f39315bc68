"""The locked jars that Spark and the Kafka broker need in addition to pyspark's own.

`python -m streaming_lakehouse.local.jars lock` resolves `ROOT_COORDINATES` again and rewrites `jars.lock`.
"""

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local import ivy
from streaming_lakehouse.local.cache import cache_dir

JarSet = Literal["spark", "broker"]

LOCK = Path(__file__).with_name("jars.lock")
ROOT_COORDINATES: dict[JarSet, tuple[str, ...]] = {
    "spark": (
        "io.delta:delta-spark_4.2_2.13:4.4.0",
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
        "com.globalmentor:hadoop-bare-naked-local-fs:0.1.0",  # see _LOCAL_FILES in session.py
    ),
    # Kafka logs through slf4j 1; the binding is chosen by its distribution.
    "broker": ("org.apache.kafka:kafka_2.13:4.1.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"),
}
# Merged into the newer RoaringBitmap of pyspark, whose classes its old ones would shadow.
MERGED = ("shims",)


class LockedJar(NamedTuple):
    """One line of the lock; `coordinate` is `group:artifact:revision`, `size` is in bytes."""

    coordinate: str
    sha256: str
    size: int

    def path_in(self, folder: Path) -> Path:
        """The jar's path in a folder with Maven's layout."""
        group, artifact, revision = self.coordinate.split(":")
        return folder / group / artifact / revision / f"{artifact}-{revision}.jar"


def jars(name: JarSet) -> list[Path]:
    """The paths of a set's jars, which the first call fetches and verifies against the lock.

    Later calls check existence and size only, not 60 MB of hashes: nothing writes into the folder after the verified
    jars were moved there.
    Raises LakehouseError if a jar cannot be fetched or is not the locked one.
    """
    locked = _locked(name)
    folder = cache_dir() / "jars" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16] / name
    if not _complete(locked, folder):
        print(
            f"streaming-lakehouse: fetching {len(locked)} jars for {name} into {folder}, once",
            file=sys.stderr,
        )
        try:
            _fetch(locked, folder)
        except OSError as error:
            raise LakehouseError(f"No jars in {folder}: {error}. Set LAKEHOUSE_CACHE to a writable folder") from error
    return [jar.path_in(folder) for jar in locked]


def lock() -> None:
    """Resolve the roots with their dependencies, and lock those that pyspark does not ship."""
    lines = ["# set, coordinate, sha256, bytes; made by: python -m streaming_lakehouse.local.jars lock"]
    for name in get_args(JarSet):
        with tempfile.TemporaryDirectory() as staging:
            fetched = ivy.resolve(ROOT_COORDINATES[name], staging=Path(staging), transitive=True)
            for path in sorted(fetched.rglob("*.jar")):
                group, artifact, revision = path.relative_to(fetched).parts[:3]
                if name == "spark" and (artifact in MERGED or _in_pyspark(artifact)):
                    continue
                lines.append(f"{name} {group}:{artifact}:{revision} {_sha256(path)} {path.stat().st_size}")
    LOCK.write_text("\n".join(lines) + "\n")


def _locked(name: JarSet) -> list[LockedJar]:
    rows = (line.split() for line in LOCK.read_text().splitlines() if not line.startswith("#"))
    return [LockedJar(coordinate, sha256, int(size)) for of, coordinate, sha256, size in rows if of == name]


def _fetch(locked: Sequence[LockedJar], folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as staging:
        fetched = ivy.resolve([jar.coordinate for jar in locked], staging=Path(staging), transitive=False)
        _verify(locked, fetched)
        try:
            fetched.rename(folder)
        except OSError:
            # Another process was faster and its jars are complete, or jars of an earlier fetch were deleted.
            if not _complete(locked, folder):
                folder.rename(Path(staging) / "incomplete")
                fetched.rename(folder)


def _complete(locked: Sequence[LockedJar], folder: Path) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return all(jar.path_in(folder).stat().st_size == jar.size for jar in locked)
    return False


def _verify(locked: Sequence[LockedJar], fetched: Path) -> None:
    for jar in locked:
        path = jar.path_in(fetched)
        if not path.is_file():
            raise LakehouseError(f"The jar {jar.coordinate} was not among those fetched: check the repository used")
        if (digest := _sha256(path)) != jar.sha256:
            raise LakehouseError(
                f"The jar {jar.coordinate} is not the locked one (sha256 {digest}, locked {jar.sha256}): "
                f"check the repository or mirror it came from; no fetched jar was stored"
            )


def _in_pyspark(artifact: str) -> bool:
    """True if pyspark ships the artifact, in any revision: two on one class path would shadow each other."""
    pattern = re.compile(rf"{re.escape(artifact)}-\d[^/]*\.jar")
    return any(pattern.fullmatch(name) for name in os.listdir(ivy.pyspark_jars()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit("usage: python -m streaming_lakehouse.local.jars lock")
    lock()
