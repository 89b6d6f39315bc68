"""The truth about generated records: their labels and the episodes of anomalies, as `generate --truth` writes it."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from streaming_lakehouse.config.storage import expand_user
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline.synthetic import CLEAN, Episode, Record, iso_utc


@dataclass
class TableTruth:
    """The labels of a bronze table's records from row `start` on, and when each episode began and ended."""

    start: int
    labels: list[str] = field(default_factory=list)
    episodes: dict[Episode, tuple[datetime, datetime]] = field(default_factory=dict)

    def recording(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, each of which is recorded as it passes."""
        for record in records:
            self.labels.append(record.label)
            if record.episode and record.time:
                first, last = self.episodes.get(record.episode, (record.time, record.time))
                self.episodes[record.episode] = min(first, record.time), max(last, record.time)
            yield record

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.labels)

    def as_json(self) -> dict[str, Any]:
        """`records` has the label of each row but the clean ones."""
        labelled = {str(row): label for row, label in enumerate(self.labels, start=self.start) if label != CLEAN}
        episodes = [
            {**episode._asdict(), "first_event": iso_utc(first), "last_event": iso_utc(last)}
            for episode, (first, last) in self.episodes.items()
        ]
        return {
            "from_row": self.start,
            "rows": len(self.labels),
            "labels": dict(self.counts),
            "records": labelled,
            "episodes": episodes,
        }


def check_writable(file: Path) -> Path:
    """The absolute path. Raises LakehouseError, before anything is generated, where the file cannot be written."""
    file = expand_user("--truth", file).absolute()
    if not file.parent.is_dir() or file.is_dir():
        reason = "it is a folder" if file.is_dir() else f"there is no folder {file.parent}"
        raise LakehouseError(f"--truth {file}: {reason}; name a file in an existing folder")
    is_new = not file.exists()
    if is_new or file.is_file():  # the reader of a pipe would take this for its end
        with _writing(file):
            file.open("ab").close()
            if is_new:
                file.unlink()
    return file


def write(file: Path, pipeline: str, seed: int, tables: Mapping[str, TableTruth]) -> None:
    """Writes one JSON object: pipeline, seed, and under `tables` the truth about each bronze table."""
    truth = {"pipeline": pipeline, "seed": seed, "tables": {name: table.as_json() for name, table in tables.items()}}
    with _writing(file):
        file.write_text(json.dumps(truth, indent=1))


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakehouseError(f"--truth {file}: {error.strerror or error}; name another file") from error
