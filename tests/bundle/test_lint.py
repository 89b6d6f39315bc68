"""Rules for every job: mistakes that `databricks bundle validate` accepts and a workspace, or a stream, does not."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer import BadParameter
from typer.main import get_command

from streaming_lakehouse.cli.arguments import parse_options
from streaming_lakehouse.cli.main import app
from streaming_lakehouse.config.options import split_options
from streaming_lakehouse.config.storage import LAYERS, Storage
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.execution.compatibility import validate
from streaming_lakehouse.execution.plan import RunPlan
from streaming_lakehouse.execution.preflight import check_options
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.sinks import get_sink
from streaming_lakehouse.sources import get_source

ROOT = Path(__file__).parents[2]
BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text())
RESOURCES = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "resources").rglob("*.yml"))}
TARGETS = sorted(BUNDLE["targets"])
RUN = get_command(app).commands["run"]  # type: ignore[attr-defined]
# Newer versions of typer vendor click, and export only this one of its usage errors.
USAGE_ERROR: type[Exception] = BadParameter.__mro__[1]  # type: ignore[assignment]
# The required options of a source.
NEEDS = {"files": {"path"}, "kafka": {"kafka.bootstrap.servers"}}

Job = dict[str, Any]


def resolved(value: Any, target: str) -> Any:
    """`value` with references replaced by the target's variables, recursively."""
    if isinstance(value, dict):
        return {key: resolved(part, target) for key, part in value.items()}
    if isinstance(value, list):
        return [resolved(part, target) for part in value]
    if not isinstance(value, str):
        return value
    known = {name: variable.get("default") for name, variable in BUNDLE["variables"].items()}
    known |= BUNDLE["targets"][target].get("variables", {})
    text = re.sub(r"\$\{var\.(\w+)\}", lambda found: str(known.get(found[1], "asked for")), value)
    return text if text == value else resolved(text, target)


def merged(base: Any, override: Any) -> Any:
    """Merges like the CLI: maps by key, lists by concatenation, other values by the override."""
    if isinstance(base, dict) and isinstance(override, dict):
        return base | {key: merged(base[key], part) if key in base else part for key, part in override.items()}
    return base + override if isinstance(base, list) and isinstance(override, list) else override


def jobs(target: str) -> dict[str, Job]:
    """The jobs as the target deploys them."""
    declared = {key: job for file in RESOURCES.values() for key, job in file["resources"].get("jobs", {}).items()}
    overrides = BUNDLE["targets"][target].get("resources", {}).get("jobs", {})
    return {key: resolved(with_override(job, overrides.get(key, {})), target) for key, job in declared.items()}


def with_override(job: Job, override: Job) -> Job:
    tasks = {task["task_key"]: task for task in override.get("tasks", [])}
    one = merged(job, {key: part for key, part in override.items() if key != "tasks"})
    one["tasks"] = [merged(task, tasks.pop(task["task_key"], {})) for task in job["tasks"]] + list(tasks.values())
    return dict(one)


# The rules: each yields what is wrong with a job.


def schedule(job: Job) -> Iterator[str]:
    if len(job.keys() & {"schedule", "continuous", "trigger"}) > 1:
        yield "takes one of schedule, continuous and trigger"
    for kind in ("schedule", "continuous", "trigger"):
        if "pause_status" in job.get(kind, {}):
            yield f"{kind}.pause_status: leave it off, so that development mode can pause"
    if "schedule" in job:
        yield from cron(job["schedule"]["quartz_cron_expression"])
        if job["schedule"]["timezone_id"] != "UTC":
            yield "schedule.timezone_id: UTC has no hour that comes twice or never"


CRON = {
    "seconds": (0, 59, ""),
    "minutes": (0, 59, ""),
    "hours": (0, 23, ""),
    "day of month": (1, 31, "L|LW|L-[0-9]+|[0-9]+W"),
    "month": (1, 12, ""),
    "day of week": (1, 7, "L|[0-9]L|[0-9]#[1-5]"),
    "year": (1970, 2099, ""),
}
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
NAMES = {name: str(number) for names in (MONTHS, DAYS) for number, name in enumerate(names, 1)}


def cron(expression: str) -> Iterator[str]:
    """Quartz: 6 or 7 fields, seconds first, a ? in one of the two day fields."""
    fields = expression.upper().split()
    if len(fields) not in (6, 7):
        yield f"cron {expression!r} has {len(fields)} fields; Quartz takes 6 or 7, seconds first"
        return
    if (fields[3] == "?") == (fields[5] == "?"):
        yield f"cron {expression!r}: exactly one of day of month and day of week is ?"
    for (name, (low, high, special)), field in zip(CRON.items(), fields, strict=False):
        numbers = re.sub("[A-Z]{3}", lambda found: NAMES.get(found[0], found[0]), field)
        for part in numbers.split(","):
            if (part == "?" and name.startswith("day")) or (special and re.fullmatch(special, part)):
                continue
            shape = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part)
            if not shape or any(not low <= int(number) <= high for number in shape.groups()[:2] if number):
                yield f"cron {expression!r}: {part!r} is no {name}"


def concurrency(job: Job) -> Iterator[str]:
    if job.get("max_concurrent_runs") != 1:
        yield "max_concurrent_runs: must be 1; two runs on one checkpoint corrupt it, and development mode makes it 4"
    if not job.get("timeout_seconds"):
        yield "timeout_seconds: without it a run that hangs blocks every later one"


def tasks(job: Job) -> Iterator[str]:
    count = Counter(task["task_key"] for task in job["tasks"])
    for key in (key for key, times in count.items() if times > 1):
        yield f"task {key}: {count[key]} tasks have this key; they would be merged"
    for task in job["tasks"]:
        for dependency in task.get("depends_on", []):
            if dependency["task_key"] not in count.keys() - {task["task_key"]}:
                yield f"task {task['task_key']}: depends on {dependency['task_key']}, which is no other task"


def environments(job: Job) -> Iterator[str]:
    known = {environment["environment_key"]: environment.get("spec", {}) for environment in job.get("environments", [])}
    for task in job["tasks"]:
        compute = task.keys() & {"environment_key", "job_cluster_key", "new_cluster", "existing_cluster_id"}
        if "python_wheel_task" in task and not compute:
            yield f"task {task['task_key']}: a wheel on serverless needs an environment_key"
        if "environment_key" in task and task["environment_key"] not in known:
            yield f"task {task['task_key']}: environment {task['environment_key']} is not defined"
    for key, spec in known.items():
        if "client" in spec or not spec.get("environment_version"):
            yield f"environment {key}: pin environment_version (client is its deprecated name)"


def wheel(job: Job) -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for task in job["tasks"]:
        python = task.get("python_wheel_task")
        if not python:
            continue
        if re.sub(r"[-_.]+", "-", python["package_name"]).lower() != project["name"]:
            yield f"task {task['task_key']}: package {python['package_name']} is not this project's"
        if python["entry_point"] not in project["scripts"]:
            yield f"task {task['task_key']}: pyproject.toml has no script {python['entry_point']}"


def command_line(job: Job) -> Iterator[str]:
    """The CLI itself parses the parameters; nothing is run."""
    for task in job["tasks"]:
        if "python_wheel_task" not in task:
            continue
        command, *words = task["python_wheel_task"].get("parameters") or [""]
        if command != "run":
            yield f"task {task['task_key']}: its first parameter is the command, run, not {command!r}"
            continue
        try:
            plan = planned(words)
            check_options(plan)
            validate(plan, "serverless" if "environment_key" in task else "classic")
        except (USAGE_ERROR, LakehouseError) as error:
            yield f"task {task['task_key']}: {getattr(error, 'message', error)}"
            continue
        if missing := NEEDS.get(plan.source_name, set()) - plan.options.keys():
            yield f"task {task['task_key']}: source {plan.source_name} without its option {', '.join(missing)}"


def planned(words: list[str]) -> RunPlan:
    """The plan of a run with these parameters, as the command makes it."""
    given = RUN.make_context("run", words).params
    pipeline, source, sink = load_pipeline(given["pipeline"]), get_source(given["source"]), get_sink(given["sink"])
    tables = [bronze.table for bronze in pipeline.bronze]
    both = parse_options(given["option"], given["options"])
    options, sink_options = split_options(both, source.options, sink.options, tables)
    trigger, steps = parse_trigger(given["trigger"]), tuple(given["step"] or ())
    return RunPlan(
        pipeline, Storage(catalog="main"), source.name, options, trigger, steps, sink.name, given["mode"], sink_options
    )


def problems(job: Job) -> list[str]:
    rules = (schedule, concurrency, tasks, environments, wheel, command_line)
    return [problem for rule in rules for problem in rule(job)]


@pytest.mark.parametrize("target", TARGETS)
def test_jobs_follow_the_rules(target: str) -> None:
    """No job of any target has a mistake that only a workspace, or a broken stream, would reveal."""
    assert {key: found for key, job in jobs(target).items() if (found := problems(job))} == {}


def wheel_task(job: Job) -> Job:
    task: Job = job["tasks"][0]["python_wheel_task"]
    return task


def replace(job: Job, word: str, other: str) -> None:
    words = wheel_task(job)["parameters"]
    words[words.index(word)] = other


def with_options(job: Job, options: str) -> None:
    words = wheel_task(job)["parameters"]
    wheel_task(job)["parameters"] = [f"--options={options}" if "--options=" in word else word for word in words]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda job: job["schedule"].update(quartz_cron_expression="*/15 * * * *"), "has 5 fields"),
        (lambda job: job["schedule"].update(quartz_cron_expression="0 0 1 * * *"), "exactly one of"),
        (lambda job: job["schedule"].update(quartz_cron_expression="0 60 1 * * ?"), "'60' is no minutes"),
        (lambda job: job["schedule"].update(quartz_cron_expression="0 0 1 ? * MOON"), "'MOON' is no day of week"),
        (lambda job: job["schedule"].update(timezone_id="Europe/Berlin"), "UTC"),
        (lambda job: job["schedule"].update(pause_status="UNPAUSED"), "leave it off"),
        (lambda job: job.update(continuous={}), "takes one of"),
        (lambda job: job.pop("max_concurrent_runs"), "max_concurrent_runs"),
        (lambda job: job.update(timeout_seconds=0), "timeout_seconds"),
        (lambda job: job["tasks"].append(job["tasks"][0]), "2 tasks have this key"),
        (lambda job: job["tasks"][0].update(depends_on=[{"task_key": "bronze"}]), "depends on bronze"),
        (lambda job: job["tasks"][0].update(environment_key="other"), "other is not defined"),
        (lambda job: job["tasks"][0].pop("environment_key"), "needs an environment_key"),
        (lambda job: job["environments"][0]["spec"].update(client="1"), "environment_version"),
        (lambda job: wheel_task(job).update(package_name="lakehouse"), "not this project's"),
        (lambda job: wheel_task(job).update(entry_point="main"), "no script main"),
        (lambda job: wheel_task(job)["parameters"].append("--colour"), "No such option"),
        (lambda job: replace(job, "available-now", "30 seconds"), "[serverless-available-now-only]"),
        (
            lambda job: wheel_task(job)["parameters"].extend(["--sink", "delta-native", "--mode", "update"]),
            "[delta-native-no-update-mode]",
        ),
        (lambda job: wheel_task(job)["parameters"].extend(["--sink", "kafak"]), "no sink 'kafak'"),
        (lambda job: replace(job, "run", "ran"), "not 'ran'"),
        (lambda job: replace(job, "weather", "whether"), "no pipeline 'whether'"),
        (lambda job: replace(job, "files", "kafka"), "no option 'path'"),
        (lambda job: with_options(job, '{"path": "/Volumes/a", "pth": "b"}'), "no option 'pth'"),
        (lambda job: with_options(job, "path=/Volumes/a"), "--options takes a JSON object"),
        (lambda job: with_options(job, "{}"), "without its option path"),
    ],
)
def test_spoiled_job_breaks_a_rule(spoil: Callable[[Job], object], message: str) -> None:
    """Each rule can fail: a job with one mistake is reported."""
    job = deepcopy(jobs("dev")["weather"])
    spoil(job)
    assert any(message in problem for problem in problems(job)), problems(job)


@pytest.mark.parametrize(
    "expression",
    ["30 7/15 * * * ?", "0 0 6-18/2 ? * MON-FRI", "0 15 10 L-2 * ?", "0 0 0 1W JAN,JUL ? 2030", "0 0 8 ? * 6#3"],
)
def test_quartz_expression_is_accepted(expression: str) -> None:
    """Expressions that are valid for Quartz are no problem."""
    assert list(cron(expression)) == []


@pytest.mark.parametrize("target", TARGETS)
def test_engine_and_bundle_use_the_same_locations(target: str) -> None:
    """Schemas and the checkpoints' volume have the names that the engine derives from --catalog and --schema-prefix."""
    deployed = [resolved(file["resources"], target) for file in RESOURCES.values()]
    schemas = {key: schema for one in deployed for key, schema in one.get("schemas", {}).items()}
    checkpoints = next(one["volumes"]["checkpoints"] for one in deployed if "checkpoints" in one.get("volumes", {}))
    catalog, prefix = resolved("${var.catalog}", target), resolved("${var.schema_prefix}", target)
    assert {key: schema["name"] for key, schema in schemas.items()} == {layer: prefix + layer for layer in LAYERS}
    assert checkpoints["schema_name"] == "${resources.schemas.ops.name}"
    engine = Storage(catalog=catalog, schema_prefix=prefix)
    folder = f"/Volumes/{checkpoints['catalog_name']}/{schemas['ops']['name']}/{checkpoints['name']}"
    assert engine.checkpoint("weather", "bronze") == f"{folder}/weather/bronze"
    for job in jobs(target).values():
        words = job["tasks"][0]["python_wheel_task"]["parameters"]
        assert words[words.index("--catalog") + 1] == catalog
        assert f"--schema-prefix={prefix}" in words


@pytest.mark.parametrize("file", RESOURCES)
def test_file_declares_the_resource_it_is_named_after(file: str) -> None:
    """NAME.KIND.yml declares the KIND with the key NAME, directly in resources/, where the include finds it."""
    name, kind, _ = file.split(".")
    assert {key: list(things) for key, things in RESOURCES[file]["resources"].items()} == {f"{kind}s": [name]}
    assert (ROOT / "resources" / file).is_file()


def test_every_reference_has_a_target() -> None:
    """Variables and resources that are referred to are declared, and every declared variable is used."""
    text = "\n".join(path.read_text() for path in (ROOT / "databricks.yml", *(ROOT / "resources").glob("*.yml")))
    kinds = [kind for file in RESOURCES.values() for kind in file["resources"].items()]
    declared = {f"{kind}.{key}" for kind, things in kinds for key in things}
    assert set(re.findall(r"\$\{var\.(\w+)\}", text)) == BUNDLE["variables"].keys()
    assert set(re.findall(r"\$\{resources\.(\w+\.\w+)", text)) <= declared


def test_no_target_names_a_workspace() -> None:
    """A host in the file would override DATABRICKS_HOST."""
    sections = [BUNDLE, *BUNDLE["targets"].values()]
    assert not [section for section in sections if section.get("workspace", {}).keys() & {"host", "profile"}]


@pytest.mark.parametrize("target", [name for name in TARGETS if BUNDLE["targets"][name].get("mode") == "production"])
def test_production_runs_as_a_principal_with_restricted_access(target: str) -> None:
    """One deployment, run by a service principal that must be named; no permission for all users."""
    settings = BUNDLE["targets"][target]
    assert settings["run_as"] == {"service_principal_name": "${var.runner}"}
    assert "default" not in BUNDLE["variables"]["runner"]
    assert "runner" not in settings["variables"]
    assert settings["workspace"]["root_path"].startswith("/Workspace/Users/")
    grants = [
        grant["principal"]
        for file in RESOURCES.values()
        for things in file["resources"].values()
        for thing in things.values()
        for grant in thing.get("grants", [])
    ]
    named = [permission.get("group_name") for permission in settings["permissions"]]
    everyone = {"users", "account users"}
    assert not everyone & {resolved(one, target) for one in (*named, *grants) if one}
