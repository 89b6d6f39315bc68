"""The `lakehouse` command: one function a verb, each parses, builds, and hands over."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.session import compute as compute_here, start_early
from streaming_lakehouse.settings import Settings, local_path
from streaming_lakehouse.unseen import redacted

SINKS = ("foreachBatch", "delta", "kafka", "eventhubs", "files", "foreach", "console", "memory")
SOURCES = ("generator", "files", "kafka", "eventhubs", "socket", "rate", "rate-micro-batch")
STOPPED = 130  # what a shell gives to a command that Ctrl-C has ended


class Group(TyperGroup):
    """The command as a whole: Ctrl-C ends it with one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("lakehouse: stopped", file=sys.stderr)
            raise typer.Exit(STOPPED) from None


class RunCommand(TyperCommand):
    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The pipelines with their steps, and what each source takes: asked of them, and only when help is."""
        from streaming_lakehouse.pipeline import pipeline_names
        from streaming_lakehouse.sinks import find_sink
        from streaming_lakehouse.sources import find_source

        _section(formatter, "Pipelines and their steps", [(name, _told_steps(name)) for name in pipeline_names()])
        sources = [(name, _listed(find_source(name).accepts)) for name in SOURCES]
        _section(formatter, "Each --source and its --option names", sources)
        sinks = [(name, _listed(find_sink(name).options.accepts) or "none") for name in SINKS]
        _section(
            formatter, "Each --sink and its --option names, with sink. before them where a source has the same", sinks
        )
        _section(formatter, "Examples", _RUN_EXAMPLES)


class GenerateCommand(TyperCommand):
    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """What each target takes."""
        from streaming_lakehouse.local.deliver import ACCEPTS

        _section(formatter, "Each --to and its --option names", [(to, _listed(ACCEPTS[to])) for to in Target])
        _section(formatter, "Examples", _GENERATE_EXAMPLES)


_RUN_EXAMPLES = [
    ("lakehouse run weather --option numRows=60000", "made-up events, all layers"),
    ("lakehouse run weather --source files --option path=landing", "what `generate --to files` has written"),
    (
        'lakehouse run weather --source kafka --option kafka.bootstrap.servers=127.0.0.1:9092 --trigger "10 seconds"',
        "a topic, until Ctrl-C",
    ),
    (
        "lakehouse run weather --step gold --sink files --option sink.path=out --option format=csv",
        "the gold tables once more, as files below out",
    ),
    (
        'lakehouse run weather --trigger "continuous 1 second" --source kafka --sink kafka '
        "--option kafka.bootstrap.servers=127.0.0.1:9092 --option sink.kafka.bootstrap.servers=127.0.0.1:9092",
        "the hot path: alerts of single readings, in milliseconds",
    ),
]
_GENERATE_EXAMPLES = [
    ("lakehouse generate weather --to files --option path=landing", "files below landing/weather_readings"),
    (
        "lakehouse generate weather --to kafka --option kafka.bootstrap.servers=127.0.0.1:9092",
        "the topic weather-readings of `lakehouse broker`",
    ),
]


def _steps(pipeline: Any) -> tuple[str, ...]:
    return (*pipeline.steps, "hot") if pipeline.hot else tuple(pipeline.steps)


def _told_steps(name: str) -> str:
    """A pipeline's steps, or what is wrong with it: the help is there all the same."""
    from streaming_lakehouse.pipeline import load_pipeline

    try:
        return ", ".join(_steps(load_pipeline(name)))
    except LakehouseError as error:
        return str(error)


def _section(formatter: Any, heading: str, lines: list[tuple[str, str]]) -> None:
    with formatter.section(heading):
        formatter.write_dl(lines)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name}*" if name.endswith(".") else name for name in names)


app = typer.Typer(
    cls=Group,
    help="Streaming pipelines from raw events to gold tables, on a laptop and on Databricks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

SourceName = Annotated[str, typer.Option(envvar="LAKEHOUSE_SOURCE", metavar="NAME", help=", ".join(SOURCES))]
SinkName = Annotated[
    str,
    typer.Option(
        envvar="LAKEHOUSE_SINK",
        metavar="NAME",
        help=f"Where gold tables and the hot path go: {', '.join(SINKS)}. foreachBatch keeps Delta tables.",
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
        help="available-now (all there is, then end), default (until Ctrl-C, one micro-batch after the other), "
        'an interval such as "30 seconds" (until Ctrl-C, a micro-batch each 30 seconds); for the hot path also '
        '"continuous 1 second" and "real-time 5 minutes".',
    ),
]
Steps = Annotated[
    list[str] | None,
    typer.Option("--step", metavar="NAME", help="bronze, silver, gold, a gold table, or hot; repeatable [all layers]."),
]
PipelineName = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="A pipeline's name, e.g. weather; `lakehouse run --help` lists all.")
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="One of the options listed below; repeatable."),
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
        envvar="LAKEHOUSE_SCHEMA_PREFIX", metavar="TEXT", help="What stands before the layers' names in the catalog."
    ),
]


class Target(StrEnum):
    """Where generated records can be sent."""

    FILES = "files"
    KAFKA = "kafka"
    EVENTHUBS = "eventhubs"
    SOCKET = "socket"


@app.command(cls=RunCommand)
def run(
    pipeline: PipelineName,
    source: SourceName = "generator",
    option: Options = None,
    trigger: TriggerText = "available-now",
    step: Steps = None,
    sink: SinkName = SINKS[0],
    mode: Mode = None,
    root: Root = None,
    catalog: Catalog = None,
    schema_prefix: SchemaPrefix = None,
) -> None:
    """Run a pipeline: source to bronze, silver and quarantine, gold."""
    start_early()
    from streaming_lakehouse.options import divided
    from streaming_lakehouse.pipeline import load_pipeline
    from streaming_lakehouse.progress import Board
    from streaming_lakehouse.runner import Run
    from streaming_lakehouse.sinks import find_sink
    from streaming_lakehouse.sources import find_source
    from streaming_lakehouse.triggers import parse_trigger

    options, sink_options = divided(_pairs(option), find_source(source).options, find_sink(sink).options)
    chosen = Run(
        pipeline=load_pipeline(pipeline),
        settings=Settings.read(root, catalog, schema_prefix),
        source=source,
        options=options,
        trigger=parse_trigger(trigger),
        steps=tuple(step or ()),
        sink=sink,
        mode=mode,
        sink_options=sink_options,
    )
    with Board(chosen.chosen_steps) as board:
        is_done = chosen.start(board)
    if not is_done:
        raise LakehouseError("stopped at a batch boundary before all was done; start again to go on from there")


class Compute(StrEnum):
    """What a run computes on."""

    LOCAL = "local"
    CONNECT = "connect"
    CLASSIC = "classic"
    SERVERLESS = "serverless"


@app.command()
def check(
    pipeline: PipelineName,
    source: SourceName = "generator",
    trigger: TriggerText = "available-now",
    step: Steps = None,
    sink: SinkName = SINKS[0],
    mode: Mode = None,
    compute: Annotated[Compute | None, typer.Option(help="Where it shall run [here].")] = None,
    exactly_once: Annotated[bool, typer.Option("--exactly-once", help="Refuse what holds less than that.")] = False,
) -> None:
    """Tell whether a run's source, trigger, sink and output mode go together, and what it guarantees; no Spark starts.

    Exit status 1 where a query of it does not work, with the rule against it and where that is written.
    """
    from streaming_lakehouse.checks import Wanted, judged
    from streaming_lakehouse.pipeline import load_pipeline
    from streaming_lakehouse.triggers import parse_trigger

    where = compute.value if compute else compute_here()
    wanted = Wanted(load_pipeline(pipeline), source, parse_trigger(trigger), sink, mode, tuple(step or ()), where)
    works = True
    for line, is_refused in judged(wanted, exactly_once=exactly_once):
        typer.echo(line)
        works = works and not is_refused
    if not works:
        raise LakehouseError("this does not work: see the lines above")


@app.command(cls=GenerateCommand)
def generate(
    pipeline: PipelineName,
    to: Annotated[Target, typer.Option(help="Where to send the records; where exactly, the options say.")],
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="How many records.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="The same seed and rows give the same records.")] = 0,
    from_row: Annotated[
        int, typer.Option(min=0, metavar="N", help="The number of the first row, to go on from earlier ones.")
    ] = 0,
    option: Options = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to this JSON file which row has which fault or anomaly.")
    ] = None,
) -> None:
    """Make a pipeline's events, with labelled faults among them, and send them to where a run reads them."""
    from streaming_lakehouse.local.deliver import Delivery, deliver
    from streaming_lakehouse.pipeline import load_pipeline

    delivery = Delivery(load_pipeline(pipeline), seed, from_row, from_row + rows, _pairs(option))
    labels = deliver(delivery, to.value, truth)
    counts = ", ".join(f"{count:,} {label}" for label, count in sorted(labels.items(), key=lambda pair: -pair[1]))
    typer.echo(f"{rows:,} records sent to {delivery.target(to.value)}: {counts or 'none'}")


@app.command()
def show(
    pipeline: PipelineName,
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="Print the newest N rows of each gold table.")] = 0,
    root: Root = None,
    catalog: Catalog = None,
    schema_prefix: SchemaPrefix = None,
) -> None:
    """Show a pipeline's tables: rows, newest event, newest window; and where each record went.

    It only reads, also while a run goes on. Give it the --root (or the catalog) that the run was given.
    """
    start_early()
    from streaming_lakehouse.pipeline import load_pipeline
    from streaming_lakehouse.report import Report

    report = Report(load_pipeline(pipeline), Settings.read(root, catalog, schema_prefix))
    console = Console()
    for part in report.parts(gold_rows=rows):
        console.print(part)


@app.command()
def broker(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0 for a free one.")] = 9092,
    data: Annotated[
        str, typer.Option(metavar="DIR", help="The broker's folder: topics, settings and log. It outlives the broker.")
    ] = ".lakehouse-broker",
    topic: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Make this topic, unless it is there; repeatable.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="The partitions of each topic made.")] = 2,
) -> None:
    """Run a real Kafka broker on this machine, reached from this machine only, until Ctrl-C.

    A pipeline reads the topic named like its bronze table, with dashes: weather-readings. A topic that is not there is
    made for the first record that is sent to it.
    """
    from streaming_lakehouse.local.broker import Broker, create_topic

    # SIGTERM ends a service as Ctrl-C ends a command: the broker is shut down in order, also while it starts. And a
    # script's shell has its background commands ignore SIGINT.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with Broker(local_path("--data", data), port, properties={"num.partitions": str(partitions)}) as running:
        for name in topic or ():
            create_topic(running.bootstrap_servers, name, partitions)
        with contextlib.suppress(KeyboardInterrupt):
            typer.echo(f"Kafka broker at {running.bootstrap_servers}, its topics in {data}; Ctrl-C stops it")
            running.wait()


@app.command()
def setup() -> None:
    """Fetch what local runs need, once: a check of Java, Spark's and the broker's jars, the JVM's class archive."""
    from streaming_lakehouse.local import archive, jars, java

    typer.echo(f"Java {java.java_version(java.java_home())} at {java.java_home()}")
    typer.echo(f"{len(jars.jars('spark'))} jars for Spark, {len(jars.jars('broker'))} for the Kafka broker")
    made = archive.train()
    typer.echo(f"class archive {made.name}" if made else "no class archive: starts take a few seconds longer")


def _pairs(options: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in options or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise LakehouseError(f"--option takes KEY=VALUE, not {text!r}")
        if key.strip().lower() in map(str.lower, pairs):
            raise LakehouseError(f"--option {key.strip()} is given twice: which of them is meant?")
        pairs[key.strip()] = value
    return pairs


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; what the user can mend is one line on standard error and exit status 1."""
    # What py4j tells of each call to a JVM that has ended, or of a batch of ours that failed, is told by us, and once.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(lambda record: record.msg != "Exception while sending command.")
    try:
        app(arguments, prog_name="lakehouse")
    except LakehouseError as error:
        _end(str(error))
    except ModuleNotFoundError as error:
        if error.name != "pyspark":
            raise
        _end("pyspark is missing here; install this package with its extra 'local', or 'connect' for Databricks")
    except Exception as error:
        from streaming_lakehouse.failures import FAULTS, explained  # only now: help and most mistakes need no Spark

        if not isinstance(error, FAULTS):
            raise
        _end(explained(error))


def _end(told: str) -> NoReturn:
    print(f"lakehouse: {redacted(told)}", file=sys.stderr)
    sys.exit(1)
