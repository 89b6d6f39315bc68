"""Which source, trigger, sink, output mode and compute go together: rules as data, each with where it stands.

`lakehouse check` tells it, and every run asks before Spark starts. The tests hold each rule against Spark itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from streaming_lakehouse.errors import LakehouseError, did_you_mean
from streaming_lakehouse.pipeline import Pipeline
from streaming_lakehouse.sinks import DEFAULT, MODES, find_sink
from streaming_lakehouse.sources import find_source
from streaming_lakehouse.triggers import Trigger

DELTA = "delta"  # what silver and gold read: the table of the layer before
_TABLES = (DELTA, "foreachBatch")
EXACTLY_ONCE, AT_LEAST_ONCE, NONE = "exactly once", "at least once", "none"
_LEAST_FIRST = (NONE, AT_LEAST_ONCE, EXACTLY_ONCE)

_GUIDE = "https://spark.apache.org/docs/4.2.0/streaming"
_DATABRICKS = "https://docs.databricks.com/aws/en"
_CONTINUOUS = f"{_GUIDE}/performance-tips.html#continuous-processing"
_REAL_TIME = f"{_DATABRICKS}/structured-streaming/real-time-reference"
_MODES = f"{_GUIDE}/apis-on-dataframes-and-datasets.html#output-modes"
_SINKS = f"{_GUIDE}/apis-on-dataframes-and-datasets.html#output-sinks"


@dataclass(frozen=True)
class Combination:
    """One streaming query: what it reads, when, what it does with it, and where to, in which output mode.

    `trigger` is a Trigger's `kind`. `aggregates`, `watermarked` and `sessions` say what its plan has: an aggregation, a
    watermark, session windows. `fits` is false where the pipeline does not keep the table in this mode. `filled` is
    what the run guarantees of the rows of the table that it reads.
    """

    step: str
    source: str
    trigger: str
    sink: str
    mode: str
    compute: str = "local"
    aggregates: bool = False
    watermarked: bool = True
    sessions: bool = False
    fits: bool = True
    filled: str = EXACTLY_ONCE

    def __str__(self) -> str:
        return f"{self.source} → {self.sink}, {self.mode}, {self.trigger}"


class By(StrEnum):
    """Who refuses: Spark, with an error; Databricks' compute; or we, since Spark would do something else in silence."""

    SPARK = "Spark"
    DATABRICKS = "Databricks"
    US = "us"


@dataclass(frozen=True)
class Rule:
    """What does not work, why, what works instead, and where that is written. `refuses` tells whether it is so."""

    name: str
    why: str
    instead: str
    documented: str
    by: By
    refuses: Callable[[Combination], bool] = field(repr=False)


def _is_continuous(query: Combination) -> bool:
    return query.trigger == "continuous"


def _is_real_time(query: Combination) -> bool:
    return query.trigger == "real-time"


def _is_micro_batch(query: Combination) -> bool:
    return not _is_continuous(query) and not _is_real_time(query)


def _is_hot(query: Combination) -> bool:
    return query.step == "hot"


# Of a trigger without micro-batches the layers are told by one rule, and nothing of their sources and sinks with it:
# what helps the hot path there leads a layer nowhere. tests/test_advice.py follows all advice: to an end, in no circle.
RULES = (
    Rule(
        "layers-take-micro-batches",
        "the layers work in micro-batches, which this trigger does not make: only the hot path takes it",
        'use --step hot, or for the layers an interval such as "1 second"',
        _CONTINUOUS,
        By.SPARK,
        lambda query: not _is_micro_batch(query) and not _is_hot(query),
    ),
    Rule(
        "complete-needs-aggregation",
        "output mode complete writes the whole result each time, and only an aggregation has one",
        "use append or update",
        _MODES,
        By.SPARK,
        lambda query: query.mode == "complete" and not query.aggregates and not _is_real_time(query),
    ),
    Rule(
        "append-needs-watermark",
        "in append mode a row of an aggregation is written when no more can change it, which only a watermark tells",
        "give the stream a watermark, or use update or complete",
        _MODES,
        By.SPARK,
        lambda query: query.mode == "append" and query.aggregates and not query.watermarked and _is_micro_batch(query),
    ),
    Rule(
        "sessions-not-updated",
        "session windows grow together, so a row that was written has no successor that could take its place",
        "use append or complete",
        f"{_GUIDE}/apis-on-dataframes-and-datasets.html#types-of-time-windows",
        By.SPARK,
        lambda query: query.mode == "update" and query.sessions and _is_micro_batch(query),
    ),
    Rule(
        "delta-takes-no-updates",
        "Delta's own stream sink adds rows or replaces all of them",
        "use the sink foreachBatch, which merges by key",
        "https://docs.delta.io/latest/delta-streaming.html#delta-table-as-a-sink",
        By.SPARK,
        lambda query: query.sink == DELTA and query.mode == "update" and _is_micro_batch(query),
    ),
    Rule(
        "files-only-grow",
        "files that were written stay as they are",
        "use append where the table takes it, or the sink foreachBatch",
        _SINKS,
        By.SPARK,
        lambda query: query.sink == "files" and query.mode != "append" and _is_micro_batch(query),
    ),
    Rule(
        "continuous-sources",
        "the continuous trigger only selects: of the sources that it knows, a socket's lines are numbered by "
        "the clock, and rate's events are made in Python, which leaves Kafka",
        "use the source kafka or eventhubs for it",
        _CONTINUOUS,
        By.SPARK,
        lambda query: _is_continuous(query) and _is_hot(query) and query.source not in ("kafka", "eventhubs"),
    ),
    Rule(
        "continuous-sinks",
        "the continuous trigger has no micro-batches, which this sink counts by",
        "use the sink kafka, eventhubs, console or memory for it",
        _CONTINUOUS,
        By.SPARK,
        lambda query: _is_continuous(query) and _is_hot(query) and query.sink in (*_TABLES, "files", "foreach"),
    ),
    Rule(
        "continuous-is-stateless",
        "the continuous trigger takes selections and projections only, no aggregation",
        'leave aggregations to the gold tables, with an interval such as "1 second"',
        _CONTINUOUS,
        By.SPARK,
        lambda query: _is_continuous(query) and _is_hot(query) and query.aggregates,
    ),
    Rule(
        "real-time-updates",
        "the real-time trigger writes in update mode only",
        "use --mode update",
        _REAL_TIME,
        By.SPARK,
        lambda query: _is_real_time(query) and _is_hot(query) and query.mode != "update",
    ),
    Rule(
        "real-time-sources",
        "the real-time trigger reads from Kafka and Event Hubs only",
        "use the source kafka or eventhubs for it",
        _REAL_TIME,
        By.SPARK,
        lambda query: _is_real_time(query) and _is_hot(query) and query.source not in ("kafka", "eventhubs"),
    ),
    Rule(
        "real-time-sinks",
        "the real-time trigger writes row by row, which this sink does not take",
        "use the sink kafka, eventhubs, console, or on this machine foreach for it",
        _REAL_TIME,
        By.SPARK,
        lambda query: _is_real_time(query) and _is_hot(query) and query.sink in (*_TABLES, "files", "memory"),
    ),
    Rule(
        "available-now-needs-an-end",
        "available-now takes all there is, but this source has no end: Spark makes one batch of what is there in the "
        "first moment, and says that it was all",
        'use the trigger default, or an interval such as "30 seconds", or a source that ends, such as kafka or files',
        f"{_GUIDE}/apis-on-dataframes-and-datasets.html#triggers",
        By.US,
        lambda query: query.trigger == "available-now" and not _source_ends(query.source),
    ),
    Rule(
        "table-in-this-mode",
        "the pipeline does not keep this table in this output mode: its rows would mean something else",
        "leave --mode off, or choose with --step the tables that take it",
        "the Gold of the pipeline, in domains/",
        By.US,
        lambda query: not query.fits,
    ),
    Rule(
        "serverless-triggers",
        "serverless compute runs streams with the trigger available-now only",
        "use available-now, with a source that ends such as kafka or files, or classic compute",
        f"{_DATABRICKS}/compute/serverless/limitations#streaming",
        By.DATABRICKS,
        lambda query: query.compute == "serverless" and query.trigger != "available-now",
    ),
    Rule(
        "no-continuous-on-databricks",
        "Databricks does not support the continuous trigger",
        'use "real-time 5 minutes" on classic compute',
        f"{_DATABRICKS}/structured-streaming/real-time",
        By.DATABRICKS,
        lambda query: query.compute != "local" and _is_continuous(query),
    ),
    Rule(
        "sockets-are-local",
        "a socket is served on the machine that tries things, which a workspace does not reach",
        "use the source kafka or eventhubs",
        f"{_GUIDE}/apis-on-dataframes-and-datasets.html#input-sources",
        By.US,
        lambda query: query.compute != "local" and query.source == "socket",
    ),
    Rule(
        "generator-needs-spark-4.2",
        "serverless compute has an older Spark, where a stream made in Python takes no limit and no available-now",
        "use the source files, kafka or eventhubs",
        "https://issues.apache.org/jira/browse/SPARK-55304",
        By.DATABRICKS,
        lambda query: query.compute == "serverless" and query.source == "generator",
    ),
    Rule(
        "foreach-writes-here",
        "its writer's files are on the disk of whichever worker writes them: off this machine they would be scattered",
        "use another sink, or copy the writer in sinks/foreach.py for a system that all workers reach",
        f"{_GUIDE}/apis-on-dataframes-and-datasets.html#foreach",
        By.US,
        lambda query: query.compute != "local" and query.sink == "foreach",
    ),
    Rule(
        "checkpoints-are-looked-at",
        "a run looks at its checkpoints itself, in a folder or a volume that a client of Connect does not see",
        "do it in the workspace, as a job (databricks bundle run …), or here without Connect",
        "check_place, in session.py",
        By.US,
        lambda query: query.compute == "connect",
    ),
)

NOT_EXACTLY_ONCE = Rule(
    "exactly-once",
    "it does not hold exactly once",
    "use the layers, a source that can be read again, and the sink foreachBatch, delta or files",
    f"{_GUIDE}/getting-started.html#fault-tolerance-semantics",
    By.US,
    lambda query: guarantee(query) != EXACTLY_ONCE,
)


def verdict(query: Combination, *, exactly_once: bool = False) -> tuple[Rule, ...]:
    """The rules against the query; none where it works. `exactly_once` refuses what holds less."""
    rules = (*RULES, NOT_EXACTLY_ONCE) if exactly_once else RULES
    return tuple(rule for rule in rules if rule.refuses(query))


def guarantee(query: Combination) -> str:
    """What holds of each row from the run's source to the query's sink, after a crash and a repeat.

    No more than what holds of the rows that it reads: what a source has lost no layer brings back.
    """
    if query.source != DELTA and not find_source(query.source).is_kept:
        return NONE
    of_sink = find_sink(query.sink).guarantee
    # The hot path knows no repeats: what its source delivers twice it tells twice.
    of_step = AT_LEAST_ONCE if _is_hot(query) else EXACTLY_ONCE
    return min(of_sink, of_step, query.filled, key=_LEAST_FIRST.index)


@dataclass(frozen=True)
class Wanted:
    """What a run is asked for, in the words of the command; `mode` is each table's own where none is given."""

    pipeline: Pipeline
    source: str
    trigger: Trigger
    sink: str = DEFAULT
    mode: str | None = None
    steps: tuple[str, ...] = ()
    compute: str = "local"

    def __post_init__(self) -> None:
        find_source(self.source)
        find_sink(self.sink)
        if self.mode not in (None, *MODES):
            raise LakehouseError(f"there is no output mode {self.mode!r}{did_you_mean(str(self.mode), MODES)}")

    def queries(self) -> Iterator[Combination]:
        """The streaming queries of such a run, in the order the data flows."""
        for step in self.chosen_steps:
            yield self.query(step)

    @property
    def chosen_steps(self) -> tuple[str, ...]:
        """What runs where no step is named: the layers, or the hot path, which alone takes no micro-batches."""
        if not self.steps and not self.trigger.is_micro_batch and self.pipeline.hot:
            return self.pipeline.chosen_steps(("hot",))
        return self.pipeline.chosen_steps(self.steps)

    def query(self, step: str) -> Combination:
        """The streaming query of that step, in this run."""
        kind, compute = self.trigger.kind, self.compute
        if step == "bronze":
            return Combination(step, self.source, kind, DELTA, "append", compute)
        filled = guarantee(self.query("bronze")) if "bronze" in self.chosen_steps else EXACTLY_ONCE
        if step == "silver":
            return Combination(step, DELTA, kind, "foreachBatch", "append", compute, filled=filled)
        if step == "hot":
            mode = self.mode or ("update" if kind == "real-time" else "append")
            return Combination(step, self.source, kind, self.sink, mode, compute)
        gold = self.pipeline.gold_table(step)
        mode = self.mode or gold.modes[0]
        fits = mode in gold.modes
        return Combination(
            step, DELTA, kind, self.sink, mode, compute, aggregates=gold.aggregates, fits=fits, filled=filled
        )

    def check(self) -> None:
        """Raises LakehouseError where a query does not work: with all the rules against the run, each of them once."""
        refused: dict[Rule, list[Combination]] = {}
        for query in self.queries():
            for rule in verdict(query):
                refused.setdefault(rule, []).append(query)
        if refused:
            raise LakehouseError("; and ".join(_told(rule, queries) for rule, queries in refused.items()))

    def basis(self, step: str) -> str:
        """What the guarantee of the step is of, where the run does not begin at the source; '' where it does."""
        if step == "hot" or "bronze" in self.chosen_steps:
            return ""
        return f" of what {'bronze' if step == 'silver' else 'silver'} has (bronze does not run)"


def judged(wanted: Wanted, *, exactly_once: bool) -> Iterator[tuple[str, bool]]:
    """A line a query of the run, and whether it is refused.

    Raises LakehouseError for an unknown source, sink, mode or step.
    """
    for query in wanted.queries():
        against = verdict(query, exactly_once=exactly_once)
        if not against:
            yield f"{query.step}: {query}: works, {guarantee(query)}{wanted.basis(query.step)}", False
        for rule in against:
            yield f"{query.step}: {query}: {rule.why}; {rule.instead} [{rule.name}, {rule.documented}]", True


def _told(rule: Rule, queries: list[Combination]) -> str:
    """Of all the queries that the rule refuses the first, and how many more there are."""
    first, *others = queries
    more = f" and {len(others)} more" if others else ""
    return f"step {first.step!r} ({first}){more}: {rule.why}; {rule.instead} [{rule.name}]"


def _source_ends(source: str) -> bool:
    return source == DELTA or find_source(source).ends
