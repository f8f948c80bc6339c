"""Connections that brokers refuse, with a manager of connections that only has what kafka-python's has."""

from __future__ import annotations

import asyncio
import re
import ssl
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError, SaslAuthenticationFailedError, TopicAuthorizationFailedError
from kafka.future import Future

from msemon.settings import Settings, load
from msemon.sources.kafka_access import Access, kind_of, refusal
from msemon.sources.login import Login

NODE = SimpleNamespace(node_id=1)
WRONG = SaslAuthenticationFailedError("Invalid username or password")


class Manager:
    """Connects as it is told to; counts failures as kafka-python does, and forgets them where it does."""

    def __init__(self) -> None:
        self._auth_failures: dict[int, Exception] = {}
        self._backoff: dict[int, int] = {}
        self.received: list[tuple[bytes, Any]] = []

    async def _connect(self, node: Any, conn: Any, **_: Any) -> None:
        await conn._sasl_authenticate(1.0)
        if conn.outcome is None:
            conn.init_future.success(True)
        else:
            conn.init_future.failure(conn.outcome)
        self._backoff.pop(node.node_id, None)

    async def _build_transport(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(_sock_recv=lambda: self.received.pop(0))

    def update_backoff(self, node_id: int) -> None:
        self._backoff[node_id] = self._backoff.get(node_id, 0) + 1


def test_a_refusal_is_of_the_same_kind_when_it_comes_back_from_the_client():
    found = refusal(raised(ssl.SSLCertVerificationError(1, "certificate has expired")))
    assert found is not None
    assert kind_of(found) == kind_of(WRONG) == "authentication"
    assert kind_of(TopicAuthorizationFailedError()) == "authorization"
    assert kind_of(KafkaConnectionError()) == "other"


def connect(manager: Manager, outcome: Exception | None) -> dict[str, str]:
    """What it logged in with."""
    with_: dict[str, str] = {}

    async def authenticate(_: float) -> None:
        with_.update(conn.config)

    conn = SimpleNamespace(init_future=Future(), outcome=outcome, config={}, _sasl_authenticate=authenticate)
    asyncio.run(manager._connect(NODE, conn, timeout_at=1.0))
    return with_


def test_a_password_refused_before_anything_ends_the_attempt_with_the_brokers_words():
    manager = Manager()
    access = Access(manager, Login(Settings()))
    connect(manager, WRONG)
    assert manager._auth_failures == {1: WRONG}
    (said,) = access.refusals()
    assert said.kind == "authentication"
    assert "Invalid username or password" in said.text
    assert not list(access.refusals())


def test_a_password_refused_later_is_said_and_tried_again_more_and_more_seldom():
    manager = Manager()
    access = Access(manager, Login(Settings()))
    connect(manager, None)
    for failures in (1, 2, 3):
        connect(manager, WRONG)
        assert manager._backoff == {1: failures}
    assert not manager._auth_failures
    assert len(list(access.refusals())) == 3
    connect(manager, None)
    assert not manager._backoff


def test_a_connection_that_is_only_lost_is_no_refusal():
    manager = Manager()
    access = Access(manager, Login(Settings()))
    connect(manager, KafkaConnectionError("socket disconnected"))
    assert not manager._auth_failures
    assert not list(access.refusals())


def test_every_connection_logs_in_with_what_the_secrets_directory_holds_by_then(tmp_path):
    secret = tmp_path / "msemon_kafka__sasl_password"
    secret.write_text("first\n")
    flags = {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_mechanism": "PLAIN", "kafka.sasl_username": "u"}
    settings = load(flags=flags, config=None, secrets_dir=tmp_path, environ={})
    manager = Manager()
    Access(manager, Login(settings))
    seen = []
    for text in ("first\n", "second\n", "", None, "third"):
        secret.write_text(text) if text is not None else secret.unlink()
        seen.append(connect(manager, None))
    passwords = ["first", "second", "second", "second", "third"]
    assert seen == [{"sasl_plain_username": "u", "sasl_plain_password": each} for each in passwords]


def test_a_password_that_a_flag_has_given_is_not_read_from_the_secrets_directory(tmp_path):
    (tmp_path / "msemon_kafka__sasl_password").write_text("from the file")
    flags = {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_mechanism": "PLAIN", "kafka.sasl_username": "u"}
    given = flags | {"kafka.sasl_password": "from the flag"}
    assert Login(load(flags=given, secrets_dir=tmp_path, environ={})).now() == ("u", "from the flag")


def test_what_a_broker_says_last_is_heard_before_it_hangs_up():
    manager = Manager()
    Access(manager, Login(Settings()))
    gone = KafkaConnectionError("socket disconnected")
    manager.received = [(b"first", None), (b"Invalid username or password", gone), (b"never read", None)]
    transport = asyncio.run(manager._build_transport(NODE))
    assert [transport._sock_recv() for _ in range(4)] == [
        (b"first", None), (b"Invalid username or password", None), (b"", gone), (b"", gone),
    ]  # fmt: skip


def raised(inner: Exception) -> Exception:
    """As kafka-python wraps what a handshake raised."""
    outer: Exception = KafkaConnectionError(f"Handshake failed: {inner}")
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (WRONG, "Invalid username or password"),
        (raised(ssl.SSLCertVerificationError(1, "certificate has expired")), "NotTrusted.*certificate has expired"),
        (KafkaConnectionError(ssl.SSLError(1, "alert certificate required")), "NotTrusted.*alert certificate required"),
        (FileNotFoundError(2, "No such file", "ca.pem"), "NotTrusted.*ca.pem"),
        (raised(ssl.SSLEOFError(8, "eof")), None),
        (raised(ConnectionResetError("reset")), None),
        (ConnectionRefusedError(111, "refused"), None),
        (KafkaConnectionError(), None),
        (None, None),
    ],
)
def test_refusals_and_outages_are_told_apart(problem, words):
    found = refusal(problem)
    assert found is None if words is None else re.search(words, str(found))
