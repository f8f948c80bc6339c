"""Who is let in: what a web configuration file says, read anew whenever it, or a file that it names, has changed.

A change that can't be used (half of a file, a key whose certificate is still to come) leaves what held before in force,
and says so. What protects can be changed but not taken away: a file that is being written is empty for a moment, and
that must not be the moment in which everybody is let in. Doing without needs a restart.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import structlog

from msemon.export.routes import AGAIN, HEALTHY, READY, refused
from msemon.export.tls import Pems, context_of, names_in
from msemon.export.users import Crowded, Users
from msemon.export.web_config import Mistake, TlsServer, WebConfig, parse
from msemon.export.wire import Request, Response

_ASK = (("WWW-Authenticate", 'Basic realm="msemon", charset="UTF-8"'),)
_NO_PEMS = Pems(b"", b"", b"")
_log = structlog.get_logger(__name__)


class Rate:
    """A token bucket: `burst` requests at once, and one more each `interval_s`."""

    def __init__(self, interval_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.given = interval_s, burst
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = float(burst)
        self._at = clock()

    def allows(self) -> bool:
        interval_s, burst = self.given
        with self._lock:
            now = self._clock()
            self._tokens = min(self._tokens + (now - self._at) / interval_s, burst)
            self._at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


@dataclass(frozen=True)
class Rules:
    """What holds for one connection. Without any, everybody is let in."""

    tls: ssl.SSLContext | None = None
    client_names: frozenset[str] | None = None  # a client's certificate must be for one of them
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Users | None = None
    rate: Rate | None = None

    def look_at(self, peer: ssl.SSLSocket) -> None:
        """After the handshake. Raises ssl.SSLError where the client's certificate is for nobody who is let in."""
        certificate = peer.getpeercert()
        if self.client_names is not None and certificate and not self.client_names & names_in(certificate):
            raise ssl.SSLError("the certificate is for none of client_allowed_sans")

    def refusal(self, request: Request) -> Response | None:
        """The answer to who is not let in, None to who is. Health is everybody's to ask."""
        if request.path in HEALTHY or request.path in READY:
            return None
        if self.rate is not None and not self.rate.allows():
            return refused(request, 429, headers=AGAIN)
        try:
            if self.users is None or self.users.knows(request.headers.get("authorization", "")):
                return None
        except Crowded:
            return refused(request, 503, headers=AGAIN)
        return refused(request, 401, headers=_ASK)

    @property
    def protections(self) -> frozenset[str]:
        """What keeps people out."""
        verified = self.tls is not None and self.tls.verify_mode
        there = {
            "tls_server_config": self.tls is not None,
            "client_auth_type": verified in {ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED},
            "client_auth_type RequireAndVerifyClientCert": verified == ssl.CERT_REQUIRED,
            "client_allowed_sans": self.client_names is not None,
            "basic_auth_users": self.users is not None,
            "rate_limit": self.rate is not None,
        }
        return frozenset(name for name, holds in there.items() if holds)


def of(config_file: str | None) -> Callable[[], Rules]:
    """The rules of this file; without one, none. Raises Mistake where it can't be used."""
    return Rules if config_file is None else Configured(Path(config_file))


class _Held(NamedTuple):
    text: bytes
    config: WebConfig
    pems: Pems


class Configured:
    """The rules of a file. Raises Mistake where it can't be used at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._complaint: str | None = None  # about what stands in the files now
        self._held = self._read(None)
        self._rules = _rules(self._held, Rules())

    def __call__(self) -> Rules:
        """What holds now; from any thread."""
        with self._lock:
            try:
                self._look()
                self._complaint = None
            except Mistake as mistake:
                if str(mistake) != self._complaint:
                    self._complaint = str(mistake)
                    _log.error("web.config_file can't be used: what it said before holds", error=str(mistake))
            return self._rules

    def _look(self) -> None:
        found = self._read(self._held)
        if found == self._held:
            return
        rules = _rules(found, self._rules)
        gone = self._rules.protections - rules.protections
        if gone:
            raise Mistake(f"{', '.join(sorted(gone))} would be gone: that needs a restart")
        self._held, self._rules = found, rules
        _log.info("web.config_file read anew")

    def _read(self, held: _Held | None) -> _Held:
        text = self._bytes(self._path.name, self._path.name)
        config = held.config if held is not None and text == held.text else parse(text)
        return _Held(text, config, self._pems(config.tls_server_config))

    def _pems(self, tls: TlsServer | None) -> Pems:
        if tls is None:
            return _NO_PEMS
        names = {"cert_file": tls.cert_file, "key_file": tls.key_file, "client_ca_file": tls.client_ca_file}
        inline = tls.cert, tls.key, tls.client_ca
        return Pems(
            *(
                self._bytes(f"tls_server_config.{field} {name}", name) if name else text.encode()
                for (field, name), text in zip(names.items(), inline, strict=True)
            )
        )

    def _bytes(self, what: str, name: str) -> bytes:
        try:
            return (self._path.parent / name).read_bytes()  # paths are from where the file is
        except OSError as problem:
            raise Mistake(f"{what}: {problem.strerror}") from None


def _rules(held: _Held, before: Rules) -> Rules:
    """Raises Mistake. What users and rates have gathered stays with them while they are the same."""
    config, tls = held.config, held.config.tls_server_config
    users, rate = before.users, before.rate
    if (users.hashes if users else {}) != config.basic_auth_users:
        users = Users(config.basic_auth_users) if config.basic_auth_users else None
    wanted = config.interval_s, config.rate_limit.burst
    if (rate.given if rate else (0.0, 0)) != wanted:
        rate = Rate(*wanted) if config.interval_s > 0 else None
    return Rules(
        None if tls is None else context_of(tls, held.pems),
        None if tls is None or tls.client_allowed_sans is None else frozenset(tls.client_allowed_sans),
        config.http_server_config.headers,
        users,
        rate,
    )
