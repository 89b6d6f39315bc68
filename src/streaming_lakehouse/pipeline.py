"""What a domain declares: a Pipeline of Bronze, Silver and Gold; and where declared pipelines are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame, types as T

from streaming_lakehouse import domains
from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.expectations import Expectation, expect_or_drop
from streaming_lakehouse.generation import Events


@dataclass(frozen=True)
class Bronze:
    """Every record as it came. `events` says how to make such records for demos and tests."""

    table: str
    events: Events


@dataclass(frozen=True)
class Silver:
    """Typed, valid events, one row an event.

    `schema` is the event's, as it stands in the JSON record. A row enters silver when all `rules` hold, when its
    `event_time` is not more than `watermark_hours` behind the newest event of the batches before, and when no row
    with the same `key` is there yet. All other rows go to quarantine with the reason.
    """

    table: str
    schema: T.StructType
    expectations: tuple[Expectation, ...]
    watermark_hours: float
    key: str = "event_id"
    event_time: str = "time"

    @property
    def rules(self) -> tuple[Expectation, ...]:
        """What every pipeline expects of an event, then what this one does.

        By key and time silver tells repeats and late rows. A watermark begins in 1970: gold would drop older rows.
        """
        key, time = self.key, self.event_time
        return (
            expect_or_drop(f"{key}_is_present", f"CAST({key} AS STRING) <> ''"),
            expect_or_drop(f"{time}_is_present", f"{time} IS NOT NULL"),
            expect_or_drop(
                f"{time}_is_not_before_1970", f"{time} IS NULL OR {time} >= TIMESTAMP '1970-01-01T00:00:00Z'"
            ),
            *self.expectations,
        )

    @property
    def watermark_delay(self) -> str:
        """The delay in the words of `withWatermark`; in seconds, so that fractions of an hour are exact."""
        return f"{round(self.watermark_hours * 3600)} seconds"


@dataclass(frozen=True)
class Gold:
    """A table made from silver by a pure function of its rows, which runs on a stream and on a batch alike.

    `key` names the columns that tell one row from all others. `modes` are the output modes in which the rows mean the
    same, the first of them where none is asked for: in update mode a row must take the place of the one with its key,
    in complete mode all rows must be in the state of the query. `aggregates` is true where the transform does, in
    windows or else.
    """

    table: str
    transform: Callable[[DataFrame], DataFrame]
    key: tuple[str, ...]
    modes: tuple[str, ...] = ("append", "update", "complete")
    aggregates: bool = True


@dataclass(frozen=True)
class Hot:
    """Rows made straight from the source's valid events, beside the layers, for those who cannot wait for a batch.

    The transform may select and project, no more: it has no state, so that an event that is delivered twice is told
    twice, and it has no watermark. The rows go outward under the name `title`, with `key` to tell repeats by.
    """

    title: str
    transform: Callable[[DataFrame], DataFrame]
    key: tuple[str, ...]


@dataclass(frozen=True)
class Pipeline:
    """A stream of events and all that is made of it."""

    name: str
    bronze: Bronze
    silver: Silver
    gold: tuple[Gold, ...]
    hot: Hot | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the pipeline's streaming queries, in the order the data flows."""
        return ("bronze", "silver", *(gold.table for gold in self.gold))

    def gold_table(self, name: str) -> Gold:
        return next(gold for gold in self.gold if gold.table == name)

    def chosen_steps(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The steps that `names` means, in the order of flow; all layers for no names.

        `gold` is every gold table; `hot`, the hot path, runs only where it is named.
        """
        golds, hot = tuple(gold.table for gold in self.gold), ("hot",) if self.hot else ()
        known = (*self.steps, *hot)
        for name in names:
            if name not in (*known, "gold"):
                raise LakehouseError(
                    f"pipeline {self.name!r} has no step {name!r}{did_you_mean(name, (*known, 'gold'))}"
                )
        wanted = {step for name in names for step in (golds if name == "gold" else (name,))} or set(self.steps)
        return tuple(step for step in known if step in wanted)


def pipeline_names() -> list[str]:
    """The folders below `domains`: each is a pipeline."""
    return sorted(module.name for module in pkgutil.iter_modules(domains.__path__) if module.ispkg)


def load_pipeline(name: str) -> Pipeline:
    """The pipeline declared in `domains/<name>/pipeline.py`.

    Raises LakehouseError where there is none, or where it has another name: a copy that kept its pattern's would go on
    with the pattern's checkpoints.
    """
    names = pipeline_names()
    if name not in names:
        raise LakehouseError(f"there is no pipeline {name!r}{did_you_mean(name, names)}")
    declared: Pipeline = importlib.import_module(f"{domains.__name__}.{name}.pipeline").PIPELINE
    if declared.name != name:
        raise LakehouseError(
            f"domains/{name}/pipeline.py declares a pipeline {declared.name!r}; call it {name!r} there"
        )
    return declared
