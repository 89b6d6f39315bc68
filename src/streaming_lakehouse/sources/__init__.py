"""Where records come from: the only place with `readStream`; one module a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from socket import create_connection

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.options import Options
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.sources.secrets import refuse_in_clear
from streaming_lakehouse.triggers import Trigger

_CONNECT_SECONDS = 5


@dataclass(frozen=True)
class Request:
    """What a source is asked for. `options` are Spark's own, by the names the user gave."""

    pipeline: Pipeline
    options: Mapping[str, str]
    trigger: Trigger


def _no_ids(spark: SparkSession, request: Request) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Source:
    """`read` gives a streaming DataFrame in bronze's envelope, all columns but `ingested_at`.

    `place` tells in what the records lie, as a checkpoint counts them: with another place its offsets mean nothing.
    It raises LakehouseError where the options name none. `ids` tell that place from another which may have come to its
    names since, as far as they can be known here. `accepts` holds the options it takes, in Spark's spelling; one
    that ends in `.` stands for all that begin so. Those that are whole numbers are in `least` with the least of them,
    those that are true or false in `flags`. `ends` is false where there is no "all there is" that a run could take,
    `is_kept` is false where what was sent once cannot be read again.
    """

    name: str
    accepts: tuple[str, ...]
    read: Callable[[SparkSession, Request], DataFrame]
    place: Callable[[Request], dict[str, str]]
    least: Mapping[str, int]
    flags: tuple[str, ...] = ()
    ends: bool = True
    is_kept: bool = True
    ids: Callable[[SparkSession, Request], dict[str, str]] = _no_ids

    @property
    def options(self) -> Options:
        return Options(f"source {self.name!r}", self.accepts, self.least, self.flags)

    def check(self, given: Mapping[str, str]) -> None:
        """Raises LakehouseError for an option the source does not take, or a credential in clear."""
        self.options.check(given)
        refuse_in_clear(given)


def find_source(name: str) -> Source:
    """The source of that name. Raises LakehouseError where there is none."""
    # Here, since they import this module's types.
    from streaming_lakehouse.sources import eventhubs, files, generator, kafka, rate, socket

    known = (kafka, eventhubs, files, generator, socket)
    all_sources = [*(module.SOURCE for module in known), rate.RATE, rate.MICRO_BATCH]
    sources: dict[str, Source] = {source.name: source for source in all_sources}
    if name not in sources:
        raise LakehouseError(f"there is no source {name!r}{did_you_mean(name, sources)}")
    return sources[name]


def unreachable(host: str, port: int) -> str | None:
    """Why nobody answers there, or None where somebody does."""
    try:
        create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # the second for what can be no host's name
        return getattr(error, "strerror", None) or str(error)
    return None
