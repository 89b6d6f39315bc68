"""Credentials come from the environment or a secret scope, and are in nothing that is told."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.sources.secrets import resolved


class Scopes:
    """Stands in for a workspace's `dbutils.secrets`: one scope, and none other may be read."""

    def get(self, scope: str, key: str) -> str:
        if scope != "ours":
            raise RuntimeError(f"PERMISSION_DENIED: no READ on scope {scope}\n\tat com.databricks.Secrets.get")
        return f"canary-of-{key}"


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(dbutils=SimpleNamespace(secrets=Scopes()))
    monkeypatch.setitem(sys.modules, "databricks.sdk.runtime", runtime)


def test_a_scope_that_may_not_be_read_is_told_in_one_line(workspace: None) -> None:
    """With the reference, what the workspace says, and how to see who may."""
    told = r"\{\{secrets/theirs/key\}\} cannot be read \(PERMISSION_DENIED: .* on scope theirs\); .* list-acls theirs$"
    with pytest.raises(LakehouseError, match=told):
        resolved({"kafka.sasl.jaas.config": "{{secrets/theirs/key}}"}, {})
