"""The bundle's files against the JSON schema of the Databricks CLI itself, taken from its Go module."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

ROOT = Path(__file__).parents[2]
FILES = ["databricks.yml", *(f"resources/{path.name}" for path in sorted((ROOT / "resources").glob("*.yml")))]
MODULE = "github.com/databricks/cli@v1.12.1"
# The module's checksum, as in go.sum: the Go client verifies the download, this verifies that it is the pinned one.
CHECKSUM = "h1:AEmFRA5foGObnxzgbk/1392DS+9dNsQWUY3sdZ1Reeo="

Document = dict[str, Any]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The official schema. The first download takes seconds (90 MB unpacked); later it is in Go's module cache."""
    if not shutil.which("go"):
        skip_or_fail("the bundle's schema comes from a Go module, and there is no `go`: install Go 1.21 or newer")
    download = subprocess.run(
        ["go", "mod", "download", "-json", MODULE],
        cwd=tmp_path_factory.mktemp("outside_any_module"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if download.returncode:
        skip_or_fail(f"`go mod download {MODULE}` failed: {download.stdout}{download.stderr}")
    module = json.loads(download.stdout)
    assert module["Sum"] == CHECKSUM, f"{MODULE} is not the one that was pinned"
    text = (Path(module["Dir"]) / "bundle" / "schema" / "jsonschema.json").read_text()
    # Python's re does not support the Unicode classes of Go's patterns; \w matches letters of any script, too.
    return dict(json.loads(text.replace(r"\\p{L}", r"\\w").replace(r"\\p{N}", r"\\d")))


def skip_or_fail(reason: str) -> NoReturn:
    """Fails in CI; skips on a developer's machine."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def violation(schema: Document, document: Document) -> str | None:
    """The first violation of the schema, or None. Unknown fields at the root are violations too."""
    unknown = sorted(document.keys() - schema["properties"].keys())
    if unknown:
        return f"unknown at the root: {', '.join(unknown)}"
    error = best_match(Draft202012Validator(schema).iter_errors(document))
    return f"{error.json_path}: {error.message}" if error else None


def read(file: str) -> Document:
    return dict(yaml.safe_load((ROOT / file).read_text()))


@pytest.mark.parametrize("file", FILES)
def test_file_follows_the_official_schema(schema: Document, file: str) -> None:
    """Every file of the bundle is valid by the CLI's own schema."""
    assert violation(schema, read(file)) is None


def unknown_field(job: Document) -> None:
    job["max_concurent_runs"] = 1


def bad_enum(job: Document) -> None:
    job["health"]["rules"][0]["metric"] = "RUN_DURATION_MINUTES"


def missing_field(job: Document) -> None:
    del job["tasks"][0]["python_wheel_task"]["entry_point"]


def wrong_type(job: Document) -> None:
    job["timeout_seconds"] = "two hours"


@pytest.mark.parametrize("spoil", [unknown_field, bad_enum, missing_field, wrong_type])
def test_spoiled_job_is_refused(schema: Document, spoil: Callable[[Document], None]) -> None:
    """The check can fail: a job with one mistake does not pass, wherever the mistake is."""
    document = deepcopy(read("resources/weather.job.yml"))
    spoil(document["resources"]["jobs"]["weather"])
    assert violation(schema, document)


def test_unknown_section_is_refused(schema: Document) -> None:
    """A misspelt section at the root is refused, although the schema itself accepts it."""
    assert violation(schema, {**read("databricks.yml"), "target": {}}) == "unknown at the root: target"


def test_unknown_field_in_a_target_is_refused(schema: Document) -> None:
    """Targets are checked as strictly as the sections that they override."""
    document = read("databricks.yml")
    document["targets"]["prod"]["runas"] = document["targets"]["prod"].pop("run_as")
    assert violation(schema, document)
