"""Schemas from a registry with Confluent's HTTP interface: asked for on a thread of its own, kept, outages survived.

Nothing is concluded from an outage: what can't be had now is asked for until there is an answer. Only the registry's
own word that it has no such schema (404 with its error code 40403, not just any 404) makes an id unknown.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog

from msemon.decoding.avro import Schema
from msemon.events import Reason
from msemon.settings import Settings

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
RETRY_S = (0.5, 30.0)  # first and longest wait after a failure
UNKNOWN_S = 600.0  # after which an id that the registry did not know is asked for again
_KEPT = 1_000
_UNKNOWN_KEPT = 100_000
_LARGEST_ID = 2**31 - 1
_MOST_BYTES = 4 * 1024 * 1024  # of an answer
_MOST_REFERENCES = 100
_NO_SUCH_SCHEMA: Final = 40403

Get = Callable[[str], bytes]
"""The body at a path of the registry. Raises `NoSuchSchema`, else `Away` or OSError."""


class NoSuchSchema(Exception):
    """The registry says that it has none."""


class Away(Exception):
    """The registry gave no answer that can be used."""


class SchemaRegistry:
    """Schemas by id. `find` is called by one thread; the callbacks from another."""

    def __init__(
        self,
        get: Get,
        on_error: Callable[[], None] = lambda: None,
        on_awaited: Callable[[int], None] = lambda _: None,
        *,
        retry_s: tuple[float, float] = RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_error` at every failed request; `on_awaited` tells how many schemas are waited for, when that changes."""
        self._get = get
        self._on_error = on_error
        self._on_awaited = on_awaited
        self._retry_s = retry_s
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._known: dict[int | str, Schema] = {}
        self._unknown: dict[int | str, float] = {}  # until when it counts as such
        self._wanted: dict[int | str, None] = {}
        self._asking = False

    def find(self, ident: int | str) -> Schema | Reason | None:
        """As `decoding.avro.Schemas` has it: what is not known yet is asked for from now on."""
        if isinstance(ident, int) and ident > _LARGEST_ID:
            return Reason.UNKNOWN_SCHEMA
        with self._lock:
            if (known := self._known.get(ident)) is not None:
                return known
            if self._unknown.get(ident, 0.0) > self._clock():
                return Reason.UNKNOWN_SCHEMA
            if ident not in self._wanted:
                self._wanted[ident] = None
                self._on_awaited(len(self._wanted))
            if not self._asking:
                self._asking = True
                threading.Thread(target=self._ask, name="schema-registry", daemon=True).start()
        return None

    def _ask(self) -> None:
        retry = self._retry_s[0]
        while (ident := self._next()) is not None:
            try:
                self._settle(ident, self._fetch(ident))
                retry = self._retry_s[0]
            except NoSuchSchema:
                self._settle(ident, None)
            except Exception as problem:  # noqa: BLE001 (whatever it is, the answer is still to come)
                self._put_off(ident)
                self._on_error()
                log.warning("the schema registry gives no schema", schema=ident, error=_said(problem), retry_s=retry)
                time.sleep(retry)
                retry = min(2 * retry, self._retry_s[1])

    def _next(self) -> int | str | None:
        """The first that is wanted; None where nothing is: then the thread ends."""
        with self._lock:
            ident = next(iter(self._wanted), None)
            self._asking = ident is not None
            return ident

    def _put_off(self, ident: int | str) -> None:
        """To the end: one that can't be had must not keep those behind it waiting."""
        with self._lock:
            self._wanted[ident] = self._wanted.pop(ident)

    def _settle(self, ident: int | str, schema: Schema | None) -> None:
        with self._lock:
            if schema is None:
                self._unknown.pop(ident, None)  # to the end, for the oldest goes first
                self._unknown[ident] = self._clock() + UNKNOWN_S
                _trim(self._unknown, _UNKNOWN_KEPT)
            else:
                self._known[ident] = schema
                _trim(self._known, _KEPT)
            self._wanted.pop(ident, None)
            self._on_awaited(len(self._wanted))
        if schema is None:
            log.warning("the schema registry does not know a schema", schema=ident)

    def _fetch(self, ident: int | str) -> Schema:
        where = f"/schemas/ids/{ident}" if isinstance(ident, int) else f"/schemas/guids/{ident}"
        answer = self._answer(where)
        references: dict[tuple[str, int], str] = {}
        self._refer(answer, references)
        return Schema(_text(answer, "schema"), str(answer.get("schemaType") or "AVRO"), tuple(references.values()))

    def _refer(self, answer: Mapping[str, Any], found: dict[tuple[str, int], str]) -> None:
        """Adds the schemas that one refers to, each after those it refers to itself."""
        for reference in answer.get("references") or ():
            which = _text(reference, "subject"), int(reference["version"])
            if which in found:
                continue
            if len(found) >= _MOST_REFERENCES:
                raise Away("a schema with too many references")
            other = self._answer(f"/subjects/{quote(which[0], safe='')}/versions/{which[1]}")
            self._refer(other, found)  # the registry takes no circle; one ends as a RecursionError
            found[which] = _text(other, "schema")

    def _answer(self, where: str) -> Mapping[str, Any]:
        answer = json.loads(self._get(where))
        if not isinstance(answer, dict):
            raise Away("an answer that is no object")
        return answer


def _text(answer: Mapping[str, Any], name: str) -> str:
    if not isinstance(answer.get(name), str):
        raise Away(f"an answer without {name}")
    return str(answer[name])


def _trim(kept: dict[int | str, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]


def _said(problem: BaseException) -> str:
    return " ".join(f"{type(problem).__name__}: {problem}".split())[:200]


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it could take the password elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def over_http(settings: Settings) -> Get:
    """The registry of the settings. User and password are sent as basic authentication, over any scheme.

    The password's file, where it came from the secrets directory, and the authority's are read anew at every request.
    Raises ValueError where no address is set.
    """
    format_ = settings.format
    if format_.schema_registry_url is None:
        raise ValueError("format.schema_registry_url is not set")
    base = format_.schema_registry_url.rstrip("/")

    def get(where: str) -> bytes:
        request = urllib.request.Request(base + where, headers={"Accept": "application/json"})  # noqa: S310 (http or https)
        if format_.schema_registry_username is not None:
            login = f"{format_.schema_registry_username}:{_password(settings)}".encode()
            request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(login).decode())
        context = ssl.create_default_context(cafile=format_.schema_registry_cafile)
        opener = urllib.request.build_opener(_Stay, urllib.request.HTTPSHandler(context=context))
        try:
            with opener.open(request, timeout=TIMEOUT_S) as response:
                body: bytes = response.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error) from None
        if len(body) > _MOST_BYTES:
            raise Away("an answer that is too large")
        return body

    return get


def _refusal(error: urllib.error.HTTPError) -> Exception:
    if error.code == 404:
        try:
            if json.loads(error.read(100_000))["error_code"] == _NO_SUCH_SCHEMA:
                return NoSuchSchema()
        except (ValueError, TypeError, KeyError, OSError):
            pass
    return Away(f"HTTP status {error.code}")


def _password(settings: Settings) -> str:
    path: Path | None = settings.files.get("format.schema_registry_password")
    if path is not None:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    secret = settings.format.schema_registry_password
    return "" if secret is None else secret.get_secret_value()
