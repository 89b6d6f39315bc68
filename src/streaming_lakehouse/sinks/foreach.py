"""Row by row, with a writer that has `open`, `process` and `close`: for systems without a Spark sink.

This writer writes files of JSON lines. For another system, copy it and write there instead. It is exactly once, because
(partition, epoch) identifies a part of the output, and a part is written atomically.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pyspark.sql import DataFrame, Row
from pyspark.sql.streaming.query import StreamingQuery

from streaming_lakehouse.checkpointing import consistency, metadata
from streaming_lakehouse.config.options import OptionSpec, require_option
from streaming_lakehouse.config.storage import local_path
from streaming_lakehouse.sinks import Sink, WriteRequest, kafka

_OWNER = "sink 'foreach'"
_LINE = "_line"


@dataclass
class JsonLinesWriter:
    """Writes each partition of a micro-batch to its own file, `<epoch>-<partition>.jsonl`.

    A replayed batch writes the same file again. The first partition's file is written even without rows, so that each
    batch has a file in the folder. Spark serializes this object to each task before `open`.
    """

    folder: str
    file: IO[str] | None = None
    name: str = ""
    is_first: bool = False

    def open(self, partition_id: int, epoch_id: int) -> bool:
        """Opens the draft of the partition's file; True: Spark shall process the rows."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        self.name = f"{self.folder}/{epoch_id:09d}-{partition_id:05d}"
        self.is_first = partition_id == 0  # also exists in a batch without rows
        self.file = Path(f"{self.name}.{os.getpid()}.draft").open("w", encoding="utf-8")  # noqa: SIM115
        return True

    def process(self, row: Row) -> None:
        assert self.file is not None
        self.file.write(f"{row[_LINE]}\n")

    def close(self, error: Exception | None) -> None:
        """Commits the file, or removes it after an error: Spark then retries the task, or the run has failed."""
        if self.file is None:
            return
        self.file.close()
        draft = Path(self.file.name)
        if error is None and (self.is_first or draft.stat().st_size):
            os.replace(draft, f"{self.name}.jsonl")
        else:
            draft.unlink()


def start(rows: DataFrame, request: WriteRequest) -> StreamingQuery:
    """Writes to the folder `<path>/<table>`, one JSON object per line.

    Raises LakehouseError for a folder that is out of sync with the checkpoint.
    """
    written = (batch for batch, file in _part_files(folder(request)) if file.suffix == ".jsonl")
    consistency.check_folder_in_sync(str(request.query.checkpoint), folder(request), written)
    _remove_uncommitted(request)
    lines = rows.select(kafka.to_json_column(*rows.columns).alias(_LINE))
    return request.query.writer(lines).foreach(JsonLinesWriter(folder(request))).start()


def _remove_uncommitted(request: WriteRequest) -> None:
    """Removes the files of a batch that will be replayed: it may have other partitions this time."""
    committed = metadata.latest_commit_batch(str(request.query.checkpoint))
    for batch, file in _part_files(folder(request)):
        if committed is None or batch > committed:
            file.unlink()


def _part_files(folder: str) -> list[tuple[int, Path]]:
    """The files of `JsonLinesWriter`, drafts too, each with the number of its batch."""
    found = ((file.name.partition("-")[0], file) for file in Path(folder).glob("[0-9]*-[0-9]*.*"))
    return [(int(number), file) for number, file in found if number.isdigit()]


def folder(request: WriteRequest) -> str:
    return str(local_path("path", require_option(_OWNER, request.options, "path")) / request.table.name)


def read(folder: Path) -> list[dict[str, object]]:
    """The rows written so far."""
    return [json.loads(line) for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]


def address(request: WriteRequest) -> dict[str, str]:
    return {"path": folder(request)}


SINK = Sink(
    "foreach",
    OptionSpec(_OWNER, ("path",)),
    guarantee="exactly once",
    start=start,
    address=address,
    recomputes_on_replay=True,
)
