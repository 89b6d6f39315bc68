"""Credentials for sources: from the environment or a Databricks secret scope, and never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from streaming_lakehouse.errors import LakehouseError

_REFERENCE = re.compile(r"\{\{secrets/([\w.@-]+)/([\w.-]+)\}\}")
_SECRET_OPTION = re.compile(r"(?i)jaas|password|secret|token|keystore\.key")
_ENVIRONMENT = "LAKEHOUSE_KAFKA_"
_known: set[str] = set()


def refuse_in_clear(options: Mapping[str, str]) -> None:
    """Raises LakehouseError for a credential on the command line, where `ps` and job logs would show it."""
    for name, value in options.items():
        if _SECRET_OPTION.search(name) and not _REFERENCE.search(value):
            variable = _ENVIRONMENT + name.removeprefix("kafka.").upper().replace(".", "_")
            raise LakehouseError(
                f"option {name!r} is a credential: give it as {variable} in the environment, "
                "or as {{secrets/SCOPE/KEY}}, not in clear on the command line"
            )


def resolved(options: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The options with credentials filled in.

    `{{secrets/SCOPE/KEY}}` in a value is read from the Databricks secret scope. LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG in the
    environment is `kafka.sasl.jaas.config`, and so for every option of Kafka's: upper case, `_` for `.`. What the
    command line says goes first.
    """
    from_environment = {
        "kafka." + name.removeprefix(_ENVIRONMENT).lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith(_ENVIRONMENT)
    }
    given = {**from_environment, **options}
    filled = {name: _REFERENCE.sub(_secret, value) for name, value in given.items()}
    _known.update(
        value for name, value in filled.items() if _SECRET_OPTION.search(name) or _REFERENCE.search(given[name])
    )
    return filled


def redacted(text: str) -> str:
    """`text` without any credential that this process has resolved."""
    for secret in _known:
        for part in {secret, *re.findall(r'"([^"]{6,})"', secret)}:
            text = text.replace(part, "***")
    return text


def _secret(reference: re.Match[str]) -> str:
    try:
        from databricks.sdk.runtime import dbutils
    except Exception as error:
        raise LakehouseError(f"{reference[0]}: secret scopes can be read on Databricks only") from error
    return str(dbutils.secrets.get(reference[1], reference[2]))
