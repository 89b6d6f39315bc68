"""Azure Event Hubs through its Kafka endpoint, with a connection string or an Entra ID application."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from streaming_lakehouse.config.options import OptionSpec, get_option, omit
from streaming_lakehouse.config.redaction import register_secret
from streaming_lakehouse.config.secrets import resolve_secrets
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.session import on_databricks
from streaming_lakehouse.sources import OffsetRange, ReadRequest, Source, SourceAdmin, connection_error, kafka

CONNECTION_STRING = "eventhubs.connectionString"
CLIENT_SECRET = "eventhubs.clientSecret"  # noqa: S105 - the option's name
_NAME, _NAMESPACE = "eventhubs.name", "eventhubs.namespace"
_TENANT, _CLIENT = "eventhubs.tenantId", "eventhubs.clientId"
_GROUP, _TOKEN_ENDPOINT = "eventhubs.consumerGroup", "eventhubs.tokenEndpoint"
OPTIONS = (CONNECTION_STRING, _NAME, _NAMESPACE, _TENANT, _CLIENT, CLIENT_SECRET, _GROUP, _TOKEN_ENDPOINT)
PRODUCER_OPTIONS = tuple(name for name in OPTIONS if name != _GROUP)  # producers have no consumer group
_OWNER = "source 'eventhubs'"
_UNSUPPORTED_OPTIONS = ("subscribe", "subscribePattern", "assign")  # the event hub is the topic

USER = "$ConnectionString"  # the literal user name; the connection string is the password
PORT = 9093  # the Kafka endpoint of every namespace
_LOGIN = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_BEARER = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
_CALLBACK = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler"
_REQUIRED_PARTS = ("Endpoint", "SharedAccessKeyName", "SharedAccessKey")


@dataclass(frozen=True)
class ConnectionString:
    """The parts of a connection string, without the key.

    `host` and `port` are those of the namespace's Kafka endpoint, `entity` is the event hub if the string names one.
    """

    host: str
    port: int
    policy: str
    entity: str | None

    @classmethod
    def parse(cls, text: str) -> ConnectionString:
        """Parses `text` and registers its key as a secret. Raises LakehouseError, without it, if it is invalid."""
        parts = dict(part.partition("=")[::2] for part in text.strip().strip(";").split(";"))
        parts = {name.strip(): value.strip() for name, value in parts.items()}
        missing = [name for name in _REQUIRED_PARTS if not parts.get(name)]
        if missing:
            raise _invalid_connection_string(f"has no {' and no '.join(missing)}")
        at = re.fullmatch(r"sb://([A-Za-z0-9.-]+)(?::(\d{1,5}))?/?", parts["Endpoint"])
        if not at:
            raise _invalid_connection_string("has an Endpoint that is not sb://NAMESPACE.servicebus.windows.net/")
        register_secret(text, parts["SharedAccessKey"])
        return cls(at[1], int(at[2] or PORT), parts["SharedAccessKeyName"], parts.get("EntityPath") or None)


def read(spark: SparkSession, request: ReadRequest) -> DataFrame:
    """The event hub's records in bronze's envelope: `source` is the event hub.

    Raises LakehouseError if the connection string or the application's credentials are incomplete, or if the namespace
    is unreachable.
    """
    return kafka.records(spark, _client_options(request), request)


def _client_options(request: ReadRequest) -> dict[str, str]:
    with prefix_errors(_OWNER):
        given = with_credentials(request.options)
        check_namespace(given)
        # The namespace's server and login override those that the environment has for another Kafka.
        return {**kafka_passthrough(given), **kafka_options(given, shaded=on_databricks())}


def address(request: ReadRequest) -> dict[str, str]:
    """The namespace and the event hub."""
    with prefix_errors(_OWNER):
        host, _, name = endpoint(with_credentials(request.options))
    return {"namespace": host, "name": name}


def admin(spark: SparkSession, request: ReadRequest) -> SourceAdmin:
    """Asks the namespace about the event hub, as `kafka.admin` does a cluster."""
    options = _client_options(request)
    return kafka.topic_admin(spark, options, _OWNER, has_cluster_id=False, what="event hub", option=_NAME)


def reread(
    spark: SparkSession, request: ReadRequest, failure: str, offsets: Callable[[], OffsetRange]
) -> DataFrame | None:
    """The batch's records as `kafka.reread` gives them."""
    return kafka.reread_records(spark, _client_options(request), failure, offsets)


@contextmanager
def prefix_errors(owner: str) -> Iterator[None]:
    """Prefixes errors with the source, the sink or the command that these options belong to."""
    try:
        yield
    except LakehouseError as error:
        raise LakehouseError(f"{owner}: {error}") from error


def with_credentials(options: Mapping[str, str]) -> dict[str, str]:
    """The options with the credentials from the environment or a secret scope.

    Source and sink share the environment: its connection string is ignored if the options name another namespace.
    """
    given = resolve_secrets(options, also=(CONNECTION_STRING, CLIENT_SECRET))
    string, namespace = get_option(given, CONNECTION_STRING), get_option(options, _NAMESPACE)
    if string and namespace and get_option(options, CONNECTION_STRING) is None:
        parts = ConnectionString.parse(string)
        return given if _parse_namespace(namespace) == (parts.host, parts.port) else omit(given, [CONNECTION_STRING])
    return given


def event_hub(options: Mapping[str, str]) -> str:
    """The name of the event hub. Raises LakehouseError if the options name none."""
    return endpoint(options)[2]


def check_namespace(options: Mapping[str, str]) -> None:
    """Raises LakehouseError if the namespace is unreachable."""
    host, port, _ = endpoint(options)
    reason = connection_error(host, port)
    if reason is not None:
        raise LakehouseError(
            f"{host}:{port} is unreachable ({reason}); correct {_NAMESPACE}, or the Endpoint of the connection string"
        )


def kafka_options(options: Mapping[str, str], *, shaded: bool) -> dict[str, str]:
    """The options of Kafka's client. On Databricks its classes are `shaded`: renamed into another package."""
    host, port, name = endpoint(options)
    prefix = "kafkashaded." if shaded else ""
    group = get_option(options, _GROUP)
    client = {
        kafka.BOOTSTRAP_SERVERS: f"{host}:{port}",
        "subscribe": name,
        "kafka.security.protocol": "SASL_SSL",
        **({"kafka.group.id": group} if group else {}),
    }
    secret = get_option(options, CONNECTION_STRING)
    return client | (_sasl_plain(secret, prefix) if secret else _sasl_oauth(options, host, prefix))


def _sasl_plain(secret: str, prefix: str) -> dict[str, str]:
    login = f'{prefix}{_PLAIN} required username="{USER}" password="{_quotable(secret)}";'
    return {"kafka.sasl.mechanism": "PLAIN", "kafka.sasl.jaas.config": login}


def _sasl_oauth(options: Mapping[str, str], host: str, prefix: str) -> dict[str, str]:
    """OAuth client credentials: Kafka's own login handler fetches the token and renews it."""
    client, secret, token_endpoint, scope = _oauth_credentials(options, host)
    login = (
        f'{prefix}{_BEARER} required clientId="{_quotable(client)}" clientSecret="{_quotable(secret)}" scope="{scope}";'
    )
    return {
        "kafka.sasl.mechanism": "OAUTHBEARER",
        "kafka.sasl.jaas.config": login,
        "kafka.sasl.login.callback.handler.class": prefix + _CALLBACK,
        "kafka.sasl.oauthbearer.token.endpoint.url": token_endpoint,
    }


def librdkafka_config(options: Mapping[str, str]) -> dict[str, str]:
    """librdkafka's configuration for the same endpoint; it sends generated records."""
    host, port, _ = endpoint(options)
    given = kafka.client_config(kafka_passthrough(options))
    # Event Hubs supports no compression but gzip.
    client = {"bootstrap.servers": f"{host}:{port}", "security.protocol": "SASL_SSL", "compression.type": "none"}
    string = get_option(options, CONNECTION_STRING)
    if string:
        return given | client | {"sasl.mechanism": "PLAIN", "sasl.username": USER, "sasl.password": string}
    identity, secret, token_endpoint, scope = _oauth_credentials(options, host)
    oauth = {"method": "oidc", "client.id": identity, "client.secret": secret, "scope": scope}
    oauth |= {"token.endpoint.url": token_endpoint}
    login = {f"sasl.oauthbearer.{name}": value for name, value in oauth.items()}
    return given | client | {"sasl.mechanism": "OAUTHBEARER"} | login


def _oauth_credentials(options: Mapping[str, str], host: str) -> tuple[str, str, str, str]:
    """The application's id and secret, the token endpoint, and the scope."""
    given = {name: get_option(options, name) or "" for name in (_TENANT, _CLIENT, CLIENT_SECRET)}
    token_endpoint = get_option(options, _TOKEN_ENDPOINT)
    missing = [name for name, value in given.items() if not value and not (token_endpoint and name == _TENANT)]
    if missing:
        raise LakehouseError(
            f"it needs {CONNECTION_STRING}, or {_NAMESPACE}, {_NAME} and an Entra ID application: "
            f"there is no {' and no '.join(missing)}"
        )
    register_secret(given[CLIENT_SECRET])
    token_endpoint = token_endpoint or _LOGIN.format(tenant=given[_TENANT])
    return given[_CLIENT], given[CLIENT_SECRET], token_endpoint, f"https://{host}/.default"


def endpoint(options: Mapping[str, str]) -> tuple[str, int, str]:
    """The namespace's host and port, and the event hub's name."""
    secret, namespace, name = (get_option(options, key) for key in (CONNECTION_STRING, _NAMESPACE, _NAME))
    at = _parse_namespace(namespace or "")
    if secret:
        parts = ConnectionString.parse(secret)
        if name and parts.entity and name != parts.entity:
            raise _invalid_connection_string(f"is for the event hub {parts.entity!r}, but {_NAME} is {name!r}")
        if namespace and at != (parts.host, parts.port):
            raise _invalid_connection_string(f"is for the namespace {parts.host!r}, but {_NAMESPACE} is {namespace!r}")
        at, name = (parts.host, parts.port), name or parts.entity
    if not at:
        raise LakehouseError(
            f"it needs {CONNECTION_STRING} (in the environment as LAKEHOUSE_EVENTHUBS_CONNECTION_STRING), or "
            f"{_NAMESPACE}=NAME.servicebus.windows.net"
        )
    if not name:
        raise LakehouseError(f"which event hub? Give --option {_NAME}=…, or EntityPath in the string")
    return *at, name


def _parse_namespace(namespace: str) -> tuple[str, int] | None:
    """Host and port of the namespace's Kafka endpoint; None for an invalid name."""
    found = re.fullmatch(r"([A-Za-z0-9.-]+)(?::(\d{1,5}))?", namespace)
    return (found[1], int(found[2] or PORT)) if found else None


def kafka_passthrough(options: Mapping[str, str]) -> dict[str, str]:
    """Kafka's own options, without SASL, which is derived from the credentials."""
    ours = tuple(name.lower() for name in (*OPTIONS, "kafka.sasl."))
    return {name: value for name, value in options.items() if not name.lower().startswith(ours)}


def _quotable(text: str) -> str:
    if set(text) & set('"\\\n'):
        raise LakehouseError("a credential contains a quote, a backslash or a line break; copy it again")
    return text


def _invalid_connection_string(what: str) -> LakehouseError:
    return LakehouseError(f"the connection string {what}; copy all of it from the namespace's shared access policies")


_ACCEPTS = (*OPTIONS, *(name for name in kafka.ACCEPTS if name not in _UNSUPPORTED_OPTIONS))
SOURCE = Source(
    "eventhubs",
    OptionSpec(_OWNER, _ACCEPTS, kafka.MINIMUMS, kafka.BOOLEANS),
    read,
    address,
    one_table=(_NAME,),
    admin=admin,
    reread=reread,
)
