"""Connections that brokers refuse, with a manager of connections that only has what kafka-python's has."""

from __future__ import annotations

import asyncio
import re
import ssl
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError, SaslAuthenticationFailedError
from kafka.future import Future

from msemon.sources.kafka_access import Access, refusal

NODE = SimpleNamespace(node_id=1)
WRONG = SaslAuthenticationFailedError("Invalid username or password")


class Manager:
    """Connects as it is told to; counts failures as kafka-python does, and forgets them where it does."""

    def __init__(self) -> None:
        self._auth_failures: dict[int, Exception] = {}
        self._backoff: dict[int, int] = {}
        self.received: list[tuple[bytes, Any]] = []

    async def _connect(self, node: Any, conn: Any, **_: Any) -> None:
        if conn.outcome is None:
            conn.init_future.success(True)
        else:
            conn.init_future.failure(conn.outcome)
        self._backoff.pop(node.node_id, None)

    async def _build_transport(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(_sock_recv=lambda: self.received.pop(0))

    def update_backoff(self, node_id: int) -> None:
        self._backoff[node_id] = self._backoff.get(node_id, 0) + 1


def connect(manager: Manager, outcome: Exception | None) -> None:
    conn = SimpleNamespace(init_future=Future(), outcome=outcome)
    asyncio.run(manager._connect(NODE, conn, timeout_at=1.0))


def test_a_password_refused_before_anything_ends_the_attempt_with_the_brokers_words():
    manager = Manager()
    access = Access(manager)
    connect(manager, WRONG)
    assert manager._auth_failures == {1: WRONG}
    assert [text for text in access.refusals() if "Invalid username or password" in text]
    assert not list(access.refusals())


def test_a_password_refused_later_is_said_and_tried_again_more_and_more_seldom():
    manager = Manager()
    access = Access(manager)
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
    access = Access(manager)
    connect(manager, KafkaConnectionError("socket disconnected"))
    assert not manager._auth_failures
    assert not list(access.refusals())


def test_what_a_broker_says_last_is_heard_before_it_hangs_up():
    manager = Manager()
    Access(manager)
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
        (raised(ssl.SSLCertVerificationError(1, "certificate has expired")), "TLS: .*certificate has expired"),
        (KafkaConnectionError(ssl.SSLError(1, "alert certificate required")), "TLS: .*alert certificate required"),
        (FileNotFoundError(2, "No such file", "ca.pem"), "TLS: .*ca.pem"),
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
