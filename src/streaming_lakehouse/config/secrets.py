"""Credentials of sources and sinks, from the environment or a Databricks secret scope; never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, MutableMapping

from streaming_lakehouse.config.redaction import register_secret
from streaming_lakehouse.errors import LakehouseError

_REFERENCE = re.compile(r"\{\{secrets/([\w.@-]+)/([\w.-]+)\}\}")
_SECRET_OPTION = re.compile(
    r"(?i)jaas|password|secret|token(?!\.?endpoint)|keystore\.key|connection.?string|private.?key\b"
)
# A JAAS entry: login module, control flag, options; some of the options are secret.
_LOGIN = re.compile(r'[\w.$]+\s+(?:required|requisite|sufficient|optional)((?:\s+[\w.]+=(?:"[^"]*"|[^\s";]+))*)\s*;')
_LOGIN_OPTION = re.compile(r'([\w.]+)=("[^"]*"|[^\s";]+)')
_SECRET_PART = re.compile(r"(?i)password|secret|token|assertion|\Auser_")
_ENVIRONMENT = "LAKEHOUSE_"
_KAFKA = _ENVIRONMENT + "KAFKA_"
_MAX_REASON_LENGTH = 200


def reject_plaintext_secrets(options: Mapping[str, str]) -> None:
    """Raises LakehouseError for a plaintext credential on the command line, where `ps` and job logs would show it."""
    for name, value in options.items():
        if _SECRET_OPTION.search(name) and not _is_secret_reference(value.strip()):
            raise LakehouseError(
                f"option {name!r} is a credential: set {env_var(name)} in the environment, "
                "or give {{secrets/SCOPE/KEY}}, not the plaintext on the command line"
            )


def _is_secret_reference(value: str) -> bool:
    """True for a reference, and for a JAAS entry with secret options that are all references."""
    login = _LOGIN.fullmatch(value)
    if not login:
        return bool(_REFERENCE.fullmatch(value))
    parts = [text.strip('"') for name, text in _LOGIN_OPTION.findall(login[1]) if _SECRET_PART.search(name)]
    return bool(parts) and all(map(_REFERENCE.fullmatch, parts))


def env_var(option: str) -> str:
    """The option's environment variable: LAKEHOUSE_KAFKA_SASL_JAAS_CONFIG for `kafka.sasl.jaas.config`."""
    return _ENVIRONMENT + re.sub(r"(?<=[a-z])(?=[A-Z])|\.", "_", option).upper()


def resolve_secrets(
    options: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
    also: Iterable[str] = (),
    *,
    is_kafka: bool = True,
) -> dict[str, str]:
    """The options with credentials filled in.

    `{{secrets/SCOPE/KEY}}` in a value is read from the Databricks secret scope. The environment supplies the options in
    `also`, by their `env_var`, and for Kafka all of its options. `options` override the environment.
    """
    named = {name: environment[env_var(name)] for name in also if env_var(name) in environment}
    kafka = {
        "kafka." + name.removeprefix(_KAFKA).lower().replace("_", "."): value
        for name, value in environment.items()
        if is_kafka and name.startswith(_KAFKA)
    }
    merged = {**kafka, **named, **options}
    filled = {name: _REFERENCE.sub(_read_secret, value) for name, value in merged.items()}
    for name, value in filled.items():
        if _SECRET_OPTION.search(name) or _REFERENCE.search(merged[name]):
            register_secret(value, *re.findall(r'"([^"]{6,})"', value))
    return filled


def set_from_scopes(secrets: Iterable[str], environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets environment variables from words `NAME={{secrets/SCOPE/KEY}}`; a word without a value sets none.

    Raises LakehouseError for a name that does not begin with LAKEHOUSE_, for a value that is no reference, and for a
    secret that cannot be read.
    """
    for word in secrets:
        name, equals, value = word.partition("=")
        if not equals or not name.startswith(_ENVIRONMENT):
            found = f", not {name!r} before the '='" if equals else ""  # without one it may be the secret itself
            raise LakehouseError(f"--secret takes {_ENVIRONMENT}…={{{{secrets/SCOPE/KEY}}}}{found}")
        if not value:
            continue
        if not (reference := _REFERENCE.fullmatch(value)):
            raise LakehouseError(
                f"--secret {name}: give {{{{secrets/SCOPE/KEY}}}}, or set the variable in the environment; "
                "the plaintext does not belong on the command line"
            )
        environment[name] = _read_secret(reference)
        register_secret(environment[name])


def _read_secret(reference: re.Match[str]) -> str:
    try:
        from databricks.sdk.runtime import dbutils
    except Exception as error:
        raise LakehouseError(
            f"{reference[0]}: secret scopes exist on Databricks only; elsewhere set it in the environment"
        ) from error
    try:
        return str(dbutils.secrets.get(reference[1], reference[2]))
    except Exception as error:  # dbutils raises several classes, the JVM's among them
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:_MAX_REASON_LENGTH]
        raise LakehouseError(
            f"{reference[0]} cannot be read ({reason}); check that the scope and the key exist and that the run's user "
            f"may read them: databricks secrets list-acls {reference[1]}"
        ) from error
