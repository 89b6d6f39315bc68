"""Rows one at a time, by a writer with `open`, `process` and `close`: for systems that Spark has no sink for.

The writer here puts rows into files of JSON lines. For another system, copy it and write to that instead: what makes
it exactly once is that (partition, epoch) names a piece of the output, and that a piece is there as a whole or not.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pyspark.sql import DataFrame, Row
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse import ages, checkpoints
from streaming_lakehouse.options import Options, required
from streaming_lakehouse.settings import local_path
from streaming_lakehouse.sinks import Outlet, Sink, kafka

_OWNER = "sink 'foreach'"
_LINE = "_line"


@dataclass
class LineFiles:
    """Writes the rows of a partition of a micro-batch to a file of their own, `<epoch>-<partition>.jsonl`.

    A repeat of the batch writes the same file again. The first partition's file is there also without a row, so that
    the folder tells which batches it has. Spark sends this object to each task, with nothing open yet.
    """

    folder: str
    file: IO[str] | None = None
    name: str = ""
    is_first: bool = False

    def open(self, partition_id: int, epoch_id: int) -> bool:
        """True: the rows of this partition are wanted."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        self.name = f"{self.folder}/{epoch_id:09d}-{partition_id:05d}"
        self.is_first = partition_id == 0  # Spark makes one also of a batch that has none
        self.file = Path(f"{self.name}.{os.getpid()}.draft").open("w", encoding="utf-8")  # noqa: SIM115
        return True

    def process(self, row: Row) -> None:
        assert self.file is not None
        self.file.write(f"{row[_LINE]}\n")

    def close(self, error: Exception | None) -> None:
        """With an error the task is tried again, or the run has failed: nothing of it is left."""
        if self.file is None:
            return
        self.file.close()
        draft = Path(self.file.name)
        if error is None and (self.is_first or draft.stat().st_size):
            os.replace(draft, f"{self.name}.jsonl")
        else:
            draft.unlink()


def start(rows: DataFrame, outlet: Outlet) -> StreamingQuery:
    """Writes below the folder `path`, in one that is named like the table; a row is a JSON object in a line.

    Raises LakehouseError for a folder that is not of the checkpoint's age.
    """
    written = (batch for batch, file in _pieces(folder(outlet)) if file.suffix == ".jsonl")
    ages.refuse_folder_of_another_age(str(outlet.query.checkpoint), folder(outlet), written)
    _remove_unfinished(outlet)
    lines = rows.select(kafka.as_json(*rows.columns).alias(_LINE))
    return outlet.query.writer(lines).foreach(LineFiles(folder(outlet))).start()


def _remove_unfinished(outlet: Outlet) -> None:
    """Takes away what there is of a batch that is done again: it may be cut into other partitions this time."""
    ended = checkpoints.newest_ended(str(outlet.query.checkpoint))
    for batch, file in _pieces(folder(outlet)):
        if ended is None or batch > ended:
            file.unlink()


def _pieces(folder: str) -> list[tuple[int, Path]]:
    """What `LineFiles` has left there, drafts too, each with the number of its batch."""
    found = ((file.name.partition("-")[0], file) for file in Path(folder).glob("[0-9]*-[0-9]*.*"))
    return [(int(number), file) for number, file in found if number.isdigit()]


def folder(outlet: Outlet) -> str:
    return str(local_path("path", required(_OWNER, outlet.options, "path")) / outlet.table.title)


def read(folder: Path) -> list[dict[str, object]]:
    """The rows that were written so far."""
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def place(outlet: Outlet) -> dict[str, str]:
    return {"path": folder(outlet)}


SINK = Sink(
    "foreach",
    Options(_OWNER, ("path",)),
    guarantee="exactly once",
    start=start,
    place=place,
    repeats=True,
)
