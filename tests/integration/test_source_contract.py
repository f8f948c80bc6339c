"""What a source promises, on real brokers, with each client.

`broker` is each broker in turn; a test that takes `kafka` needs what only Apache Kafka does (section 10 of the design
names what Tansu lacks), one that takes `own_kafka` reaches for the broker's disk.
"""

from __future__ import annotations

import math
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaTopicPartition

from msemon.settings import Settings
from msemon.settings.values import Start
from msemon.sources import kafka_inside, kafka_python
from msemon.sources.base import Fatal, Gap, Source, TopicPartition, UnequalPartitions, Unreachable
from support.brokers import Broker, admin, apache_kafka, free_ports, running, why_no_kafka
from support.members import EARLIEST, MAKERS, Member, member, settings, until
from support.record_batches import with_checksum, with_codec
from support.report import not_run
from support.topics import (
    Record,
    add_partitions,
    create_topics,
    delete_before,
    produce,
    transaction,
    unique,
)
from support.waiting import wait_until

JOIN_S = 30.0


@pytest.fixture(scope="module", autouse=True)
def topics_before(request: pytest.FixtureRequest) -> set[str]:
    """The topics of the shared broker before this module; none where Apache Kafka can't run."""
    if why_no_kafka():
        return set()
    with admin(request.getfixturevalue("kafka")) as client:
        return set(client.list_topics())


@pytest.fixture(params=list(MAKERS))
def client(request: pytest.FixtureRequest) -> str:
    """Each client in turn; the test's members are on it."""
    name: str = request.param
    return name


def source_of(chosen: Settings, **options: Any) -> Source:
    found: Source = MAKERS[chosen.kafka.client](chosen, **options)
    return found


class Place:
    """Two topics of their own on a broker, read with a client."""

    def __init__(
        self, bootstrap: str, client: str, partitions: int = 1, configs: dict[str, str] | None = None
    ) -> None:
        self.client = client
        self.bootstrap = bootstrap
        self.a, self.b, self.group = unique("a"), unique("b"), unique("group")
        create_topics(bootstrap, {self.a: partitions, self.b: partitions}, configs)

    def settings(self, **kafka: Any) -> Any:
        return settings(self.bootstrap, [self.a, self.b], self.group, **{"client": self.client} | kafka)

    def write(self, topic: str, *values: bytes, partition: int = 0, **options: Any) -> None:
        produce(self.bootstrap, topic, [Record(value, partition) for value in values], **options)


def joined(each: Member) -> None:
    each.until(lambda: each.owned, JOIN_S, "an assignment")


def committed(bootstrap: str, group: str, where: TopicPartition) -> int | None:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    try:
        offset: int | None = consumer.committed(KafkaTopicPartition(*where), timeout_ms=10_000)
        return offset
    finally:
        consumer.close()


# Reading


def test_records_arrive_in_order_with_offsets_timestamps_keys_and_headers(broker, client):
    place = Place(broker, client)
    produce(
        broker,
        place.a,
        [
            Record(b"0", key=b"k", timestamp_ms=1_700_000_000_000, headers=(("h", b"1"),)),
            Record(b"1", timestamp_ms=1_700_000_000_001),
            Record(None, key=b"k", timestamp_ms=1_700_000_000_002),
        ],
    )
    with member(place.settings()) as one:
        one.until(lambda: len(one.values()) == 3, JOIN_S, "three records")
        assert one.values() == [b"0", b"1", None]
        assert [offset for each in one.batches for offset in each.offsets] == [0, 1, 2]
        assert [t for each in one.batches for t in each.timestamps_ms] == [1_700_000_000_000 + i for i in range(3)]
        assert one.batches[-1].next_offset == 3
        key, headers = one.batches[0].origin(0)
        assert (key, list(headers)) == (b"k", [("h", b"1")])


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches_arrive_whole(broker, codec, client):
    place = Place(broker, client)
    values = [b"%d" % i * 100 for i in range(500)]
    place.write(place.a, *values, compression_type=codec)
    with member(place.settings()) as one:
        one.until(lambda: len(one.values()) == 500, JOIN_S, "all records")
        assert one.values() == values
        assert one.all_of("skipped") == []


def test_what_is_new_is_not_read_before_it_is_sought_and_resumed(broker, client):
    place = Place(broker, client)
    place.write(place.a, b"0", b"1", b"2")
    with member(place.settings(), start=None) as one:
        joined(one)
        for _ in range(5):
            one.turn()
        assert one.values() == []
        one.source.seek(TopicPartition(place.a, 0), 1)
        one.turn()
        assert one.values() == []
        one.source.resume([TopicPartition(place.a, 0)])
        one.until(lambda: len(one.values()) == 2, JOIN_S, "the rest")
        assert one.values() == [b"1", b"2"]


def test_a_paused_partition_delivers_nothing_while_others_go_on_and_loses_nothing(broker, client):
    place = Place(broker, client)
    with member(place.settings()) as one:
        joined(one)
        one.source.pause([TopicPartition(place.a, 0)])
        place.write(place.a, b"a0", b"a1")
        place.write(place.b, b"b0")
        one.until(lambda: one.values(place.b), JOIN_S, "the other topic")
        one.turn(0.5)
        assert one.values(place.a) == []
        one.source.resume([TopicPartition(place.a, 0)])
        one.until(lambda: len(one.values(place.a)) == 2, JOIN_S, "the paused topic")
        assert one.values(place.a) == [b"a0", b"a1"]


def test_seeking_back_reads_again(broker, client):
    place = Place(broker, client)
    place.write(place.a, b"0", b"1")
    with member(place.settings()) as one:
        one.until(lambda: len(one.values()) == 2, JOIN_S, "both")
        one.source.seek(TopicPartition(place.a, 0), 1)
        one.until(lambda: len(one.values()) == 3, JOIN_S, "the second again")
        assert one.values() == [b"0", b"1", b"1"]


def test_the_lag_is_what_lies_ahead_and_falls_to_zero(broker, client):
    place = Place(broker, client)
    place.write(place.a, *[b"%d" % i for i in range(30)])
    with member(place.settings(client_options={"max_poll_records": 10})) as one:
        where = TopicPartition(place.a, 0)
        seen = set()
        deadline = time.monotonic() + JOIN_S
        while one.source.lag().get(where) != 0 and time.monotonic() < deadline:
            one.turn()
            seen.add((len(one.values()), one.source.lag().get(where)))
        assert (30, 0) in seen
        assert all(lag is None or lag == 30 - read or read == 0 for read, lag in seen)


# Group


def test_commits_are_taken_and_are_not_where_reading_begins(broker, client):
    place = Place(broker, client)
    place.write(place.a, b"0", b"1", b"2")
    where = TopicPartition(place.a, 0)
    with member(place.settings()) as one:
        one.until(lambda: len(one.values()) == 3, JOIN_S, "all records")
        assert one.source.commit({where: 2}, 10.0)
        assert time.monotonic() - one.source.last_heard_s() < 1.0
    assert committed(broker, place.group, where) == 2
    with member(place.settings()) as two:
        two.until(lambda: len(two.values()) == 3, JOIN_S, "all records again")
        assert two.values() == [b"0", b"1", b"2"]


def test_two_members_share_the_partitions_in_pairs_and_lose_and_repeat_nothing(broker, client):
    place = Place(broker, client, partitions=4)
    for p in range(4):
        place.write(place.a, b"a%d" % p, partition=p)
        place.write(place.b, b"b%d" % p, partition=p)
    with member(place.settings()) as one:
        one.until(lambda: len(one.values()) == 8, JOIN_S, "all records")
        assert one.owned == {0, 1, 2, 3}
        with member(place.settings()) as two:
            until([one, two], lambda: len(one.owned) == len(two.owned) == 2, JOIN_S, "a fair share")
            assert one.owned | two.owned == {0, 1, 2, 3}
            gone = frozenset().union(*(polled.revoked for polled in one.polled))
            assert gone == two.owned
            assert not any(polled.lost for polled in one.polled)
            for p in range(4):
                place.write(place.a, b"later a%d" % p, partition=p)
                place.write(place.b, b"later b%d" % p, partition=p)
            later = {b"later %s%d" % (topic, p) for topic in (b"a", b"b") for p in range(4)}
            until([one, two], lambda: later <= {*one.values(), *two.values()}, JOIN_S, "what came later")
            for each in (one, two):
                mine = {value for value in each.values() if value and value.startswith(b"later")}
                assert mine == {b"later %s%d" % (topic, p) for topic in (b"a", b"b") for p in each.owned}
            assert len(one.values()) == 12, "what stayed goes on where it was"
        until([one], lambda: len(one.owned) == 4, JOIN_S, "the other's share")


def test_a_join_that_outlasts_a_poll_is_never_forgotten(kafka, monkeypatch):
    """kafka-python alone forgets an answer that comes between two polls, and stays outside without heartbeats."""
    monkeypatch.setattr(kafka_python, "JOIN_S", 0.001)
    monkeypatch.setattr(kafka_inside, "refresh_topics", lambda consumer, topics, timeout_s: None)
    for _ in range(6):
        place = Place(kafka, "kafka-python")
        with member(place.settings()) as one:
            deadline = time.monotonic() + 10
            while not one.owned:
                assert time.monotonic() < deadline, "not in the group"
                one.turn(0.0)
                time.sleep(0.1)  # the daemon's work between two polls
            assert sum(polled.assigned is not None for polled in one.polled) <= 2


def test_heartbeats_are_a_sign_of_the_group_and_stop_with_the_broker(kafka, tmp_path, client):
    if reason := why_no_kafka():
        not_run(reason)
    with running(apache_kafka(tmp_path)) as broker:
        place = Place(broker.bootstrap, client)
        with member(place.settings(client_options={"request_timeout_ms": 3_000})) as one:
            assert one.source.last_heard_s() == -math.inf
            joined(one)
            at_join = one.source.last_heard_s()
            one.until(lambda: one.source.last_heard_s() > at_join, JOIN_S, "a heartbeat")
            broker.freeze()
            one.turn(1.0)
            frozen = one.source.last_heard_s()
            before = time.monotonic()
            assert one.turn(1.0).batches == [], "a dead broker looks like an idle one"
            assert not one.source.commit({TopicPartition(place.a, 0): 0}, 1.0)
            assert time.monotonic() - before < 4.0
            assert one.source.last_heard_s() == frozen
            before = time.monotonic()
            one.source.close(1.0)
            assert time.monotonic() - before < 5.0
            broker.thaw()


def test_a_member_that_slept_beyond_its_session_loses_its_partitions_and_its_commits_are_refused(kafka, client):
    place = Place(kafka, client)
    quick = {"session_timeout_ms": 1_500, "heartbeat_interval_ms": 300, "max_poll_interval_ms": 2_000}
    with member(place.settings(client_options=quick)) as one:
        joined(one)
        with member(place.settings()) as two:
            # `one` does not poll: after max.poll.interval its client leaves the group by itself.
            until([two], lambda: two.owned == {0}, JOIN_S, "the sleeper's partition")
            assert not one.source.commit({TopicPartition(place.a, 0): 0}, 2.0)
            until([one, two], lambda: any(polled.lost for polled in one.polled), JOIN_S, "the loss")
            assert not any(polled.revoked for polled in one.polled)


def test_two_members_with_one_static_id_make_the_first_one_fail(kafka, client):
    place = Place(kafka, client)
    with member(place.settings(group_instance_id="same")) as one:
        joined(one)
        with member(place.settings(group_instance_id="same")) as two:
            joined(two)
            with pytest.raises(Fatal):  # noqa: PT012 (whichever call is the first to be told)
                deadline = time.monotonic() + 15
                while time.monotonic() < deadline:
                    one.turn()


def test_a_static_member_that_comes_back_need_not_wait_for_its_dead_self(kafka, client):
    place = Place(kafka, client)
    patient = {"session_timeout_ms": 45_000}
    with member(place.settings(group_instance_id="pod-1", client_options=patient)) as one:
        joined(one)
    before = time.monotonic()
    with member(place.settings(group_instance_id="pod-1", client_options=patient)) as again:
        joined(again)
    assert time.monotonic() - before < 20


def test_a_dynamic_member_leaves_at_once(broker, client):
    place = Place(broker, client, partitions=2)
    with member(place.settings()) as one, member(place.settings()) as two:
        until([one, two], lambda: len(one.owned) == len(two.owned) == 1, JOIN_S, "a fair share")
        one.source.close(5.0)
        before = time.monotonic()
        two.until(lambda: len(two.owned) == 2, JOIN_S, "the other's partition")
        assert time.monotonic() - before < 6.0, "sooner than by the session's timeout"


# Where to begin


def test_begin_at_the_latest_the_earliest_or_a_time(broker, client):
    place = Place(broker, client)
    place.write(place.a, b"0", b"1")
    wall_s = time.time()
    where_a, where_b = TopicPartition(place.a, 0), TopicPartition(place.b, 0)
    with member(place.settings(), start=None) as one:
        joined(one)
        source = one.source
        assert source.start_offsets([0], EARLIEST) == {where_a: 0, where_b: 0}
        assert source.start_offsets([0], Start("ago", "1h", ago_s=3600.0)) == {where_a: 0, where_b: 0}
        latest = source.start_offsets([0], Start("latest", "latest"))
        future = source.start_offsets([0], Start("time", "t", time_us=round((wall_s + 3600) * 1e6)))
        assert latest == future, "no later record: the end"
        one.begin(latest)
        one.turn(0.5)
        place.write(place.a, b"2")
        one.until(lambda: b"2" in one.values(), JOIN_S, "what is new")


def test_a_time_begins_at_the_first_record_of_it_and_the_latest_at_the_very_end(kafka, client):
    """Not on Tansu: it looks times up by when it wrote, and its ends are those of batches."""
    place = Place(kafka, client)
    produce(kafka, place.a, [Record(b"%d" % i, timestamp_ms=1_000_000 + 1000 * i) for i in range(5)])
    with member(place.settings(), start=None) as one:
        joined(one)
        found = one.source.start_offsets([0], Start("time", "t", time_us=1_002_500_000))
        assert found == {TopicPartition(place.a, 0): 3, TopicPartition(place.b, 0): 0}
        assert one.source.start_offsets([0], Start("latest", "latest"))[TopicPartition(place.a, 0)] == 5


# What the log may hold


def test_aborted_transactions_are_not_read_and_control_records_leave_no_lag(kafka, client):
    place = Place(kafka, client)
    transaction(kafka, place.a, [Record(b"kept 0"), Record(b"kept 1")])
    transaction(kafka, place.a, [Record(b"aborted")], commit=False)
    transaction(kafka, place.a, [Record(b"kept 2")])
    with member(place.settings()) as one:
        where = TopicPartition(place.a, 0)
        one.until(lambda: one.source.lag().get(where) == 0, JOIN_S, "the end of the log")
        assert one.values() == [b"kept 0", b"kept 1", b"kept 2"]
        offsets = [offset for each in one.batches for offset in each.offsets]
        assert offsets == [0, 1, 5], "2, 4 and 6 are control records, 3 was aborted"
        assert max(each.next_offset for each in one.batches) == 7


def test_a_transaction_is_read_once_it_is_committed(kafka, client):
    place = Place(kafka, client)
    with member(place.settings()) as one:
        joined(one)
        seen_before_the_end: list[bytes | None] = []

        def watched() -> Iterator[Record]:
            yield Record(b"held")
            for _ in range(5):
                one.turn(0.1)
            seen_before_the_end.extend(one.values())
            yield Record(b"held too")

        transaction(kafka, place.a, watched())
        one.until(lambda: len(one.values()) == 2, JOIN_S, "the transaction")
        assert seen_before_the_end == []


def test_a_position_below_the_logs_start_jumps_to_it_and_the_gap_is_exact(kafka, client):
    place = Place(kafka, client)
    place.write(place.a, *[b"%d" % i for i in range(20)])
    delete_before(kafka, place.a, 0, 12)
    where = TopicPartition(place.a, 0)
    with member(place.settings(), start=None) as one:
        joined(one)
        one.begin({where: 3})
        one.until(lambda: len(one.values()) == 8, JOIN_S, "what is left")
        assert one.all_of("gaps") == [Gap(where, 9)]
        assert one.values()[0] == b"12"


def test_a_position_above_the_logs_end_goes_back_to_the_end_and_is_told(kafka, client):
    place = Place(kafka, client)
    place.write(place.a, *[b"%d" % i for i in range(5)])
    where = TopicPartition(place.a, 0)
    with member(place.settings(), start=None) as one:
        joined(one)
        one.begin({where: 50})
        one.until(lambda: one.all_of("truncated"), JOIN_S, "the truncation")
        assert one.all_of("truncated") == [(where, 50, 5)]
        place.write(place.a, b"next")
        one.until(one.values, JOIN_S, "what comes next")
        assert one.values() == [b"next"]


def segment(broker: Broker, topic: str) -> Path:
    (found,) = (broker.log.parent / "data" / f"{topic}-0").glob("*.log")
    return found


def stored_batches(path: Path) -> list[tuple[int, bytearray]]:
    """(place in the file, bytes) of each batch."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at + 8)
        found.append((at, bytearray(data[at : at + 12 + length])))
        at += 12 + length
    return found


def overwrite(path: Path, at: int, data: bytearray) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def break_checksum(batch: bytearray) -> bytearray:
    batch[-1] ^= 0xFF
    return batch


def claim_codec_7(batch: bytearray) -> bytearray:
    return with_codec(batch, 7)


def claim_gzip(batch: bytearray) -> bytearray:
    return with_codec(batch, 1)


def claim_a_huge_length(batch: bytearray) -> bytearray:
    struct.pack_into(">i", batch, 8, 0x7F000000)
    return batch


def break_a_record(batch: bytearray) -> bytearray:
    batch[61] = 0x7F  # the first record's length
    return with_checksum(batch)


@pytest.mark.parametrize("damage", [break_checksum, claim_codec_7, claim_gzip, break_a_record])
def test_a_batch_that_can_not_be_read_is_skipped_with_a_count_and_nothing_else_is(own_kafka, damage, client):
    place = Place(own_kafka.bootstrap, client)
    for value in (b"first", b"second", b"third"):
        place.write(place.a, value + b"-1", value + b"-2", linger_ms=200)
    path = segment(own_kafka, place.a)
    at, batch = stored_batches(path)[1]
    overwrite(path, at, damage(batch))
    with member(place.settings()) as one:
        one.until(lambda: len(one.values()) >= 4, JOIN_S, "the sound records")
        assert one.values() == [b"first-1", b"first-2", b"third-1", b"third-2"]
        ((where, offset, records, why),) = one.all_of("skipped")
        assert (where, offset, records) == (TopicPartition(place.a, 0), 2, 2)
        assert why
        place.write(place.a, b"fourth")
        one.until(lambda: b"fourth" in one.values(), JOIN_S, "what comes after")


def test_a_broken_last_batch_does_not_stop_what_comes_after(own_kafka, client):
    place = Place(own_kafka.bootstrap, client)
    place.write(place.a, b"0")
    place.write(place.a, b"1", b"2", linger_ms=200)
    path = segment(own_kafka, place.a)
    at, batch = stored_batches(path)[1]
    overwrite(path, at, break_checksum(batch))
    with member(place.settings()) as one:
        one.until(lambda: one.all_of("skipped"), JOIN_S, "the skip")
        assert one.all_of("skipped")[0][1:3] == (1, 2)
        place.write(place.a, b"3")
        one.until(lambda: b"3" in one.values(), JOIN_S, "what comes after")
        assert one.values() == [b"0", b"3"]


def test_paused_and_resumed_around_a_broken_batch_no_poll_hangs(own_kafka, client):
    place = Place(own_kafka.bootstrap, client)
    place.write(place.a, b"0")
    place.write(place.a, b"1")
    place.write(place.a, b"2")
    path = segment(own_kafka, place.a)
    at, batch = stored_batches(path)[1]
    overwrite(path, at, break_checksum(batch))
    where = TopicPartition(place.a, 0)
    with member(place.settings(client_options={"max_poll_records": 1})) as one:
        deadline = time.monotonic() + JOIN_S
        while b"2" not in one.values() and time.monotonic() < deadline:
            before = time.monotonic()
            one.turn()
            assert time.monotonic() - before < 15, "a poll that spins"
            one.source.pause([where])
            one.turn()
            one.source.resume([where])
        assert one.values() == [b"0", b"2"]


# Topics


def test_a_topic_that_does_not_exist_is_not_made_and_is_seen_when_it_appears(broker, client):
    a, b = unique("a"), unique("b")
    create_topics(broker, {a: 2})
    source = source_of(settings(broker, [a, b], unique("group"), client=client))
    try:
        source.connect()
        assert source.partition_counts() == {a: 2, b: None}
        assert source.partition_counts() == {a: 2, b: None}, "asking made it"
        create_topics(broker, {b: 2})
        wait_until(lambda: source.partition_counts() == {a: 2, b: 2}, 10, "the new topic")
        source.subscribe()
        one = Member(source)
        produce(broker, b, [Record(b"x", partition=1)])
        one.until(one.values, JOIN_S, "its records")
    finally:
        source.close(5.0)


def test_unequal_partition_counts_are_refused_at_start(broker, client):
    a, b = unique("a"), unique("b")
    create_topics(broker, {a: 2, b: 3})
    source = source_of(settings(broker, [a, b], unique("group"), client=client))
    with pytest.raises(UnequalPartitions) as refused:
        source.connect()
    assert refused.value.counts == {a: 2, b: 3}


def test_counts_that_grow_apart_stop_the_reading_until_they_are_equal_again(kafka, monkeypatch, client):
    monkeypatch.setattr("msemon.sources.group.CHECK_S", 0.2)
    place = Place(kafka, client, partitions=2)
    with member(place.settings()) as one:
        joined(one)
        add_partitions(kafka, place.a, 3)
        one.until(lambda: one.polled[-1].unequal, JOIN_S, "the difference")
        unequal = one.polled[-1].unequal
        assert unequal is not None
        assert unequal.counts == {place.a: 3, place.b: 2}
        assert one.owned == {0, 1}
        place.write(place.a, b"waits", partition=0)
        for _ in range(5):
            assert one.turn().unequal
        assert one.values() == []
        add_partitions(kafka, place.b, 3)
        one.until(lambda: one.owned == {0, 1, 2} and one.values(), JOIN_S, "both grown")
        assert one.values() == [b"waits"]
        assert one.polled[-1].unequal is None


# The cluster's absence


def network_threads() -> int:
    return sum(thread.name.startswith("kafka-io-msemon") for thread in threading.enumerate())


def test_a_broker_that_is_down_at_start_is_unreachable_in_time_and_can_be_tried_again(client):
    source = source_of(settings(f"127.0.0.1:{free_ports(1)[0]}", ["a"], "g", client=client), connect_s=1.0)
    threads = network_threads()
    for _ in range(2):
        before = time.monotonic()
        with pytest.raises(Unreachable):
            source.connect()
        assert time.monotonic() - before < 5.0
    assert network_threads() == threads, "kafka-python's constructor leaves its thread behind"


def test_a_source_that_found_no_broker_connects_once_there_is_one(broker, client):
    place = Place(broker, client)
    nobody = free_ports(1)[0]
    source = source_of(place.settings(bootstrap_servers=f"127.0.0.1:{nobody}"), connect_s=0.5)
    with pytest.raises(Unreachable):
        source.connect()
    source.__dict__ |= source_of(place.settings()).__dict__  # as if there had been one all the time
    try:
        source.connect()
        assert source.partition_counts() == {place.a: 1, place.b: 1}
    finally:
        source.close(5.0)


def test_a_broker_that_was_down_for_a_while_is_read_on_where_reading_was(tmp_path, client):
    if reason := why_no_kafka():
        not_run(reason)
    with running(apache_kafka(tmp_path)) as broker:
        place = Place(broker.bootstrap, client)
        place.write(place.a, b"before")
        with member(place.settings(client_options={"session_timeout_ms": 45_000})) as one:
            one.until(one.values, JOIN_S, "the first record")
            broker.kill()
            for _ in range(10):
                one.turn()
            broker.start()
            place.write(place.a, b"after")
            one.until(lambda: b"after" in one.values(), 60, "the second record")
            assert one.values() == [b"before", b"after"]
            assert (one.all_of("gaps"), one.all_of("truncated")) == ([], [])


def test_no_topic_is_made_by_asking(kafka, topics_before):
    """Nothing of the above made a topic: Kafka would by default, for whoever asks for one that is not there."""
    with admin(kafka) as client:
        made = set(client.list_topics()) - topics_before
    assert not [name for name in made if not name.startswith(("a-", "b-", "dead-", "__"))]
