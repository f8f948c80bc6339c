"""Tokens for OAUTHBEARER: the one a file holds, or one asked of a token endpoint with the client's credentials.

The request is RFC 6749's client credentials grant (section 4.4), the client's name and secret in the header as section
2.3.1 has it. Whether a token is any good is for the brokers to say.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode

import msgspec
from kafka.net.sasl.oauth import AbstractTokenProvider

from msemon.settings import Settings
from msemon.sources.login import Login

ASK_S = 5.0
"""How long the token endpoint may take: kafka-python waits for it on the thread that sends heartbeats."""

SHORT_S = 60.0
"""How long a token is kept whose end nobody tells; one from a file is looked at again so soon, whatever its end."""

FRESH = 0.8  # of its time, after which a token is replaced
MOST_BYTES = 1_000_000


class Token(NamedTuple):
    """What is sent to the brokers, and until when it holds, in seconds since 1970."""

    text: str
    until_s: float


class NoToken(Exception):
    """There is none to be had, for this reason."""


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: Any = None

    def lasts_s(self) -> float | None:
        """A number by RFC 6749, which many servers write as text; None where it tells nothing."""
        try:
            seconds = float(self.expires_in)
        except (TypeError, ValueError, OverflowError):
            return None
        return seconds if math.isfinite(seconds) and self.expires_in is not True else None


class _Claims(msgspec.Struct):
    exp: float | None = None


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens of these settings, for both clients and from any thread."""

    def __init__(self, settings: Settings, wall_s: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._kafka = settings.kafka
        self._login = Login(settings)
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._held: Token | None = None
        self._fresh_until_s = 0.0

    def now(self) -> Token:
        """The token to log in with. Raises NoToken."""
        with self._lock:
            username, secret = self._login.now()
            if self._kafka.sasl_token_url is None:
                return self._given(secret or "")
            now_s, held = self._wall_s(), self._held
            if held is None or now_s >= self._fresh_until_s:
                try:
                    held = self._held = self._asked(self._kafka.sasl_token_url, username or "", secret or "")
                    self._fresh_until_s = now_s + FRESH * (held.until_s - now_s)
                except NoToken:
                    if held is None or self._wall_s() >= held.until_s:
                        raise  # else the one that is held still is good
            return held

    def token(self) -> str:
        """As kafka-python asks."""
        return self.now().text

    def _given(self, text: str) -> Token:
        _require_token(text, "kafka.sasl_password")
        now_s, end_s = self._wall_s(), _end(text)
        if end_s is not None and end_s <= now_s:  # librdkafka takes no such token, and does not say so
            raise NoToken("kafka.sasl_password: the token has ended")
        return Token(text, now_s + SHORT_S if end_s is None else min(end_s, now_s + SHORT_S))

    def _asked(self, url: str, username: str, secret: str) -> Token:
        grant = {"grant_type": "client_credentials"}
        if self._kafka.sasl_token_scope is not None:
            grant["scope"] = self._kafka.sasl_token_scope
        who = base64.b64encode(f"{quote_plus(username)}:{quote_plus(secret)}".encode()).decode()
        headers = {"Authorization": f"Basic {who}", "Accept": "application/json"}
        request = urllib.request.Request(url, urlencode(grant).encode(), headers)  # noqa: S310 (checked by the settings)
        now_s = self._wall_s()
        try:
            with _opener(self._context()).open(request, timeout=ASK_S) as answer:
                found = msgspec.json.decode(answer.read(MOST_BYTES), type=_Answer)
        except urllib.error.HTTPError as problem:
            with problem:
                raise NoToken(f"kafka.sasl_token_url answers {problem.code} {problem.reason}") from None
        except (OSError, ValueError, msgspec.MsgspecError, HTTPException) as problem:  # the answer may be a secret
            why = getattr(problem, "reason", problem) if isinstance(problem, OSError) else "not a token in JSON"
            raise NoToken(f"kafka.sasl_token_url: {why}") from None
        _require_token(found.access_token, "kafka.sasl_token_url")
        lasts_s = found.lasts_s()
        end_s = _end(found.access_token) if lasts_s is None else now_s + lasts_s
        return Token(found.access_token, end_s if end_s is not None and end_s > now_s else now_s + SHORT_S)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._kafka.ssl_cafile is not None:
            context.load_verify_locations(self._kafka.ssl_cafile)
        return context


class _NotElsewhere(urllib.request.HTTPRedirectHandler):
    """The secret goes to the endpoint that the settings name, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NotElsewhere)


def _require_token(text: str, source: str) -> None:
    """RFC 6750, section 2.1, has the characters that a token is made of."""
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", text):
        raise NoToken(f"{source}: not a token")


def _end(token: str) -> float | None:
    """When a JSON Web Token ends by its own claim (RFC 7519, section 4.1.4); None where it is none or does not say."""
    try:
        claims = token.split(".")[1]
        return msgspec.json.decode(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)), type=_Claims).exp
    except (IndexError, ValueError, binascii.Error, msgspec.MsgspecError):
        return None
