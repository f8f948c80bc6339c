"""What is answered at which path."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
import structlog
from prometheus_client.registry import Collector

from msemon.core.view import Choose, View
from msemon.export.families import Selection
from msemon.export.pipeline import written
from msemon.export.render import Renderer
from msemon.export.status.asking import Asked, Wrong, model_of, understood
from msemon.export.status.files import POLICY, page_files
from msemon.export.status.listing import Directory
from msemon.export.status.model import Model
from msemon.export.status.pipeline import pipeline_json
from msemon.export.status.series import Page
from msemon.export.turns import Busy, Turns
from msemon.export.wire import Request, Response, accepts_gzip, wants_openmetrics

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_FORMAT = "application/openmetrics-text; version=1.0.0; charset=utf-8"

TRIES = 3
"""Views made for one question, where each was void before it was answered."""

API = "/api/v1/"

HEALTHY = frozenset({"/-/healthy", "/healthz"})
READY = frozenset({"/-/ready", "/readyz"})

AGAIN = (("Retry-After", "1"),)

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_log = structlog.get_logger(__name__)


class Site(Protocol):
    """What the daemon tells the server, asked from the server's threads.

    `view` and `status` are asked by one thread at a time, the others by several: `healthy` and `ready` must not block.
    """

    @property
    def registry(self) -> Collector: ...

    @property
    def selection(self) -> Selection: ...

    def view(self, choose: Choose | None = None) -> View | None:
        """What there is to show, with the trends of what `choose` finds in it."""
        ...

    def stands(self, view: View) -> bool:
        """Whether this view may still be shown."""
        ...

    def healthy(self) -> bool: ...

    def ready(self) -> bool: ...

    def status(self) -> dict[str, Any]: ...


def answer_health(site: Site, request: Request) -> Response | None:
    """The answer at a health path, None at any other."""
    if request.path in HEALTHY:
        return _state(site.healthy, "healthy")
    if request.path in READY:
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
        self._directory = Directory()
        self._files = page_files()
        self._paths: dict[str, Callable[[Request], Response]] = {
            "/metrics": self._metrics,
            f"{API}status": self._status,
            f"{API}pipeline": self._pipeline,
            f"{API}series": self._series,
            f"{API}model": self._model,
        }

    def answer(self, request: Request) -> Response:
        """Never raises."""
        return answer_health(self._site, request) or self._worked_out(request)

    def _worked_out(self, request: Request) -> Response:
        if (file := self._files.get(request.path)) is not None:
            return file
        handler = self._paths.get(request.path)
        if handler is None:
            return refused(request, 404)
        try:
            return handler(request)
        except Wrong as wrong:
            return refused(request, wrong.status, str(wrong))
        except Busy:
            return refused(request, 503, headers=AGAIN)
        except Exception as error:  # noqa: BLE001 - a question must never end the daemon
            _log.exception("request failed", path=request.path)
            return refused(request, 500, type(error).__name__)

    def _shown(
        self, question: Hashable, make: Callable[[View | None], Response], choose: Choose | None = None
    ) -> Response:
        """What is made of a view, for all who asked the same; a view that does not stand any more is shown to nobody,
        however long its answer took to make or to be its asker's turn. Raises Busy.
        """

        def made() -> tuple[View | None, Response]:
            view = self._site.view(choose)
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

    def _status(self, request: Request) -> Response:
        understood(request.query, {})
        return self._turns.get(request.path, lambda: (None, _json(_encoded(self._site.status()))))[1]

    def _pipeline(self, request: Request) -> Response:
        understood(request.query, {})
        return self._turns.get(request.path, lambda: (None, _json(pipeline_json(self._site.registry))))[1]

    def _series(self, request: Request) -> Response:
        asked = Asked.of(request.query)
        page = Page(asked, self._directory)
        return self._shown(asked, lambda view: _json(page.answer(view)), page.choose if asked.trend else None)

    def _model(self, request: Request) -> Response:
        model = Model(model_of(request.query), self._directory)
        return self._shown((request.path, model.name), lambda view: _json(model.answer(view)), model.choose)


def dressed(response: Response, headers: Mapping[str, str]) -> Response:
    """The response with the headers that every answer carries, and those of the web configuration in their stead."""
    every = {**_HEADERS, **headers}
    return Response(response.status, response.body, response.content_type, (*response.headers, *every.items()))


def refused(request: Request, status: int, why: str = "", headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """The status, and why where there is more to say: for the API as JSON."""
    why = why or HTTPStatus(status).phrase
    if not request.path.startswith(API):
        return Response(status, f"{status} {why}\n".encode(), headers=headers)
    return Response(status, msgspec.json.encode({"error": why}), "application/json; charset=utf-8", headers)


def _encoded(value: object) -> bytes:
    # numpy's scalars know how to become Python's; anything else is shown by its text. NaN becomes null.
    return msgspec.json.encode(value, enc_hook=lambda each: each.item() if hasattr(each, "item") else str(each))


def _json(body: bytes) -> Response:
    return Response(200, body, "application/json; charset=utf-8")


def _zipped(pieces: Iterable[bytes]) -> bytes:
    packer = zlib.compressobj(1, wbits=31)  # fastest: text of metrics shrinks twentyfold even so
    packed = [packer.compress(piece) for piece in pieces]
    return b"".join([*packed, packer.flush()])
