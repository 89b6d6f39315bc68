"""`lakehouse evaluate`: detections in gold against the episodes that the generator wrote to its truth file."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pyspark.sql import SparkSession, functions as F
from rich.table import Table as Grid

from streaming_lakehouse.config.storage import Storage, expand_user
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.pipeline import Detection, Pipeline
from streaming_lakehouse.sinks import delta

_MICROSECOND = timedelta(microseconds=1)


class Episode(NamedTuple):
    """One anomaly of the truth file; times are microseconds since 1970."""

    entity: str
    first: int
    last: int


class Found(NamedTuple):
    """One detection: a row of a gold table."""

    entity: str
    time: int


@dataclass(frozen=True)
class Score:
    """How well one kind of anomaly is detected.

    episodes: those that could be detected. open: episodes too close to the end of the data for their windows to have
    closed; they count neither way. detections: rows of the gold table; false: those that match no episode, open ones
    included. precision, recall: between 0 and 1, None where there is nothing to divide by. delay_s: median seconds from
    an episode's first event to its first detection. false_per_hour: of event time.
    """

    kind: str
    episodes: int
    open: int
    detected: int
    detections: int
    false: int
    precision: float | None
    recall: float | None
    delay_s: float | None
    false_per_hour: float | None


def evaluate(pipeline: Pipeline, storage: Storage, spark: SparkSession, truth: Path) -> list[Score]:
    """A score for each kind of anomaly.

    Raises LakehouseError where the pipeline detects nothing, where the truth is that of another pipeline or no truth
    file, or where a table is missing.
    """
    if not pipeline.detections:
        raise LakehouseError(f"pipeline {pipeline.name!r} declares no detections to evaluate")
    episodes = _read_truth(truth, pipeline)
    first, last = _event_times(pipeline, storage, spark)
    scores = []
    for detection in pipeline.detections:
        closed_until = last - _watermark(pipeline, detection) // _MICROSECOND
        found = _detections(detection, storage, spark)
        scores.append(score(detection, episodes[detection.kind], found, closed_until=closed_until, span=last - first))
    return scores


def score(
    detection: Detection, episodes: Iterable[Episode], found: Iterable[Found], *, closed_until: int, span: int
) -> Score:
    """Matches detections with episodes of the same entity. `span` is the event time of the data, in microseconds."""
    tolerance = detection.tolerance // _MICROSECOND
    by_entity: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_entity[episode.entity].append(episode)
    delays: dict[Episode, int] = {}
    detections = false = 0
    for row in sorted(found, key=lambda row: row.time):
        detections += 1
        matching = [each for each in by_entity[row.entity] if each.first <= row.time <= each.last + tolerance]
        false += not matching
        for episode in matching:
            delays.setdefault(episode, row.time - episode.first)
    every = [episode for same in by_entity.values() for episode in same]
    closed = [each for each in every if each in delays or each.last + tolerance <= closed_until]
    detected, hours = len(delays), span / 3_600e6
    return Score(
        kind=detection.kind,
        episodes=len(closed),
        open=len(every) - len(closed),
        detected=detected,
        detections=detections,
        false=false,
        precision=(detections - false) / detections if detections else None,
        recall=detected / len(closed) if closed else None,
        delay_s=median(delays.values()) / 1e6 if delays else None,
        false_per_hour=false / hours if hours else None,
    )


def _read_truth(file: Path, pipeline: Pipeline) -> dict[str, list[Episode]]:
    """The episodes by their kind."""
    path = expand_user("--truth", file)
    try:
        truth = json.loads(path.read_text())
        if truth["pipeline"] != pipeline.name:
            raise LakehouseError(f"--truth {file} is of pipeline {truth['pipeline']!r}, not of {pipeline.name!r}")
        listed = [episode for table in truth["tables"].values() for episode in table["episodes"]]
        spans: dict[tuple[str, str, str], tuple[int, int]] = {}
        for each in listed:  # an episode may have records in several tables
            key = each["kind"], each["entity"], each["id"]
            first, last = _micros(each["first_event"]), _micros(each["last_event"])
            before = spans.get(key, (first, last))
            spans[key] = min(first, before[0]), max(last, before[1])
    except OSError as error:
        raise LakehouseError(f"--truth {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LakehouseError(
            f"--truth {file} is no truth file; write one with lakehouse generate {pipeline.name} --truth FILE"
        ) from error
    found: dict[str, list[Episode]] = defaultdict(list)
    for (kind, entity, _), (first, last) in spans.items():
        found[kind].append(Episode(entity, first, last))
    return found


def _micros(time: str) -> int:
    return (datetime.fromisoformat(time) - datetime.fromisoformat("1970-01-01T00:00:00Z")) // _MICROSECOND


def _event_times(pipeline: Pipeline, storage: Storage, spark: SparkSession) -> tuple[int, int]:
    """The first and the last event time in silver."""
    first, last = [], []
    for silver in pipeline.silver:
        table = storage.table("silver", silver.table)
        if delta.exists(spark, table):
            time = F.unix_micros(silver.event_time)
            row = delta.read(spark, table).agg(F.min(time).alias("first"), F.max(time).alias("last")).collect()[0]
            first += [row["first"]] if row["first"] is not None else []
            last += [row["last"]] if row["last"] is not None else []
    if not first:
        raise LakehouseError(
            f"pipeline {pipeline.name!r} has no events in silver to evaluate; name the --root or --catalog of its run"
        )
    return min(first), max(last)


def _watermark(pipeline: Pipeline, detection: Detection) -> timedelta:
    return max(stream.watermark for gold in pipeline.gold if gold.table == detection.table for stream in gold.streams)


def _detections(detection: Detection, storage: Storage, spark: SparkSession) -> Iterator[Found]:
    table = storage.table("gold", detection.table)
    if not delta.exists(spark, table):
        raise LakehouseError(
            f"{table} does not exist, which has the detections of {detection.kind}; run its step first"
        )
    rows = delta.read(spark, table).where(detection.where)
    found = rows.select(
        F.col(detection.entity).cast("string").alias("entity"), F.unix_micros(detection.time).alias("t")
    )
    return (Found(row["entity"], row["t"]) for row in found.collect())


def as_grid(scores: Iterable[Score]) -> Grid:
    """The scores as a table."""
    grid = Grid(box=None, pad_edge=False)
    grid.add_column("kind")
    for heading in ("episodes", "open", "detected", "precision", "recall", "delay", "false/h"):
        grid.add_column(heading, justify="right")
    for each in scores:
        grid.add_row(
            each.kind,
            f"{each.episodes:,}",
            f"{each.open:,}",
            f"{each.detected:,}",
            _ratio(each.precision),
            _ratio(each.recall),
            "" if each.delay_s is None else f"{each.delay_s:,.0f} s",
            "" if each.false_per_hour is None else f"{each.false_per_hour:.2f}",
        )
    return grid


def as_json(scores: Iterable[Score]) -> str:
    return json.dumps([asdict(each) for each in scores], indent=1)


def _ratio(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"
