"""Event Hubs: the connection string is taken apart and checked, and the Kafka endpoint is a real broker with TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RunWeather
from namespace import CANARY, ENTITY, ROWS, Namespace, Tokens
from oracle import check, read_topic

from streaming_lakehouse.domains.weather.events import EVENTS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.generation import Shares, records
from streaming_lakehouse.local.broker import create_topic
from streaming_lakehouse.local.deliver import Delivery, deliver
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.pipeline import load_pipeline
from streaming_lakehouse.sources import Request, eventhubs, find_source
from streaming_lakehouse.sources.eventhubs import ConnectionString, of_kafka
from streaming_lakehouse.triggers import parse_trigger
from streaming_lakehouse.unseen import redacted

STRING = f"Endpoint=sb://weather.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey={CANARY}"
SECRET_OF_APPLICATION = "canary0815~canary0815.canary0815"
VARIABLE = "LAKEHOUSE_EVENTHUBS_CONNECTION_STRING"
IMPATIENT = {
    "kafka.default.api.timeout.ms": "4000",
    "kafka.request.timeout.ms": "3000",
    "fetchOffset.numRetries": "1",
}


def request(**options: str) -> Request:
    named = {f"eventhubs.{name}": value for name, value in options.items()}
    return Request(load_pipeline("weather"), named, parse_trigger("available-now"))


def test_a_connection_string_is_taken_apart() -> None:
    """Of a namespace, or of one event hub; a key may end in the `=` of its base64."""
    assert ConnectionString.parse(STRING) == ConnectionString("weather.servicebus.windows.net", 9093, "listen", None)
    assert ConnectionString.parse(f" {STRING};EntityPath=readings;\n").entity == "readings"
    assert CANARY not in repr(ConnectionString.parse(STRING))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no Endpoint and no SharedAccessKeyName and no SharedAccessKey"),
        (STRING.replace("SharedAccessKey=", "Key="), "no SharedAccessKey;"),
        (STRING.replace("sb://", "https://"), "an Endpoint that is not sb://"),
        (CANARY, "no Endpoint"),
    ],
)
def test_what_is_no_connection_string_is_told_without_being_repeated(text: str, told: str) -> None:
    with pytest.raises(LakehouseError) as refused:
        ConnectionString.parse(text)
    assert told in str(refused.value)
    assert CANARY not in str(refused.value)


def test_a_connection_string_logs_in_with_its_own_name() -> None:
    """Microsoft's documented way: SASL PLAIN over TLS, the user `$ConnectionString`, the string as the password."""
    options = {eventhubs.CONNECTION_STRING: STRING, "eventhubs.name": "readings", "eventhubs.consumerGroup": "silver"}
    assert of_kafka(options, shaded=False) == {
        "kafka.bootstrap.servers": "weather.servicebus.windows.net:9093",
        "subscribe": "readings",
        "kafka.group.id": "silver",
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": "PLAIN",
        "kafka.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="$ConnectionString" password="{STRING}";',
    }
    on_databricks = of_kafka(options, shaded=True)["kafka.sasl.jaas.config"]
    assert on_databricks.startswith("kafkashaded.org.apache.kafka.common.security.plain.PlainLoginModule ")
    assert redacted(f"login failed: {STRING} and {CANARY}") == "login failed: *** and ***"


def test_an_application_of_entra_id_logs_in_by_oauth() -> None:
    """Client credentials: Kafka's own login handler asks the tenant for a token to the namespace."""
    options = {
        "eventhubs.namespace": "weather.servicebus.windows.net",
        "eventhubs.name": "readings",
        "eventhubs.tenantId": "t-1",
        "eventhubs.clientId": "c-1",
        eventhubs.CLIENT_SECRET: SECRET_OF_APPLICATION,
    }
    made = of_kafka(options, shaded=True)
    assert made["kafka.sasl.mechanism"] == "OAUTHBEARER"
    assert made["kafka.sasl.oauthbearer.token.endpoint.url"] == (
        "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"
    )
    assert 'scope="https://weather.servicebus.windows.net/.default"' in made["kafka.sasl.jaas.config"]
    assert made["kafka.sasl.login.callback.handler.class"].startswith("kafkashaded.org.apache.kafka.")
    assert SECRET_OF_APPLICATION not in redacted(made["kafka.sasl.jaas.config"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, VARIABLE),
        ({"namespace": "n.servicebus.windows.net"}, "which event hub"),
        ({"namespace": "sb://n/", "name": "e"}, "eventhubs.namespace=NAME"),
    ],
)
def test_what_is_missing_is_named(options: dict[str, str], told: str) -> None:
    with pytest.raises(LakehouseError, match=told):
        eventhubs.place(request(**options))


@pytest.mark.parametrize("way", ["run", "generate"])
def test_a_namespace_that_does_not_answer_is_told(
    run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """By Event Hubs' own options, not by Kafka's."""
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
    silent = request(namespace=f"localhost:{free_port()}", name="e", clientId="c", tenantId="t").options
    with pytest.raises(LakehouseError, match=r"eventhubs'?: localhost:\d+ does not .*correct eventhubs\.namespace"):
        if way == "run":
            run_weather("eventhubs", dict(silent), steps=("bronze",))
        else:
            deliver(Delivery(load_pipeline("weather"), 3, 0, 1, silent), "eventhubs", None)


def test_an_application_without_its_secret_is_told() -> None:
    with pytest.raises(LakehouseError, match=r"no eventhubs\.tenantId and no eventhubs\.clientSecret"):
        of_kafka(request(namespace="n.x.net", name="e", clientId="c").options, shaded=False)


def test_a_string_for_another_event_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{STRING};EntityPath=one")
    with pytest.raises(LakehouseError, match=r"for the event hub 'one', but eventhubs\.name is 'two'"):
        eventhubs.place(request(name="two"))


def test_the_environments_string_is_not_for_another_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Source and sink share the environment: an option of one of them, here its namespace, goes first."""
    monkeypatch.setenv(VARIABLE, STRING)
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
    own = request(namespace="weather.servicebus.windows.net", name="e").options
    other = request(namespace="other.servicebus.windows.net", name="e", clientId="c", tenantId="t").options
    assert of_kafka(eventhubs.with_credentials(own), shaded=False)["kafka.sasl.mechanism"] == "PLAIN"
    client = of_kafka(eventhubs.with_credentials(other), shaded=False)
    assert client["kafka.bootstrap.servers"] == "other.servicebus.windows.net:9093"
    assert client["kafka.sasl.mechanism"] == "OAUTHBEARER" and CANARY not in str(client)


def test_a_string_and_a_namespace_that_do_not_agree_are_refused() -> None:
    options = {eventhubs.CONNECTION_STRING: STRING, **request(namespace="other.x.net", name="e").options}
    with pytest.raises(LakehouseError, match=r"for the namespace 'weather\.servi.*eventhubs\.namespace is 'other"):
        eventhubs.endpoint(options)


@pytest.mark.parametrize("name", [eventhubs.CONNECTION_STRING, eventhubs.CLIENT_SECRET])
def test_no_credential_on_the_command_line(name: str) -> None:
    with pytest.raises(LakehouseError, match="LAKEHOUSE_EVENTHUBS_C") as refused:
        find_source("eventhubs").check({name: STRING})
    assert CANARY not in str(refused.value)


def test_the_entity_says_what_is_read() -> None:
    with pytest.raises(LakehouseError, match="source 'eventhubs' has no option 'subscribe'"):
        find_source("eventhubs").check({"subscribe": "other"})


def test_what_is_set_for_another_kafka_is_left_out() -> None:
    """Its login would be sent to Azure; and settings of the connection go on."""
    given = {"kafka.sasl.mechanism": "SCRAM", "kafka.ssl.truststore.type": "PEM", "maxOffsetsPerTrigger": "5"}
    given[eventhubs.CONNECTION_STRING] = STRING
    assert eventhubs.passed_on(given) == {"kafka.ssl.truststore.type": "PEM", "maxOffsetsPerTrigger": "5"}


def test_from_event_hubs_by_a_connection_string(
    namespace: Namespace,
    run_weather: RunWeather,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Every row is confirmed by the oracle, and the key is nowhere: in no file of the lake, in nothing that is said."""
    monkeypatch.setenv(VARIABLE, namespace.string())
    run_weather("eventhubs", {"eventhubs.name": ENTITY, **namespace.trust})
    account = check(tmp_path / "lake", read_topic(namespace.broker.bootstrap_servers, ENTITY))
    assert account.rows_in == ROWS
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err
    files = [file for file in (tmp_path / "lake").rglob("*") if file.is_file()]
    assert len(files) > 50
    assert not [file for file in files if CANARY.encode() in file.read_bytes()]


def test_from_event_hubs_by_an_application(
    namespace: Namespace, tokens: Tokens, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is asked for with the application's credentials and the namespace as its scope."""
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
    board = run_weather("eventhubs", by_application(namespace, tokens), steps=("bronze",))
    assert board.states["bronze"].rows == ROWS
    assert tokens.asked[-1] == {"grant_type": ["client_credentials"], "scope": ["https://localhost/.default"]}


def by_application(namespace: Namespace, tokens: Tokens) -> dict[str, str]:
    return {
        "eventhubs.namespace": f"localhost:{namespace.ports['TOKENS']}",
        "eventhubs.name": ENTITY,
        "eventhubs.clientId": "c-1",
        "eventhubs.tokenEndpoint": f"{tokens.url}/token",
        **namespace.trust,
    }


def test_an_expired_token_is_told(
    namespace: Namespace, tokens: Tokens, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
    monkeypatch.setattr(tokens, "lifetime_s", -3600)
    other = {"eventhubs.clientId": "c-2"}
    # Another application, since a login that is still good is kept in the JVM. Kafka's client takes an expired token to
    # the broker again and again, and then speaks of a timeout alone.
    with pytest.raises(LakehouseError, match="does not answer, or not to an expired token") as refused:
        run_weather("eventhubs", {**by_application(namespace, tokens), **IMPATIENT, **other}, steps=("bronze",))
    assert SECRET_OF_APPLICATION not in str(refused.value)


def test_a_wrong_key_is_told(
    namespace: Namespace, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without the key, wrong as it is."""
    monkeypatch.setenv(VARIABLE, namespace.string(key="wrong-canary-0007"))
    with pytest.raises(LakehouseError, match="refused the credentials") as refused:
        run_weather("eventhubs", {"eventhubs.name": ENTITY, **namespace.trust}, steps=("bronze",))
    said = capfd.readouterr()
    assert "wrong-canary-0007" not in str(refused.value) + said.out + said.err


def test_a_certificate_that_nobody_vouches_for_is_told(
    namespace: Namespace, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, namespace.string())
    with pytest.raises(LakehouseError, match="certificate"):
        run_weather("eventhubs", {"eventhubs.name": ENTITY}, steps=("bronze",))


def test_a_missing_event_hub_is_told(
    namespace: Namespace, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, namespace.string())
    with pytest.raises(LakehouseError, match=r"does not exist.*eventhubs\.name="):
        run_weather("eventhubs", {"eventhubs.name": "nowhere", **namespace.trust}, steps=("bronze",))


@pytest.mark.parametrize("way", ["string", "application"])
def test_generated_records_go_to_an_event_hub(
    namespace: Namespace, tokens: Tokens, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """By both ways to log in; an event hub is made in Azure, never by sending to it."""
    hub = f"sent-by-{way}"
    create_topic(namespace.broker.bootstrap_servers, hub, 1)
    options = {"eventhubs.name": hub, "kafka.ssl.ca.location": str(namespace.authority), "broken": "0"}
    if way == "string":
        monkeypatch.setenv(VARIABLE, namespace.string())
    else:
        monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
        options |= {"eventhubs.namespace": f"localhost:{namespace.ports['TOKENS']}", "eventhubs.clientId": "c-1"}
        options |= {"eventhubs.tokenEndpoint": f"{tokens.url}/token"}
    delivery = Delivery(load_pipeline("weather"), 3, 0, 100, options)
    assert delivery.target("eventhubs") == f"event hub {hub}"
    deliver(delivery, "eventhubs", None)
    sent = records(EVENTS, seed=3, start=0, end=100, shares=Shares(broken=0))
    held = read_topic(namespace.broker.bootstrap_servers, hub)
    assert [record.value for record in held] == [record.value for record in sent]
