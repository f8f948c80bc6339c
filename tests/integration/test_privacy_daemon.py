"""What messages and users hold, in nothing that a daemon says: log at its lowest level, metrics, page, API."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import structlog
from kafka import KafkaConsumer, TopicPartition

import msemon.daemon
from msemon import logs
from msemon.settings import load
from support.sites import ask
from support.stories import made, names, settings
from support.topics import Record, create_topics, produce, unique
from support.waiting import wait_until

SECRET = "geheim-4711"
PASSWORD = f"{SECRET}-password"
PATHS = ("/metrics", "/", "/api/v1/status", "/api/v1/pipeline", "/api/v1/model?model=m", "/api/v1/series?trend=true")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, as the command sets it up at its lowest level; logging is left as it was."""
    root, client = logging.getLogger(), logging.getLogger("kafka")
    before = root.handlers[:], root.level, client.level
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    yield stream
    root.handlers[:], level, client_level = before
    root.setLevel(level)
    client.setLevel(client_level)
    structlog.reset_defaults()


class Running:
    """`msemon run` in a thread of this process."""

    def __init__(self, given: dict[str, Any]) -> None:
        flags = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
        self.daemon = msemon.daemon.Daemon(load(flags, environ={}), install_signals=False)
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self.code = self.daemon.run()

    @contextmanager
    def lives(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self.daemon.stop()
            self._thread.join(20.0)

    @property
    def ended(self) -> bool:
        return self.code is not None

    def get(self, path: str, password: str = PASSWORD, accept: str = "text/plain") -> tuple[int, str]:
        known = base64.b64encode(f"alice:{password}".encode()).decode()
        answer = ask(self.daemon.server.port, path, {"Authorization": f"Basic {known}", "Accept": accept})
        return answer.status, answer.body.decode()

    def counted(self, name: str) -> float:
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def await_at_least(self, name: str, count: float) -> None:
        wait_until(self.daemon.ready, 60, "readiness")
        wait_until(lambda: self.counted(name) >= count, 60, f"{name} {count}", 0.1)


def good(stem: str) -> list[list[dict[str, Any]]]:
    more = {"pad": SECRET, "segments": {"country": "nl", "customer": SECRET}}
    asked = [{"id": f"{SECRET}-{stem}-{i}", "model": "m", "prediction": 5, **more} for i in range(20)]
    answers = [{"id": event["id"], "label": 3, "note": {SECRET: SECRET}} for event in asked[:15]]
    return [asked, answers]


def poison() -> list[bytes]:
    events: list[Any] = [
        {"id": SECRET, "label": SECRET},
        {"id": SECRET, "model": [SECRET], "prediction": 1},
        {"id": SECRET, "model": "m", "prediction": 1, "segments": {"country": {SECRET: SECRET}}},
        {"id": SECRET, "label": 1, "ts": SECRET},
        {"id": SECRET, "label": 1, "ts": 4e9},
        {"id": SECRET, "label": 1, "weight": -1},
        {"id": SECRET, "label": [SECRET] * 5_000},
        {SECRET: SECRET},
        SECRET,
        [[SECRET]],
    ]
    texts = [json.dumps(event).encode() for event in events]
    return [*texts, texts[0][:-1], b"\xff" + texts[0], f'{{"id": "{SECRET}", "label": NaN}}'.encode(), SECRET.encode()]


def send(kafka: str, topics: list[str], stem: str) -> None:
    for topic, events in zip(topics, good(stem), strict=True):
        now_ms = time.time_ns() // 1_000_000
        values = [json.dumps(event).encode() for event in events] + poison()
        headers = ((SECRET, SECRET.encode()),)
        produce(kafka, topic, [Record(value, 0, SECRET.encode(), now_ms, headers) for value in values])


def letters(kafka: str, topic: str) -> int:
    """How many hold what was sent: the test would else look for what was never there."""
    consumer = KafkaConsumer(bootstrap_servers=kafka)
    try:
        where = TopicPartition(topic, 0)
        consumer.assign([where])
        consumer.seek(where, 0)
        found: list[Any] = []

        def come() -> bool:
            found.extend(consumer.poll(500).get(where, []))
            return len(found) >= len(poison())

        wait_until(come, 20, "letters")
        return sum(SECRET.encode() in record.value for record in found)
    finally:
        consumer.close()


def words_of_a_library(*_: object) -> None:
    raise ValueError(f"invalid literal: {SECRET}")


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_nothing_of_messages_or_passwords_is_told_anywhere(
    kafka: str, client: str, tmp_path: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of good ones and poison, through dead letters, wrong passwords, a restart, and a decoder that breaks."""
    topics, dead = made(kafka, names()), unique("dead")
    create_topics(kafka, {dead: 1}, {"max.message.bytes": "10000000"})
    web = tmp_path / "web.yml"
    web.write_text(f"basic_auth_users: {{alice: {bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}}}\n")
    given = settings(
        kafka, topics, kafka__client=client, kafka__start="earliest", kafka__dead_letter_topic=dead,
        segments=[["country"]], state__path=str(tmp_path / "state"), state__interval="1s", web__address="127.0.0.1:0",
        web__config_file=str(web),
    )  # fmt: skip
    told = []
    sent = 0
    for stem in ("first", "second"):
        send(kafka, topics, stem)
        sent += 15
        running = Running(given)
        with running.lives():
            running.await_at_least("msemon_lifetime_pairs", sent)
            running.await_at_least("msemon_events_rejected_total", 2 * len(poison()) - 2)
            assert running.get("/metrics", f"{SECRET}-wrong")[0] == 401
            assert running.get(f"/{SECRET}")[0] == 404
            for path in PATHS:
                status, text = running.get(path)
                assert status == 200
                told.append(text)
            told.append(running.get("/metrics", accept="application/openmetrics-text;version=1.0.0")[1])
        assert running.code == 0
    assert letters(kafka, dead) >= len(poison()) - 1, "what is looked for was there"

    monkeypatch.setattr("msemon.decoding.json.record_times", words_of_a_library)
    send(kafka, topics, "third")
    running = Running(given)
    with running.lives():
        wait_until(lambda: running.ended, 60, "the daemon to break")
    assert running.code == 1

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert any(line["event"] == "failed" and "words are withheld" in line["exception"] for line in lines)
    assert "web.config_file" not in log.getvalue()
    assert SECRET not in log.getvalue()
    assert not [text for text in told if SECRET in text]
    assert all(text for text in told)
