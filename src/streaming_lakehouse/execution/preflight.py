"""What is checked before a run: first without Spark, then, step by step, its tables against its checkpoints."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.checkpointing import archive, backfill_journal, consistency, metadata
from streaming_lakehouse.config.options import check_one_table
from streaming_lakehouse.config.secrets import reject_plaintext_secrets
from streaming_lakehouse.config.storage import Table
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution import compatibility
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.reset import IN_A_CATALOG
from streaming_lakehouse.execution.source_watch import bind_source_identity
from streaming_lakehouse.execution.supervisor import late_drops_message
from streaming_lakehouse.layers import validation
from streaming_lakehouse.layers.parsing import check_readable
from streaming_lakehouse.pipeline import Bronze, Gold, Silver, State
from streaming_lakehouse.pipeline.steps import Step, pipeline_steps
from streaming_lakehouse.session import check_storage_visible, detect_compute
from streaming_lakehouse.sinks import DEFAULT_SINK, delta

log = logging.getLogger(__name__)


def check_static(plan: RunPlan) -> None:
    """Raises LakehouseError for everything that can be found without Spark, before any layer runs."""
    check_storage_visible(plan.storage, is_run=True)
    _check_reset_finished(plan)
    _warn_backfill_unfinished(plan)
    check_options(plan)
    compatibility.validate(plan, detect_compute())
    for silver in plan.pipeline.silver:
        validation.check_reserved_columns(silver)
        check_readable(silver.schema, f"silver.{silver.table}")
    for step in plan.steps:
        if step.reads_source:
            plan.source.address(plan.read_request(step))
            _check_resumable(plan, step)
        if step.uses_sink:
            plan.sink.check(plan.write_request(step))
            plan.sink.address(plan.write_request(step))
    _warn_public_salt(plan)


def _warn_public_salt(plan: RunPlan) -> None:
    """Before the first row: under another salt the same value has another hash, so that silver has to be rebuilt."""
    for step in plan.steps:
        name = step.makes.salt_variable if isinstance(step.makes, Silver) else None
        if name and not os.environ.get(name) and not plan.source.is_synthetic:
            log.warning(
                "%s: %s is not set, so that hashes are made with a public salt and can be guessed; before real records "
                "are read, set it, or give --secret %s={{secrets/SCOPE/KEY}} in a workspace", step, name, name
            )  # fmt: skip


def _check_reset_finished(plan: RunPlan) -> None:
    root, name = plan.storage.root, plan.pipeline.name
    if root and archive.journal(root, name).exists():
        raise LakehouseError(
            f"a reset of pipeline {name!r} was interrupted while it moved tables; to finish it, give it again: "
            f"{plan.reset_command(plan.steps)}"
        )


def _warn_backfill_unfinished(plan: RunPlan) -> None:
    name, storage = plan.pipeline.name, plan.storage
    if backfill_journal.file(storage, name).exists():
        log.warning(
            "a backfill of pipeline %r is under way or was interrupted, and gold lacks some of its rows; to finish it: "
            "lakehouse backfill %s %s", name, name, storage.options
        )  # fmt: skip


def check_options(plan: RunPlan) -> None:
    """Raises LakehouseError for an option that is unknown, wrong, or of a source or sink that the run does not use."""
    reading = [step for step in plan.steps if step.reads_source]
    writing = [step for step in plan.steps if step.uses_sink]
    if plan.options and not reading:
        _refuse_source_option(plan, has_sink=bool(writing))
    if plan.sink_options and not writing:
        raise LakehouseError(
            f"--option {next(iter(plan.sink_options))}: sink {plan.sink.name!r} is not used in this run, which has "
            "neither a gold table nor the hot path"
        )
    tables = [each.table for each in plan.pipeline.bronze]
    for step in reading:
        plan.source.check(plan.read_request(step).options)
    check_one_table(plan.options, plan.source.one_table, plan.pipeline.name, tables)
    plan.sink.options.check(plan.sink_options)
    reject_plaintext_secrets(plan.sink_options)


def _refuse_source_option(plan: RunPlan, *, has_sink: bool) -> None:
    name, value = next(iter(plan.options.items()))
    if has_sink and not plan.source.options.accepts(name):
        plan.sink.options.check({name: value})  # raises: it can only have been meant for the sink
    hint = f"; for the sink write sink.{name}" if has_sink and plan.sink.options.accepts(name) else ""
    raise LakehouseError(
        f"--option {name}: source {plan.source.name!r} is not used in this run, which has neither the step bronze "
        f"nor the hot path{hint}"
    )


def _check_resumable(plan: RunPlan, step: Step) -> None:
    """What a source does not store is lost with the run that did not read it; a new root hides nothing."""
    checkpoint = plan.checkpoint(step)
    if checkpoint and not plan.source.is_replayable and metadata.has_started(checkpoint):
        raise LakehouseError(
            f"source {plan.source.name!r} cannot be replayed, so no run can resume {checkpoint}; use another --root"
        )


def check_inputs(plan: RunPlan, spark: SparkSession) -> None:
    """Raises LakehouseError where a step reads a table that no run has made: probably the root is mistyped.

    A step that has found nothing to read leaves a checkpoint and no table.
    """
    for step in plan.steps:
        upstream = () if step.reads_source else step.makes.inputs
        for source in (Step(each) for each in upstream if isinstance(each, Bronze | Silver)):
            if source.name in {each.name for each in plan.steps}:
                continue
            table = plan.storage.table(source.layer, source.table)
            checkpoint = Path(plan.storage.checkpoint(plan.pipeline.name, source.name))
            if not delta.exists(spark, table) and not checkpoint.exists():
                raise LakehouseError(
                    f"step {step.name!r} reads {table.location}, which does not exist and which no run has written; "
                    f"give the --root or --catalog of the run that has, or run step {source.name!r} first"
                )


def warn_changed_records(plan: RunPlan) -> None:
    """Warns of records that changed after they were read, such as lines that were added to a file."""
    for step in plan.steps:
        checkpoint = plan.checkpoint(step) if step.reads_source else None
        if checkpoint and (text := plan.source.warning(checkpoint)):
            log.warning("%s", text)


def check_step(plan: RunPlan, spark: SparkSession, step: Step, checkpoint: str, rows: DataFrame | None) -> None:
    """Checks a step whose checkpoint is locked against its tables, and prepares it; `rows` are those of its transform.

    Raises LakehouseError where it cannot resume without losing rows or writing them twice.
    """
    _check_folder_name(plan, step, checkpoint)
    metadata.remove_partial_first_batch(checkpoint)
    if isinstance(step.makes, Gold):
        metadata.record_first_start(checkpoint, time.time_ns() // 1000)
    _check_table_and_checkpoint(plan, spark, step, checkpoint)
    _warn_shuffle_partitions_changed(spark, step, checkpoint)
    _bind_identities(plan, spark, step, checkpoint)
    _evolve_schemas(plan, spark, step, rows)


def _check_folder_name(plan: RunPlan, step: Step, checkpoint: str) -> None:
    """Checkpoints were named by layer, or by gold table, while a pipeline had one bronze and one silver table."""
    folder = Path(checkpoint).parent
    moves = [
        f"mv {each.folder_before_0_2} {each.name}"
        for each in pipeline_steps(plan.pipeline)
        if (folder / each.folder_before_0_2).is_dir() and not (folder / each.name).exists()
    ]
    if moves and not metadata.has_started(checkpoint):
        raise LakehouseError(
            f"the checkpoints in {folder} have the names of version 0.1; no data changes, so rename them once: "
            f"cd {folder} && {' && '.join(moves)}"
        )


def _check_table_and_checkpoint(plan: RunPlan, spark: SparkSession, step: Step, checkpoint: str) -> None:
    """A step's tables and its checkpoint belong together: what one of them has lost, the other cannot know.

    Only where rows have keys can a new checkpoint work over a table with rows: each replaces the one with its key.
    """
    metadata.check_logs_intact(checkpoint)
    if dropped := metadata.late_drops(checkpoint):
        raise LakehouseError(late_drops_message(step.name, dropped, rebuild_hint(plan, step)))
    tables = plan.tables(step)
    existing = [table for table in tables if delta.exists(spark, table)]
    missing = [table for table in tables if table not in existing]
    has_started = metadata.has_started(checkpoint)
    own = [] if has_started else [table for table in existing if not _is_shared(plan, step, table)]
    filled = [table for table in own if not delta.read(spark, table).isEmpty()]
    rebuild = f"restore it, or {rebuild_hint(plan, step)}"
    if filled and step.uses_sink and plan.sink_name == DEFAULT_SINK:
        metadata.mark_table_prepopulated(checkpoint)
        log.warning(
            "%s has rows, and the checkpoint of step %r is new: a row replaces the one with its key",
            filled[0],
            step.name,
        )
    elif filled:
        raise LakehouseError(
            f"the checkpoint of step {step.name!r} is missing, but {_join(filled)} has rows; they would be written "
            f"twice: {rebuild}"
        )
    if missing and metadata.latest_commit_batch(checkpoint) is not None:
        raise LakehouseError(
            f"{_join(missing)} is missing, but the checkpoint of step {step.name!r} counts its rows as written; "
            f"{rebuild}"
        )
    for table in existing:
        consistency.check_table_in_sync(
            step.name,
            checkpoint,
            table,
            rebuild,
            is_written_each_batch=step.layer == "bronze" and not plan.is_history,  # of which the first may be empty
        )


def _is_shared(plan: RunPlan, step: Step, table: Table) -> bool:
    """True for a table whose rows may all be of others.

    A quarantine that several silver tables write, and the bronze table to which a backfill adds those of a second
    source.
    """
    if plan.is_history and step.layer == "bronze":
        return True
    is_one_of_several = isinstance(step.makes, Silver) and len(plan.pipeline.silver_of(step.makes.source)) > 1
    return is_one_of_several and table.layer == "quarantine"


def rebuild_hint(plan: RunPlan, step: Step) -> str:
    """What makes a step start again from its inputs: bronze's are read again by the next run only."""
    if plan.checkpoint(step) is None:
        return "start again: it reads its input from the start"
    if plan.is_history:  # of bronze, which has the records of other sources too
        return "restore it from a backup"
    if not plan.tables(step):
        return f"archive {plan.checkpoint(step)} and the output"
    if plan.storage.root is None:
        return f"rebuild: {IN_A_CATALOG}"
    if step.layer != "bronze":
        return f"rebuild with: {plan.reset_command([step])}"
    tables = _join(table.location for table in plan.tables(step))
    archived = f"{plan.checkpoint(step)} and {tables}"
    return f"rebuild: archive {archived}, as far as they exist, and those of the steps after it"


def _join(names: Iterable[object]) -> str:
    return " and ".join(map(str, names))


def _warn_shuffle_partitions_changed(spark: SparkSession, step: Step, checkpoint: str) -> None:
    """State has as many partitions as the shuffle had when its checkpoint was created, on whatever machine."""
    recorded, configured = metadata.shuffle_partitions(checkpoint), spark.conf.get("spark.sql.shuffle.partitions")
    if step.state is not State.NONE and recorded not in (None, configured):
        log.warning(
            "step %r resumes with the %s shuffle partitions of its checkpoint; the %s of this session apply to new "
            "checkpoints only", step.name, recorded, configured,
        )  # fmt: skip


def _bind_identities(plan: RunPlan, spark: SparkSession, step: Step, checkpoint: str) -> None:
    """A checkpoint belongs to one source and one sink: what it counts is there and nowhere else."""
    if step.reads_source:
        with closing(plan.source.admin(spark, plan.read_request(step))) as admin:
            bind_source_identity(plan, step, checkpoint, admin)
    if step.uses_sink:
        bind_sink_identity(plan, step, checkpoint, plan.sink.fingerprint(spark, plan.write_request(step)))


def bind_sink_identity(plan: RunPlan, step: Step, checkpoint: str, fingerprint: Mapping[str, str]) -> None:
    request = plan.write_request(step)
    address = {"sink": plan.sink.name, "mode": request.query.mode, **plan.sink.address(request)}
    metadata.bind_sink(checkpoint, address, fingerprint)


def record_created_topic_ids(plan: RunPlan, spark: SparkSession) -> None:
    """A topic that the broker created for the run's first row has an id only now."""
    for step in plan.steps:
        if step.uses_sink and (checkpoint := plan.checkpoint(step)):
            try:
                fingerprint = plan.sink.fingerprint(spark, plan.write_request(step))
            except LakehouseError as error:  # the rows are written: that the broker has stopped since is no failure
                log.warning("step %r: the id of its topic will be recorded by the next run: %s", step.name, error)
                continue
            if fingerprint:
                bind_sink_identity(plan, step, checkpoint, fingerprint)


def _evolve_schemas(plan: RunPlan, spark: SparkSession, step: Step, rows: DataFrame | None) -> None:
    """The pipeline may have changed since its tables were created. A stream over a table fails when columns change."""
    for table in plan.tables(step):
        if not delta.exists(spark, table):
            continue
        if table.layer == "silver" and isinstance(step.makes, Silver):
            _add_new_silver_columns(plan, spark, step, step.makes, table)
        if isinstance(step.makes, Gold) and rows is not None:
            _check_gold_columns(plan, spark, step, table, rows)


def _add_new_silver_columns(plan: RunPlan, spark: SparkSession, step: Step, silver: Silver, table: Table) -> None:
    schema, rebuild = validation.schema(silver), rebuild_hint(plan, step)
    delta.check_column_types(spark, table, schema, f"restore the column's type, or {rebuild}")
    new = delta.missing_columns(spark, table, schema)
    for column in new:
        if column.name in (*silver.dedup_key, silver.event_time):  # silver finds duplicates and late rows by these
            raise LakehouseError(f"{table} has no column {column.name}; {rebuild}")
    if new:
        delta.add_columns(spark, table, new)


def _check_gold_columns(plan: RunPlan, spark: SparkSession, step: Step, table: Table, rows: DataFrame) -> None:
    """A merge would silently omit new columns, and existing rows have no values for them."""
    if new := delta.missing_columns(spark, table, rows.schema):
        names = ", ".join(column.name for column in new)
        raise LakehouseError(
            f"{table} lacks columns that its transform now returns: {names}; {rebuild_hint(plan, step)}"
        )
