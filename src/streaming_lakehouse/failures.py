"""Spark's exceptions as one clear line: what happened, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from streaming_lakehouse.unseen import redacted

# How Spark and its JVM fail; of one that has ended, py4j has several ways to tell.
FAULTS = (PySparkException, Py4JError, ConnectionError)
_JVM_ENDED = "Spark's JVM has ended, killed or out of memory; start again: the run goes on where it stopped"
_CHANGED = "as after a change of its transform; move this step's table and checkpoint away, to make both anew"
# What is found in the exception's text, and what it means for the user; {0} is the first group.
_KNOWN = (
    (
        r"UnknownTopicOrPartition",
        "the topic does not exist on the broker; create it, or name another with --option subscribe=… (a sink's: "
        "topic=…, an event hub: eventhubs.name=…)",
    ),
    (
        r"Some data may have been lost|KAFKA_DATA_LOSS|OffsetOutOfRange",
        "records that were not read yet are gone from the topic (retention, or it was made anew). If they can be "
        "spared, go on with --option failOnDataLoss=false; if not, restore the topic first",
    ),
    (
        r"(?:TimeoutException|DisconnectException)\b.*(?:node|broker|describeTopics|listOffsets|metadata|position)",
        "the broker does not answer, or not to an expired token; see that it runs and that this machine's clock is "
        "right, and start again: the run goes on where it stopped",
    ),
    (
        r"SslAuthenticationException|SSLHandshakeException|PKIX path",
        "the server's certificate is not trusted; name the authority that vouches for it with --option "
        "kafka.ssl.truststore.location=… (and kafka.ssl.truststore.type=PEM for a PEM file)",
    ),
    (r"SaslAuthenticationException: ([^\n]*)", "the broker refused the credentials ({0})"),
    (
        r"No space left on device|File too large",
        "the disk is full; free some space and start again: the run goes on where it stopped",
    ),
    (r"(?:EOFException|ZipException)[^\n]*|Unexpected end of ZLIB", "a compressed file is cut off or damaged{file}"),
    (r"FileNotFoundException: (?:File )?(\S+)", "a file is gone that was to be read: {0}"),
    (r"(?:AccessControlException|Permission denied)[^\n]*?(/\S+)", "no permission for {0}"),
    (r"LakehouseError: ([^\n]*)", "{0}"),
    (r"FAILED_READ_FILE", "a file cannot be read or is damaged{file}"),
    (
        r"DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE",
        "the table it reads was made anew since; move this step's table and checkpoint away too, to rebuild it",
    ),
    (
        r"DELTA_FAILED_TO_MERGE_FIELDS\S* [^\n]*?'(\w+)'",
        f"{{0}} is of another type than in the table, {_CHANGED}",
    ),
    (
        r"DELTA_SCHEMA_CHANGED|DELTA_STREAMING_INCOMPATIBLE_SCHEMA_CHANGE",
        "the table it reads has got other columns since; start again: the run goes on where it stopped",
    ),
    (
        r"STATE_STORE_(?:KEY|VALUE)_SCHEMA_NOT_COMPATIBLE|STREAMING_STATEFUL_OPERATOR_NOT_MATCH",
        f"the state in its checkpoint is of other aggregates, {_CHANGED}",
    ),
    (
        r"Answer from Java side is empty|trying to connect to the Java server|Error while sending or receiving|"
        r"does not exist in the JVM|\AAn error occurred while calling \S+\s*\Z",
        _JVM_ENDED,
    ),
)
# The same for a value that an option does not take; Spark itself names the option in few of these.
_OPTIONS = (
    (
        r'Expected e\.g\. \{"topicA": \{"0": 123456789[\s\S]*?, got ([^\n]*)',
        '--option startingOffsetsByTimestamp takes {{"TOPIC": {{"0": MILLISECONDS, …}}}} with each partition, not {0}',
    ),
    (
        r'Expected e\.g\. \{"topicA":\{"0":23[^\n]*, got ([^\n]*)',
        '--option startingOffsets takes earliest, latest, or {{"TOPIC": {{"0": 23, "1": -1}}}} with each partition '
        "(-2 is its earliest, -1 its latest), not {0}",
    ),
    (
        r"(?:Expected e\.g\. \{\"topicA\":\[0[^\n]*, got |option 'assign' is )([^\n]*)",
        '--option assign takes {{"TOPIC": [0, 1]}}, the partitions to read, not {0}',
    ),
    (
        r"Expected a single long value, got ([^\n]*)",
        "--option startingTimestamp takes milliseconds since 1970, not {0}",
    ),
    (
        r"\ANo value found for '([^']*)'",
        "--option startingOffsetsByTimestampStrategy takes error or latest, not {0}",
    ),
    (
        r"Invalid value (.*) for configuration ([\w.]+): ([^\n]*)",
        "--option kafka.{1} cannot be {0}: {2}",
    ),
    (r"Invalid value '([^'\n]*)' for option '(\w+)', ([^\n]*)", "--option {1} {2}, not '{0}'"),
    (
        r"Invalid mode for clean source option Some\((.*)\)",
        "--option cleanSource takes archive, delete or off, not {0}",
    ),
    (
        r"Failed to parse time string: ([^\n]*)",
        "an --option that is a time (maxTriggerDelay, maxFileAge) takes a number with its unit, e.g. 50s, 15m or 7d, "
        "not {0}",
    ),
    (
        r'\AFor input string: ("[^"\n]*")(?=[\s\S]*NumberFormatException: For input)',
        "one --option has the value {0} and takes a whole number",
    ),
    (r'\AFor input string: ("[^"\n]*")', "one --option has the value {0} and takes true or false"),
    (r"Illegal file pattern: ([^\n]*)", "--option pathGlobFilter is no file pattern: {0}"),
    (
        r"Failed to create new KafkaAdminClient[\s\S]*\b(?:KafkaException|ConfigException): ([^\n]*)",
        "Kafka's client cannot be made with these --option kafka.…: {0}",
    ),
)
_FILE = re.compile(r"(?:Encountered error while reading file|FAILED_READ_FILE[^\n]*?file) (\S+?)\.?\s")
# What Spark puts around the message of a query that failed.
_FRAME = re.compile(r"\[STREAM_FAILED\] Query \[[^\]]*\] terminated with exception: | *SQLSTATE: \w{5}\b")
_RAISED = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)")
_LONGEST = 500


def explained(error: BaseException) -> str:
    """What `error`, one of FAULTS, says, in one line and without a credential."""
    if isinstance(error, ConnectionError):
        return _JVM_ENDED
    text = _FRAME.sub("", "\n".join(_told(error))).strip() + "\n"
    file = _FILE.search(text)
    for pattern, meaning in _KNOWN + _OPTIONS:
        found = re.search(pattern, text)
        if found:
            named = f": {file[1]}; put a whole copy in its place and start again" if file else ""
            return redacted(meaning.format(*found.groups(), file=named))
    return redacted(_gist(text))


def _told(error: BaseException) -> Iterator[str]:
    """The texts of an exception and of all that caused it: pyspark keeps some causes as its own, some as Java's."""
    captured: Any = error
    while captured is not None:
        java = getattr(captured, "java_exception", None)
        if java is None:  # py4j's own text would be the whole stack trace
            yield str(captured).partition("=== Streaming Query ===")[0]
            java = getattr(captured, "_origin", None)
        while java is not None:
            yield java.toString()
            java = java.getCause()
        captured = getattr(captured, "_cause", None)


def _gist(text: str) -> str:
    """The first line, or of what Python raised, in a worker or in foreachBatch, the line below its frames."""
    raised = _RAISED.findall(text)
    lines = [*raised[-1:], *(line.strip() for line in text.splitlines() if line.strip())]
    return (lines[0] if lines else "Spark gave no reason")[:_LONGEST]
