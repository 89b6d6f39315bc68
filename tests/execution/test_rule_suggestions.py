"""What a rule suggests leads to a run that works: never in a circle, and never to a rule without a suggestion."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

from support.query_matrix import TRIGGERS, WEATHER

from streaming_lakehouse.config.registry import SINKS
from streaming_lakehouse.config.storage import Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.execution.compatibility import query_spec, violated_rules
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.rules import RULES, Rule
from streaming_lakehouse.sinks import OUTPUT_MODES

PARSED = {name: parse_trigger(text) for name, text in TRIGGERS.items()}
SOURCES = ("generator", "kafka", "socket")  # bounded, for every trigger, unbounded
STEPS: tuple[tuple[str, ...], ...] = ((), ("bronze",), ("gold",), ("weather_alerts",), ("hot",), ("gold", "hot"))


class Command(NamedTuple):
    """The arguments of a run."""

    steps: tuple[str, ...]
    source: str
    trigger: str
    sink: str
    mode: str | None


# What somebody changes who follows a rule: each in the words of its suggestion.
FOLLOWED: dict[str, dict[str, dict[str, object]]] = {
    "layers-need-micro-batches": {
        "--step hot": {"steps": ("hot",)},
        'an interval such as "1 s': {"trigger": "interval"},
    },
    "complete-needs-aggregation": {"append": {"mode": "append"}, "update": {"mode": "update"}},
    "delta-native-no-update-mode": {"the sink delta": {"sink": "delta"}},
    "file-sink-append-only": {"append": {"mode": "append"}, "the sink delta": {"sink": "delta"}},
    "continuous-sources": {"the source kafka": {"source": "kafka"}},
    "continuous-sinks": {"the sink kafka": {"sink": "kafka"}, "memory": {"sink": "memory"}},
    "real-time-update-mode-only": {"--mode update": {"mode": "update"}},
    "real-time-sources": {"the source kafka": {"source": "kafka"}},
    "real-time-sinks": {"the sink kafka": {"sink": "kafka"}, "foreach": {"sink": "foreach"}},
    "available-now-needs-bounded-source": {
        "the trigger default": {"trigger": "default"},
        "an interval": {"trigger": "interval"},
        "kafka": {"source": "kafka"},
    },
    "mode-not-supported-by-table": {"leave --mode out": {"mode": None}},
}


def violated(command: Command) -> set[Rule]:
    trigger, storage = PARSED[command.trigger], Storage(root=Path())
    plan = RunPlan(WEATHER, storage, command.source, {}, trigger, command.steps, command.sink, command.mode)
    return {rule for step in plan.steps for rule in violated_rules(query_spec(plan, step, "local"))}


def suggested(command: Command) -> Iterator[Command]:
    for rule in violated(command):
        assert FOLLOWED.get(rule.name), f"{command}: no suggestion of {rule.name} is followed here"
        for change in FOLLOWED[rule.name].values():
            yield command._replace(**change)  # type: ignore[arg-type]  # the fields that it names


def test_no_suggestion_leads_in_a_circle() -> None:
    """Whichever of the rules one follows first, and whichever of its suggestions: in the end the run works."""
    works: set[Command] = set()

    def follow(command: Command, before: tuple[Command, ...] = ()) -> None:
        assert command not in before, f"in a circle: {[*before, command]}"
        if command not in works:
            for better in suggested(command):
                follow(better, (*before, command))
            works.add(command)

    for command in product(STEPS, SOURCES, TRIGGERS, SINKS, (None, *OUTPUT_MODES)):
        follow(Command(*command))


def test_the_suggestions_that_are_followed_are_those_of_the_rules() -> None:
    suggestions = {rule.name: rule.suggestion for rule in RULES}
    for name, ways in FOLLOWED.items():
        assert all(words in suggestions[name] for words in ways), suggestions[name]
