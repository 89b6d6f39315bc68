"""Spark's exceptions as one line for the user: what happened, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from streaming_lakehouse.config.redaction import redact
from streaming_lakehouse.sources.kafka import TIMESTAMP_OVERFLOW

# What Spark raises; py4j has several exceptions for a JVM that has ended.
SPARK_EXCEPTIONS = (PySparkException, Py4JError, ConnectionError)
_JVM_ENDED = "Spark's JVM has ended, killed or out of memory; start again: the run resumes where it stopped"
_START_AGAIN = "then start again: the run resumes where it stopped"
_NOT_WRITABLE = f"cannot write to {{0}}; make it writable, {_START_AGAIN}"
_AFTER_TRANSFORM_CHANGE = "as after a change of its transform; {rebuild}"
REBUILD = "archive this step's table and checkpoint, and those of the steps after it, to rebuild them"
# A pattern in the exception's text, and the message for the user; {0} is the first group, {file} the
# file that was read, {rebuild} the step's remedy.
_ERROR_PATTERNS = (
    (
        TIMESTAMP_OVERFLOW,
        "the record at topic {0}, partition {1}, offset {2} has the timestamp {3}, which Spark cannot represent: the "
        "producer must send milliseconds. The layers read such records; for the hot path archive its checkpoint, and "
        "give --option startingOffsets=… behind it",
    ),
    (
        r"UnknownTopicOrPartition",
        "the topic does not exist on the broker; create it, or name another with --option subscribe=… (a sink's: "
        "topic=…, an event hub: eventhubs.name=…)",
    ),
    (
        r"Some data may have been lost|KAFKA_DATA_LOSS|OffsetOutOfRange",
        "unread records are gone from the topic (by retention, or it was recreated). To continue without them, use "
        "--option failOnDataLoss=false; otherwise restore the topic first",
    ),
    (
        r"(?:TimeoutException|DisconnectException)\b.*(?:node|broker|describeTopics|listOffsets|metadata|position)",
        "the broker does not respond, or rejects an expired token; check that it runs and that this machine's clock "
        "is right, then start again: the run resumes where it stopped",
    ),
    (
        r"SslAuthenticationException|SSLHandshakeException|PKIX path",
        "the server's certificate is not trusted; give its certificate authority with --option "
        "kafka.ssl.truststore.location=… (and kafka.ssl.truststore.type=PEM for a PEM file)",
    ),
    (r"SaslAuthenticationException: ([^\n]*)", "the broker refused the credentials ({0})"),
    (
        r"No space left on device|File too large",
        "the disk is full; free some space and start again: the run resumes where it stopped",
    ),
    (r"(?:EOFException|ZipException)[^\n]*|Unexpected end of ZLIB", "a compressed file is truncated or damaged{file}"),
    # Java has the same exception for a file that it may not open, with the operating system's reason.
    (
        r"FileNotFoundException: (\S+) \((?!No such file)([^)\n]+)\)",
        f"{{0}} cannot be opened: {{1}}; correct this, {_START_AGAIN}",
    ),
    (r"(?:DELTA_CANNOT_CREATE_LOG_PATH\] Cannot create|Mkdirs failed to create) (?:file:)?(\S+)", _NOT_WRITABLE),
    (
        r"(?:FileSystemException|AccessDeniedException): (/[^\s:]+)(?::| ->)[^\n]*"
        r"(?:Read-only file system|Not a directory)",
        _NOT_WRITABLE,
    ),
    (
        r"DELTA_(?:MISSING_FILES_UNEXPECTED_VERSION|LOG_FILE_NOT_FOUND_FOR_STREAMING_SOURCE|STREAMING_TRAILING_COMMIT_"
        r"MISSING|VERSIONS_NOT_CONTIGUOUS)",
        "versions that it has not read yet are gone from the log of the table that it reads (Delta removes them after "
        "30 days, see delta.logRetentionDuration); {rebuild}",
    ),
    (
        r"FileNotFoundException: (?:File )?((?!\S*_delta_log)\S+\.parquet)",
        "a file that it has not read yet is gone from the table that it reads, as after a delete or OPTIMIZE and then "
        "VACUUM: {0}; {rebuild}",
    ),
    (r"FileNotFoundException: (?:File )?(\S+)", "a file that the query reads is gone: {0}"),
    (
        r"(?:AccessControlException|AccessDeniedException|Permission denied)[^\n]*?(/[^\s:]+)",
        f"no permission for {{0}}; correct this, {_START_AGAIN}",
    ),
    (r"LakehouseError: ([^\n]*)", "{0}"),
    (r"FAILED_READ_FILE", "a file cannot be read or is damaged{file}"),
    (
        r"DIFFERENT_DELTA_TABLE_READ_BY_STREAMING_SOURCE",
        "the table it reads was recreated; {rebuild}",
    ),
    (
        r"DELTA_FAILED_TO_MERGE_FIELDS\S* [^\n]*?'(\w+)'",
        "{0} has another type than in the table, " + _AFTER_TRANSFORM_CHANGE,
    ),
    (
        r"DELTA_SCHEMA_CHANGED|DELTA_STREAMING_INCOMPATIBLE_SCHEMA_CHANGE",
        "the columns of the table it reads have changed; start again: the run resumes where it stopped",
    ),
    (
        r"STATE_STORE_(?:KEY|VALUE)_SCHEMA_NOT_COMPATIBLE|STREAMING_STATEFUL_OPERATOR_NOT_MATCH",
        "the state in its checkpoint belongs to other aggregations, " + _AFTER_TRANSFORM_CHANGE,
    ),
    (
        r"Answer from Java side is empty|trying to connect to the Java server|Error while sending or receiving|"
        r"does not exist in the JVM|\AAn error occurred while calling \S+\s*\Z",
        _JVM_ENDED,
    ),
)
# The same for invalid option values; Spark itself names the option in few of these errors.
_OPTION_PATTERNS = (
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
        "one --option has the value {0} and takes an integer",
    ),
    (r'\AFor input string: ("[^"\n]*")', "one --option has the value {0} and takes true or false"),
    (r"Illegal file pattern: ([^\n]*)", "--option pathGlobFilter is not a valid pattern: {0}"),
    (
        r"Failed to create new KafkaAdminClient[\s\S]*\b(?:KafkaException|ConfigException): ([^\n]*)",
        "Kafka's client cannot be created with these --option kafka.…: {0}",
    ),
)
_FILE = re.compile(r"(?:Encountered error while reading file|FAILED_READ_FILE[^\n]*?file) (\S+?)\.?\s")
# Spark's wrapper around the message of a failed query.
_SPARK_WRAPPER = re.compile(
    r"\[STREAM_FAILED\] Query \[[^\]]*\] terminated with exception: "
    r"| *SQLSTATE: \w{5}\b(?: \(line \d+, pos \d+\)|; line \d+ pos \d+)?;?"
)
# Java's own exception has its message in the second line of py4j's.
_PYTHON_TRACEBACK = re.compile(
    r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*"
    r"(?:py4j\.protocol\.Py4JJavaError: An error occurred while calling \S+\n: )?(\S.*)"
)
_MAX_LENGTH = 500


def to_user_message(error: BaseException, rebuild: str = REBUILD) -> str:
    """`error`, one of SPARK_EXCEPTIONS, as one line for the user, with secrets redacted; `rebuild` is the remedy."""
    if isinstance(error, ConnectionError):
        return _JVM_ENDED
    text = _SPARK_WRAPPER.sub("", "\n".join(_exception_chain(error))).strip() + "\n"
    file = _FILE.search(text)
    for pattern, meaning in _ERROR_PATTERNS + _OPTION_PATTERNS:
        found = re.search(pattern, text)
        if found:
            hint = f": {file[1]}; replace it with a complete copy and start again" if file else ""
            return redact(meaning.format(*found.groups(), file=hint, rebuild=rebuild))
    return redact(_summary_line(text))


def _exception_chain(error: BaseException) -> Iterator[str]:
    """The texts of an exception and of its causes, some of which pyspark holds as its own, some as Java's."""
    cause: Any = error
    while cause is not None:
        java = getattr(cause, "java_exception", None)
        if java is None:  # py4j's own text would be the whole stack trace
            yield str(cause).partition("=== Streaming Query ===")[0]
            java = getattr(cause, "_origin", None)
        while java is not None:
            yield java.toString()
            java = java.getCause()
        cause = getattr(cause, "_cause", None)


def _summary_line(text: str) -> str:
    """The first line, or the message of a Python traceback from a worker or foreachBatch."""
    messages = _PYTHON_TRACEBACK.findall(text)
    lines = [*messages[-1:], *(line.strip() for line in text.splitlines() if line.strip())]
    return (lines[0] if lines else "Spark gave no reason")[:_MAX_LENGTH].removesuffix(";")
