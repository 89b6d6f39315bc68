"""What a rule advises leads to a run that works: never in a circle, and never to where nothing is advised."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from combinations import TRIGGERS, WEATHER

from streaming_lakehouse.checks import RULES, Rule, Wanted, verdict
from streaming_lakehouse.cli import SINKS
from streaming_lakehouse.sinks import MODES
from streaming_lakehouse.triggers import parse_trigger

PARSED = {name: parse_trigger(text) for name, text in TRIGGERS.items()}
SOURCES = ("generator", "kafka", "socket")  # one that ends, one for each trigger, one without an end
STEPS: tuple[tuple[str, ...], ...] = ((), ("bronze",), ("gold",), ("weather_alerts",), ("hot",), ("gold", "hot"))


class Asked(NamedTuple):
    """The words of a command."""

    steps: tuple[str, ...]
    source: str
    trigger: str
    sink: str
    mode: str | None


# What somebody changes who does as a rule says: each in the words of its advice.
FOLLOWED: dict[str, dict[str, dict[str, object]]] = {
    "layers-take-micro-batches": {
        "--step hot": {"steps": ("hot",)},
        'an interval such as "1 s': {"trigger": "interval"},
    },
    "complete-needs-aggregation": {"append": {"mode": "append"}, "update": {"mode": "update"}},
    "delta-takes-no-updates": {"the sink foreachBatch": {"sink": "foreachBatch"}},
    "files-only-grow": {"append": {"mode": "append"}, "the sink foreachBatch": {"sink": "foreachBatch"}},
    "continuous-sources": {"the source kafka": {"source": "kafka"}},
    "continuous-sinks": {"the sink kafka": {"sink": "kafka"}, "memory": {"sink": "memory"}},
    "real-time-updates": {"--mode update": {"mode": "update"}},
    "real-time-sources": {"the source kafka": {"source": "kafka"}},
    "real-time-sinks": {"the sink kafka": {"sink": "kafka"}, "foreach": {"sink": "foreach"}},
    "available-now-needs-an-end": {
        "the trigger default": {"trigger": "default"},
        "an interval": {"trigger": "interval"},
        "kafka": {"source": "kafka"},
    },
    "table-in-this-mode": {"leave --mode off": {"mode": None}},
}


def against(asked: Asked) -> set[Rule]:
    wanted = Wanted(WEATHER, asked.source, PARSED[asked.trigger], asked.sink, asked.mode, asked.steps)
    return {rule for query in wanted.queries() for rule in verdict(query)}


def advised(asked: Asked) -> Iterator[Asked]:
    for rule in against(asked):
        assert FOLLOWED.get(rule.name), f"{asked}: no advice of {rule.name} is followed here"
        for change in FOLLOWED[rule.name].values():
            yield asked._replace(**change)  # type: ignore[arg-type]  # the fields that it names


def test_no_advice_leads_in_a_circle() -> None:
    """Whichever of the rules one follows first, and whichever of its ways: in the end the run works."""
    works: set[Asked] = set()

    def follow(asked: Asked, on_the_way: tuple[Asked, ...] = ()) -> None:
        assert asked not in on_the_way, f"in a circle: {[*on_the_way, asked]}"
        if asked not in works:
            for better in advised(asked):
                follow(better, (*on_the_way, asked))
            works.add(asked)

    for asked in product(STEPS, SOURCES, TRIGGERS, SINKS, (None, *MODES)):
        follow(Asked(*asked))


def test_the_advice_that_is_followed_is_what_the_rules_say() -> None:
    said = {rule.name: rule.instead for rule in RULES}
    for name, ways in FOLLOWED.items():
        assert all(words in said[name] for words in ways), said[name]
