"""Schemas from a registry with Confluent's HTTP interface: asked for on a thread of its own, kept, outages survived.

Nothing is concluded from an outage: what can't be had now is asked for until there is an answer. Only the registry's
own word that it has no such schema (404 with its error code 40403, not just any 404) makes an id unknown; and a GUID
where a registry is there but knows of none.
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
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import structlog

from msemon.decoding.schemas import Ident, Schema
from msemon.events import Reason
from msemon.settings import Settings
from msemon.settings.model import FormatSettings

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0
RETRY_S = (0.5, 30.0)  # first and longest wait after a failure
UNKNOWN_S = 600.0  # after which an id that the registry did not know is asked for again
_KEPT = 1_000
_UNKNOWN_KEPT = 100_000
_LARGEST_ID = 2**31 - 1
_MOST_BYTES = 4 * 1024 * 1024  # of an answer
_MOST_REFERENCES = 100
_CERTIFICATES_S = 60.0  # for which they are used once they are read
_SAID_S = 10.0
_NO_SUCH_SCHEMA: Final = 40403
_ANY_SCHEMA: Final = "/schemas/ids/1"

Get = Callable[[str], bytes]
"""The body at a path of the registry. Raises `NoSuchSchema`, else `Away` or OSError."""


class NoSuchSchema(Exception):
    """The registry says that it has none."""


class Away(Exception):
    """The registry gave no answer that can be used."""


class NoSuchPath(Away):
    """There is nothing at this path: no registry, or one that has no such request."""


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
        self._known: dict[Ident, Schema] = {}
        self._unknown: dict[Ident, float] = {}  # until when it counts as such
        self._wanted: dict[Ident, None] = {}
        self._asking = False
        self._said_s: float | None = None  # when it was last logged that one is unknown
        self._unsaid = 0  # and how many have been since

    def known(self, ident: Ident) -> Schema | Reason | None:
        """As `decoding.schemas.Schemas` has it."""
        if isinstance(ident, int) and ident > _LARGEST_ID:
            return Reason.UNKNOWN_SCHEMA
        with self._lock:
            if (schema := self._known.get(ident)) is not None:
                return schema
            return Reason.UNKNOWN_SCHEMA if self._unknown.get(ident, 0.0) > self._clock() else None

    def find(self, ident: Ident) -> Schema | Reason | None:
        """As `decoding.schemas.Schemas` has it: what is not known yet is asked for from now on."""
        if (known := self.known(ident)) is not None:
            return known
        with self._lock:
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

    def _next(self) -> Ident | None:
        """The first that is wanted; None where nothing is: then the thread ends."""
        with self._lock:
            ident = next(iter(self._wanted), None)
            self._asking = ident is not None
            return ident

    def _put_off(self, ident: Ident) -> None:
        """To the end: one that can't be had must not keep those behind it waiting."""
        with self._lock:
            self._wanted[ident] = self._wanted.pop(ident)

    def _settle(self, ident: Ident, schema: Schema | None) -> None:
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
            self._say_unknown(ident)

    def _say_unknown(self, ident: Ident) -> None:
        """Who writes to a topic must not be able to fill the log."""
        now_s = self._clock()
        if self._said_s is not None and now_s - self._said_s < _SAID_S:
            self._unsaid += 1
            return
        log.warning("the schema registry does not know a schema", schema=ident, others=self._unsaid)
        self._said_s, self._unsaid = now_s, 0

    def _fetch(self, ident: Ident) -> Schema:
        answer = self._answer(f"/schemas/ids/{ident}") if isinstance(ident, int) else self._by_guid(ident)
        references: dict[tuple[str, int], str] = {}
        self._refer(answer, references)
        return Schema(_text(answer, "schema"), str(answer.get("schemaType") or "AVRO"), tuple(references.values()))

    def _by_guid(self, ident: str) -> Mapping[str, Any]:
        """Older registries have no GUIDs: whoever writes one to a topic must not stop it for ever."""
        try:
            return self._answer(f"/schemas/guids/{ident}")
        except NoSuchPath:
            with suppress(NoSuchSchema):
                self._get(_ANY_SCHEMA)  # which every registry has an answer to
            raise NoSuchSchema from None

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


def _trim(kept: dict[Ident, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]


def _said(problem: BaseException) -> str:
    return " ".join(f"{type(problem).__name__}: {problem}".split())[:200]


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it could take the password elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Opening:
    """Opens addresses, by the certificates that the settings name: reading the system's takes longer than asking."""

    def __init__(self, format_: FormatSettings) -> None:
        self._cafile = format_.schema_registry_cafile
        self._certfile = format_.schema_registry_certfile
        self._keyfile = format_.schema_registry_keyfile
        self._opener: urllib.request.OpenerDirector | None = None
        self._until_s = 0.0

    def now(self) -> urllib.request.OpenerDirector:
        """Raises Away where a file can't be used."""
        if self._opener is None or time.monotonic() > self._until_s:
            self._opener = urllib.request.build_opener(_Stay, urllib.request.HTTPSHandler(context=self._context()))
            self._until_s = time.monotonic() + _CERTIFICATES_S
        return self._opener

    def failed(self) -> None:
        """The files may hold others by now."""
        self._opener = None

    def _context(self) -> ssl.SSLContext:
        named = f"format.schema_registry_cafile {self._cafile}"
        try:
            context = ssl.create_default_context(cafile=self._cafile)
            if self._certfile is not None:
                named = f"format.schema_registry_certfile {self._certfile}"
                # A password that is not given must not be asked for at a terminal.
                context.load_cert_chain(self._certfile, self._keyfile, lambda: "")
        except (OSError, ValueError) as problem:
            raise Away(f"{named}: {getattr(problem, 'strerror', None) or problem}") from None
        return context


def over_http(settings: Settings) -> Get:
    """The registry of the settings. User and password are sent as basic authentication, over any scheme.

    The password's file, where it came from the secrets directory, is read anew at every request, certificates after a
    failure and once a minute. Raises ValueError where no address is set.
    """
    format_ = settings.format
    if format_.schema_registry_url is None:
        raise ValueError("format.schema_registry_url is not set")
    base = format_.schema_registry_url.rstrip("/")
    opening = _Opening(format_)

    def get(where: str) -> bytes:
        request = urllib.request.Request(base + where, headers={"Accept": "application/json"})  # noqa: S310 (http or https)
        if format_.schema_registry_username is not None:
            login = f"{format_.schema_registry_username}:{_password(settings)}".encode()
            request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(login).decode())
        try:
            with opening.now().open(request, timeout=TIMEOUT_S) as response:
                body: bytes = response.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error) from None
        except OSError:
            opening.failed()
            raise
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
        return NoSuchPath(f"HTTP status {error.code}")
    return Away(f"HTTP status {error.code}")


def _password(settings: Settings) -> str:
    path: Path | None = settings.files.get("format.schema_registry_password")
    if path is not None:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    secret = settings.format.schema_registry_password
    return "" if secret is None else secret.get_secret_value()
