"""The commands: each parses its arguments, builds what it needs, and hands over."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from streaming_lakehouse.cli.arguments import (
    DEFAULT_SINK,
    Catalog,
    HistoryOptionsJson,
    Mode,
    Options,
    OptionsJson,
    PipelineName,
    Root,
    SchemaPrefix,
    Secrets,
    SinkName,
    SourceName,
    Steps,
    Target,
    TriggerText,
    parse_options,
)
from streaming_lakehouse.cli.help import BackfillCommand, GenerateCommand, RunCommand
from streaming_lakehouse.cli.output import restart_in_utf8, standard_streams
from streaming_lakehouse.config.compute import Compute
from streaming_lakehouse.config.redaction import redact
from streaming_lakehouse.config.storage import Storage, local_path
from streaming_lakehouse.errors import LakehouseError, counted, did_you_mean
from streaming_lakehouse.session import (
    check_storage_visible,
    detect_compute,
    get_session,
    is_reached_over_connect,
    prestart_jvm,
)

_UNLIMITED = 10_000  # columns
if TYPE_CHECKING:
    from streaming_lakehouse.execution.progress import ProgressReporter

EXIT_INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C has ended


class Group(TyperGroup):
    """The command as a whole: Ctrl-C ends it with one line, and its help has each command's whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for command in self.commands.values():
            words = " ".join((command.help or "").split())
            command.short_help = words.partition(". ")[0].removesuffix(".") + "."
        super().format_commands(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("lakehouse: stopped", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"streaming-lakehouse {version('streaming-lakehouse')}")
        raise typer.Exit


@app.callback()
def options(
    is_version_asked: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Streaming pipelines from raw events to gold tables, on a laptop and on Databricks."""


@app.command(cls=RunCommand)
def run(
    pipeline: PipelineName,
    source: SourceName = "generator",
    option: Options = None,
    options: OptionsJson = None,
    trigger: TriggerText = "available-now",
    step: Steps = None,
    sink: SinkName = DEFAULT_SINK,
    mode: Mode = None,
    root: Root = None,
    catalog: Catalog = None,
    schema_prefix: SchemaPrefix = None,
    secret: Secrets = None,
) -> None:
    """Run a pipeline: source to bronze, silver and quarantine, gold."""
    prestart_jvm()
    from streaming_lakehouse.config.options import split_options
    from streaming_lakehouse.config.secrets import set_from_scopes
    from streaming_lakehouse.config.triggers import parse_trigger
    from streaming_lakehouse.execution import runner
    from streaming_lakehouse.execution.plan import RunPlan
    from streaming_lakehouse.execution.progress import ProgressReporter
    from streaming_lakehouse.pipeline.discovery import load_pipeline
    from streaming_lakehouse.sinks import get_sink
    from streaming_lakehouse.sources import get_source

    set_from_scopes(secret or ())
    declared = load_pipeline(pipeline)
    source_options, sink_options = split_options(
        parse_options(option, options),
        get_source(source).options,
        get_sink(sink).options,
        [bronze.table for bronze in declared.bronze],
    )
    storage, steps = Storage.resolve(root, catalog, schema_prefix), tuple(step or ())
    plan = RunPlan(declared, storage, source, source_options, parse_trigger(trigger), steps, sink, mode, sink_options)
    with ProgressReporter([each.name for each in plan.steps]) as progress:
        is_done = runner.run(plan, progress, partial(_end_at_once, progress))
    if progress.rejected:
        shown = f"lakehouse quarantine {pipeline} {storage.options}"
        typer.echo(f"quarantine got {counted(progress.rejected, 'row')}; see: {shown}", err=True)
    if not is_done:
        raise LakehouseError("stopped at a batch boundary before all was done; start again to resume from there")


@app.command()
def check(
    pipeline: PipelineName,
    source: SourceName = "generator",
    trigger: TriggerText = "available-now",
    step: Steps = None,
    sink: SinkName = DEFAULT_SINK,
    mode: Mode = None,
    compute: Annotated[Compute | None, typer.Option(help="Where the run is to compute [here].")] = None,
    exactly_once: Annotated[bool, typer.Option("--exactly-once", help="Refuse a weaker guarantee.")] = False,
) -> None:
    """Check a pipeline's expectations and functions, whether source, trigger, sink and mode go together, its guarantee.

    No record is read. Exit status 1 where a query does not work, with the rule that refuses it and its reference, and
    where an expectation or a function has a mistake, with a line for each.
    """
    prestart_jvm()
    from streaming_lakehouse.config.triggers import parse_trigger
    from streaming_lakehouse.execution import mistakes
    from streaming_lakehouse.execution.compatibility import describe_queries
    from streaming_lakehouse.execution.plan import RunPlan
    from streaming_lakehouse.pipeline.discovery import load_pipeline

    declared, steps = load_pipeline(pipeline), tuple(step or ())
    plan = RunPlan(declared, Storage(root=Path()), source, {}, parse_trigger(trigger), steps, sink, mode)
    described = list(describe_queries(plan, compute or detect_compute(), exactly_once=exactly_once))
    is_refused = any(refused for _, refused in described)
    over_connect = is_reached_over_connect()
    if not is_refused and not over_connect:
        mistakes.check(plan, get_session())  # before it says that a step works
    for line, _ in described:
        typer.echo(line)
    if is_refused:
        raise LakehouseError("this does not work: see the lines above")
    if over_connect:
        typer.echo("expectations and transforms are not checked over Connect: each run checks its own", err=True)


@app.command()
def reset(
    pipeline: PipelineName,
    step: Annotated[list[str], typer.Option("--step", metavar="NAME", help="A layer, a table, or a step; repeatable.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    root: Root = None,
    catalog: Catalog = None,
    schema_prefix: SchemaPrefix = None,
) -> None:
    """Rebuild steps, and those after them, from the tables before them; the old tables and checkpoints are archived.

    The new tables are built beside the old ones, which are read and stay until the new ones are complete.
    """
    from streaming_lakehouse.execution import rebuild
    from streaming_lakehouse.execution.progress import ProgressReporter
    from streaming_lakehouse.execution.reset import describe, plan_reset
    from streaming_lakehouse.pipeline.discovery import load_pipeline

    declared, storage = load_pipeline(pipeline), Storage.resolve(root, catalog, schema_prefix)
    check_storage_visible(storage, is_run=True)
    if rebuild.unfinished(declared, storage):
        rebuild.finish(declared, storage)
        typer.echo("finished the moves of a reset that was interrupted; to reset more, give the command again")
        return
    planned = plan_reset(declared, storage, step)
    for line in describe(planned):
        typer.echo(line)
    if not planned.archived:
        return
    if not yes and not sys.stdin.isatty():
        raise LakehouseError("nothing was changed: there is no terminal to ask for consent; give --yes")
    if not yes and not typer.confirm("Go ahead?"):
        raise LakehouseError("nothing was changed")
    prestart_jvm()
    rebuild.run(planned, ProgressReporter)
    typer.echo(f"done; the old tables and checkpoints are in {planned.folder}")


@app.command(cls=BackfillCommand)
def backfill(
    pipeline: PipelineName,
    source: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Read history from here first: another source than the pipeline's own."),
    ] = None,
    option: Options = None,
    options: HistoryOptionsJson = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Judge the quarantined records with this reason again, by today's expectations; repeatable "
            "[is_on_time: the late ones].",
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The source has the history of this bronze table; repeatable [all of them]."),
    ] = None,
    root: Root = None,
    catalog: Catalog = None,
    schema_prefix: SchemaPrefix = None,
    secret: Secrets = None,
) -> None:
    """Bring late records, history, and records that were wrongly refused into silver and gold.

    With --source all records of another source are added to bronze first. Then the records in quarantine that are due
    enter silver, and gold tables get what they would have, had these records been on time. Nothing is added twice,
    however often it is given. No other run of the pipeline can start meanwhile; the tables can be read.
    """
    prestart_jvm()
    from streaming_lakehouse.config.secrets import set_from_scopes
    from streaming_lakehouse.execution import backfill as execution
    from streaming_lakehouse.execution.progress import ProgressReporter
    from streaming_lakehouse.layers.acceptance import ON_TIME
    from streaming_lakehouse.pipeline.discovery import load_pipeline

    set_from_scopes(secret or ())
    storage = Storage.resolve(root, catalog, schema_prefix)
    check_storage_visible(storage, is_run=True)
    given = parse_options(option, options)
    if (given or table) and not source:
        unused = f"--option {next(iter(given))}" if given else "--table"
        raise LakehouseError(f"{unused} is of a source, and none is given; add --source NAME")
    reasons, tables = tuple(reason or (ON_TIME,)), tuple(table or ())
    requested = execution.Backfill(load_pipeline(pipeline), storage, source, given, reasons, tables)
    execution.run(requested, ProgressReporter, typer.echo)


@app.command(cls=GenerateCommand)
def generate(
    pipeline: PipelineName,
    to: Annotated[Target, typer.Option(help="Where to send the records; its options say where exactly.")],
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="How many records of each table.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="The same seed and rows give the same records.")] = 0,
    from_row: Annotated[
        int, typer.Option(min=0, metavar="N", help="The number of the first row, to continue earlier ones.")
    ] = 0,
    table: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of this bronze table only; repeatable [all of them].")
    ] = None,
    option: Options = None,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write faults and anomalies, which row has which, to this JSON file."),
    ] = None,
) -> None:
    """Generate a pipeline's events, with labelled faults among them, and send them to where a run reads them."""
    from streaming_lakehouse.cli import publish, truth as labels
    from streaming_lakehouse.config.options import check_one_table, options_of
    from streaming_lakehouse.pipeline.discovery import load_pipeline

    declared = load_pipeline(pipeline)
    names = [bronze.table for bronze in declared.bronze]
    for name in table or ():
        if name not in names:
            raise LakehouseError(f"pipeline {pipeline!r} has no bronze table {name!r}{did_you_mean(name, names)}")
    chosen = [bronze for bronze in declared.bronze if bronze.table in (table or names)]
    if to is Target.SOCKET and len(chosen) > 1:
        raise LakehouseError(f"a socket serves one table: choose it with --table, one of {', '.join(names)}")
    given, last = parse_options(option), from_row + rows
    check_one_table(given, publish.ONE_TABLE.get(to, ()), pipeline, [each.table for each in chosen])
    jobs = [
        publish.PublishJob(bronze, seed, from_row, last, options_of(bronze.table, given, names)) for bronze in chosen
    ]
    for job in jobs:
        publish.check(job, to)
    file = labels.check_writable(truth) if truth else None
    found = {job.bronze.table: publish.publish(job, to) for job in jobs}
    for job in jobs:
        counts = ", ".join(f"{count:,} {label}" for label, count in found[job.bronze.table].counts.most_common())
        typer.echo(f"{counted(rows, 'record')} sent to {job.target(to)}: {counts or 'none'}")
    if file:
        labels.write(file, pipeline, seed, found)


@app.command()
def show(
    pipeline: PipelineName,
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="Print the newest N rows of each gold table.")] = 0,
    root: Root = None,
    catalog: Catalog = None,
    schema_prefix: SchemaPrefix = None,
) -> None:
    """Show a pipeline's tables: rows, newest event, newest window; and where each record went.

    It only reads, also while a run writes. Give it the --root (or the catalog) of the run.
    """
    prestart_jvm()
    from streaming_lakehouse.cli.report import Report
    from streaming_lakehouse.pipeline.discovery import load_pipeline

    report = Report(load_pipeline(pipeline), Storage.resolve(root, catalog, schema_prefix))
    console = _console()
    for part in report.render(gold_rows=rows):
        console.print(part)


@app.command()
def quarantine(
    pipeline: PipelineName,
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="Print the newest N records of each table.")] = 5,
    reason: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only records that fail this expectation, e.g. is_on_time.")
    ] = None,
    root: Root = None,
    catalog: Catalog = None,
    schema_prefix: SchemaPrefix = None,
) -> None:
    """Show the records that are not in silver: quarantined, duplicate or late ones, each with its reasons.

    It only reads. Records are printed as they are, with whatever personal data they have.
    """
    prestart_jvm()
    from streaming_lakehouse.cli.quarantine import QuarantineReport
    from streaming_lakehouse.pipeline.discovery import load_pipeline

    report = QuarantineReport(load_pipeline(pipeline), Storage.resolve(root, catalog, schema_prefix), reason)
    console = _console()
    for part in report.render(rows=rows):
        console.print(part, markup=False, highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    pipeline: PipelineName,
    truth: Annotated[Path, typer.Option(metavar="FILE", help="The file that `generate --truth FILE` wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    root: Root = None,
    catalog: Catalog = None,
    schema_prefix: SchemaPrefix = None,
) -> None:
    """Compare a pipeline's detections with the generated anomalies: precision, recall, delay, false alarms."""
    prestart_jvm()
    from streaming_lakehouse.cli import evaluate as evaluation
    from streaming_lakehouse.pipeline.discovery import load_pipeline

    storage = Storage.resolve(root, catalog, schema_prefix)
    check_storage_visible(storage, is_run=False)
    scores = evaluation.evaluate(load_pipeline(pipeline), storage, get_session(), truth)
    if as_json:
        typer.echo(evaluation.as_json(scores))
    else:
        _console().print(evaluation.as_grid(scores))


@app.command()
def demo(
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="How many events of each table.")] = 20_000,
    root: Annotated[str, typer.Option(metavar="DIR", help="The folder of tables and checkpoints.")] = ".demo",
    pipeline: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="This pipeline only; repeatable [all of them].")
    ] = None,
) -> None:
    """Run every pipeline on synthetic events, from raw records to gold tables, and show what they computed."""
    prestart_jvm()
    from streaming_lakehouse.cli.demo import run_all
    from streaming_lakehouse.pipeline.discovery import pipeline_names

    run_all(pipeline or pipeline_names(), Storage.resolve(root), rows, _console())


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new pipeline's name, e.g. orders.")],
    origin: Annotated[
        str | None, typer.Option("--from", metavar="PIPELINE", help="Copy this pipeline instead of a small one.")
    ] = None,
) -> None:
    """Create a new pipeline: its folder, tests and job file. It runs as it is; then edit it.

    No other file is changed: pipelines are found by their folder.
    """
    from streaming_lakehouse.cli.new import PROJECT, create

    for file in create(name, origin):
        typer.echo(f"created {file.relative_to(PROJECT)}")
    typer.echo(f"run it: lakehouse run {name}")


@app.command()
def broker(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0 for a free one.")] = 9092,
    data: Annotated[
        str, typer.Option(metavar="DIR", help="The broker's folder: topics, settings and log. It outlives the broker.")
    ] = ".lakehouse-broker",
    topic: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Create this topic, unless it exists; repeatable.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="The partitions of each new topic.")] = 2,
) -> None:
    """Run a real Kafka broker on this machine, reached from this machine only, until Ctrl-C.

    A pipeline reads the topic named like its bronze table, with dashes: weather-readings. A topic that does not exist
    is created for the first record that is sent to it.
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
    from streaming_lakehouse.local import cds_archive, jars, java

    typer.echo(f"Java {java.java_version(java.java_home())} at {java.java_home()}")
    typer.echo(f"{len(jars.jars('spark'))} jars for Spark, {len(jars.jars('broker'))} for the Kafka broker")
    archive = cds_archive.build()
    typer.echo(f"class archive {archive.name}" if archive else "no class archive: starts take a few seconds longer")


def _silence_duplicate_logs() -> None:
    # py4j logs each call to a JVM that has ended, and each batch of ours that failed: we report these, and once.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    # So does pyspark, a JSON line of thousands of characters for each expression that cannot be resolved.
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(lambda record: record.msg != "Exception while sending command.")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; what the user can correct is one line on standard error and exit status 1.

    Returns where it succeeds: Databricks may mark a wheel task that ends by SystemExit(0) as failed.
    """
    _silence_duplicate_logs()
    if arguments is None:
        restart_in_utf8()
    try:
        with standard_streams():
            app(arguments, prog_name="lakehouse")
    except SystemExit as ended:
        if ended.code:
            raise
    except LakehouseError as error:
        _exit_with_error(str(error))
    except ModuleNotFoundError as error:
        if error.name != "pyspark":
            raise
        _exit_with_error(
            "pyspark is missing here; install this package with its extra 'local', or 'connect' for Databricks"
        )
    except Exception as error:
        from streaming_lakehouse.execution.spark_errors import SPARK_EXCEPTIONS, to_user_message

        if isinstance(error, SPARK_EXCEPTIONS):
            _exit_with_error(to_user_message(error))
        if isinstance(error, OSError) and error.filename:
            _exit_with_error(f"{error.filename}: {error.strerror}; correct this and start again")
        raise


def _end_at_once(progress: ProgressReporter) -> NoReturn:
    """Ends the process as a crash would: the next run replays the batch. An orderly stop would wait for it."""
    progress.close()
    print("lakehouse: ended within a batch, which the next run replays", file=sys.stderr, flush=True)
    os._exit(EXIT_INTERRUPTED)


def _console() -> Console:
    """Standard output; in a pipe or a file there is no width to which a table should be cut."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_UNLIMITED)


def _exit_with_error(message: str) -> NoReturn:
    with contextlib.suppress(OSError):  # with nowhere to print it, the exit status remains
        for line in redact(message).splitlines():
            print(f"lakehouse: {line}", file=sys.stderr, flush=True)
    sys.exit(1)
