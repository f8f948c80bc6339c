"""The traps of kafka-python, each handled: with records made by hand and a client that does what the test says.

What only a broker can show is in `tests/integration/test_source_contract.py`.
"""

# ruff: noqa: ARG002 (the fake takes what kafka-python takes)

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import OffsetAndMetadata, errors
from kafka import TopicPartition as KafkaTopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import MemberState, OffsetAndTimestamp

from msemon.settings import Settings
from msemon.settings.values import Start
from msemon.sources import group, kafka_inside, kafka_python
from msemon.sources.base import Fatal, Gap, TopicPartition, Truncated, UnequalPartitions, Unreachable
from msemon.sources.kafka_config import client_config, consumer_config, producer_config
from msemon.sources.kafka_python import KafkaPythonSource
from msemon.sources.record_format import Row

A, B = "a", "b"


def settings(**kafka: Any) -> Settings:
    return Settings(kafka={"topics": [A, B], **kafka})  # type: ignore[arg-type]


def tp(topic: str, partition: int) -> KafkaTopicPartition:
    return KafkaTopicPartition(topic, partition)


def record(_topic: str, _partition: int, offset: int, value: bytes | None = b"v", **other: Any) -> Row:
    return offset, other.get("timestamp", 1000 + offset), other.get("key"), value, other.get("headers", ())


class FakeConsumer:
    """A client whose polls and answers the test scripts; it keeps positions and pauses as kafka-python does."""

    def __init__(self, **config: Any) -> None:
        self.config = {"session_timeout_ms": 45_000} | config
        self._subscription = SimpleNamespace(assignment={})
        self._coordinator = SimpleNamespace(
            heartbeat=SimpleNamespace(last_send=-math.inf, last_receive=-math.inf),
            _generation=SimpleNamespace(generation_id=1, member_id="me"),
            _heartbeat_enabled=True,
            state=MemberState.STABLE,
            rejoining=False,
            need_rejoin=lambda: False,
        )
        self._fetcher = SimpleNamespace(PartitionRecords=None)
        self._manager = SimpleNamespace()
        self.script: list[Callable[[], Any]] = []
        self.paused: set[Any] = set()
        self.highwaters: dict[Any, int] = {}
        self.log: dict[str, dict[Any, int]] = {"start": {}, "end": {}}
        self.committed: list[tuple[Any, int]] = []
        self.commit_error: Exception | None = None
        self.listener: Any = None
        self.closed_with: dict[str, Any] | None = None

    def rebalance(self, partitions: set[Any]) -> None:
        """As an eager rejoin does: what stays keeps its state."""
        old = self._subscription.assignment
        self.listener.on_partitions_revoked(set(old))
        self._assign(partitions)
        self.listener.on_partitions_assigned(partitions)

    def lose_all(self) -> None:
        lost = set(self._subscription.assignment)
        self.listener.on_partitions_lost(lost)
        self._assign(set())

    def _assign(self, partitions: set[Any]) -> None:
        old = self._subscription.assignment
        self._subscription.assignment = {p: old.get(p, SimpleNamespace(position=None)) for p in partitions}
        self.paused &= partitions

    def subscribe(self, topics: list[str], listener: Any) -> None:
        self.listener = listener

    def poll(self, timeout_ms: int) -> Any:
        return self.script.pop(0)() if self.script else {}

    def assignment(self) -> set[Any]:
        return set(self._subscription.assignment)

    def seek(self, where: Any, offset: int) -> None:
        assert isinstance(where, KafkaTopicPartition)
        self._subscription.assignment[where].position = OffsetAndMetadata(offset)

    def pause(self, *partitions: Any) -> None:
        assert set(partitions) <= self.assignment()
        self.paused |= set(partitions)

    def resume(self, *partitions: Any) -> None:
        assert set(partitions) <= self.assignment()
        self.paused -= set(partitions)

    def highwater(self, where: Any) -> int | None:
        return self.highwaters.get(where)

    def commit(self, offsets: Any, timeout_ms: int) -> None:
        self.committed.append((offsets, timeout_ms))
        if self.commit_error:
            raise self.commit_error

    def beginning_offsets(self, partitions: list[Any], timeout_ms: int) -> dict[Any, int]:
        return {p: self.log["start"][p] for p in partitions}

    def end_offsets(self, partitions: list[Any], timeout_ms: int) -> dict[Any, int]:
        return {p: self.log["end"][p] for p in partitions}

    def offsets_for_times(self, timestamps: dict[Any, int], timeout_ms: int) -> dict[Any, Any]:
        found = {p: self.log["times"].get(p) for p in timestamps}
        timestamps.clear()  # as kafka-python may: it works on the dict it is given
        return found

    def close(self, autocommit: bool, timeout_ms: int) -> None:
        self.closed_with = {"autocommit": autocommit, "timeout_ms": timeout_ms}


COUNTS: dict[str, int | None] = {}


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """The topics' partition counts that the fake cluster tells."""
    COUNTS.clear()
    COUNTS.update({A: 2, B: 2})
    monkeypatch.setattr(kafka_python, "KafkaConsumer", FakeConsumer)
    monkeypatch.setattr(kafka_inside, "refresh_topics", lambda consumer, topics, timeout_s: None)
    monkeypatch.setattr(kafka_inside, "topic_partitions", lambda consumer, topics, timeout_s: dict(COUNTS))
    return COUNTS


def connected(**options: Any) -> tuple[KafkaPythonSource, FakeConsumer]:
    source = KafkaPythonSource(settings(), **options)
    source.connect()
    source.subscribe()
    return source, source._consumer


def owning(*partitions: int, **options: Any) -> tuple[KafkaPythonSource, FakeConsumer]:
    """A source that has got these partitions, begun at 0 and resumed them."""
    source, client = connected(**options)
    client.rebalance({tp(topic, p) for p in partitions for topic in (A, B)})
    source.poll(0)
    begin(source, partitions)
    return source, client


def begin(source: KafkaPythonSource, partitions: Any, offset: int = 0) -> None:
    where = [TopicPartition(topic, p) for p in partitions for topic in (A, B)]
    for each in where:
        source.seek(each, offset)
    source.resume(where)


# Settings → client


def test_the_client_gets_what_the_promises_need():
    config = consumer_config(settings(group_id="g", group_instance_id="pod-1"))
    assert config["isolation_level"] == "read_committed"
    assert config["enable_auto_commit"] is False
    assert config["auto_offset_reset"] == "none"
    assert config["partition_assignment_strategy"] == [RangePartitionAssignor]
    assert (config["group_id"], config["group_instance_id"]) == ("g", "pod-1")
    assert "value_deserializer" not in config, "an exception in one would make poll() spin for ever"


def test_security_settings_are_passed_on():
    config = client_config(
        settings(
            bootstrap_servers="one:9092, two:9093",
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_username="user",
            sasl_password="word",
        )
    )
    assert config["bootstrap_servers"] == ["one:9092", "two:9093"]
    assert config["security_protocol"] == "SASL_SSL"
    assert (config["sasl_plain_username"], config["sasl_plain_password"]) == ("user", "word")


def test_client_options_reach_the_clients_that_know_them():
    chosen = settings(client_options={"session_timeout_ms": 6000, "linger_ms": 7, "request_timeout_ms": 8000})
    assert consumer_config(chosen)["session_timeout_ms"] == 6000
    assert consumer_config(chosen)["request_timeout_ms"] == producer_config(chosen)["request_timeout_ms"] == 8000
    assert producer_config(chosen)["linger_ms"] == 7
    assert "linger_ms" not in consumer_config(chosen)


@pytest.mark.parametrize("option", ["api_version", "allow_auto_create_topics", "transactional_id", "no_such_option"])
def test_client_options_that_break_promises_or_that_nobody_knows_are_refused_by_name(option):
    with pytest.raises(ValueError, match=option):
        KafkaPythonSource(settings(client_options={option: "1"}))


# Connecting


@pytest.mark.parametrize("problem", [errors.KafkaTimeoutError("no"), errors.KafkaConnectionError("no"), OSError("no")])
def test_a_constructor_that_finds_no_broker_is_unreachable_and_leaves_no_network_thread(problem, monkeypatch):
    closed = []

    def fails(**config: Any) -> None:
        config["kafka_client"].made = SimpleNamespace(close=lambda: closed.append(True))
        raise problem

    monkeypatch.setattr(kafka_python, "KafkaConsumer", fails)
    with pytest.raises(Unreachable, match="no"):
        KafkaPythonSource(settings()).connect()
    assert closed == [True]


@pytest.mark.parametrize("problem", [errors.KafkaConfigurationError("no"), TypeError("no")])
def test_a_constructor_that_can_never_succeed_is_fatal(problem, monkeypatch):
    def fails(**_: Any) -> None:
        raise problem

    monkeypatch.setattr(kafka_python, "KafkaConsumer", fails)
    with pytest.raises(Fatal, match="no"):
        KafkaPythonSource(settings()).connect()


def test_unequal_partition_counts_are_refused_at_start_with_the_counts(cluster):
    cluster[B] = 3
    source = KafkaPythonSource(settings())
    with pytest.raises(UnequalPartitions, match="a has 2, b has 3") as refused:
        source.connect()
    assert refused.value.counts == {A: 2, B: 3}


def test_a_topic_that_does_not_exist_is_no_reason_to_refuse(cluster):
    cluster[B] = None
    source = KafkaPythonSource(settings())
    source.connect()
    assert source.partition_counts() == {A: 2, B: None}


# Rebalances


def test_new_partitions_are_paused_at_a_position_of_ours_so_that_committed_offsets_are_never_taken():
    source, client = connected()
    client.rebalance({tp(A, 0), tp(B, 0)})
    polled = source.poll(0)
    assert polled.assigned == {0}
    assert client.paused == {tp(A, 0), tp(B, 0)}
    assert {state.position.offset for state in client._subscription.assignment.values()} == {0}


def test_the_listener_makes_no_call_that_could_block_the_network_thread():
    source, client = connected()
    client._assign({tp(A, 0)})
    done = []
    client.seek = lambda *a: done.append("seek")  # type: ignore[method-assign]
    client.pause = lambda *a: done.append("pause")  # type: ignore[method-assign]
    source._listener._consumer = SimpleNamespace(seek=client.seek, pause=client.pause)  # type: ignore[union-attr]
    client.listener.on_partitions_assigned({tp(A, 0)})
    client.listener.on_partitions_revoked({tp(A, 0)})
    client.listener.on_partitions_lost({tp(A, 0)})
    assert done == ["seek", "pause"], "anything else, the listener would not have had"


def test_what_stays_goes_on_where_it_was_and_only_what_is_new_waits():
    source, client = owning(0)
    source.seek(TopicPartition(A, 0), 17)
    client.rebalance({tp(t, p) for t in (A, B) for p in (0, 1)})
    polled = source.poll(0)
    assert (polled.assigned, polled.revoked) == ({0, 1}, frozenset())
    assert client.paused == {tp(A, 1), tp(B, 1)}
    assert client._subscription.assignment[tp(A, 0)].position.offset == 17


def test_what_goes_in_a_rebalance_is_revoked_when_it_is_complete():
    source, client = owning(0, 1)
    client.listener.on_partitions_revoked(client.assignment())
    polled = source.poll(0)
    assert (polled.rebalancing, polled.assigned, polled.revoked) == (True, None, frozenset())
    client._assign({tp(A, 1), tp(B, 1)})
    client.listener.on_partitions_assigned(client.assignment())
    polled = source.poll(0)
    assert (polled.rebalancing, polled.assigned, polled.revoked, polled.lost) == (False, {1}, {0}, frozenset())


def test_lost_is_not_delegated_to_revoked():
    source, client = owning(0, 1)
    client.lose_all()
    polled = source.poll(0)
    assert (polled.lost, polled.revoked, polled.assigned) == ({0, 1}, frozenset(), None)


def test_what_is_lost_and_comes_back_is_new_again():
    source, client = owning(0)
    source.seek(TopicPartition(A, 0), 17)
    client.lose_all()
    client.rebalance({tp(A, 0), tp(B, 0)})
    polled = source.poll(0)
    assert (polled.lost, polled.revoked, polled.assigned) == ({0}, frozenset(), {0})
    assert client.paused == {tp(A, 0), tp(B, 0)}
    assert client._subscription.assignment[tp(A, 0)].position.offset == 0


def test_what_is_lost_and_comes_back_in_part_is_not_revoked_as_well():
    source, client = owning(0, 1)
    client.lose_all()
    client.rebalance({tp(A, 0), tp(B, 0)})
    polled = source.poll(0)
    assert (polled.lost, polled.revoked, polled.assigned) == ({0, 1}, frozenset(), {0})


def test_what_comes_back_stays_paused_whatever_happens_to_the_counts_until_it_is_resumed(cluster, monkeypatch):
    monkeypatch.setattr(group, "CHECK_S", 0.0)
    source, client = owning(0)
    client.lose_all()
    source.poll(0)
    cluster[A] = 3
    client.rebalance({tp(A, 0), tp(B, 0)})
    assert source.poll(0).unequal
    cluster[A] = 2
    assert not source.poll(0).unequal
    assert client.paused == {tp(A, 0), tp(B, 0)}


def test_ownership_is_the_listeners_and_not_the_clients_assignment():
    source, client = owning(0)
    client.lose_all()
    client._assign({tp(A, 0), tp(B, 0)})  # as assignment() still lists what is revoked
    client.script.append(lambda: {tp(A, 0): [record(A, 0, 0)]})
    assert source.poll(0).batches == []


def test_partition_p_that_is_not_here_of_every_topic_is_not_read_and_is_fatal_if_it_stays_so(monkeypatch):
    monkeypatch.setattr(group, "CHECK_S", 0.0)
    source, client = owning(0)
    client.rebalance({tp(A, 0), tp(B, 0), tp(A, 1)})
    polled = source.poll(0)
    assert polled.assigned == {0}
    assert "a-0, a-1, b-0" in polled.errors[0].text
    assert client.paused == {tp(A, 1)}
    source.resume([TopicPartition(A, 1)])
    assert client.paused == {tp(A, 1)}, "what is not owned can't be resumed"
    monkeypatch.setattr(source._group, "_uneven_limit_s", 0.0)
    with pytest.raises(Fatal, match="different partitions of different topics"):
        source.poll(0)


def test_counts_that_come_to_differ_stop_the_reading_and_are_told_until_they_are_equal_again(cluster, monkeypatch):
    monkeypatch.setattr(group, "CHECK_S", 0.0)
    source, client = owning(0, 1)
    source.pause([TopicPartition(B, 1)])
    cluster[A] = 3
    client.rebalance({tp(A, 0), tp(B, 0), tp(A, 1), tp(B, 1), tp(A, 2)})
    client.script.append(lambda: {tp(A, 0): [record(A, 0, 0)]})
    polled = source.poll(0)
    assert polled.unequal is not None
    assert polled.unequal.counts == {A: 3, B: 2}
    assert polled.assigned == {0, 1}
    assert len(polled.batches) == 1, "what had come already is not lost"
    assert client.paused == client.assignment()
    source.resume([TopicPartition(A, 0)])
    assert client.paused == client.assignment()
    assert source.poll(0).unequal is not None
    cluster[B] = 3
    client.rebalance({tp(t, p) for t in (A, B) for p in range(3)})
    assert source.poll(0).unequal is None
    assert client.paused == {tp(B, 1), tp(A, 2), tp(B, 2)}, "the daemon's own pauses stay"


# Records


def test_records_come_as_columns_with_their_keys_and_headers_at_hand():
    source, client = owning(0)
    rows = [record(A, 0, 3, b"one", key=b"k"), record(A, 0, 5, None, headers=[("h", b"1")])]

    def deliver() -> Mapping[Any, Any]:
        client.seek(tp(A, 0), 9)  # a control record stands at 8
        return {tp(A, 0): rows}

    client.script.append(deliver)
    (batch,) = source.poll(0).batches
    assert (batch.topic, batch.partition) == (A, 0)
    assert list(batch.offsets) == [3, 5]
    assert list(batch.timestamps_ms) == [1003, 1005]
    assert list(batch.values) == [b"one", None]
    assert (batch.next_offset, batch.size) == (9, 3)
    assert batch.origin(0) == (b"k", ())
    assert batch.origin(1) == (None, [("h", b"1")])


def test_the_lag_is_the_distance_to_the_end_as_last_heard_of_what_is_owned():
    source, client = owning(0)
    source.seek(TopicPartition(A, 0), 4)
    client.highwaters = {tp(A, 0): 10, tp(A, 1): 99}
    assert source.lag() == {TopicPartition(A, 0): 6}


# Jumps


def out_of_range(where: KafkaTopicPartition, position: int) -> Callable[[], Any]:
    def raises() -> None:
        raise errors.OffsetOutOfRangeError({where: position})

    return raises


def test_a_position_below_the_logs_start_jumps_to_it_and_the_gap_is_exact():
    source, client = owning(0)
    client.log = {"start": {tp(A, 0): 40}, "end": {tp(A, 0): 50}}
    client.script.append(out_of_range(tp(A, 0), 15))
    polled = source.poll(0)
    assert polled.gaps == [Gap(TopicPartition(A, 0), 25)]
    assert client._subscription.assignment[tp(A, 0)].position.offset == 40


def test_a_position_above_the_logs_end_goes_back_to_it_and_is_told():
    source, client = owning(0)
    source.seek(TopicPartition(A, 0), 70)
    client.log = {"start": {tp(A, 0): 0}, "end": {tp(A, 0): 50}}
    client.script.append(out_of_range(tp(A, 0), 70))
    polled = source.poll(0)
    assert polled.truncated == [Truncated(TopicPartition(A, 0), 70, 50)]
    assert client._subscription.assignment[tp(A, 0)].position.offset == 50


def test_a_position_that_turns_out_to_be_in_range_stays():
    source, client = owning(0)
    source.seek(TopicPartition(A, 0), 45)
    client.log = {"start": {tp(A, 0): 40}, "end": {tp(A, 0): 50}}
    client.script.append(out_of_range(tp(A, 0), 45))
    polled = source.poll(0)
    assert (polled.gaps, polled.truncated) == ([], [])
    assert client._subscription.assignment[tp(A, 0)].position.offset == 45


def test_out_of_range_while_the_log_can_not_be_asked_changes_nothing():
    source, client = owning(0)

    def fails(*_: Any, **__: Any) -> None:
        raise errors.KafkaTimeoutError("no answer")

    client.beginning_offsets = fails  # type: ignore[method-assign,assignment]
    client.script.append(out_of_range(tp(A, 0), 15))
    polled = source.poll(0)
    assert polled.gaps == []
    assert "no answer" in polled.errors[0].text


def test_a_log_that_was_cut_and_written_anew_is_read_again_from_where_it_differs():
    source, client = owning(0)
    source.seek(TopicPartition(A, 0), 70)

    def raises() -> None:
        raise errors.LogTruncationError({tp(A, 0): OffsetAndMetadata(60)})

    client.script.append(raises)
    assert source.poll(0).truncated == [Truncated(TopicPartition(A, 0), 70, 60)]
    assert client._subscription.assignment[tp(A, 0)].position.offset == 60


# The group


@pytest.mark.parametrize("problem", [errors.FencedInstanceIdError("x"), errors.InconsistentGroupProtocolError("x")])
def test_a_poll_that_the_group_refuses_for_good_is_fatal(problem):
    source, client = owning(0)

    def raises() -> None:
        raise problem

    client.script.append(raises)
    with pytest.raises(Fatal, match="could not poll"):
        source.poll(0)


def test_a_fenced_member_whose_client_says_nothing_is_found_out():
    source, client = owning(0)
    client._coordinator._heartbeat_enabled = False  # all that kafka-python does about it
    with pytest.raises(Fatal, match="same group_instance_id"):
        source.poll(0)


@pytest.mark.parametrize("change", [{"state": MemberState.REBALANCING}, {"rejoining": True}])
def test_heartbeats_that_rest_during_a_rejoin_are_not_taken_for_fencing(change):
    _, client = owning(0)
    client._coordinator._heartbeat_enabled = False
    assert kafka_inside.fenced(client)
    vars(client._coordinator).update(change)
    assert not kafka_inside.fenced(client)


def test_a_dead_network_thread_is_fatal():
    source, client = owning(0)

    def raises() -> None:
        raise RuntimeError("IO loop crashed")

    client.script.append(raises)
    with pytest.raises(Fatal, match="IO loop crashed"):
        source.poll(0)


def test_other_troubles_are_told_and_do_not_make_the_loop_spin():
    source, client = owning(0)

    def raises() -> None:
        raise errors.TopicAuthorizationFailedError({A})

    client.script.append(raises)
    before = time.monotonic()
    (trouble,) = source.poll(0.2).errors
    assert trouble.kind == "authorization"
    assert "TopicAuthorizationFailedError" in trouble.text
    assert time.monotonic() - before >= 0.2


def test_a_commit_always_has_a_timeout_and_is_a_sign_of_the_group():
    source, client = owning(0)
    source._heard_s = -math.inf
    before = time.monotonic()
    assert source.commit({TopicPartition(A, 0): 5}, timeout_s=1.5)
    ((offsets, timeout_ms),) = client.committed
    assert offsets == {tp(A, 0): OffsetAndMetadata(5, "", -1)}
    assert timeout_ms == 1500
    assert source.last_heard_s() >= before


@pytest.mark.parametrize("problem", [errors.CommitFailedError(), errors.KafkaTimeoutError("x")])
def test_a_commit_that_is_not_taken_is_no_sign_of_the_group(problem):
    source, client = owning(0)
    source._heard_s = -math.inf
    client.commit_error = problem
    assert not source.commit({TopicPartition(A, 0): 5}, 1.0)
    assert source.last_heard_s() == -math.inf


def test_a_commit_that_meets_a_fence_is_fatal():
    source, client = owning(0)
    client.commit_error = errors.FencedInstanceIdError("x")
    with pytest.raises(Fatal, match="could not commit"):
        source.commit({TopicPartition(A, 0): 5}, 1.0)


def test_nothing_is_committed_during_a_rebalance():
    source, client = owning(0)
    client.listener.on_partitions_revoked(client.assignment())
    source.poll(0)
    assert not source.commit({TopicPartition(A, 0): 5}, 1.0)
    assert client.committed == []


def test_the_last_answered_heartbeat_is_a_sign_of_the_group():
    """As of when it was sent: the answer may be read long after, by a process that stood still meanwhile."""
    source, client = owning(0)
    heartbeat = client._coordinator.heartbeat
    heartbeat.last_send = time.monotonic() + 100
    heartbeat.last_receive = heartbeat.last_send + 1000
    assert source.last_heard_s() == heartbeat.last_send
    source.poll(0)
    before, heartbeat.last_send = heartbeat.last_send, heartbeat.last_receive + 1
    assert source.last_heard_s() == before, "what is not answered yet says nothing"


def test_a_commit_says_how_things_were_when_it_was_sent(monkeypatch):
    source, client = owning(0)
    source._heard_s = -math.inf
    before = time.monotonic()
    monkeypatch.setattr(client, "commit", lambda *_, **__: time.sleep(0.2))
    assert source.commit({TopicPartition(A, 0): 5}, 1.0)
    assert before <= source.last_heard_s() < before + 0.15


def test_an_assignment_says_how_things_were_before_it_was_looked_for():
    """A process that stood still may find one of long ago."""
    source, client = owning(0)
    source.poll(0)
    source._heard_s = -math.inf
    source._polled_s = 12.5
    client.rebalance({tp(A, 0), tp(B, 0)})
    source.poll(0)
    assert source.last_heard_s() == 12.5


@pytest.mark.parametrize(
    ("number", "member", "kept"), [(1, "me", True), (2, "me", True), (3, "me", False), (2, "new", False)]
)
def test_partitions_that_were_anothers_for_a_generation_are_lost_before_they_come_back(number, member, kept):
    """A member that is thrown out while it rejoins is told nothing but its new assignment."""
    source, client = owning(0)
    generation = client._coordinator._generation
    generation.generation_id, generation.member_id = number, member
    client.rebalance({tp(A, 0), tp(B, 0)})
    polled = source.poll(0)
    assert polled.assigned == {0}
    assert polled.lost == (frozenset() if kept else {0})
    assert client.paused == (set() if kept else {tp(A, 0), tp(B, 0)})


def test_partitions_that_come_and_are_lost_between_two_polls_are_not_ours():
    source, client = owning(0)
    client.rebalance({tp(topic, p) for topic in (A, B) for p in (0, 1)})
    client.lose_all()
    polled = source.poll(0)
    assert polled.lost == {0}
    assert polled.assigned == frozenset()


def test_partitions_that_go_and_come_back_between_two_polls_were_anothers():
    source, client = owning(0, 1)
    client.rebalance({tp(A, 0), tp(B, 0)})
    client.rebalance({tp(topic, p) for topic in (A, B) for p in (0, 1)})
    polled = source.poll(0)
    assert polled.assigned == {0, 1}
    assert polled.revoked == {1}
    assert client.paused == {tp(A, 1), tp(B, 1)}


def test_without_the_private_heartbeat_commits_still_count():
    source, client = owning(0)
    del client._coordinator.heartbeat
    source._heard_s = 12.5
    assert source.last_heard_s() == 12.5


def test_closing_commits_nothing_by_itself_and_is_bounded():
    source, client = owning(0)
    source.close(2.5)
    assert client.closed_with == {"autocommit": False, "timeout_ms": 2500}
    source.close(2.5)  # again: nothing happens


# Where to begin

ENDS = {tp(A, 0): 100, tp(B, 0): 200}
STARTS = {tp(A, 0): 10, tp(B, 0): 20}


def beginnings(start: Start, times: Mapping[Any, Any] | None = None) -> dict[TopicPartition, int]:
    source, client = owning(0, wall_s=lambda: 5_000.0)
    client.log = {"start": STARTS, "end": ENDS, "times": dict(times or {})}
    return source.start_offsets([0], start)


def test_latest_begins_at_the_ends():
    assert beginnings(Start("latest", "latest")) == ENDS


def test_earliest_begins_at_the_starts():
    assert beginnings(Start("earliest", "earliest")) == STARTS


@pytest.mark.parametrize("start", [Start("time", "t", time_us=1), Start("ago", "1h", ago_s=3600.0)])
def test_a_time_begins_at_its_first_record_or_at_the_end_where_there_is_none(start):
    """The client answers None, or a timestamp of -1, and changes the dict it is asked with."""
    assert beginnings(start, {tp(A, 0): OffsetAndTimestamp(42, 7, 0), tp(B, 0): None}) == {tp(A, 0): 42, tp(B, 0): 200}
    nothing = OffsetAndTimestamp(0, -1, 0)
    assert beginnings(start, {tp(A, 0): nothing, tp(B, 0): nothing}) == ENDS


def test_ago_counts_back_from_the_wall_clock(monkeypatch):
    source, client = owning(0, wall_s=lambda: 5_000.0)
    client.log = {"end": ENDS}
    asked: list[dict[Any, int]] = []

    def offsets_for_times(timestamps: dict[Any, int], timeout_ms: int) -> dict[Any, Any]:
        asked.append(dict(timestamps))
        return dict.fromkeys(timestamps)

    client.offsets_for_times = offsets_for_times  # type: ignore[method-assign]
    source.start_offsets([0], Start("ago", "1h", ago_s=3600.0))
    assert set(asked[0].values()) == {1_400_000}


def test_a_cluster_that_does_not_answer_where_to_begin_is_unreachable():
    source, client = owning(0)

    def fails(*_: Any, **__: Any) -> None:
        raise errors.KafkaTimeoutError("no answer")

    client.end_offsets = fails  # type: ignore[method-assign,assignment]
    with pytest.raises(Unreachable, match="no answer"):
        source.start_offsets([0], Start("latest", "latest"))
