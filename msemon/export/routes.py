"""What is answered at which path."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog
from prometheus_client.registry import Collector

from msemon.core.view import View
from msemon.export.families import Selection
from msemon.export.page import STYLE_HASH, index, series_json
from msemon.export.pipeline import written
from msemon.export.render import Renderer
from msemon.export.wire import Request, Response, accepts_gzip, said, wants_openmetrics

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_FORMAT = "application/openmetrics-text; version=1.0.0; charset=utf-8"

PATIENCE_S = 30.0
"""Longest wait for one's turn."""

TRIES = 3
"""Views made for one question, where each was void before it was answered."""

DEFAULT_LIMIT, MOST_ROWS = 1_000, 10_000
"""Rows of one answer of /api/v1/series."""

_HEADERS = (
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Site(Protocol):
    """What the daemon tells the server, asked from the server's threads.

    `view` and `status` are asked by one thread at a time, the others by several: `healthy` and `ready` must not block.
    """

    @property
    def registry(self) -> Collector: ...

    @property
    def selection(self) -> Selection: ...

    def view(self) -> View | None: ...

    def stands(self, view: View) -> bool:
        """Whether this view may still be shown."""
        ...

    def healthy(self) -> bool: ...

    def ready(self) -> bool: ...

    def status(self) -> dict[str, Any]: ...


class Busy(Exception):
    """Too many wait already, or waiting took too long."""


class Turns(Generic[T]):
    """Makes one answer at a time, and gives it to all who asked for the same before its making began.

    So twenty scrapes at once cost two renderings and not twenty, and the loop that reads Kafka keeps its share of
    the interpreter; yet nobody is given numbers older than their question.
    """

    def __init__(self, most: int, patience_s: float = PATIENCE_S) -> None:
        self._most = most
        self._patience_s = patience_s
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._inside = 0
        self._begun = 0
        self._made: dict[Hashable, tuple[int, T]] = {}

    def get(self, question: Hashable, make: Callable[[], T]) -> T:
        """The answer to a question. Raises Busy, and what `make` raises."""
        asked = self._begun
        with self._count:
            if self._inside >= self._most:
                raise Busy
            self._inside += 1
        try:
            return self._in_turn(question, make, asked)
        finally:
            with self._count:
                self._inside -= 1
                if not self._inside:
                    self._made = {}  # nobody waits for it: let its memory go

    def _in_turn(self, question: Hashable, make: Callable[[], T], asked: int) -> T:
        if not self._turn.acquire(timeout=self._patience_s):
            raise Busy
        try:
            made = self._made.get(question)
            if made is None or made[0] <= asked:
                self._begun += 1
                made = self._made[question] = self._begun, make()
            return made[1]
        finally:
            self._turn.release()


def answer_health(site: Site, request: Request) -> Response | None:
    """The answer at a health path, None at any other."""
    if request.path in {"/-/healthy", "/healthz"}:
        return _state(site.healthy, "healthy")
    if request.path in {"/-/ready", "/readyz"}:
        return _state(site.ready, "ready")
    return None


def _state(asked: Callable[[], bool], word: str) -> Response:
    try:
        good = asked()
    except Exception:  # noqa: BLE001 - a site that can't say is not well
        _log.exception("health failed", asked=word)
        good = False
    return (
        Response(200, f"msemon is {word}.\n".encode()) if good else Response(503, f"msemon is not {word}.\n".encode())
    )


class Routes:
    """All paths. `most` requests at a time may wait for an answer that takes work; health never waits."""

    def __init__(self, site: Site, most: int) -> None:
        self._site = site
        self._turns: Turns[tuple[View | None, Response]] = Turns(most)
        self._renderer = Renderer(site.selection)
        self._paths: dict[str, Callable[[Request], Response]] = {
            "/metrics": self._metrics,
            "/": self._index,
            "/api/v1/status": self._status,
            "/api/v1/series": self._series,
        }

    def answer(self, request: Request) -> Response:
        """Never raises."""
        response = answer_health(self._site, request)
        if response is None:
            response = self._worked_out(request)
        return dressed(response)

    def _worked_out(self, request: Request) -> Response:
        handler = self._paths.get(request.path)
        if handler is None:
            return said(404)
        try:
            return handler(request)
        except Busy:
            busy = said(503)
            return Response(busy.status, busy.body, headers=(("Retry-After", "1"),))
        except Exception as error:  # noqa: BLE001 - a question must never end the daemon
            _log.exception("request failed", path=request.path)
            return Response(500, f"500 {type(error).__name__}\n".encode())

    def _shown(self, question: Hashable, make: Callable[[View | None], Response]) -> Response:
        """What is made of a view, for all who asked the same; a view that does not stand any more is shown to nobody,
        however long its answer took to make or to be its asker's turn. Raises Busy.
        """

        def made() -> tuple[View | None, Response]:
            view = self._site.view()
            return view, make(view)

        for _ in range(TRIES):
            view, response = self._turns.get(question, made)
            if view is None or self._site.stands(view):
                return response
        raise Busy

    def _metrics(self, request: Request) -> Response:
        openmetrics = wants_openmetrics(request.headers.get("accept", ""))
        gzip = accepts_gzip(request.headers.get("accept-encoding", ""))
        return self._shown(("/metrics", openmetrics, gzip), lambda view: self._exposition(view, openmetrics, gzip))

    def _exposition(self, view: View | None, openmetrics: bool, gzip: bool) -> Response:
        def pieces() -> Iterable[bytes]:
            if view is not None:
                yield from self._renderer.blocks(view, openmetrics)
            yield written(self._site.registry, openmetrics)

        kind = OPENMETRICS_FORMAT if openmetrics else TEXT_FORMAT
        if gzip:
            return Response(200, _zipped(pieces()), kind, (("Content-Encoding", "gzip"),))
        return Response(200, b"".join(pieces()), kind)

    def _index(self, _: Request) -> Response:
        return self._shown("/", lambda view: Response(200, index(view), "text/html; charset=utf-8"))

    def _status(self, _: Request) -> Response:
        return self._turns.get("/api/v1/status", lambda: (None, _json(_encoded(self._site.status()))))[1]

    def _series(self, request: Request) -> Response:
        model = request.query.get("model")
        try:
            offset = _whole(request.query.get("offset", "0"))
            limit = _whole(request.query.get("limit", str(DEFAULT_LIMIT)))
        except ValueError:
            return Response(400, b"400 limit and offset are whole numbers from 0\n")
        limit = min(limit, MOST_ROWS)
        question = ("/api/v1/series", model, offset, limit)
        return self._shown(question, lambda view: _json(series_json(view, model, offset, limit)))


def dressed(response: Response) -> Response:
    """The response with the headers that every answer carries."""
    return Response(response.status, response.body, response.content_type, (*response.headers, *_HEADERS))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ValueError
    return int(text)


def _encoded(value: object) -> bytes:
    # numpy's scalars know how to become Python's; anything else is shown by its text. NaN becomes null.
    return msgspec.json.encode(value, enc_hook=lambda each: each.item() if hasattr(each, "item") else str(each))


def _json(body: bytes) -> Response:
    return Response(200, body, "application/json; charset=utf-8")


def _zipped(pieces: Iterable[bytes]) -> bytes:
    packer = zlib.compressobj(1, wbits=31)  # fastest: text of metrics shrinks twentyfold even so
    packed = [packer.compress(piece) for piece in pieces]
    return b"".join([*packed, packer.flush()])
