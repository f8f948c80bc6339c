"""Schemas are asked for once, kept, and waited for as long as the registry is away."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from msemon.decoding.schemas import Schema
from msemon.events import Reason
from msemon.schema_registry import Away, NoSuchPath, NoSuchSchema, SchemaRegistry, over_http
from msemon.settings import load
from support.registry import RegistryStandIn
from support.waiting import wait_until

RETRY = (0.01, 0.05)


def found(registry: SchemaRegistry, ident: int | str) -> Schema | Reason:
    wait_until(lambda: registry.find(ident) is not None, 10, "an answer")
    answer = registry.find(ident)
    assert answer is not None
    return answer


class Answers:
    """What the registry says, by path; an exception is raised."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []

    def __call__(self, where: str) -> bytes:
        self.asked.append(where)
        answer = self.answers.get(where, NoSuchSchema())
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def test_a_schema_is_asked_for_once_and_kept() -> None:
    answers = Answers()
    answers.answers["/schemas/ids/7"] = {"schema": "x"}
    answers.answers["/schemas/guids/g"] = {"schema": "y", "schemaType": "JSON"}
    registry = SchemaRegistry(answers)
    assert registry.find(7) is None, "never waits"
    assert found(registry, 7) == Schema("x", "AVRO")
    assert found(registry, "g") == Schema("y", "JSON")
    assert found(registry, 7) == Schema("x", "AVRO")
    assert answers.asked == ["/schemas/ids/7", "/schemas/guids/g"]


def test_an_unknown_schema_is_one_for_a_while() -> None:
    now = [0.0]
    answers = Answers()
    registry = SchemaRegistry(answers, clock=lambda: now[0])
    assert found(registry, 7) is Reason.UNKNOWN_SCHEMA
    answers.answers["/schemas/ids/7"] = {"schema": "x"}
    assert registry.find(7) is Reason.UNKNOWN_SCHEMA
    now[0] = 1_000.0
    assert found(registry, 7) == Schema("x", "AVRO")
    assert registry.find(2**31) is Reason.UNKNOWN_SCHEMA, "what no registry has is not asked for"
    assert answers.asked == ["/schemas/ids/7"] * 2


@pytest.mark.parametrize("answer", [Away("500"), OSError("refused"), b"<html>", b"[]", {}, {"schema": 5},
                                    {"schema": "x", "references": [{"subject": "s"}]}])  # fmt: skip
def test_without_an_answer_nothing_is_concluded(answer: Any) -> None:
    """It is asked again until there is one; what is awaited and each failure are told."""
    errors: list[int] = []
    awaited: list[int] = []
    answers = Answers()
    answers.answers["/schemas/ids/7"] = answer
    registry = SchemaRegistry(answers, lambda: errors.append(1), awaited.append, retry_s=RETRY)
    assert registry.find(7) is None
    wait_until(lambda: len(errors) >= 3, 10, "failures")
    assert registry.find(7) is None
    answers.answers["/schemas/ids/7"] = {"schema": "x"}
    assert found(registry, 7) == Schema("x", "AVRO")
    assert awaited == [1, 0]


def test_one_that_can_not_be_had_keeps_no_other_waiting() -> None:
    answers = Answers()
    answers.answers |= {"/schemas/ids/7": Away("500"), "/schemas/ids/8": {"schema": "x"}}
    registry = SchemaRegistry(answers, retry_s=RETRY)
    assert registry.find(7) is None
    assert found(registry, 8) == Schema("x", "AVRO")
    assert registry.find(7) is None
    answers.answers["/schemas/ids/7"] = {"schema": "y"}
    assert found(registry, 7) == Schema("y", "AVRO")


@pytest.mark.parametrize("has", [{"schema": "x"}, NoSuchSchema()])
def test_a_guid_that_a_registry_without_guids_is_asked_for_is_unknown(has: Any) -> None:
    """But not as long as nothing says that there is a registry at all."""
    answers, errors = Answers(), list[int]()
    answers.answers |= {"/schemas/guids/g": NoSuchPath("404"), "/schemas/ids/1": NoSuchPath("404")}
    registry = SchemaRegistry(answers, lambda: errors.append(1), retry_s=RETRY)
    assert registry.find("g") is None
    wait_until(lambda: len(errors) >= 3, 10, "failures")
    assert registry.find("g") is None
    answers.answers["/schemas/ids/1"] = has
    assert found(registry, "g") is Reason.UNKNOWN_SCHEMA


def test_references_come_with_a_schema_each_after_its_own() -> None:
    answers = Answers()
    answers.answers |= {
        "/schemas/ids/7": {"schema": "x", "references": [{"name": "b", "subject": "a/b", "version": 2}]},
        "/subjects/a%2Fb/versions/2": {"schema": "y", "references": [{"name": "c", "subject": "c", "version": 1}]},
        "/subjects/c/versions/1": {"schema": "z"},
    }
    assert found(SchemaRegistry(answers), 7) == Schema("x", "AVRO", ("z", "y"))


def test_what_is_unknown_is_logged_now_and_then_with_how_many_more_there_were() -> None:
    now = [0.0]
    registry = SchemaRegistry(Answers(), clock=lambda: now[0])
    with structlog.testing.capture_logs() as lines:
        for ident in range(100):
            assert found(registry, ident) is Reason.UNKNOWN_SCHEMA
        now[0] = 11.0
        assert found(registry, 100) is Reason.UNKNOWN_SCHEMA
    assert [(line["schema"], line["others"]) for line in lines] == [(0, 0), (100, 99)]


def test_what_is_known_can_be_looked_up_without_asking() -> None:
    answers = Answers()
    registry = SchemaRegistry(answers)
    assert registry.known(7) is None
    assert answers.asked == []
    assert found(registry, 7) is Reason.UNKNOWN_SCHEMA
    assert registry.known(7) is Reason.UNKNOWN_SCHEMA


def settings_of(url: str, *flags: tuple[str, str], secrets: Path | None = None) -> Any:
    given = {"format.encoding": "avro", "format.schema_registry_url": url, **dict(flags)}
    return load(given, environ={}, secrets_dir=secrets)


def test_over_http(tmp_path: Path) -> None:
    """The stand-in's answers; only 404 with the registry's own code says that there is no such schema."""
    secret = tmp_path / "msemon_format__schema_registry_password"
    secret.write_text("geheim\n")
    with RegistryStandIn(
        {"/base/schemas/ids/7": {"schema": "x"}, "/base/schemas/ids/8": {"schema": "y" * 5_000_000}}
    ) as stand_in:
        get = over_http(
            settings_of(stand_in.url + "/base/", ("format.schema_registry_username", "ada"), secrets=tmp_path)
        )
        assert json.loads(get("/schemas/ids/7")) == {"schema": "x"}
        secret.write_text("neu")
        get("/schemas/ids/7")
        assert [login for _, login in stand_in.asked] == ["Basic YWRhOmdlaGVpbQ==", "Basic YWRhOm5ldQ=="]
        with pytest.raises(NoSuchSchema):
            get("/schemas/ids/9")
        with pytest.raises(Away, match="too large"):
            get("/schemas/ids/8")
        for status in (401, 403, 404, 500, 302):
            stand_in.status = status
            with pytest.raises(NoSuchPath if status == 404 else Away, match=str(status)):
                get("/schemas/ids/7")
    with pytest.raises(OSError, match="refused"):
        get("/schemas/ids/7")


def test_lookups_of_many_threads_worth_are_one_thread() -> None:
    gate = threading.Event()

    def get(where: str) -> bytes:
        gate.wait(10)
        return b'{"schema": "x"}'

    registry = SchemaRegistry(get)
    before = threading.active_count()
    for ident in range(50):
        assert registry.find(ident) is None
    assert threading.active_count() == before + 1
    gate.set()
    check: Callable[[], bool] = lambda: all(registry.find(ident) is not None for ident in range(50))  # noqa: E731
    wait_until(check, 10, "all")
