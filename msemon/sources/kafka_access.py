"""How kafka-python's connections are let in by the brokers, and what is said where they are not.

By itself, kafka-python 3.0.12 loses a broker's last words where they arrive together with the connection's end (so a
wrong password is at times only a lost connection), tries a refused password again as fast as it can, and raises of a
cluster that refuses it only that there was no time left. All that this leans on is private to kafka-python; the pin in
`pyproject.toml` and the tests watch over it.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Iterator
from typing import Any

from kafka.errors import AuthorizationError, KafkaConnectionError, KafkaError, SaslAuthenticationFailedError

from msemon.sources.base import ErrorKind, Trouble
from msemon.sources.login import Login
from msemon.sources.oauth import NoToken

# ruff: noqa: SLF001

_MOST = 16  # refusals that nobody has asked for yet

_FILE = (FileNotFoundError, PermissionError, IsADirectoryError)  # of keys and certificates: those of sockets differ
_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # the other side is gone, which is no refusal


class NotTrusted(KafkaConnectionError):  # type: ignore[misc]
    """A certificate or its authority is missing, has expired, or is not trusted, on either side."""


class Access:
    """Watches over the connections of one client: each logs in with the secrets of its time, and refusals are told.

    Everything here runs on the client's network thread but `refusals`.
    """

    def __init__(self, manager: Any, login: Login) -> None:
        self._manager = manager
        self._login = login
        self._connect, manager._connect = manager._connect, self._watched
        self._build, manager._build_transport = manager._build_transport, self._built
        self._let_in = False
        self._refusals: deque[Trouble] = deque(maxlen=_MOST)

    def refusals(self) -> Iterator[Trouble]:
        """Why connections were refused since the last call."""
        while self._refusals:
            yield self._refusals.popleft()

    async def _watched(self, node: Any, conn: Any, **options: Any) -> None:
        backoff = self._manager._backoff.get(node.node_id)
        conn._sasl_authenticate = self._anew(conn, conn._sasl_authenticate)
        await self._connect(node, conn, **options)
        if conn.init_future.succeeded():
            self._let_in = True
        elif why := refusal(conn.init_future.exception):
            self._refused(node.node_id, why, backoff)

    def _refused(self, node_id: Any, why: KafkaError, backoff: Any) -> None:
        self._refusals.append(trouble(why))
        if not self._let_in:
            self._manager._auth_failures[node_id] = why  # ends the attempt to reach the cluster, with these words
        elif node_id not in self._manager._backoff:  # kafka-python takes a connection that was refused for a good one
            if backoff is not None:
                self._manager._backoff[node_id] = backoff
            self._manager.update_backoff(node_id)

    def _anew(self, conn: Any, authenticate: Any) -> Any:
        """Logs in, also again on a connection that stands, with what the files hold by then."""

        async def logged_in(*args: Any) -> None:
            username, password = self._login.now()
            conn.config.update(sasl_plain_username=username, sasl_plain_password=password)
            await authenticate(*args)

        return logged_in

    async def _built(self, node: Any, **options: Any) -> Any:
        transport = await self._build(node, **options)
        transport._sock_recv = _heard_out(transport._sock_recv)
        return transport


def trouble(problem: Exception) -> Trouble:
    """What the client raised, and of what kind it is."""
    return Trouble(kind_of(problem), str(problem))


def kind_of(problem: Exception) -> ErrorKind:
    """Whether the brokers do not know us, do not allow it, or something else went wrong."""
    if isinstance(problem, AuthorizationError):
        return ErrorKind.AUTHORIZATION
    return ErrorKind.OTHER if refusal(problem) is None else ErrorKind.AUTHENTICATION


def refusal(problem: BaseException | None) -> KafkaError | None:
    """The words of whoever would not let us in; None where the problem is another."""
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:
        seen.add(id(problem))
        if isinstance(problem, SaslAuthenticationFailedError | NotTrusted):
            return problem
        if isinstance(problem, NoToken):
            return SaslAuthenticationFailedError(str(problem))
        if isinstance(problem, _FILE) or (isinstance(problem, ssl.SSLError) and not isinstance(problem, _ENDED)):
            return NotTrusted(str(problem))
        inner = problem.args[0] if problem.args and isinstance(problem.args[0], BaseException) else None
        problem = inner or problem.__cause__ or problem.__context__
    return None


def _heard_out(receive: Any) -> Any:
    """`receive` gives (bytes, error), and kafka-python drops the bytes where there is an error: now they come first."""
    ended: list[Any] = []

    def received() -> tuple[bytes, Any]:
        if ended:
            return b"", ended[0]
        data, error = receive()
        if data and error is not None:
            ended.append(error)
            return data, None
        return data, error

    return received
