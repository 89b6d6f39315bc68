"""Azure Event Hubs through its Kafka endpoint: by a connection string, or by an application of Entra ID."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.options import option, without
from streaming_lakehouse.session import on_databricks
from streaming_lakehouse.sources import Request, Source, kafka, unreachable
from streaming_lakehouse.sources.secrets import resolved
from streaming_lakehouse.unseen import keep_unseen

CONNECTION_STRING = "eventhubs.connectionString"
CLIENT_SECRET = "eventhubs.clientSecret"  # noqa: S105 - the option's name
_NAME, _NAMESPACE = "eventhubs.name", "eventhubs.namespace"
_TENANT, _CLIENT = "eventhubs.tenantId", "eventhubs.clientId"
_GROUP, _TOKEN_ENDPOINT = "eventhubs.consumerGroup", "eventhubs.tokenEndpoint"
OPTIONS = (CONNECTION_STRING, _NAME, _NAMESPACE, _TENANT, _CLIENT, CLIENT_SECRET, _GROUP, _TOKEN_ENDPOINT)
OPTIONS_TO_SEND = tuple(name for name in OPTIONS if name != _GROUP)  # a group is of those who read
_OWNER = "source 'eventhubs'"
_NOT_KAFKAS = ("subscribe", "subscribePattern", "assign")  # the entity says what is read

USER = "$ConnectionString"  # as it stands: the connection string itself is the password
PORT = 9093  # of every namespace's Kafka endpoint
_LOGIN = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_BEARER = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
_CALLBACK = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler"
_NEEDED = ("Endpoint", "SharedAccessKeyName", "SharedAccessKey")


@dataclass(frozen=True)
class ConnectionString:
    """A connection string's parts. The key is in no text that this class makes of itself.

    `host` and `port` are those of the namespace's Kafka endpoint, `entity` the event hub, where the string names one.
    """

    host: str
    port: int
    policy: str
    entity: str | None

    @classmethod
    def parse(cls, text: str) -> ConnectionString:
        """Raises LakehouseError for what is no connection string, without repeating it; its key is unseen from here."""
        parts = dict(part.partition("=")[::2] for part in text.strip().strip(";").split(";"))
        parts = {name.strip(): value.strip() for name, value in parts.items()}
        missing = [name for name in _NEEDED if not parts.get(name)]
        if missing:
            raise _wrong(f"has no {' and no '.join(missing)}")
        at = re.fullmatch(r"sb://([A-Za-z0-9.-]+)(?::(\d{1,5}))?/?", parts["Endpoint"])
        if not at:
            raise _wrong("has an Endpoint that is not sb://NAMESPACE.servicebus.windows.net/")
        keep_unseen(text, parts["SharedAccessKey"])
        return cls(at[1], int(at[2] or PORT), parts["SharedAccessKeyName"], parts.get("EntityPath") or None)


def read(spark: SparkSession, request: Request) -> DataFrame:
    """The event hub's records in bronze's envelope: `source` is the event hub.

    Raises LakehouseError where the connection string or the application's credentials are incomplete, or where the
    namespace does not answer.
    """
    return kafka.records(spark, _all_of_kafka(request), request)


def _all_of_kafka(request: Request) -> dict[str, str]:
    with named(_OWNER):
        given = with_credentials(request.options)
        check_namespace(given)
        # Its own server and login win over what the environment holds for another Kafka.
        return {**passed_on(given), **of_kafka(given, shaded=on_databricks())}


def place(request: Request) -> dict[str, str]:
    """The namespace and the event hub."""
    with named(_OWNER):
        host, _, name = endpoint(with_credentials(request.options))
    return {"namespace": host, "name": name}


@contextmanager
def named(owner: str) -> Iterator[None]:
    """Puts the source, the sink or the command before what is wrong with the options here, which they share."""
    try:
        yield
    except LakehouseError as error:
        raise LakehouseError(f"{owner}: {error}") from error


def with_credentials(options: Mapping[str, str]) -> dict[str, str]:
    """The options with the credentials that the environment or a secret scope holds.

    Source and sink have one environment. Its connection string is not for the one whose options name another namespace.
    """
    given = resolved(options, also=(CONNECTION_STRING, CLIENT_SECRET))
    string, namespace = option(given, CONNECTION_STRING), option(options, _NAMESPACE)
    if string and namespace and option(options, CONNECTION_STRING) is None:
        parts = ConnectionString.parse(string)
        return given if _address(namespace) == (parts.host, parts.port) else without(given, [CONNECTION_STRING])
    return given


def event_hub(options: Mapping[str, str]) -> str:
    """The name of the event hub. Raises LakehouseError where the options name none."""
    return endpoint(options)[2]


def check_namespace(options: Mapping[str, str]) -> None:
    """Raises LakehouseError where the namespace does not answer."""
    host, port, _ = endpoint(options)
    why = unreachable(host, port)
    if why is not None:
        raise LakehouseError(
            f"{host}:{port} does not answer ({why}); correct {_NAMESPACE}, or the Endpoint of the connection string"
        )


def of_kafka(options: Mapping[str, str], *, shaded: bool) -> dict[str, str]:
    """The options of Kafka's client. On Databricks its classes are `shaded`, that is, have other names."""
    host, port, name = endpoint(options)
    prefix = "kafkashaded." if shaded else ""
    group = option(options, _GROUP)
    client = {
        kafka.SERVERS: f"{host}:{port}",
        "subscribe": name,
        "kafka.security.protocol": "SASL_SSL",
        **({"kafka.group.id": group} if group else {}),
    }
    secret = option(options, CONNECTION_STRING)
    return client | (_by_string(secret, prefix) if secret else _by_application(options, host, prefix))


def _by_string(secret: str, prefix: str) -> dict[str, str]:
    login = f'{prefix}{_PLAIN} required username="{USER}" password="{_quotable(secret)}";'
    return {"kafka.sasl.mechanism": "PLAIN", "kafka.sasl.jaas.config": login}


def _by_application(options: Mapping[str, str], host: str, prefix: str) -> dict[str, str]:
    """By OAuth's client credentials: Kafka's own login fetches the token and renews it."""
    client, secret, token_endpoint, scope = _application(options, host)
    login = (
        f'{prefix}{_BEARER} required clientId="{_quotable(client)}" clientSecret="{_quotable(secret)}" scope="{scope}";'
    )
    return {
        "kafka.sasl.mechanism": "OAUTHBEARER",
        "kafka.sasl.jaas.config": login,
        "kafka.sasl.login.callback.handler.class": prefix + _CALLBACK,
        "kafka.sasl.oauthbearer.token.endpoint.url": token_endpoint,
    }


def of_librdkafka(options: Mapping[str, str]) -> dict[str, str]:
    """The settings of librdkafka, which sends generated records, for the same endpoint."""
    host, port, _ = endpoint(options)
    given = kafka.client_settings(passed_on(options))
    # Of the compressions Event Hubs knows gzip alone.
    client = {"bootstrap.servers": f"{host}:{port}", "security.protocol": "SASL_SSL", "compression.type": "none"}
    string = option(options, CONNECTION_STRING)
    if string:
        return given | client | {"sasl.mechanism": "PLAIN", "sasl.username": USER, "sasl.password": string}
    identity, secret, token_endpoint, scope = _application(options, host)
    oauth = {"method": "oidc", "client.id": identity, "client.secret": secret, "scope": scope}
    oauth |= {"token.endpoint.url": token_endpoint}
    login = {f"sasl.oauthbearer.{name}": value for name, value in oauth.items()}
    return given | client | {"sasl.mechanism": "OAUTHBEARER"} | login


def _application(options: Mapping[str, str], host: str) -> tuple[str, str, str, str]:
    """The application's id and secret, where it gets its token, and what the token is for."""
    given = {name: option(options, name) or "" for name in (_TENANT, _CLIENT, CLIENT_SECRET)}
    token_endpoint = option(options, _TOKEN_ENDPOINT)
    missing = [name for name, value in given.items() if not value and not (token_endpoint and name == _TENANT)]
    if missing:
        raise LakehouseError(
            f"it needs {CONNECTION_STRING}, or {_NAMESPACE}, {_NAME} and an application of Entra ID: "
            f"there is no {' and no '.join(missing)}"
        )
    keep_unseen(given[CLIENT_SECRET])
    token_endpoint = token_endpoint or _LOGIN.format(tenant=given[_TENANT])
    return given[_CLIENT], given[CLIENT_SECRET], token_endpoint, f"https://{host}/.default"


def endpoint(options: Mapping[str, str]) -> tuple[str, int, str]:
    """The namespace's host and port, and the event hub's name."""
    secret, namespace, name = (option(options, key) for key in (CONNECTION_STRING, _NAMESPACE, _NAME))
    at = _address(namespace or "")
    if secret:
        parts = ConnectionString.parse(secret)
        if name and parts.entity and name != parts.entity:
            raise _wrong(f"is for the event hub {parts.entity!r}, but {_NAME} is {name!r}")
        if namespace and at != (parts.host, parts.port):
            raise _wrong(f"is for the namespace {parts.host!r}, but {_NAMESPACE} is {namespace!r}")
        at, name = (parts.host, parts.port), name or parts.entity
    if not at:
        raise LakehouseError(
            f"it needs {CONNECTION_STRING} (in the environment as LAKEHOUSE_EVENTHUBS_CONNECTION_STRING), or "
            f"{_NAMESPACE}=NAME.servicebus.windows.net"
        )
    if not name:
        raise LakehouseError(f"which event hub? Give --option {_NAME}=…, or EntityPath in the string")
    return *at, name


def _address(namespace: str) -> tuple[str, int] | None:
    """Host and port of a namespace's Kafka endpoint, where it is the name of one."""
    found = re.fullmatch(r"([A-Za-z0-9.-]+)(?::(\d{1,5}))?", namespace)
    return (found[1], int(found[2] or PORT)) if found else None


def passed_on(options: Mapping[str, str]) -> dict[str, str]:
    """What is Kafka's own, without the login, which follows from the credentials."""
    ours = tuple(name.lower() for name in (*OPTIONS, "kafka.sasl."))
    return {name: value for name, value in options.items() if not name.lower().startswith(ours)}


def _quotable(text: str) -> str:
    if set(text) & set('"\\\n'):
        raise LakehouseError("a credential has a quote, a backslash or a line break in it")
    return text


def _wrong(what: str) -> LakehouseError:
    return LakehouseError(f"the connection string {what}; copy it whole from the namespace's shared access policies")


_ACCEPTS = (*OPTIONS, *(name for name in kafka.ACCEPTS if name not in _NOT_KAFKAS))
SOURCE = Source("eventhubs", _ACCEPTS, read, place, kafka.LEAST, kafka.FLAGS)
