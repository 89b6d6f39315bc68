"""Event Hubs: the connection string is parsed and checked, and the Kafka endpoint is a real broker with TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RunWeather
from oracle import check, read_topic
from support.fake_eventhubs import CANARY, ENTITY, ROWS, FakeEntraId, Namespace

from streaming_lakehouse.cli.publish import PublishJob, publish
from streaming_lakehouse.config.redaction import redact
from streaming_lakehouse.config.triggers import parse_trigger
from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.local.broker import create_topic
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.pipeline.discovery import load_pipeline
from streaming_lakehouse.pipeline.synthetic import FaultRates, generate_records
from streaming_lakehouse.sources import ReadRequest, eventhubs, get_source
from streaming_lakehouse.sources.eventhubs import ConnectionString, kafka_options

STRING = f"Endpoint=sb://weather.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey={CANARY}"
SECRET_OF_APPLICATION = "canary0815~canary0815.canary0815"
VARIABLE = "LAKEHOUSE_EVENTHUBS_CONNECTION_STRING"
SHORT_TIMEOUTS = {
    "kafka.default.api.timeout.ms": "4000",
    "kafka.request.timeout.ms": "3000",
    "fetchOffset.numRetries": "1",
}


def request(**options: str) -> ReadRequest:
    named = {f"eventhubs.{name}": value for name, value in options.items()}
    return ReadRequest("weather", load_pipeline("weather").bronze[0], named, parse_trigger("available-now"))


def test_a_connection_string_is_parsed() -> None:
    """Of a namespace, or of one event hub; a key may end with the `=` of its base64."""
    assert ConnectionString.parse(STRING) == ConnectionString("weather.servicebus.windows.net", 9093, "listen", None)
    assert ConnectionString.parse(f" {STRING};EntityPath=readings;\n").entity == "readings"
    assert CANARY not in repr(ConnectionString.parse(STRING))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no Endpoint and no SharedAccessKeyName and no SharedAccessKey"),
        (STRING.replace("SharedAccessKey=", "Key="), "no SharedAccessKey;"),
        (STRING.replace("sb://", "https://"), "an Endpoint that is not sb://"),
        (CANARY, "no Endpoint"),
    ],
)
def test_an_invalid_connection_string_is_reported_without_its_text(text: str, message: str) -> None:
    with pytest.raises(LakehouseError) as refused:
        ConnectionString.parse(text)
    assert message in str(refused.value)
    assert CANARY not in str(refused.value)


def test_a_connection_string_is_used_as_sasl_plain() -> None:
    """As documented by Microsoft: SASL PLAIN over TLS, user `$ConnectionString`, the string as the password."""
    options = {eventhubs.CONNECTION_STRING: STRING, "eventhubs.name": "readings", "eventhubs.consumerGroup": "silver"}
    assert kafka_options(options, shaded=False) == {
        "kafka.bootstrap.servers": "weather.servicebus.windows.net:9093",
        "subscribe": "readings",
        "kafka.group.id": "silver",
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": "PLAIN",
        "kafka.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="$ConnectionString" password="{STRING}";',
    }
    on_databricks = kafka_options(options, shaded=True)["kafka.sasl.jaas.config"]
    assert on_databricks.startswith("kafkashaded.org.apache.kafka.common.security.plain.PlainLoginModule ")
    assert redact(f"login failed: {STRING} and {CANARY}") == "login failed: *** and ***"


def test_an_entra_id_application_is_used_as_sasl_oauthbearer() -> None:
    """Client credentials: Kafka's own login handler requests a token for the namespace from the tenant."""
    options = {
        "eventhubs.namespace": "weather.servicebus.windows.net",
        "eventhubs.name": "readings",
        "eventhubs.tenantId": "t-1",
        "eventhubs.clientId": "c-1",
        eventhubs.CLIENT_SECRET: SECRET_OF_APPLICATION,
    }
    client = kafka_options(options, shaded=True)
    assert client["kafka.sasl.mechanism"] == "OAUTHBEARER"
    assert client["kafka.sasl.oauthbearer.token.endpoint.url"] == (
        "https://login.microsoftonline.com/t-1/oauth2/v2.0/token"
    )
    assert 'scope="https://weather.servicebus.windows.net/.default"' in client["kafka.sasl.jaas.config"]
    assert client["kafka.sasl.login.callback.handler.class"].startswith("kafkashaded.org.apache.kafka.")
    assert SECRET_OF_APPLICATION not in redact(client["kafka.sasl.jaas.config"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, VARIABLE),
        ({"namespace": "n.servicebus.windows.net"}, "which event hub"),
        ({"namespace": "sb://n/", "name": "e"}, "eventhubs.namespace=NAME"),
    ],
)
def test_missing_options_are_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(LakehouseError, match=message):
        eventhubs.address(request(**options))


@pytest.mark.parametrize("way", ["run", "generate"])
def test_an_unreachable_namespace_is_reported(
    run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The error names the options of Event Hubs, not those of Kafka."""
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
    unreachable = request(namespace=f"localhost:{free_port()}", name="e", clientId="c", tenantId="t").options
    with pytest.raises(
        LakehouseError, match=r"eventhubs'?: localhost:\d+ is unreachable .*correct eventhubs\.namespace"
    ):
        if way == "run":
            run_weather("eventhubs", dict(unreachable), steps=("bronze",))
        else:
            publish(PublishJob(load_pipeline("weather").bronze[0], 3, 0, 1, unreachable), "eventhubs")


def test_an_application_without_its_secret_is_refused() -> None:
    with pytest.raises(LakehouseError, match=r"no eventhubs\.tenantId and no eventhubs\.clientSecret"):
        kafka_options(request(namespace="n.x.net", name="e", clientId="c").options, shaded=False)


def test_a_string_for_another_event_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{STRING};EntityPath=one")
    with pytest.raises(LakehouseError, match=r"for the event hub 'one', but eventhubs\.name is 'two'"):
        eventhubs.address(request(name="two"))


def test_the_environments_string_is_ignored_for_another_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Source and sink share the environment: an option of one of them, here its namespace, wins."""
    monkeypatch.setenv(VARIABLE, STRING)
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
    own = request(namespace="weather.servicebus.windows.net", name="e").options
    other = request(namespace="other.servicebus.windows.net", name="e", clientId="c", tenantId="t").options
    assert kafka_options(eventhubs.with_credentials(own), shaded=False)["kafka.sasl.mechanism"] == "PLAIN"
    client = kafka_options(eventhubs.with_credentials(other), shaded=False)
    assert client["kafka.bootstrap.servers"] == "other.servicebus.windows.net:9093"
    assert client["kafka.sasl.mechanism"] == "OAUTHBEARER" and CANARY not in str(client)


def test_a_string_of_another_namespace_is_refused() -> None:
    options = {eventhubs.CONNECTION_STRING: STRING, **request(namespace="other.x.net", name="e").options}
    with pytest.raises(LakehouseError, match=r"for the namespace 'weather\.servi.*eventhubs\.namespace is 'other"):
        eventhubs.endpoint(options)


@pytest.mark.parametrize("name", [eventhubs.CONNECTION_STRING, eventhubs.CLIENT_SECRET])
def test_no_credential_on_the_command_line(name: str) -> None:
    with pytest.raises(LakehouseError, match="LAKEHOUSE_EVENTHUBS_C") as refused:
        get_source("eventhubs").check({name: STRING})
    assert CANARY not in str(refused.value)


def test_subscribe_is_refused() -> None:
    with pytest.raises(LakehouseError, match="source 'eventhubs' has no option 'subscribe'"):
        get_source("eventhubs").check({"subscribe": "other"})


def test_sasl_options_of_another_kafka_are_not_passed_on() -> None:
    """Its login would be sent to Azure; other options of the connection are passed on."""
    options = {"kafka.sasl.mechanism": "SCRAM", "kafka.ssl.truststore.type": "PEM", "maxOffsetsPerTrigger": "5"}
    options[eventhubs.CONNECTION_STRING] = STRING
    assert eventhubs.kafka_passthrough(options) == {"kafka.ssl.truststore.type": "PEM", "maxOffsetsPerTrigger": "5"}


def test_from_event_hubs_by_a_connection_string(
    namespace: Namespace,
    run_weather: RunWeather,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The oracle confirms every row; the key is in no file of the lake and in no output."""
    monkeypatch.setenv(VARIABLE, namespace.string())
    run_weather("eventhubs", {"eventhubs.name": ENTITY, **namespace.trust})
    sent = read_topic(namespace.broker.bootstrap_servers, ENTITY)
    account = check(tmp_path / "lake", "weather", sent)["weather_readings"]
    assert account.rows_in == ROWS
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err
    files = [file for file in (tmp_path / "lake").rglob("*") if file.is_file()]
    assert len(files) > 50
    assert not [file for file in files if CANARY.encode() in file.read_bytes()]


def test_from_event_hubs_by_an_application(
    namespace: Namespace, tokens: FakeEntraId, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is requested with the application's credentials and the namespace as its scope."""
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
    board = run_weather("eventhubs", by_application(namespace, tokens), steps=("bronze",))
    assert board.states["bronze.weather_readings"].rows == ROWS
    assert tokens.asked[-1] == {"grant_type": ["client_credentials"], "scope": ["https://localhost/.default"]}


def by_application(namespace: Namespace, tokens: FakeEntraId) -> dict[str, str]:
    return {
        "eventhubs.namespace": f"localhost:{namespace.ports['TOKENS']}",
        "eventhubs.name": ENTITY,
        "eventhubs.clientId": "c-1",
        "eventhubs.tokenEndpoint": f"{tokens.url}/token",
        **namespace.trust,
    }


def test_an_expired_token_is_reported(
    namespace: Namespace, tokens: FakeEntraId, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
    monkeypatch.setattr(tokens, "lifetime_s", -3600)
    other = {"eventhubs.clientId": "c-2"}
    # Another application, since the JVM caches a valid login. Kafka's client retries with an expired token until it
    # reports a timeout.
    with pytest.raises(LakehouseError, match="does not respond, or rejects an expired token") as refused:
        run_weather("eventhubs", {**by_application(namespace, tokens), **SHORT_TIMEOUTS, **other}, steps=("bronze",))
    assert SECRET_OF_APPLICATION not in str(refused.value)


def test_a_wrong_key_is_reported(
    namespace: Namespace, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without the wrong key."""
    monkeypatch.setenv(VARIABLE, namespace.string(key="wrong-canary-0007"))
    with pytest.raises(LakehouseError, match="refused the credentials") as refused:
        run_weather("eventhubs", {"eventhubs.name": ENTITY, **namespace.trust}, steps=("bronze",))
    said = capfd.readouterr()
    assert "wrong-canary-0007" not in str(refused.value) + said.out + said.err


def test_an_untrusted_certificate_is_reported(
    namespace: Namespace, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, namespace.string())
    with pytest.raises(LakehouseError, match="certificate"):
        run_weather("eventhubs", {"eventhubs.name": ENTITY}, steps=("bronze",))


def test_a_missing_event_hub_is_reported(
    namespace: Namespace, run_weather: RunWeather, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, namespace.string())
    with pytest.raises(LakehouseError, match=r"does not exist.*eventhubs\.name="):
        run_weather("eventhubs", {"eventhubs.name": "nowhere", **namespace.trust}, steps=("bronze",))


@pytest.mark.parametrize("way", ["string", "application"])
def test_generated_records_go_to_an_event_hub(
    namespace: Namespace, tokens: FakeEntraId, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """With both logins; an event hub is created in Azure, never by sending to it."""
    hub = f"sent-by-{way}"
    create_topic(namespace.broker.bootstrap_servers, hub, 1)
    options = {"eventhubs.name": hub, "kafka.ssl.ca.location": str(namespace.authority), "malformed": "0"}
    if way == "string":
        monkeypatch.setenv(VARIABLE, namespace.string())
    else:
        monkeypatch.setenv("LAKEHOUSE_EVENTHUBS_CLIENT_SECRET", SECRET_OF_APPLICATION)
        options |= {"eventhubs.namespace": f"localhost:{namespace.ports['TOKENS']}", "eventhubs.clientId": "c-1"}
        options |= {"eventhubs.tokenEndpoint": f"{tokens.url}/token"}
    delivery = PublishJob(load_pipeline("weather").bronze[0], 3, 0, 100, options)
    assert delivery.target("eventhubs") == f"event hub {hub}"
    publish(delivery, "eventhubs")
    sent = generate_records(READINGS, seed=3, start=0, end=100, rates=FaultRates(malformed=0))
    received = read_topic(namespace.broker.bootstrap_servers, hub)
    assert [record.value for record in received] == [record.value for record in sent]
