"""The rules on which source, trigger, sink, output mode, state and compute go together, each with its reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from streaming_lakehouse.pipeline import State
from streaming_lakehouse.sources import get_source

DELTA = "delta"  # what silver and gold read: the table of the layer before
_DELTA_NATIVE = "delta-native"
_TABLES = ("delta", _DELTA_NATIVE)
EXACTLY_ONCE = "exactly once"

GUIDE = "https://spark.apache.org/docs/4.2.0/streaming"
_DATABRICKS = "https://docs.databricks.com/aws/en"
_CONTINUOUS = f"{GUIDE}/performance-tips.html#continuous-processing"
_REAL_TIME = f"{_DATABRICKS}/structured-streaming/real-time-reference"
_API = f"{GUIDE}/apis-on-dataframes-and-datasets.html"
_MODES = f"{_API}#output-modes"
_SINKS = f"{_API}#output-sinks"


@dataclass(frozen=True)
class QuerySpec:
    """One streaming query's configuration: what it reads, its trigger, its state, its sink and its output mode.

    `step` is the step's name, `trigger` a Trigger's `kind`. `is_mode_supported` is false where the pipeline does not
    allow this mode for the table. `input_guarantee` is what the run guarantees of the table that the query reads.
    """

    step: str
    source: str
    trigger: str
    sink: str
    mode: str
    compute: str = "local"
    state: State = State.NONE
    has_watermark: bool = True
    is_mode_supported: bool = True
    input_guarantee: str = EXACTLY_ONCE

    def __str__(self) -> str:
        return f"{self.source} → {self.sink}, {self.mode}, {self.trigger}"

    @property
    def is_hot(self) -> bool:
        return self.step.startswith("hot.")

    @property
    def is_continuous(self) -> bool:
        return self.trigger == "continuous"

    @property
    def is_real_time(self) -> bool:
        return self.trigger == "real-time"

    @property
    def is_micro_batch(self) -> bool:
        return not self.is_continuous and not self.is_real_time


class RefusedBy(StrEnum):
    """Who refuses: Spark, with an error; Databricks' compute; or this project, where Spark would be silent."""

    SPARK = "Spark"
    DATABRICKS = "Databricks"
    LAKEHOUSE = "streaming-lakehouse"


@dataclass(frozen=True)
class Rule:
    """What does not work, the reason, what works instead, and the reference. `matches` is true where it applies."""

    name: str
    reason: str
    suggestion: str
    reference: str
    refused_by: RefusedBy
    matches: Callable[[QuerySpec], bool] = field(repr=False)


def _is_bounded(source: str) -> bool:
    return source == DELTA or get_source(source).is_bounded


# For the layers, a trigger without micro-batches violates one rule, whatever their sources and sinks: what would help
# the hot path does not help a layer. A test follows every suggestion until it works, without a circle.
RULES = (
    Rule(
        "layers-need-micro-batches",
        "this trigger has no micro-batches, which the layers need: only the hot path runs with it",
        'use --step hot, or for the layers an interval such as "1 second"',
        _CONTINUOUS,
        RefusedBy.SPARK,
        lambda query: not query.is_micro_batch and not query.is_hot,
    ),
    Rule(
        "complete-needs-aggregation",
        "output mode complete writes the whole result each time, and only an aggregation has one",
        "use append or update",
        _MODES,
        RefusedBy.SPARK,
        lambda query: query.mode == "complete" and not query.state.is_aggregation and not query.is_real_time,
    ),
    Rule(
        "append-needs-watermark",
        "in append mode a row of an aggregation is written once nothing can change it, which needs a window and "
        "a watermark",
        "group by a window of a stream with a watermark, or use update or complete",
        _MODES,
        RefusedBy.SPARK,
        lambda query: (
            query.mode == "append"
            and query.state.is_aggregation
            and (query.state is State.AGGREGATION or not query.has_watermark)
            and query.is_micro_batch
        ),
    ),
    Rule(
        "session-window-no-update-mode",
        "session windows merge, so a row that was written has no single successor that could replace it",
        "use append or complete",
        f"{_API}#types-of-time-windows",
        RefusedBy.SPARK,
        lambda query: query.mode == "update" and query.state is State.SESSION and query.is_micro_batch,
    ),
    Rule(
        "join-append-mode-only",
        "an outer join of streams writes a row once its partner can no longer come, so rows are only ever added",
        "use append",
        f"{_API}#support-matrix-for-joins-in-streaming-queries",
        RefusedBy.SPARK,
        lambda query: query.mode == "update" and query.state is State.JOIN and query.is_micro_batch,
    ),
    Rule(
        "delta-native-no-update-mode",
        "Delta's streaming sink adds rows or replaces all of them",
        "use the sink delta, which merges by key",
        "https://docs.delta.io/latest/delta-streaming.html#delta-table-as-a-sink",
        RefusedBy.SPARK,
        lambda query: query.sink == _DELTA_NATIVE and query.mode == "update" and query.is_micro_batch,
    ),
    Rule(
        "file-sink-append-only",
        "files that were written are never changed",
        "use append where the table allows it, or the sink delta",
        _SINKS,
        RefusedBy.SPARK,
        lambda query: query.sink == "files" and query.mode != "append" and query.is_micro_batch,
    ),
    Rule(
        "continuous-sources",
        "the continuous trigger runs selections and projections of few sources: the lines of a socket are numbered by "
        "the clock and the events of rate are generated in Python, which leaves Kafka",
        "use the source kafka or eventhubs for it",
        _CONTINUOUS,
        RefusedBy.SPARK,
        lambda query: query.is_continuous and query.is_hot and query.source not in ("kafka", "eventhubs"),
    ),
    Rule(
        "continuous-sinks",
        "the continuous trigger has no micro-batches, by which this sink identifies what it has written",
        "use the sink kafka, eventhubs, console or memory for it",
        _CONTINUOUS,
        RefusedBy.SPARK,
        lambda query: query.is_continuous and query.is_hot and query.sink in (*_TABLES, "files", "foreach"),
    ),
    Rule(
        "continuous-is-stateless",
        "the continuous trigger runs selections and projections only, no aggregation",
        'leave aggregations to the gold tables, with an interval such as "1 second"',
        _CONTINUOUS,
        RefusedBy.SPARK,
        lambda query: query.is_continuous and query.is_hot and query.state.is_aggregation,
    ),
    Rule(
        "real-time-update-mode-only",
        "the real-time trigger writes in update mode only",
        "use --mode update",
        _REAL_TIME,
        RefusedBy.SPARK,
        lambda query: query.is_real_time and query.is_hot and query.mode != "update",
    ),
    Rule(
        "real-time-sources",
        "the real-time trigger reads from Kafka and Event Hubs only",
        "use the source kafka or eventhubs for it",
        _REAL_TIME,
        RefusedBy.SPARK,
        lambda query: query.is_real_time and query.is_hot and query.source not in ("kafka", "eventhubs"),
    ),
    Rule(
        "real-time-sinks",
        "the real-time trigger writes row by row, which this sink cannot do",
        "use the sink kafka, eventhubs, console, or on this machine foreach for it",
        _REAL_TIME,
        RefusedBy.SPARK,
        lambda query: query.is_real_time and query.is_hot and query.sink in (*_TABLES, "files", "memory"),
    ),
    Rule(
        "available-now-needs-bounded-source",
        "available-now processes all available data, but this source is unbounded: Spark would run one batch of what "
        "exists in the first moment and report that it was all",
        'use the trigger default, or an interval such as "30 seconds", or a bounded source such as kafka or files',
        f"{_API}#triggers",
        RefusedBy.LAKEHOUSE,
        lambda query: query.trigger == "available-now" and not _is_bounded(query.source),
    ),
    Rule(
        "mode-not-supported-by-table",
        "the pipeline does not allow this output mode for this table: its rows would mean something else",
        "leave --mode out, or select with --step the tables that allow it",
        "output_modes of the Gold, in domains/",
        RefusedBy.LAKEHOUSE,
        lambda query: not query.is_mode_supported,
    ),
    Rule(
        "serverless-available-now-only",
        "serverless compute runs streams with the trigger available-now only",
        "use available-now, with a bounded source such as kafka or files, or classic compute",
        f"{_DATABRICKS}/compute/serverless/limitations#streaming",
        RefusedBy.DATABRICKS,
        lambda query: query.compute == "serverless" and query.trigger != "available-now",
    ),
    Rule(
        "no-continuous-on-databricks",
        "Databricks does not support the continuous trigger",
        'use "real-time 5 minutes" on classic compute',
        f"{_DATABRICKS}/structured-streaming/real-time",
        RefusedBy.DATABRICKS,
        lambda query: query.compute != "local" and query.is_continuous,
    ),
    Rule(
        "socket-source-local-only",
        "a socket is served by a developer's machine, which a workspace cannot reach",
        "use the source kafka or eventhubs",
        f"{_API}#input-sources",
        RefusedBy.LAKEHOUSE,
        lambda query: query.compute != "local" and query.source == "socket",
    ),
    Rule(
        "generator-needs-spark-4.2",
        "serverless compute has an older Spark, whose Python data sources have no read limits and no available-now",
        "use the source files, kafka or eventhubs",
        "https://issues.apache.org/jira/browse/SPARK-55304",
        RefusedBy.DATABRICKS,
        lambda query: query.compute == "serverless" and query.source == "generator",
    ),
    Rule(
        "foreach-sink-local-only",
        "its writer creates files on the local disk of each worker: on a cluster they would be scattered",
        "use another sink, or copy the writer in sinks/foreach.py for a system that all workers reach",
        f"{_API}#foreach",
        RefusedBy.LAKEHOUSE,
        lambda query: query.compute != "local" and query.sink == "foreach",
    ),
    Rule(
        "connect-cannot-read-checkpoints",
        "a run reads its checkpoints itself, from a folder or a volume that a Connect client cannot see",
        "run it in the workspace, as a job (databricks bundle run …), or here without Connect",
        "check_storage_visible, in session.py",
        RefusedBy.LAKEHOUSE,
        lambda query: query.compute == "connect",
    ),
)
