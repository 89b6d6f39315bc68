"""Credentials come from the environment or a secret scope, and appear in no output."""

from __future__ import annotations

import pytest

from streaming_lakehouse.config.redaction import redact
from streaming_lakehouse.config.secrets import reject_plaintext_secrets, resolve_secrets, set_from_scopes
from streaming_lakehouse.errors import LakehouseError


def test_a_scope_without_permission_is_reported_in_one_line(workspace: None) -> None:
    """With the reference, the workspace's error, and how to list the permissions."""
    message = (
        r"\{\{secrets/theirs/key\}\} cannot be read \(PERMISSION_DENIED: .* on scope theirs\); .* list-acls theirs$"
    )
    with pytest.raises(LakehouseError, match=message):
        resolve_secrets({"kafka.sasl.jaas.config": "{{secrets/theirs/key}}"}, {})


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
def test_a_plaintext_credential_beside_a_reference_is_refused(value: str) -> None:
    """`ps` would show it, whatever is next to it."""
    with pytest.raises(LakehouseError, match="LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG") as refused:
        reject_plaintext_secrets({"kafka.sasl.jaas.config": value})
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
def test_references_are_accepted_and_resolved(value: str, workspace: None) -> None:
    """Alone, or as the secret options of a JAAS entry."""
    reject_plaintext_secrets({"kafka.sasl.jaas.config": value})
    filled = resolve_secrets({"kafka.sasl.jaas.config": value}, {})
    assert filled["kafka.sasl.jaas.config"] == value.replace(REFERENCE, "canary-of-key")


def test_a_variable_comes_from_a_scope(workspace: None) -> None:
    """A word without a value, as in a target that needs no secret, leaves the environment as it is."""
    environment = {"LAKEHOUSE_NETWORK_SALT": "as it is"}
    set_from_scopes([f"LAKEHOUSE_PAYMENTS_SALT={REFERENCE}", "LAKEHOUSE_NETWORK_SALT="], environment)
    assert environment == {"LAKEHOUSE_PAYMENTS_SALT": "canary-of-key", "LAKEHOUSE_NETWORK_SALT": "as it is"}
    assert "canary-of-key" not in redact("hashed with canary-of-key")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (f"PATH={REFERENCE}", r"--secret takes LAKEHOUSE_…=\{\{secrets/SCOPE/KEY\}\}, not 'PATH' before"),
        ("canary-in-one-word", "--secret takes LAKEHOUSE_…"),
        ("LAKEHOUSE_PAYMENTS_SALT=canary", "--secret LAKEHOUSE_PAYMENTS_SALT: give .* or set the variable in the env"),
        (f"LAKEHOUSE_PAYMENTS_SALT=canary{REFERENCE}", "--secret LAKEHOUSE_PAYMENTS_SALT: give"),
        ("LAKEHOUSE_PAYMENTS_SALT={{secrets/theirs/key}}", "cannot be read"),
    ],
)
def test_what_is_no_reference_for_a_variable_is_refused(word: str, message: str, workspace: None) -> None:
    with pytest.raises(LakehouseError, match=message) as refused:
        set_from_scopes([word], {})
    assert "canary" not in str(refused.value)
