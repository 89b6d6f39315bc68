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


def _no_fingerprint(spark: SparkSession, request: ReadRequest) -> dict[str, str]:
    return {}


def _no_warning(checkpoint: str) -> None:
    return None


def _nothing_unread(request: ReadRequest) -> str:
    return ""


@dataclass(frozen=True)
class Source:
    """`read` returns a streaming DataFrame in bronze's envelope, all columns but `ingested_at`.

    `address` identifies the topic, folder or seed that a checkpoint's offsets refer to. It raises LakehouseError if
    the options name none. `fingerprint` holds the known ids that distinguish it from another one of the same name,
    such as a topic that was deleted and recreated. `one_table` holds the options that name the records of a single
    bronze table. `warning` returns what is to be said of records that changed after a checkpoint's query has read them,
    None if nothing. `is_bounded` is false if available-now would never end, `is_replayable` if records that were sent
    once cannot be read again; `is_synthetic` is true if they come from the bronze table's generator. `unread` says
    which records there are that Spark passes over, as a sentence, or "".
    """

    name: str
    options: OptionSpec
    read: Callable[[SparkSession, ReadRequest], DataFrame]
    address: Callable[[ReadRequest], dict[str, str]]
    one_table: tuple[str, ...] = ()
    is_bounded: bool = True
    is_replayable: bool = True
    is_synthetic: bool = False
    fingerprint: Callable[[SparkSession, ReadRequest], dict[str, str]] = _no_fingerprint
    warning: Callable[[str], str | None] = _no_warning
    unread: Callable[[ReadRequest], str] = _nothing_unread

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
