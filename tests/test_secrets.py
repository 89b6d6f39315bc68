"""Credentials come from the environment or a secret scope, and are in nothing that is told."""

from __future__ import annotations

import pytest

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.sources.secrets import refuse_in_clear, resolved


def test_a_scope_that_may_not_be_read_is_told_in_one_line(workspace: None) -> None:
    """With the reference, what the workspace says, and how to see who may."""
    told = r"\{\{secrets/theirs/key\}\} cannot be read \(PERMISSION_DENIED: .* on scope theirs\); .* list-acls theirs$"
    with pytest.raises(LakehouseError, match=told):
        resolved({"kafka.sasl.jaas.config": "{{secrets/theirs/key}}"}, {})


LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
REFERENCE = "{{secrets/ours/key}}"


@pytest.mark.parametrize(
    "value",
    [
        f"canary {REFERENCE}",
        f"{REFERENCE}canary",
        f'{LOGIN} username="{REFERENCE}" password="canary";',
        f'{LOGIN} username="{REFERENCE}" password=canary;',
        f'{LOGIN} username="u" password="canary{REFERENCE}";',
        f'{LOGIN} username="u" password="{REFERENCE} canary";',
        f'{LOGIN} username="u" password="{REFERENCE}" clientSecret="canary";',
        f'{LOGIN} user_{REFERENCE}="canary";',
        f'{LOGIN} user_ann="canary" password="{REFERENCE}";',
        f'{LOGIN} username="{REFERENCE}"; canary',
    ],
)
def test_a_credential_beside_a_reference_is_in_clear_too(value: str) -> None:
    """What `ps` shows is not hidden by what stands next to it."""
    with pytest.raises(LakehouseError, match="LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG") as refused:
        refuse_in_clear({"kafka.sasl.jaas.config": value})
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        REFERENCE,
        f" {REFERENCE} ",
        f'{LOGIN} username="ann" password="{REFERENCE}";',
        f'{LOGIN} clientId="c-1" clientSecret={REFERENCE} scope="all" ;',
    ],
)
def test_a_reference_and_a_login_with_references_are_taken(value: str, workspace: None) -> None:
    """And filled in where they are used."""
    refuse_in_clear({"kafka.sasl.jaas.config": value})
    filled = resolved({"kafka.sasl.jaas.config": value}, {})
    assert filled["kafka.sasl.jaas.config"] == value.replace(REFERENCE, "canary-of-key")
