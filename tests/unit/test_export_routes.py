"""What is answered at which path, without a socket."""

from __future__ import annotations

import gzip
import io
import json
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from msemon.core.view import View
from msemon.export.routes import Routes
from msemon.export.turns import Busy, Turns
from msemon.export.wire import Request, Response
from support.sites import FakeSite, until
from support.views import openmetrics_families


def get(routes: Routes, path: str, query: dict[str, str] | None = None, **headers: str) -> Response:
    return routes.answer(Request("GET", path, query or {}, {k.replace("_", "-"): v for k, v in headers.items()}))


@pytest.fixture
def site() -> FakeSite:
    return FakeSite()


@pytest.fixture
def routes(site: FakeSite) -> Routes:
    return Routes(site, most=4)


def test_metrics_are_the_models_and_the_daemons_own_in_one_text(routes: Routes) -> None:
    response = get(routes, "/metrics")
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(response.body.decode())}
    assert {"msemon_mse", "msemon_pairs", "msemon_label_delay_seconds", "msemon_join_matched", "python_info"} <= names


def test_openmetrics_comes_by_negotiation_and_ends_once(routes: Routes) -> None:
    response = get(routes, "/metrics", accept="application/openmetrics-text;version=1.0.0")
    assert response.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert response.body.count(b"# EOF\n") == 1
    families = list(openmetrics_families(io.StringIO(response.body.decode(), newline="\n")))
    assert {"msemon_mse", "msemon_build", "msemon_join_matched"} <= {family.name for family in families}


def test_gzip_is_the_same_text_packed(routes: Routes) -> None:
    response = get(routes, "/metrics", accept_encoding="gzip")
    assert ("Content-Encoding", "gzip") in response.headers
    assert b'msemon_mse{model="price",version="7",window="5m"} 8.0' in gzip.decompress(response.body)


def test_without_a_view_yet_the_daemons_own_metrics_are_served(site: FakeSite, routes: Routes) -> None:
    site.shown = None
    response = get(routes, "/metrics")
    assert response.status == 200
    assert b"msemon_build_info" in response.body


def test_a_view_that_fails_is_one_line_of_500_and_the_next_scrape_works(site: FakeSite, routes: Routes) -> None:
    good, site.shown = site.shown, ValueError("secret\nlines")
    for path, body in (("/metrics", b"500 ValueError\n"), ("/api/v1/series", b'{"error":"ValueError"}')):
        with capture_logs() as logged:
            response = get(routes, path)
        assert response.status == 500
        assert response.body == body
        assert [(line["event"], line["path"]) for line in logged] == [("request failed", path)]
    site.shown = good
    assert get(routes, "/metrics").status == 200


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/series"])
def test_what_was_made_of_a_view_that_no_longer_stands_is_made_again(site: FakeSite, routes: Routes, path: str) -> None:
    assert isinstance(site.shown, View)
    site.void = [site.shown] * 2
    assert get(routes, path).status == 200
    assert site.views == 3
    site.void = [site.shown] * 9
    response = get(routes, path)
    assert response.status == 503, "rather than to go on for ever"
    assert ("Retry-After", "1") in response.headers


@pytest.mark.parametrize("path", ["/-/healthy", "/healthz"])
def test_health_follows_the_site(site: FakeSite, routes: Routes, path: str) -> None:
    assert get(routes, path).status == 200
    site.well = False
    assert get(routes, path).status == 503
    assert get(routes, "/-/ready").status == 200


@pytest.mark.parametrize("path", ["/-/ready", "/readyz"])
def test_readiness_follows_the_site(site: FakeSite, routes: Routes, path: str) -> None:
    assert get(routes, path).status == 200
    site.able = False
    assert get(routes, path).body == b"msemon is not ready.\n"
    assert get(routes, path).status == 503
    assert get(routes, "/healthz").status == 200


def test_a_site_that_cannot_say_is_not_well(site: FakeSite, routes: Routes, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise RuntimeError

    monkeypatch.setattr(site, "healthy", broken)
    with capture_logs() as logged:
        assert get(routes, "/healthz").status == 503
    assert [line["event"] for line in logged] == ["health failed"]


@pytest.mark.parametrize(
    "path",
    [
        "/metrics/",
        "/favicon.ico",
        "/-/reload",
        "/api/v1/",
        "//",
        "/../etc/passwd",
        "/static/",
        "/static/../routes.py",
        "/static/index.html",
    ],
)
def test_anything_else_is_not_found(routes: Routes, path: str) -> None:
    assert get(routes, path).status == 404


def test_status_is_the_sites_as_json_whatever_numbers_it_holds(site: FakeSite, routes: Routes) -> None:
    site.state = {"ready": True, "lag": np.int64(3), "age": math.nan, "of": {1: frozenset([2])}, "path": object}
    response = get(routes, "/api/v1/status")
    assert response.content_type == "application/json; charset=utf-8"
    status = json.loads(response.body)
    assert (status["lag"], status["age"], status["of"]) == (3, None, {"1": [2]})


def test_series_are_asked_for_by_model_and_in_pieces(routes: Routes) -> None:
    assert json.loads(get(routes, "/api/v1/series").body)["total"] == 1
    assert json.loads(get(routes, "/api/v1/series", {"model": "x"}).body)["total"] == 0
    assert json.loads(get(routes, "/api/v1/series", {"limit": "0"}).body)["series"] == []
    assert json.loads(get(routes, "/api/v1/series", {"limit": "999999999"}).body)["limit"] == 10_000


@pytest.mark.parametrize("wrong", ["-1", "", "1.5", "²", "9" * 10, "all"])
def test_a_piece_that_is_no_whole_number_is_a_bad_request(routes: Routes, wrong: str) -> None:
    assert get(routes, "/api/v1/series", {"limit": wrong}).status == 400
    assert get(routes, "/api/v1/series", {"offset": wrong}).status == 400


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/api/v1/series", {"limt": "1"}, 400),
        ("/api/v1/series", {"window": "9d"}, 400),
        ("/api/v1/series", {"trend": "true", "window": "9d"}, 400),
        ("/api/v1/status", {"x": ""}, 400),
        ("/api/v1/pipeline", {"x": ""}, 400),
        ("/api/v1/model", {}, 400),
        ("/api/v1/model", {"model": "x"}, 404),
        ("/api/v1/models", {}, 404),
    ],
)
def test_what_the_api_refuses_it_says_as_json(routes: Routes, path: str, query: dict[str, str], status: int) -> None:
    response = get(routes, path, query)
    assert response.status == status
    assert response.content_type == "application/json; charset=utf-8"
    assert json.loads(response.body)["error"]


def test_a_model_and_the_pipeline_are_asked_for_by_their_paths(site: FakeSite, routes: Routes) -> None:
    assert json.loads(get(routes, "/api/v1/model", {"model": "price"}).body)["versions"][0]["version"] == "7"
    assert "events" in json.loads(get(routes, "/api/v1/pipeline").body)
    assert site.views == 1, "the pipeline needs none"


def test_the_page_and_its_files_are_served_with_their_types(site: FakeSite, routes: Routes) -> None:
    site.shown = ValueError("the page needs no view")
    assert get(routes, "/").content_type == "text/html; charset=utf-8"
    assert get(routes, "/static/main.js").content_type == "text/javascript; charset=utf-8"
    assert get(routes, "/static/status.css").content_type == "text/css; charset=utf-8"
    assert get(routes, "/static/icon.svg").content_type == "image/svg+xml"


def test_more_who_wait_than_there_are_places_are_told_to_come_again(site: FakeSite, routes: Routes) -> None:
    site.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(get, routes, "/metrics") for _ in range(4)]
        until(lambda: routes._turns._inside == 4)
        fifth = get(routes, "/metrics")
        health = get(routes, "/healthz")
        site.gate.set()
        assert [each.result(10).status for each in waiting] == [200] * 4
    assert fifth.status == 503
    assert ("Retry-After", "1") in fifth.headers
    assert health.status == 200


class Kitchen:
    """Makes numbered answers, each when it is let."""

    def __init__(self) -> None:
        self.turns: Turns[Response] = Turns(most=10, patience_s=10)
        self.made = 0
        self.let = threading.Semaphore(0)

    def make(self) -> Response:
        self.made += 1
        number = self.made
        assert self.let.acquire(timeout=10)
        return Response(200, str(number).encode())

    def ask(self, pool: ThreadPoolExecutor, question: str = "q") -> Future[Response]:
        before = self.turns._inside
        asked = pool.submit(self.turns.get, question, self.make)
        until(lambda: self.turns._inside == before + 1)
        return asked


def test_those_who_ask_during_a_making_share_the_next_one_and_never_get_an_older_answer() -> None:
    kitchen = Kitchen()
    with ThreadPoolExecutor(10) as pool:
        first = kitchen.ask(pool)
        until(lambda: kitchen.made == 1)
        others = [kitchen.ask(pool) for _ in range(5)]
        kitchen.let.release(10)
        assert first.result(10).body == b"1"
        assert {each.result(10).body for each in others} == {b"2"}
    assert kitchen.made == 2
    assert kitchen.turns._made == {}, "nothing is kept that nobody waits for"


def test_different_questions_have_different_answers() -> None:
    kitchen = Kitchen()
    with ThreadPoolExecutor(10) as pool:
        first = kitchen.ask(pool)
        until(lambda: kitchen.made == 1)
        others = [kitchen.ask(pool, question) for question in ("a", "b")]
        kitchen.let.release(10)
        assert {first.result(10).body, *(each.result(10).body for each in others)} == {b"1", b"2", b"3"}


def test_a_failed_making_is_the_failure_of_its_asker_alone() -> None:
    turns: Turns[Response] = Turns(most=1)

    def fails() -> Response:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        turns.get("q", fails)
    answer = Response(200, b"")
    good: Callable[[], Response] = lambda: answer  # noqa: E731
    assert turns.get("q", good) is answer


def test_patience_has_an_end() -> None:
    turns: Turns[Response] = Turns(most=2, patience_s=0.05)
    release = threading.Event()

    def slow() -> Response:
        assert release.wait(10)
        return Response(200, b"")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(turns.get, "q", slow)
        until(lambda: turns._begun == 1)
        with pytest.raises(Busy):
            turns.get("q", slow)
        release.set()
        assert first.result(10).status == 200
