"""Whether the queries of a run work, and what they guarantee.

`lakehouse check` shows it, and every run checks it before Spark starts. The tests hold each rule against Spark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.rules import DELTA, EXACTLY_ONCE, GUIDE, RULES, QuerySpec, RefusedBy, Rule
from streaming_lakehouse.pipeline import Gold
from streaming_lakehouse.pipeline.steps import Step
from streaming_lakehouse.sinks import DEFAULT_SINK, get_sink
from streaming_lakehouse.sources import get_source

AT_LEAST_ONCE, NONE = "at least once", "none"
_WEAKEST_FIRST = (NONE, AT_LEAST_ONCE, EXACTLY_ONCE)

NOT_EXACTLY_ONCE = Rule(
    "exactly-once",
    "its delivery is not exactly once",
    "use the layers, a replayable source, and the sink delta, delta-native or files",
    f"{GUIDE}/getting-started.html#fault-tolerance-semantics",
    RefusedBy.LAKEHOUSE,
    lambda query: delivery_guarantee(query) != EXACTLY_ONCE,
)


def violated_rules(query: QuerySpec, *, exactly_once: bool = False) -> tuple[Rule, ...]:
    """The rules that refuse the query; none where it works. `exactly_once` refuses a weaker guarantee."""
    rules = (*RULES, NOT_EXACTLY_ONCE) if exactly_once else RULES
    return tuple(rule for rule in rules if rule.matches(query))


def delivery_guarantee(query: QuerySpec) -> str:
    """What holds of each row from the run's source to the query's sink, after a crash and a replayed batch.

    Never more than what holds of the rows that it reads: no layer restores what a source has lost.
    """
    if query.source != DELTA and not get_source(query.source).is_replayable:
        return NONE
    of_sink = get_sink(query.sink).guarantee
    # The hot path does not deduplicate: an event that its source delivers twice gives two rows.
    of_step = AT_LEAST_ONCE if query.is_hot else EXACTLY_ONCE
    return min(of_sink, of_step, query.input_guarantee, key=_WEAKEST_FIRST.index)


def query_spec(plan: RunPlan, step: Step, compute: str) -> QuerySpec:
    """The streaming query of that step, in this run."""
    reads = plan.source_name if step.reads_source else DELTA
    writes = plan.sink_name if step.uses_sink else DEFAULT_SINK
    mode = plan.output_mode(step)
    spec = QuerySpec(step.name, reads, plan.trigger.kind, writes, mode, compute, step.state)
    if step.reads_source:
        return spec
    allowed = step.makes.output_modes if isinstance(step.makes, Gold) else ("append",)
    # What Spark refuses for this kind of state has a rule of its own.
    return replace(
        spec,
        is_mode_supported=mode in allowed or mode not in step.state.output_modes,
        input_guarantee=_input_guarantee(plan, compute),
    )


def _input_guarantee(plan: RunPlan, compute: str) -> str:
    """Of a table that the run does not write itself, no more is known than that it is read once."""
    bronze = [step for step in plan.steps if step.layer == "bronze"]
    guarantees = [delivery_guarantee(query_spec(plan, step, compute)) for step in bronze]
    return min(guarantees, key=_WEAKEST_FIRST.index, default=EXACTLY_ONCE)


def validate(plan: RunPlan, compute: str) -> None:
    """Raises LakehouseError where a query does not work: with all the rules that refuse the run, each of them once."""
    refused: dict[Rule, list[QuerySpec]] = {}
    for step in plan.steps:
        query = query_spec(plan, step, compute)
        for rule in violated_rules(query):
            refused.setdefault(rule, []).append(query)
    if refused:
        raise LakehouseError("; and ".join(_format_violation(rule, queries) for rule, queries in refused.items()))


def describe_queries(plan: RunPlan, compute: str, *, exactly_once: bool) -> Iterator[tuple[str, bool]]:
    """A line for each query of the run, and whether it is refused."""
    for step in plan.steps:
        query = query_spec(plan, step, compute)
        violated = violated_rules(query, exactly_once=exactly_once)
        if not violated:
            guarantee = f"{delivery_guarantee(query)}{_guarantee_scope(plan, step)}"
            yield f"{step}: {query}: works, {guarantee}{_pause(plan, step)}", False
        for rule in violated:
            yield f"{step}: {query}: {rule.reason}; {rule.suggestion} [{rule.name}, {rule.reference}]", True


def _guarantee_scope(plan: RunPlan, step: Step) -> str:
    """Whose rows the guarantee covers, where the run does not start at the source; '' where it does."""
    if step.layer == "hot" or any(each.layer == "bronze" for each in plan.steps):
        return ""
    return f" from {'bronze' if step.layer == 'silver' else 'silver'} on (bronze does not run)"


def _pause(plan: RunPlan, step: Step) -> str:
    """How often the step starts a batch, where that is not what the run's trigger says; '' where it is."""
    trigger = plan.step_trigger(step)
    return "" if trigger == plan.trigger else f", a batch every {trigger.text} at most"


def _format_violation(rule: Rule, queries: list[QuerySpec]) -> str:
    """The first of the queries that the rule refuses, and how many more there are."""
    first, *others = queries
    more = f" and {len(others)} more" if others else ""
    return f"step {first.step!r} ({first}){more}: {rule.reason}; {rule.suggestion} [{rule.name}]"
