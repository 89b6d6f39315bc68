"""Fakes of Azure: a real broker with TLS and SASL as an Event Hubs namespace, and an HTTP server as Entra ID."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import trustme
from confluent_kafka import Producer
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.local.broker import Broker, create_topic
from streaming_lakehouse.local.ports import free_port
from streaming_lakehouse.pipeline.synthetic import FaultRates, generate_records

CANARY = "canary4711canary4711canary4711canary4711caQ="
ENTITY = "weather-readings"
ROWS = 3_000


@dataclass
class Namespace:
    """A broker as a namespace: TLS, with a listener for connection strings and one for tokens."""

    broker: Broker
    ports: dict[str, int]
    authority: Path

    def string(self, key: str = CANARY) -> str:
        endpoint = f"sb://localhost:{self.ports['STRINGS']}/"
        return f"Endpoint={endpoint};SharedAccessKeyName=listen;SharedAccessKey={key}"

    @property
    def trust(self) -> dict[str, str]:
        return {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": str(self.authority)}


class FakeEntraId:
    """Entra ID as an HTTP server: returns signed tokens for client credentials, and the key to verify them."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        self.lifetime_s = 3600
        self.asked: list[dict[str, list[str]]] = []
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({"keys": [tokens.public_key()]})

            def do_POST(self) -> None:
                tokens.asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                self.answer({"access_token": tokens.token(), "token_type": "Bearer", "expires_in": 3600})

            def answer(self, content: dict[str, object]) -> None:
                body = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def public_key(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        parts = {"n": numbers.n.to_bytes(256, "big"), "e": numbers.e.to_bytes(3, "big")}
        return {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", **{k: _base64(v) for k, v in parts.items()}}

    def token(self) -> str:
        now = int(time.time())
        claims = {"sub": "c-1", "scope": "all", "iat": now - 7200, "exp": now + self.lifetime_s, "aud": "hub"}
        parts = [{"alg": "RS256", "typ": "JWT", "kid": "one"}, claims]
        signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_base64(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


@contextmanager
def namespace_of(tokens: FakeEntraId, folder: Path) -> Iterator[Namespace]:
    """A namespace with the event hub ENTITY, which has ROWS records of weather."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "broker.pem").write_bytes(pkcs8 + b"".join(part.bytes() for part in certificate.cert_chain_pems))
    ports = {name: free_port() for name in ("PLAINTEXT", "CONTROLLER", "STRINGS", "TOKENS")}
    made = Namespace(Broker(folder / "broker", ports["PLAINTEXT"]), ports, folder / "authority.pem")
    made.broker.properties = _listeners(made, folder / "broker.pem", tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JDK_JAVA_OPTIONS", f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={tokens.url}/keys")
        made.broker.start()
    create_topic(made.broker.bootstrap_servers, ENTITY, 2)
    producer = Producer({"bootstrap.servers": made.broker.bootstrap_servers})
    for record in generate_records(READINGS, seed=3, start=0, end=ROWS, rates=FaultRates()):
        producer.produce(ENTITY, record.value, record.key)
    assert producer.flush(30) == 0
    try:
        yield made
    finally:
        made.broker.stop()


def _listeners(namespace: Namespace, certificate: Path, tokens: FakeEntraId) -> dict[str, str]:
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    bearer = "org.apache.kafka.common.security.oauthbearer"
    return {
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in namespace.ports.items()),
        "advertised.listeners": ",".join(
            f"{name}://{'127.0.0.1' if name == 'PLAINTEXT' else 'localhost'}:{namespace.ports[name]}"
            for name in ("PLAINTEXT", "STRINGS", "TOKENS")
        ),
        "controller.quorum.voters": f"1@127.0.0.1:{namespace.ports['CONTROLLER']}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,STRINGS:SASL_SSL,TOKENS:SASL_SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificate),
        "listener.name.strings.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.strings.plain.sasl.jaas.config": (f'{plain} user_$ConnectionString="{namespace.string()}";'),
        "listener.name.tokens.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.tokens.oauthbearer.sasl.jaas.config": f"{bearer}.OAuthBearerLoginModule required;",
        "listener.name.tokens.oauthbearer.sasl.server.callback.handler.class": (
            f"{bearer}.OAuthBearerValidatorCallbackHandler"
        ),
        "listener.name.tokens.oauthbearer.sasl.oauthbearer.jwks.endpoint.url": f"{tokens.url}/keys",
        "listener.name.tokens.oauthbearer.sasl.oauthbearer.expected.audience": "hub",
    }
