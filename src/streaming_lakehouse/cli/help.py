"""What `--help` lists below a command's options: pipelines and steps, sources and sinks, examples."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from streaming_lakehouse.cli.arguments import Target
from streaming_lakehouse.config.registry import SINKS, SOURCES
from streaming_lakehouse.errors import LakehouseError


class RunCommand(TyperCommand):
    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The pipelines with their steps, and the options of each source and sink: loaded only when help is shown."""
        from streaming_lakehouse.sinks import get_sink

        _section(formatter, "Pipelines and their steps", _pipelines())
        _sources(formatter)
        sinks = [(name, _format_names(get_sink(name).options.names) or "none") for name in SINKS]
        _section(
            formatter, "Each --sink and its --option names, with the prefix sink. where a source has the same", sinks
        )
        _section(formatter, "Examples", _RUN_EXAMPLES)


class BackfillCommand(TyperCommand):
    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The options of each source."""
        _sources(formatter)
        _section(formatter, "Examples", _BACKFILL_EXAMPLES)


class GenerateCommand(TyperCommand):
    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The options of each target."""
        from streaming_lakehouse.cli.publish import ACCEPTS

        _section(formatter, "Each --to and its --option names", [(to, _format_names(ACCEPTS[to])) for to in Target])
        _section(formatter, "Examples", _GENERATE_EXAMPLES)


_RUN_EXAMPLES = [
    ("lakehouse run weather --option numRows=60000", "synthetic events, all layers"),
    ("lakehouse run weather --source files --option path=landing", "what `generate --to files` has written"),
    (
        'lakehouse run weather --source kafka --option kafka.bootstrap.servers=127.0.0.1:9092 --trigger "10 seconds"',
        "a topic, until Ctrl-C",
    ),
    (
        "lakehouse run weather --step gold --sink files --option sink.path=out --option format=csv",
        "the gold tables again, as files below out",
    ),
    (
        'lakehouse run weather --trigger "continuous 1 second" --source kafka --sink kafka '
        "--option kafka.bootstrap.servers=127.0.0.1:9092 --option sink.kafka.bootstrap.servers=127.0.0.1:9092",
        "the hot path: alerts of single readings, in milliseconds",
    ),
]
_BACKFILL_EXAMPLES = [
    ("lakehouse backfill weather", "what came late so far"),
    ("lakehouse backfill weather --source files --option path=history", "first the files below history"),
    (
        "lakehouse backfill weather --reason temperature_in_range",
        "what a threshold has refused that was changed since",
    ),
]
_GENERATE_EXAMPLES = [
    ("lakehouse generate weather --to files --option path=landing", "files below landing/weather_readings"),
    (
        "lakehouse generate weather --to kafka --option kafka.bootstrap.servers=127.0.0.1:9092",
        "the topic weather-readings of `lakehouse broker`",
    ),
]


def _sources(formatter: Any) -> None:
    from streaming_lakehouse.sources import get_source

    sources = [(name, _format_names(get_source(name).options.names)) for name in SOURCES]
    _section(formatter, "Each --source and its --option names", sources)


def _pipelines() -> list[tuple[str, str]]:
    from streaming_lakehouse.pipeline.discovery import DOMAINS_VARIABLE, pipeline_names

    try:
        return [(name, _describe_steps(name)) for name in pipeline_names()]
    except LakehouseError as error:
        return [(DOMAINS_VARIABLE, str(error))]


def _describe_steps(name: str) -> str:
    """A pipeline's steps, or what is wrong with it: the help is shown in any case."""
    from streaming_lakehouse.pipeline.discovery import load_pipeline
    from streaming_lakehouse.pipeline.steps import pipeline_steps

    try:
        return ", ".join(step.name for step in pipeline_steps(load_pipeline(name)))
    except LakehouseError as error:
        return str(error)


def _section(formatter: Any, heading: str, lines: list[tuple[str, str]]) -> None:
    with formatter.section(heading):
        formatter.write_dl(lines)


def _format_names(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name}*" if name.endswith(".") else name for name in names)
