"""Who may ask: names and bcrypt hashes, and how much work those who are wrong can make.

A hash costs tens of milliseconds on purpose. So one is computed at a time, and after a wrong password the next waits
twice as long as it took: guessing, however many do it, gets a third of one core. A right password is remembered (as a
keyed digest, in memory alone), so that those who are let in are not behind those who guess.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

WAITING = 4
"""Requests whose password is being looked at or waits for it; more are told to come again."""

REMEMBERED = 100
"""Wrong passwords: a scraper that was not told of a new one costs one hash, not one a scrape."""

PAUSE = 2.0
"""After a wrong password, in times of what its hash took."""

_BYTES = 72
"""Of a password are what bcrypt looks at, in htpasswd and Go too; Python's wants no more."""


class Crowded(Exception):
    """Too many passwords wait to be looked at."""


class Users:
    """Some users and the hashes of their passwords."""

    def __init__(
        self,
        hashes: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.hashes = dict(hashes)
        self._clock = clock
        self._sleep = sleep
        # What an unknown user's password is compared with, so that their names can't be told by the time it takes: no
        # password is known for it, and its cost is the users' own.
        cost = max(hashed[4:6] for hashed in hashes.values())
        self._nobody = f"$2b${cost}${'.' * 53}"
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._places = threading.BoundedSemaphore(WAITING)
        self._turn = threading.Lock()

    def knows(self, authorization: str) -> bool:
        """Whether an Authorization header holds a user and their password. Raises Crowded."""
        user, password = credentials(authorization)
        if user is None:
            return False
        mark = hmac.digest(self._key, b"%d:%b%b" % (len(user), user.encode(), password), "sha256")
        known = self._seen(user, mark)
        if known is not None:
            return known
        if not self._places.acquire(blocking=False):
            raise Crowded
        try:
            with self._turn:
                known = self._seen(user, mark)  # by another meanwhile
                return self._looked_at(user, password, mark) if known is None else known
        finally:
            self._places.release()

    def _seen(self, user: str, mark: bytes) -> bool | None:
        if hmac.compare_digest(self._right.get(user, b""), mark):
            return True
        return False if mark in self._wrong else None

    def _looked_at(self, user: str, password: bytes, mark: bytes) -> bool:
        began = self._clock()
        hashed = self.hashes.get(user, self._nobody)
        same = _same(password, hashed) and user in self.hashes
        if same:
            self._right[user] = mark
            return True
        self._wrong[mark] = None
        if len(self._wrong) > REMEMBERED:
            self._wrong.popitem(last=False)
        self._sleep(PAUSE * (self._clock() - began))
        return False


def credentials(authorization: str) -> tuple[str | None, bytes]:
    """User and password of an Authorization header; the user is None where it is not of the kind Basic (RFC 7617).

    >>> credentials("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    ('Aladdin', b'open sesame')
    """
    scheme, _, packed = authorization.strip().partition(" ")
    try:
        text = base64.b64decode(packed.strip(), validate=True) if scheme.lower() == "basic" else b""
        user, colon, password = text.partition(b":")
        return (user.decode() if colon else None), password
    except (binascii.Error, ValueError):
        return None, b""


def _same(password: bytes, hashed: str) -> bool:
    """In a time that does not tell how much of it was right; bcrypt computes without Python's lock."""
    import bcrypt  # noqa: PLC0415 - only who has users loads it

    try:
        return bcrypt.checkpw(password[:_BYTES], hashed.encode())
    except ValueError:
        return False
