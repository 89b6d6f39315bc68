"""Credentials for sources: from the environment or a Databricks secret scope, and never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.unseen import keep_unseen

_REFERENCE = re.compile(r"\{\{secrets/([\w.@-]+)/([\w.-]+)\}\}")
_SECRET_OPTION = re.compile(
    r"(?i)jaas|password|secret|token(?!\.?endpoint)|keystore\.key|connection.?string|private.?key\b"
)
# A login of Java's: its module, a word on whether it counts, and options, of which some are secret.
_LOGIN = re.compile(r'[\w.$]+\s+(?:required|requisite|sufficient|optional)((?:\s+[\w.]+=(?:"[^"]*"|[^\s";]+))*)\s*;')
_LOGIN_OPTION = re.compile(r'([\w.]+)=("[^"]*"|[^\s";]+)')
_SECRET_PART = re.compile(r"(?i)password|secret|token|assertion|\Auser_")
_ENVIRONMENT = "LAKEHOUSE_"
_KAFKA = _ENVIRONMENT + "KAFKA_"
_LONGEST = 200  # of what a workspace says


def refuse_in_clear(options: Mapping[str, str]) -> None:
    """Raises LakehouseError for a credential on the command line, where `ps` and job logs would show it."""
    for name, value in options.items():
        if _SECRET_OPTION.search(name) and not _is_hidden(value.strip()):
            raise LakehouseError(
                f"option {name!r} is a credential: give it as {variable(name)} in the environment, "
                "or as {{secrets/SCOPE/KEY}}, not in clear on the command line"
            )


def _is_hidden(value: str) -> bool:
    """True for a reference, and for a login whose secret parts are references: it must have one beside what is open."""
    login = _LOGIN.fullmatch(value)
    if not login:
        return bool(_REFERENCE.fullmatch(value))
    parts = [text.strip('"') for name, text in _LOGIN_OPTION.findall(login[1]) if _SECRET_PART.search(name)]
    return bool(parts) and all(map(_REFERENCE.fullmatch, parts))


def variable(option: str) -> str:
    """The option's name in the environment: LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG is `kafka.sasl.jaas.config`."""
    return _ENVIRONMENT + re.sub(r"(?<=[a-z])(?=[A-Z])|\.", "_", option).upper()


def resolved(
    options: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
    also: Iterable[str] = (),
    *,
    is_kafka: bool = True,
) -> dict[str, str]:
    """The options with credentials filled in.

    `{{secrets/SCOPE/KEY}}` in a value is read from the Databricks secret scope. From the environment come those in
    `also`, by their `variable`, and for Kafka all of its options. What the command line says goes first.
    """
    ours = {name: environment[variable(name)] for name in also if variable(name) in environment}
    kafkas = {
        "kafka." + name.removeprefix(_KAFKA).lower().replace("_", "."): value
        for name, value in environment.items()
        if is_kafka and name.startswith(_KAFKA)
    }
    given = {**kafkas, **ours, **options}
    filled = {name: _REFERENCE.sub(_secret, value) for name, value in given.items()}
    for name, value in filled.items():
        if _SECRET_OPTION.search(name) or _REFERENCE.search(given[name]):
            keep_unseen(value, *re.findall(r'"([^"]{6,})"', value))
    return filled


def _secret(reference: re.Match[str]) -> str:
    try:
        from databricks.sdk.runtime import dbutils
    except Exception as error:
        raise LakehouseError(f"{reference[0]}: secret scopes can be read on Databricks only") from error
    try:
        return str(dbutils.secrets.get(reference[1], reference[2]))
    except Exception as error:  # of several classes, the JVM's among them
        said = next(iter(str(error).splitlines()), type(error).__name__)[:_LONGEST]
        raise LakehouseError(
            f"{reference[0]} cannot be read ({said}); see that scope and key are there, and that who runs this may "
            f"read them: databricks secrets list-acls {reference[1]}"
        ) from error
