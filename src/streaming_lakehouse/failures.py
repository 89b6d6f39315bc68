"""Spark's exceptions as one clear line: what happened, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pyspark.errors import PySparkException

from streaming_lakehouse.sources.secrets import redacted

# What is found in the exception's text, and what it means for the user; {0} is the first group.
_KNOWN = (
    (
        r"UnknownTopicOrPartition",
        "the topic does not exist on the broker; create it, or name another with --option subscribe=…",
    ),
    (
        r"Some data may have been lost|KAFKA_DATA_LOSS|OffsetOutOfRange",
        "records that were not read yet are gone from the topic (retention, or it was made anew). If they can be "
        "spared, go on with --option failOnDataLoss=false; if not, restore the topic first",
    ),
    (
        r"(?:TimeoutException|DisconnectException)\b.*(?:node|broker|describeTopics|listOffsets|metadata|position)",
        "the broker does not answer; see that it runs, and start again: the run goes on where it stopped",
    ),
    (r"SaslAuthenticationException: ([^\n]*)", "the broker refused the credentials ({0})"),
    (r"No space left on device", "the disk is full; free some space and start again: the run goes on where it stopped"),
    (r"(?:EOFException|ZipException)[^\n]*|Unexpected end of ZLIB", "a compressed file is cut off or damaged{file}"),
    (r"FileNotFoundException: (?:File )?(\S+)", "a file is gone that was to be read: {0}"),
    (r"(?:AccessControlException|Permission denied)[^\n]*?(/\S+)", "no permission for {0}"),
    (r"LakehouseError: ([^\n]*)", "{0}"),
)
_FILE = re.compile(r"(?:Encountered error while reading file|FAILED_READ_FILE[^\n]*?file) (\S+?)\.? ")
_LONGEST = 500


def explained(error: PySparkException) -> str:
    """What `error` says, in one line and without a credential."""
    text = "\n".join(_told(error))
    file = _FILE.search(text)
    for pattern, meaning in _KNOWN:
        found = re.search(pattern, text)
        if found:
            named = f": {file[1]}; put a whole copy in its place and start again" if file else ""
            return redacted(meaning.format(*found.groups(), file=named))
    return redacted(_first_line(text))


def _told(error: PySparkException) -> Iterator[str]:
    """The texts of an exception and of all that caused it: pyspark keeps some causes as its own, some as Java's."""
    captured: Any = error
    while captured is not None:
        yield str(captured)
        java = getattr(captured, "_origin", None)
        while java is not None:
            yield java.toString()
            java = java.getCause()
        captured = getattr(captured, "_cause", None)


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and "=== Streaming Query ===" not in line]
    return (lines[0] if lines else "Spark gave no reason")[:_LONGEST]
