"""The source on librdkafka: what it makes of messages, errors and rebalances, with a client that the test scripts.

What only a broker can show is in `tests/integration/test_source_contract.py`.
"""

# ruff: noqa: ARG002 (the fake takes what librdkafka takes)

from __future__ import annotations

import json
import logging
import math
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from msemon.settings import Settings
from msemon.sources import librdkafka, librdkafka_log, opening, unreadable
from msemon.sources import librdkafka_messages as messages
from msemon.sources.base import ErrorKind, Fatal, Gap, Skipped, TopicPartition, Trouble, Truncated, Unreachable
from msemon.sources.certificates import Certificates
from msemon.sources.librdkafka import LibrdkafkaSource
from msemon.sources.librdkafka_client import EARLIEST, LATEST, Client, refusal
from msemon.sources.librdkafka_client import trouble as told
from msemon.sources.librdkafka_config import client_config, consumer_config
from msemon.sources.librdkafka_inside import Described, Statistics

A, B = "a", "b"
WHERE = TopicPartition(A, 0)


def settings(**kafka: Any) -> Settings:
    return Settings(kafka={"topics": [A, B], "client": "librdkafka", **kafka})  # type: ignore[arg-type]


class FakeMessage:
    """A record, or an error of a partition."""

    def __init__(self, topic: str | None, partition: int, offset: Any, error: KafkaError | None = None) -> None:
        self._place, self._offset, self._error = (topic, partition), offset, error

    def topic(self) -> str | None:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> Any:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error

    def value(self) -> bytes:
        return b"%d" % self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000 + self._offset

    def key(self) -> bytes:
        return b"k"

    def headers(self) -> None:
        return None


class FakeConsumer:
    """Messages as the test scripts them; what it was told last of each partition."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.at: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.stopped: set[TopicPartition] = set()
        self.assigns = 0
        self.listeners: dict[str, Any] = {}
        self.member = "me"

    def subscribe(self, topics: list[str], **listeners: Any) -> None:
        self.listeners = listeners

    def consume(self, most: int, timeout_s: float) -> list[FakeMessage]:
        found = self.script.pop(0) if self.script else []
        return found() if callable(found) else found

    def assign(self, places: list[Any]) -> None:
        self.assigns += 1
        self.stopped = set()
        self.at = {TopicPartition(each.topic, each.partition): each.offset for each in places}

    def unassign(self) -> None:
        self.at = {}

    def pause(self, places: list[Any]) -> None:
        self.paused |= {TopicPartition(each.topic, each.partition) for each in places}

    def resume(self, places: list[Any]) -> None:
        self.paused -= {TopicPartition(each.topic, each.partition) for each in places}

    def seek(self, place: Any) -> None:
        where = TopicPartition(place.topic, place.partition)
        if where in self.stopped:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.at[where] = place.offset

    def get_watermark_offsets(self, place: Any, cached: bool) -> tuple[int, int]:
        return 0, 100

    def consumer_group_metadata(self) -> bytes:
        return b"CGMDv2:\x01\x00\x00\x00group\x00"

    def memberid(self) -> str:
        return self.member

    def rebalance(self, *partitions: int) -> None:
        parts = [SimpleNamespace(topic=topic, partition=p) for p in partitions for topic in (A, B)]
        self.listeners["on_assign"](self, parts)

    def revoke(self, kind: str = "on_revoke") -> None:
        self.listeners[kind](self, [SimpleNamespace(topic=each.topic, partition=each.partition) for each in self.at])


class FakeClient:
    def __init__(self) -> None:
        self.consumer = FakeConsumer()
        self.statistics = Statistics()
        self.committed_s = -math.inf
        self.committing = False
        self.refused: str | None = None
        self.ids = {A: "1", B: "2"}
        self.ends = {EARLIEST: 10, LATEST: 50}

    def described(self, topics: Any, timeout_s: float | None = None) -> dict[str, Described | None]:
        return {topic: Described(2, self.ids[topic]) for topic in topics}

    def ask(self, topics: Any) -> Any:
        return SimpleNamespace(done=True, answer=lambda: self.described(topics))

    def offsets(self, wanted: Any, at: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(wanted, self.ends[at])

    def commit(self, offsets: Any, note: str) -> None:
        self.committing = True

    def answer(self, refused: str | None, *found: FakeMessage) -> list[FakeMessage]:
        """A callback of a commit, and the messages before it."""
        self.committing, self.refused = False, refused
        return list(found)

    def refusals(self) -> list[Any]:
        return []

    def renew_login(self) -> None: ...

    def close(self, timeout_s: float) -> None: ...


def reading(*partitions: int, offset: int = 0) -> tuple[LibrdkafkaSource, FakeClient]:
    """A source that has got these partitions, sought and resumed them."""
    source: Any = LibrdkafkaSource(settings())
    source._client = client = FakeClient()
    source.subscribe()
    client.consumer.rebalance(*partitions)
    source.poll(0)
    begin(source, *partitions, offset=offset)
    source.poll(0)
    return source, client


def begin(source: LibrdkafkaSource, *partitions: int, offset: int = 0) -> None:
    where = [TopicPartition(topic, p) for p in partitions for topic in (A, B)]
    for each in where:
        source.seek(each, offset)
    source.resume(where)


def rows(where: TopicPartition, *offsets: int) -> list[FakeMessage]:
    return [FakeMessage(*where, offset) for offset in offsets]


def trouble(code: int, offset: int | None = 0, where: TopicPartition = WHERE) -> FakeMessage:
    return FakeMessage(*where, offset, KafkaError(code))


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("error", "topic", "partition", "offset"):
        monkeypatch.setattr(messages, f"_{name}s", getattr(FakeMessage, name))
    monkeypatch.setattr(messages, "Message", FakeMessage)


# Settings → client


def test_the_client_gets_what_the_promises_need():
    config = consumer_config(settings(group_id="g", group_instance_id="pod-1"))
    assert config["isolation.level"] == "read_committed"
    assert config["enable.auto.commit"] is False
    assert config["auto.offset.reset"] == "error"
    assert config["partition.assignment.strategy"] == "range"
    assert config["check.crcs"] is True
    assert config["allow.auto.create.topics"] is False
    assert (config["group.id"], config["group.instance.id"]) == ("g", "pod-1")


def test_security_settings_are_passed_on():
    chosen = settings(
        security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_username="user", sasl_password="word",
        ssl_cafile=__file__,
    )  # fmt: skip
    config = client_config(chosen)
    assert (config["security.protocol"], config["sasl.mechanism"]) == ("SASL_SSL", "PLAIN")
    assert (config["sasl.username"], config["sasl.password"]) == ("user", "word")
    assert config["ssl.ca.location"] == __file__


def test_options_by_kafka_pythons_names_and_by_librdkafkas_own_reach_the_client():
    config = consumer_config(settings(client_options={"session_timeout_ms": 6000, "fetch.message.max.bytes": 7}))
    assert (config["session.timeout.ms"], config["fetch.message.max.bytes"]) == (6000, 7)


@pytest.mark.parametrize(
    "option",
    [
        "enable.auto.commit", "auto.offset.reset", "no.such.option", "no_such_option", "sasl.oauthbearer.config",
        "enable.ssl.certificate.verification", "ssl.endpoint.identification.algorithm",
    ],
)  # fmt: skip
def test_options_that_break_promises_or_that_nobody_knows_are_refused_by_name(option):
    with pytest.raises(ValueError, match=option):
        opening.look_at_options(settings(client_options={option: "1"}))


def test_a_client_that_is_not_installed_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    assert "pip install 'msemon[librdkafka]'" in str(opening.client_missing(settings()))
    assert opening.client_missing(Settings()) is None


# Messages → batches


def test_mixed_messages_become_a_batch_for_each_partition_in_order():
    other = TopicPartition(B, 1)
    source, client = reading(0, 1)
    client.consumer.script = [rows(WHERE, 0, 1) + rows(other, 0) + rows(WHERE, 2, 5)]
    found = {(each.topic, each.partition): each for each in source.poll(0).batches}
    assert found.keys() == {WHERE, other}
    assert list(found[WHERE].offsets) == [0, 1, 2, 5]
    assert list(found[WHERE].timestamps_ms) == [1000, 1001, 1002, 1005]
    assert found[WHERE].values == [b"0", b"1", b"2", b"5"]
    assert (found[WHERE].next_offset, found[WHERE].size) == (6, 4)
    assert found[WHERE].origin(0) == (b"k", ())


def test_the_end_of_a_log_moves_the_position_over_offsets_that_hold_no_record():
    source, client = reading(0)
    client.consumer.script = [
        [*rows(WHERE, 3), trouble(KafkaError._PARTITION_EOF, 7)],
        [trouble(KafkaError._PARTITION_EOF, 9)],
    ]
    assert [(len(b.values), b.next_offset) for b in source.poll(0).batches] == [(1, 7)]
    assert [(len(b.values), b.next_offset) for b in source.poll(0).batches] == [(0, 9)]
    assert source.poll(0).batches == []
    assert source.lag()[WHERE] == 91


def test_what_was_on_its_way_before_a_seek_or_a_pause_is_not_delivered():
    source, client = reading(0)
    source.seek(WHERE, 10)
    client.consumer.script = [rows(WHERE, 3, 4, 10)]
    assert [list(b.offsets) for b in source.poll(0).batches] == [[10]]
    source.pause([WHERE])
    client.consumer.script = [rows(WHERE, 11)]
    assert source.poll(0).batches == []
    assert WHERE in client.consumer.paused
    source.resume([WHERE])
    source.poll(0)
    assert client.consumer.at[WHERE] == 11, "and is fetched again"


# Rebalances


def test_what_comes_before_the_answer_to_a_commit_is_delivered_with_the_next_poll():
    source, client = reading(0)
    client.consumer.script = [rows(WHERE, 0, 1), lambda: client.answer(None, *rows(WHERE, 2))]
    assert source.commit({WHERE: 0}, 10.0)
    assert [list(b.offsets) for b in source.poll(0).batches] == [[0, 1, 2]]
    client.consumer.script = [lambda: client.answer("not you")]
    assert not source.commit({WHERE: 3}, 10.0)
    assert not source.commit({WHERE: 3}, 0.1), "nobody answers"


@pytest.mark.parametrize("back", [True, False], ids=["sought", "paused"])
def test_what_comes_before_the_answer_to_a_commit_is_dropped_where_it_is_no_longer_wanted(back):
    source, client = reading(0)
    client.consumer.script = [lambda: client.answer(None, *rows(WHERE, 5, 6))]
    assert source.commit({WHERE: 0}, 10.0)
    if back:
        source.seek(WHERE, 3)
    else:
        source.pause([WHERE])
    client.consumer.script = [rows(WHERE, 7)]
    assert source.poll(0).batches == []
    source.resume([WHERE])
    source.poll(0)
    assert client.consumer.at[WHERE] == (3 if back else 0), "and is fetched again"


def test_a_commit_does_not_wait_behind_more_than_a_poll_brings():
    source, client = reading(0)
    source._most = 3
    client.consumer.script = [rows(WHERE, 0, 1), rows(WHERE, 2)]
    assert source.commit({WHERE: 0}, 10.0), "a refusal is told later"
    assert [list(b.offsets) for b in source.poll(0).batches] == [[0, 1, 2]]


def test_what_is_new_stays_paused_until_it_is_sought_and_resumed():
    source, client = reading(0)
    client.consumer.rebalance(0, 1)
    polled = source.poll(0)
    assert (polled.assigned, polled.revoked) == ({0, 1}, frozenset())
    source.poll(0)
    assert client.consumer.paused == {TopicPartition(A, 1), TopicPartition(B, 1)}


def test_what_a_rebalance_finds_in_the_same_poll_is_delivered_once():
    """The client hands over messages of before a rebalance with the poll that the rebalance ended in."""
    source, client = reading(0)

    def rebalances() -> list[FakeMessage]:
        client.consumer.revoke()
        client.consumer.rebalance(0)
        return rows(WHERE, 0, 1, 2)

    client.consumer.script = [rebalances]
    assert [list(b.offsets) for b in source.poll(0).batches] == [[0, 1, 2]]
    assert client.consumer.at[WHERE] == 0
    source.poll(0)
    assert client.consumer.at[WHERE] == 3


def test_what_is_lost_and_comes_back_is_new_again_and_its_messages_are_dropped():
    source, client = reading(0, offset=17)

    def loses() -> list[FakeMessage]:
        client.consumer.revoke("on_lost")
        client.consumer.rebalance(0)
        return rows(WHERE, 17)

    client.consumer.script = [loses]
    polled = source.poll(0)
    assert (polled.lost, polled.revoked, polled.assigned, polled.batches) == ({0}, frozenset(), {0}, [])
    source.poll(0)
    assert WHERE in client.consumer.paused


def test_a_member_that_comes_back_by_another_name_has_lost_what_it_had():
    source, client = reading(0)
    client.consumer.revoke()
    client.consumer.member = "another"
    client.consumer.rebalance(0)
    assert source.poll(0).lost == {0}


# Errors


def test_a_position_below_the_start_is_a_gap_and_one_above_the_end_is_truncated():
    source, client = reading(0, offset=4)
    client.consumer.script = [[trouble(KafkaError._AUTO_OFFSET_RESET, 4)]]
    client.consumer.stopped = {WHERE}
    assert source.poll(0).gaps == [Gap(WHERE, 6)]
    source.poll(0)
    assert client.consumer.at[WHERE] == 10, "although what has stopped at an error can't be sought"
    source.seek(WHERE, 70)
    source.poll(0)
    client.consumer.script = [[trouble(KafkaError._AUTO_OFFSET_RESET, 70)]]
    assert source.poll(0).truncated == [Truncated(WHERE, 70, 50)]


def test_a_log_that_was_cut_back_nobody_says_where_is_truncated_at_its_end():
    source, client = reading(0, offset=60)
    client.consumer.script = [[trouble(KafkaError._AUTO_OFFSET_RESET, None)]]
    assert source.poll(0).truncated == [Truncated(WHERE, 60, 50)]


def test_a_log_that_differs_from_below_the_position_is_truncated_there():
    source, client = reading(0, offset=40)
    client.consumer.script = [[trouble(KafkaError._AUTO_OFFSET_RESET, 30)]]
    assert source.poll(0).truncated == [Truncated(WHERE, 40, 30)]


def test_an_unreadable_batch_is_passed_over_and_what_followed_it_is_fetched_again(monkeypatch):
    monkeypatch.setattr(unreadable, "extent", lambda chosen, where, at, timeout_s: Skipped(where, at, 5, "broken"))
    source, client = reading(0)
    client.consumer.script = [[*rows(WHERE, 0, 1), trouble(KafkaError._BAD_MSG, 2), *rows(WHERE, 7)]]
    polled = source.poll(0)
    assert [list(b.offsets) for b in polled.batches] == [[0, 1]]
    assert polled.skipped == [Skipped(WHERE, 2, 5, "broken")]
    source.poll(0)
    assert client.consumer.at[WHERE] == 7


def test_a_batch_that_the_client_says_nothing_of_is_looked_at_once_the_partition_has_stood(monkeypatch):
    monkeypatch.setattr(librdkafka, "STUCK_S", 0.0)
    monkeypatch.setattr(unreadable, "extent", lambda chosen, where, at, timeout_s: Skipped(where, at, 2, "broken"))
    source, client = reading(0)
    assert source.poll(0).skipped == []
    client.statistics.partial = 1
    assert source.poll(0).skipped == [], "it may be on its way"
    client.statistics.partial = 2
    assert {skip.where for skip in source.poll(0).skipped} == {WHERE, TopicPartition(B, 0)}


def test_a_fenced_member_is_fatal_and_a_cluster_that_does_not_answer_is_not():
    source, client = reading(0)
    client.consumer.script = [[trouble(KafkaError._ALL_BROKERS_DOWN)]]
    assert source.poll(0).errors
    client.consumer.script = [[FakeMessage(None, -1, -1, KafkaError(KafkaError.FENCED_INSTANCE_ID))]]
    with pytest.raises(Fatal):
        source.poll(0)


def test_a_topic_with_another_id_is_told_once_and_its_records_are_not_delivered():
    source, client = reading(0)
    client.ids[A] = "other"
    source._ask_at_s = 0.0
    client.consumer.script = [rows(WHERE, 0)]
    polled = source.poll(0)
    assert (polled.remade, polled.batches) == ({A}, [])
    source._ask_at_s = 0.0
    assert source.poll(0).remade == frozenset()


def test_a_cluster_that_can_not_tell_the_partitions_is_not_asked_at_every_poll():
    source, client = reading(0)
    asked = []

    def described(topics: Any, timeout_s: float | None = None) -> Any:
        asked.append(topics)
        raise Unreachable("no answer")

    client.described = described  # type: ignore[method-assign]
    client.consumer.rebalance(0)
    source.poll(0)
    source.poll(0)
    assert len(asked) == 1


# The lease


def statistics(sent: int, idle_us: int = 200, **broker: Any) -> str:
    coordinator = {"state": "UP", "txidle": idle_us, "rxidle": idle_us - 100, "req": {"Heartbeat": sent}} | broker
    told = {"ts": 5_000_000, "brokers": {"GroupCoordinator": coordinator}, "cgrp": {"join_state": "steady"}}
    return json.dumps(told)


def test_a_heartbeat_counts_from_when_it_was_sent_and_only_once_it_is_answered():
    told = Statistics()
    assert told.heartbeat_s == -math.inf
    told.read(statistics(1, waitresp_cnt=1))
    told.read(statistics(1, state="DOWN"))
    told.read(statistics(1, rxidle=300))
    assert told.heartbeat_s == -math.inf
    told.read(statistics(1))
    assert told.heartbeat_s == pytest.approx(4.9998)
    told.read(statistics(1, idle_us=101))
    assert told.heartbeat_s == pytest.approx(4.9998), "what else goes over the connection is no heartbeat"


def test_a_fenced_member_is_told_by_the_name_of_its_setting():
    told = refusal(KafkaException(KafkaError(KafkaError.FENCED_INSTANCE_ID)), "poll")
    assert isinstance(told, Fatal)
    assert "group_instance_id" in str(told)


def test_nobody_to_ask_is_unreachable():
    source = LibrdkafkaSource(settings(bootstrap_servers="127.0.0.1:1"), connect_s=0.2, ask_s=0.2)
    with pytest.raises(Unreachable):
        source.connect()
    source.close(1.0)


def test_what_was_out_of_range_and_is_not_any_more_was_cut_back_and_has_grown_again():
    """Where it was cut nobody knows any more; that it was must be said."""
    for known in (None, 40):
        source, client = reading(0, offset=40)
        client.consumer.script = [[trouble(KafkaError._AUTO_OFFSET_RESET, known)]]
        assert source.poll(0).truncated == [Truncated(WHERE, 40, 40)]


def test_what_a_broker_says_of_our_certificate_is_authentication_whatever_its_code():
    alert = KafkaError(
        KafkaError._TRANSPORT, "a:1: ssl/tls alert certificate unknown: SSL alert number 46 (after 5ms in state UP)"
    )
    assert told(alert) == Trouble(
        ErrorKind.AUTHENTICATION, "a:1: ssl/tls alert certificate unknown: SSL alert number 46"
    )
    assert told(KafkaError(KafkaError._TRANSPORT, "a:1: Disconnected")).kind is ErrorKind.OTHER


def line(text: str, facility: str = "FAIL") -> logging.LogRecord:
    return logging.LogRecord("kafka.librdkafka", logging.ERROR, "", 0, "%s [%s] %s", (facility, "me", text), None)


def test_connections_that_fail_again_and_again_are_a_warning_now_and_then_with_their_number():
    now = [0.0]
    bundled = librdkafka_log.Bundled(lambda: now[0])
    heard = []
    for i in range(100):
        now[0] = i / 2
        record = line(
            f"[thrd:a:1/bootstrap]: a:1/bootstrap: refused (after {i}ms in state CONNECT, 3 identical error(s))"
        )
        if bundled.filter(record):
            heard.append((record.levelname, record.getMessage(), getattr(record, "left_out", 0)))
    assert heard == [("WARNING", "a:1/bootstrap: refused", 0), ("WARNING", "a:1/bootstrap: refused", 59)]
    assert bundled.filter(line("[thrd:b:1]: b:1: refused (after 0ms in state CONNECT)"))  # another broker
    other = line("[thrd:main]: no session", "SESSTMOUT")
    assert bundled.filter(other)
    assert other.getMessage() == "SESSTMOUT [me] [thrd:main]: no session"


def test_new_certificates_are_looked_for_only_while_we_are_not_let_in(tmp_path):
    """Librdkafka reads them when it is made, so that only a new client would."""
    file = tmp_path / "ca.pem"
    file.write_text("old")
    client: Any = Client.__new__(Client)
    client._certificates = Certificates(settings(security_protocol="SSL", ssl_cafile=str(file)))
    client._refusals, client._not_let_in, client._look_at_s = deque(), False, 0.0
    file.write_text("new")
    assert not client.outdated()
    client._told(KafkaError(KafkaError._TRANSPORT, "a:1: Disconnected"))
    assert not client.outdated()
    client._told(KafkaError(KafkaError._SSL, "a:1: certificate verify failed"))
    assert client.outdated()
    file.write_text("old")
    client._look_at_s = 0.0
    client._told(KafkaError(KafkaError._SSL, "a:1: certificate verify failed"))
    assert not client.outdated()
