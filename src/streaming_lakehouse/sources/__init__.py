"""The sources that records are read from, one module each: the only package that reads external streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from socket import create_connection

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.config import registry
from streaming_lakehouse.config.options import OptionSpec
from streaming_lakehouse.config.secrets import reject_plaintext_secrets
from streaming_lakehouse.config.triggers import Trigger
from streaming_lakehouse.pipeline import Bronze

_CONNECT_SECONDS = 5


@dataclass(frozen=True)
class ReadRequest:
    """Which records to read: those of `bronze` in the pipeline of that name. `options` are the source's own.

    `shared` are the names, in lower case, of the options that the pipeline's other bronze tables have too.
    """

    pipeline: str
    bronze: Bronze
    options: Mapping[str, str]
    trigger: Trigger
    shared: frozenset[str] = frozenset()


class SourceAdmin:
    """Asks the system behind a source about itself, before and while a run reads it. This one knows nothing."""

    def ids(self, recorded: Mapping[str, str]) -> dict[str, str]:
        """The known ids that distinguish the source from another one at its address, as of a recreated topic.

        `recorded` are those that the checkpoint has. Raises LakehouseError where what is to be read does not exist.
        """
        return {}

    def lag(self, end_offsets: str | None) -> int | None:
        """The records that the source has now behind `end_offsets`, a query's; None if unknown."""
        return None

    def close(self) -> None:
        """Ends the connection, if there is one."""


@dataclass(frozen=True)
class OffsetRange:
    """What a batch reads, in the JSON of Spark's Kafka offsets; no `start` where nothing was read before."""

    start: str | None
    end: str


def _cannot_reread(
    spark: SparkSession, request: ReadRequest, failure: str, offsets: Callable[[], OffsetRange]
) -> DataFrame | None:
    return None


def _no_admin(spark: SparkSession, request: ReadRequest) -> SourceAdmin:
    return SourceAdmin()


def _no_warning(checkpoint: str) -> None:
    return None


def _nothing_unread(request: ReadRequest) -> str:
    return ""


def _nothing_missing(checkpoint: str, batch: int) -> None:
    pass


@dataclass(frozen=True)
class Source:
    """`read` returns a streaming DataFrame in bronze's envelope, all columns but `ingested_at`.

    `address` identifies the topic, folder or seed that a checkpoint's offsets refer to. It raises LakehouseError if
    the options name none. `admin` asks for what a run must know of the source beside its records. `reread` reads a
    batch, which has failed in Spark with this text, in another way; None if there is none. `one_table` holds the
    options that name the records of a single bronze table. `warning` returns what is to be said of records that changed
    after a checkpoint's query has read them, None if nothing. `is_bounded`: available-now ends. `is_replayable`: a
    record that was sent once can be read again. `is_synthetic`: records come from the bronze table's generator.
    `unread` says which records there are that Spark passes over, as a sentence, or "". `check_batch` raises
    LakehouseError where records that a checkpoint's batch is to read are gone, and Spark would read the others.
    """

    name: str
    options: OptionSpec
    read: Callable[[SparkSession, ReadRequest], DataFrame]
    address: Callable[[ReadRequest], dict[str, str]]
    one_table: tuple[str, ...] = ()
    is_bounded: bool = True
    is_replayable: bool = True
    admin: Callable[[SparkSession, ReadRequest], SourceAdmin] = _no_admin
    reread: Callable[[SparkSession, ReadRequest, str, Callable[[], OffsetRange]], DataFrame | None] = _cannot_reread
    is_synthetic: bool = False
    warning: Callable[[str], str | None] = _no_warning
    unread: Callable[[ReadRequest], str] = _nothing_unread
    check_batch: Callable[[str, int], None] = _nothing_missing

    def check(self, options: Mapping[str, str]) -> None:
        """Raises LakehouseError for an unknown option, an invalid value, or a credential in plaintext."""
        self.options.check(options)
        reject_plaintext_secrets(options)


def get_source(name: str) -> Source:
    """The source of that name. Raises LakehouseError if there is none."""
    source: Source = registry.load("source", __name__, registry.SOURCES, name)
    return source


def connection_error(host: str, port: int) -> str | None:
    """Why the address is unreachable, or None if it is reachable."""
    try:
        create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:  # UnicodeError for an invalid host name
        return getattr(error, "strerror", None) or str(error)
    return None
