"""The `lakehouse` command: one function a verb, each parses, builds, and hands over."""

from __future__ import annotations

import contextlib
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.session import start_early
from streaming_lakehouse.settings import Settings, local_path

app = typer.Typer(
    help="Streaming pipelines from raw events to gold tables, on a laptop and on Databricks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

PipelineName = Annotated[str, typer.Argument(metavar="PIPELINE", help="A pipeline's name, e.g. weather.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="An option by Spark's own name; repeatable.")
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


@app.command()
def run(
    pipeline: PipelineName,
    source: Annotated[
        str, typer.Option(envvar="LAKEHOUSE_SOURCE", metavar="NAME", help="kafka, files or generator.")
    ] = "generator",
    option: Options = None,
    trigger: Annotated[
        str,
        typer.Option(
            envvar="LAKEHOUSE_TRIGGER",
            metavar="T",
            help='available-now (all there is, then end), default, or an interval such as "30 seconds".',
        ),
    ] = "available-now",
    step: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="bronze, silver, gold or a gold table; repeatable [all].")
    ] = None,
    root: Root = None,
    catalog: Catalog = None,
    schema_prefix: SchemaPrefix = None,
) -> None:
    """Run a pipeline: source to bronze, silver and quarantine, gold."""
    start_early()
    from streaming_lakehouse.pipeline import load_pipeline
    from streaming_lakehouse.progress import Board
    from streaming_lakehouse.runner import Run
    from streaming_lakehouse.triggers import parse_trigger

    chosen = Run(
        pipeline=load_pipeline(pipeline),
        settings=Settings.read(root, catalog, schema_prefix),
        source=source,
        options=_pairs(option),
        trigger=parse_trigger(trigger),
        steps=tuple(step or ()),
    )
    with Board(chosen.pipeline.chosen_steps(chosen.steps)) as board:
        is_done = chosen.start(board)
    late = {name: state.late for name, state in board.states.items() if state.late}
    if late:
        raise LakehouseError(f"Spark dropped rows behind the watermark, which silver should have kept back: {late}")
    if not is_done:
        raise LakehouseError("stopped at a batch boundary before all was done; start again to go on from there")


@app.command()
def generate(
    pipeline: PipelineName,
    to: Annotated[Target, typer.Option(help="Where to send the records.")],
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="How many records.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="The same seed gives the same records.")] = 0,
    from_row: Annotated[int, typer.Option(min=0, metavar="N", help="The first row; to go on where one ended.")] = 0,
    option: Options = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what is what among the records to this JSON file.")
    ] = None,
) -> None:
    """Make a pipeline's events, with labelled faults among them, and send them to files or Kafka."""
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
    """Show a pipeline's tables: rows, newest event, newest window; and where each record went."""
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
    data: Annotated[str, typer.Option(metavar="DIR", help="Where the broker keeps its topics.")] = ".lakehouse-broker",
    topic: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Make this topic; repeatable.")] = None,
    partitions: Annotated[int, typer.Option(min=1, help="The partitions of each topic made.")] = 2,
) -> None:
    """Run a real Kafka broker on this machine, until Ctrl-C."""
    from streaming_lakehouse.local.broker import Broker, create_topic

    with Broker(local_path("--data", data), port) as running:
        for name in topic or ():
            create_topic(running.bootstrap_servers, name, partitions)
        typer.echo(f"Kafka broker at {running.bootstrap_servers}, its topics in {data}; Ctrl-C stops it")
        # SIGTERM ends a service as Ctrl-C ends a command: in both cases the broker is shut down in order.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
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
    pairs = {}
    for text in options or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise LakehouseError(f"--option takes KEY=VALUE, not {text!r}")
        pairs[key.strip()] = value
    return pairs


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; what the user can mend is one line on standard error and exit status 1."""
    try:
        app(arguments, prog_name="lakehouse")
    except LakehouseError as error:
        print(f"lakehouse: {error}", file=sys.stderr)
        sys.exit(1)
