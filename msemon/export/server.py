"""The HTTP server: a bounded number of connections, each served by a thread of its own within deadlines."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog

from msemon.export.access import Rules
from msemon.export.routes import Routes, Site, answer_health, dressed
from msemon.export.wire import Refused, Request, Response, let_read, read_request, said, write_response

CONNECTIONS = 64
"""At a time on the main address. A connection beyond takes the place of the one that has kept us waiting longest."""

WORKING = 48
"""Of these, requests that may wait for an answer; the rest of the connections is left to health and slow peers."""

HEALTH_CONNECTIONS = 16
HEAD_S = 10.0
"""From the connection to the end of the request's head, TLS handshake included."""

WRITE_S = 30.0
"""For a response of any size."""

HELD_BYTES = 256 * 1024 * 1024
"""Of answers being written. Beyond, the slowest readers are hung up on."""

_BACKLOG = 128
_TICK_S = 0.1
_log = structlog.get_logger(__name__)

Answer = Callable[[Request], Response]
Access = Callable[[], Rules]
"""Asked for each connection, so that renewed certificates and passwords need no restart. It never raises."""


class Address(NamedTuple):
    """Where to listen; an empty host is every address, port 0 any free one."""

    host: str
    port: int

    @staticmethod
    def parse(text: str) -> Address:
        """From `host:port`, `:port` or `[v6]:port`. Raises ValueError."""
        parts = urlsplit(f"//{text}")
        if parts.port is None or parts.netloc != text or parts.username is not None:
            raise ValueError(f"{text!r} is no address of the form host:port")
        return Address(parts.hostname or "", parts.port)


def bound(address: Address) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    host, port = address
    both = host == "::" and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)


class Server:
    """Serves a site at `address`, and its health at `health_address` too where there is one, in the clear and to all.

    Both are bound by `start`, which raises OSError where that fails.
    """

    def __init__(self, address: str, health_address: str | None, site: Site, access: Access = Rules) -> None:
        self._main = Listener(Address.parse(address), Routes(site, WORKING).answer, CONNECTIONS, access)
        self._health: Listener | None = None
        if health_address is not None:
            apart = Address.parse(health_address)
            if apart.port == 0 or apart != Address.parse(address):
                self._health = Listener(apart, _health_only(site), HEALTH_CONNECTIONS, Rules)

    @property
    def port(self) -> int:
        return self._main.port

    @property
    def health_port(self) -> int:
        return self.port if self._health is None else self._health.port

    def start(self) -> None:
        self._main.start()
        if self._health is not None:
            try:
                self._health.start()
            except OSError:
                self._main.stop(0.0)
                raise

    def stop(self, timeout_s: float = 2.0) -> None:
        """Take no more connections, give those there are a moment, then close them."""
        deadline = time.monotonic() + timeout_s
        for listener in filter(None, (self._main, self._health)):
            listener.stop(deadline - time.monotonic())


def _health_only(site: Site) -> Answer:
    return lambda request: answer_health(site, request) or said(404)


class _Connection:
    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.since = time.monotonic()  # in the present phase
        self.waits = True  # for its peer to send or to read; else the peer waits for us
        self.body = b""  # being written


class Listener:
    """One address. Accepting never waits for a peer: handshake, reading and writing are the connection's thread's."""

    def __init__(self, address: Address, answer: Answer, most: int, access: Access) -> None:
        self._address = address
        self._answer = answer
        self._most = most
        self._access = access
        self._open: set[_Connection] = set()
        self._lock = threading.Condition()  # of `_open`, and of the sockets in it being usable
        self._stopping = threading.Event()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port listened at; before `start` the one asked for."""
        return self._address.port

    def start(self) -> None:
        self._socket = bound(self._address)
        self._socket.setblocking(False)
        self._address = Address(self._address.host, self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._accept_all, args=(self._socket,), name="http", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        if self._socket is None or self._thread is None:
            return
        self._stopping.set()
        self._thread.join(_TICK_S + 1.0)
        self._socket.close()
        with self._lock:
            self._lock.wait_for(lambda: not self._open, max(timeout_s, 0.0))
            for connection in self._open:
                _hang_up(connection)

    def _accept_all(self, listening: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(listening, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if selector.select(_TICK_S):
                    self._accept(listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            peer, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # it left meanwhile
        except OSError as error:  # no file descriptor left, say: let a connection end
            _log.warning("accepting failed", error=str(error))
            with self._lock:
                self._make_room()
            self._stopping.wait(_TICK_S)
            return
        self._admit(_Connection(peer))

    def _admit(self, connection: _Connection) -> None:
        thread = threading.Thread(target=self._serve, args=(connection,), name="http-peer", daemon=True)
        with self._lock:
            if len(self._open) >= self._most and not self._make_room():
                connection.peer.close()
                return
            self._open.add(connection)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more threads
            _log.warning("no thread for a connection", error=str(error))
            self._close(connection)

    def _make_room(self) -> bool:
        """Hang up on the peer that has kept us waiting longest, if any does. With the lock held."""
        waiting = [connection for connection in self._open if connection.waits]
        if not waiting:
            return False
        longest = min(waiting, key=lambda connection: connection.since)
        _hang_up(longest)
        # Its thread finds out at once and closes; but it is not counted any more. What is not in the set is not
        # touched from outside, so a descriptor that was closed and used anew is never shut down.
        self._open.discard(longest)
        return True

    def _serve(self, connection: _Connection) -> None:
        try:
            deadline = connection.since + HEAD_S
            rules = self._access()
            self._shake_hands(connection, deadline, rules)
            self._exchange(connection, deadline, rules)
        except OSError:
            pass  # the peer's own affair, TLS errors too
        except Exception:  # noqa: BLE001 - whatever it was, it is one peer's, and told
            _log.exception("connection failed")
        finally:
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        with self._lock:
            self._open.discard(connection)
            connection.body = b""
            connection.peer.close()
            self._lock.notify_all()

    def _shake_hands(self, connection: _Connection, deadline: float, rules: Rules) -> None:
        connection.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if rules.tls is None:
            return
        with self._lock:  # wrapping moves the descriptor to another object
            wrapped = rules.tls.wrap_socket(connection.peer, server_side=True, do_handshake_on_connect=False)
            connection.peer = wrapped
        wrapped.settimeout(max(deadline - time.monotonic(), 0.001))
        wrapped.do_handshake()
        rules.look_at(wrapped)

    def _exchange(self, connection: _Connection, deadline: float, rules: Rules) -> None:
        method = ""
        try:
            request = read_request(connection.peer, deadline)
            if request is None:
                return
            method = request.method
            response = self._respond(connection, request, rules)
        except Refused as refused:
            response = said(refused.status)
        self._write(connection, dressed(response, rules.headers), with_body=method != "HEAD")
        if method not in {"GET", "HEAD"}:  # there may be more of it than was read
            let_read(connection.peer, time.monotonic() + 1.0)

    def _respond(self, connection: _Connection, request: Request, rules: Rules) -> Response:
        if request.method not in {"GET", "HEAD"}:
            refused = said(405)
            return Response(refused.status, refused.body, headers=(("Allow", "GET, HEAD"),))
        connection.waits = False
        return rules.refusal(request) or self._answer(request)

    def _write(self, connection: _Connection, response: Response, with_body: bool) -> None:
        with self._lock:
            connection.since = time.monotonic()
            connection.waits = True
            connection.body = response.body if with_body else b""
            self._release_bodies(connection)
        write_response(connection.peer, response, with_body, connection.since + WRITE_S)

    def _release_bodies(self, newest: _Connection) -> None:
        """Hang up on the slowest readers while the answers being written hold too much memory. With the lock held."""
        writing = sorted((each for each in self._open if each.body), key=lambda each: each.since)
        for slowest in writing:
            held = {id(each.body): len(each.body) for each in self._open}  # scrapes share their answer
            if sum(held.values()) <= HELD_BYTES or slowest is newest:
                return
            _hang_up(slowest)
            self._open.discard(slowest)


def _hang_up(connection: _Connection) -> None:
    """Wake the connection's thread with an end of file. Not `close`: the descriptor is the thread's to give back."""
    with contextlib.suppress(OSError):
        # The plain socket's: a TLS socket's own drops its state, which the thread may be using.
        socket.socket.shutdown(connection.peer, socket.SHUT_RDWR)
