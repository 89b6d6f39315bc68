"""Kafka's configuration in the words of librdkafka, for a consumer that reads what Spark cannot."""

from __future__ import annotations

import re
from collections.abc import Mapping

from streaming_lakehouse.errors import LakehouseError

_SAME = (
    "bootstrap.servers",
    "client.id",
    "isolation.level",
    "security.protocol",
    "sasl.mechanism",
    "ssl.key.password",
    "ssl.cipher.suites",
    "ssl.keystore.password",
)
_OURS = {
    "group.id": "lakehouse-reread",  # required, but nothing is committed
    "enable.auto.commit": "false",
    "enable.partition.eof": "true",
    "isolation.level": "read_uncommitted",  # Kafka's Java default, and Spark's
    "log_level": "0",
}


def consumer_config(client: Mapping[str, str]) -> dict[str, str]:
    """librdkafka's configuration of a consumer, from that of Kafka's Java client.

    Raises LakehouseError for a login or a store of certificates that librdkafka cannot use.
    """
    same = {name: value for name, value in client.items() if name in _SAME and value}
    return {**_OURS, **same, **_certificates(client), **_login(client)}


def _certificates(client: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    if client.get("ssl.endpoint.identification.algorithm") == "":
        found["ssl.endpoint.identification.algorithm"] = "none"
    if authority := client.get("ssl.truststore.certificates"):
        found["ssl.ca.pem"] = authority
    if certificate := client.get("ssl.keystore.certificate.chain"):
        found |= {"ssl.certificate.pem": certificate, "ssl.key.pem": client.get("ssl.keystore.key", "")}
    if truststore := client.get("ssl.truststore.location"):
        found["ssl.ca.location"] = _file_of(client, "truststore", truststore, ("PEM",))
    if keystore := client.get("ssl.keystore.location"):
        file = _file_of(client, "keystore", keystore, ("PEM", "PKCS12"))
        is_pem = client.get("ssl.keystore.type") == "PEM"
        found |= (
            {"ssl.certificate.location": file, "ssl.key.location": file} if is_pem else {"ssl.keystore.location": file}
        )
    return found


def _file_of(client: Mapping[str, str], store: str, file: str, types: tuple[str, ...]) -> str:
    given = client.get(f"ssl.{store}.type", "JKS").upper()
    if given not in types:
        raise LakehouseError(f"librdkafka takes no {store} of the type {given}; give {' or '.join(types)}")
    return file


def _login(client: Mapping[str, str]) -> dict[str, str]:
    jaas = client.get("sasl.jaas.config")
    if jaas is None:
        return {}
    given = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', jaas))
    if {"username", "password"} <= given.keys():
        return {"sasl.username": given["username"], "sasl.password": given["password"]}
    if {"clientId", "clientSecret"} <= given.keys():
        endpoint = client.get("sasl.oauthbearer.token.endpoint.url", "")
        return {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": given["clientId"],
            "sasl.oauthbearer.client.secret": given["clientSecret"],
            "sasl.oauthbearer.scope": given.get("scope", ""),
            "sasl.oauthbearer.token.endpoint.url": endpoint,
        }
    raise LakehouseError("librdkafka takes no login but a user name with its password, or a client id with its secret")
