"""The arguments and options that several commands share."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from streaming_lakehouse.config.registry import SINKS, SOURCES
from streaming_lakehouse.errors import LakehouseError

DEFAULT_SINK = next(iter(SINKS))

PipelineName = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="A pipeline's name, e.g. weather; `lakehouse run --help` lists all.")
]
SourceName = Annotated[str, typer.Option(envvar="LAKEHOUSE_SOURCE", metavar="NAME", help=", ".join(SOURCES))]
SinkName = Annotated[
    str,
    typer.Option(
        envvar="LAKEHOUSE_SINK",
        metavar="NAME",
        help=f"Where gold tables and the hot path go: {', '.join(SINKS)}. delta appends, upserts or overwrites, "
        "delta-native is Delta's streaming sink.",
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(envvar="LAKEHOUSE_MODE", metavar="M", help="append, update or complete [each table's own]."),
]
TriggerText = Annotated[
    str,
    typer.Option(
        envvar="LAKEHOUSE_TRIGGER",
        metavar="T",
        help="available-now (all available data, then end), default (until Ctrl-C, one micro-batch after the other; "
        "of bronze one each second at most, of gold tables with state one every 2 seconds), "
        'an interval such as "30 seconds" (until Ctrl-C, a micro-batch each 30 seconds); for the hot path also '
        '"continuous 1 second" and "real-time 5 minutes".',
    ),
]
Steps = Annotated[
    list[str] | None,
    typer.Option(
        "--step",
        metavar="NAME",
        help="A layer (bronze, silver, gold, hot), a table, or a step; repeatable [all layers].",
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="One of the options listed below; with several bronze tables TABLE.KEY=VALUE is of one of them; "
        "repeatable.",
    ),
]
_OPTIONS_HELP = 'Options as one JSON object, such as {"path": "landing"}; --option has precedence.'
OptionsJson = Annotated[
    str | None, typer.Option("--options", envvar="LAKEHOUSE_OPTIONS", metavar="JSON", help=_OPTIONS_HELP)
]
# The environment's are those of the pipeline's own source.
HistoryOptionsJson = Annotated[str | None, typer.Option("--options", metavar="JSON", help=_OPTIONS_HELP)]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME={{secrets/SCOPE/KEY}}",
        help="A LAKEHOUSE_ environment variable from a secret scope, where a job can set none; repeatable.",
    ),
]
Root = Annotated[
    str | None,
    typer.Option(envvar="LAKEHOUSE_ROOT", metavar="DIR", help="The folder of tables and checkpoints [.lakehouse]."),
]
Catalog = Annotated[
    str | None,
    typer.Option(envvar="LAKEHOUSE_CATALOG", metavar="NAME", help="The Unity Catalog catalog, instead of a folder."),
]
SchemaPrefix = Annotated[
    str | None,
    typer.Option(
        envvar="LAKEHOUSE_SCHEMA_PREFIX", metavar="TEXT", help="The prefix of the layers' schemas in the catalog."
    ),
]


class Target(StrEnum):
    """Where generated records can be sent."""

    FILES = "files"
    KAFKA = "kafka"
    EVENTHUBS = "eventhubs"
    SOCKET = "socket"


def parse_options(options: list[str] | None, as_json: str | None = None) -> dict[str, str]:
    """The pairs of `--option KEY=VALUE`, and those of the JSON object that they do not override.

    Raises LakehouseError for another form, or a key that is given twice.
    """
    pairs: dict[str, str] = {}
    for text in options or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise LakehouseError(f"--option takes KEY=VALUE, not {text!r}")
        if key.strip().lower() in map(str.lower, pairs):
            raise LakehouseError(f"--option {key.strip()} is given twice: which of them is meant?")
        pairs[key.strip()] = value
    overridden = {key.lower() for key in pairs}
    return {**{key: value for key, value in _parse_json(as_json).items() if key.lower() not in overridden}, **pairs}


def _parse_json(text: str | None) -> dict[str, str]:
    if not text:
        return {}
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        raise LakehouseError('--options takes a JSON object of strings, such as {"path": "landing"}')
    return options
