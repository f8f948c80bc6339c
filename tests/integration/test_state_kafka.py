"""State in a compacted topic, on real brokers.

`broker` is each broker in turn; a test that takes `kafka` needs what only Apache Kafka does: compaction, and telling a
topic's settings.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
import structlog
from kafka.admin import ConfigResource, ConfigResourceType

from msemon.state import Checkpointer, Unavailable, Unusable, WriteFailed, new_writer, open_store, restore
from msemon.state import kafka as state_kafka
from msemon.state.base import Refusal
from msemon.state.kafka import KafkaStore
from msemon.state.kafka_log import Keys
from support.brokers import Broker, admin, apache_kafka, free_ports, running, why_no_kafka
from support.checkpoints import LogTask, Owner, finish, restored, same
from support.report import not_run
from support.state_topics import COMPACTED, EAGER, Place, settings
from support.topics import Record, create_topics, produce, unique
from support.waiting import wait_until


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    """Those of refused connections, which kafka-python leaves to the garbage collector: now, while it may."""
    yield
    gc.collect()


@pytest.fixture
def place(broker) -> Iterator[Place]:
    place = Place(broker)
    yield place
    place.close()


@pytest.fixture
def kafka_place(kafka) -> Iterator[Place]:
    place = Place(kafka)
    yield place
    place.close()


def configs(bootstrap: str, topic: str) -> dict[str, str]:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    with admin(bootstrap) as client:
        found = client.describe_configs([resource], config_filter="all")["topic"][topic]
    return {name: each["value"] for name, each in found.items()}


# What is written comes back


def test_the_last_of_several_checkpoints_comes_back_to_another_store(place):
    owner = Owner(place.store())
    for _ in range(5):
        owner.checkpoint(20)
    found = restored(place.store()).restored
    assert found is not None
    assert same(found.pieces, owner.task.pieces())
    assert found.offsets == {"predictions": 100, "labels": 2}
    assert (found.clocks, found.store) == ({"labels": -5}, "kafka")


def test_restores_leave_the_loop_its_turn(place):
    owner = Owner(place.store())
    for i in range(3):
        owner.task.put(("large", i))
    owner.checkpoint(100)
    times = [time.monotonic()]

    def watched() -> Any:
        steps = restore(place.store(), 0)
        while True:
            try:
                yield next(steps)
            except StopIteration as end:
                return end.value
            finally:
                times.append(time.monotonic())

    assert finish(watched()).restored is not None
    assert len(times) > 5
    assert max(after - before for before, after in pairwise(times)) < 0.5  # the aim is 0.05, on a machine left alone


def test_a_piece_larger_than_a_chunk_and_a_state_larger_than_what_is_sent_at_a_time(place):
    owner = Owner(place.store())
    owner.task.advance(30)
    for i in range(3):
        owner.task.put(("large", i))
    write = owner.checkpoint()
    assert write.size > 3 * state_kafka.IN_FLIGHT
    found = restored(place.store()).restored
    assert found is not None
    assert same(found.pieces, owner.task.pieces())


def test_groups_that_share_a_topic_do_not_see_each_other(place):
    ours, theirs = Owner(place.store("a/b")), Owner(place.store("a"))
    ours.checkpoint(10)
    theirs.checkpoint(20)
    theirs.checkpoint(20)
    found = restored(place.store("a/b")).restored
    assert found is not None
    assert found.offsets["predictions"] == 10
    assert not restored(place.store("c")).leftovers.chunks


def test_partitions_hold_their_own_task(broker):
    place = Place(broker, partitions=3)
    store = place.store()
    for partition in (0, 2):
        Owner(store, LogTask(10 + partition, partition), partition).checkpoint()
    found = [restored(store, p).restored for p in range(3)]
    assert [each and each.offsets["predictions"] for each in found] == [10, None, 12]
    store.close()


# Owners


def test_a_new_owner_goes_on_and_takes_away_what_the_old_one_left(place):
    old = Owner(place.store())
    for _ in range(3):
        old.checkpoint(20)
    new = Owner(place.store())
    assert new.task.offset == 60
    new.checkpoint(20)
    assert restored(place.store()).leftovers.manifests > new.outcome.leftovers.manifests  # both are there still
    new.checkpoint(20)
    left = restored(place.store()).leftovers
    assert {key.writer for key in left.chunks | left.manifests} == {new.checkpointer._writer}
    assert same(Owner(place.store()).task.pieces(), new.task.pieces())


def test_a_zombie_that_writes_on_takes_nothing_from_the_new_owner(place):
    zombie = Owner(place.store())
    for _ in range(2):
        zombie.checkpoint(20)
    new = Owner(place.store())
    new.checkpoint(100)
    for _ in range(3):
        zombie.checkpoint(5)
    new.checkpoint(10)
    zombie.checkpoint(5)
    found = restored(place.store()).restored
    assert found is not None
    assert same(found.pieces, new.task.pieces())


# Compaction


def test_compaction_takes_away_what_was_deleted_and_nothing_else(kafka_place):
    place = kafka_place
    create_topics(place.bootstrap, {place.topic: 1}, EAGER)
    owner = Owner(place.store())
    for _ in range(10):
        owner.checkpoint(20)
    log = place.log()
    doomed = {key for key, value in log if value is None}
    assert doomed
    assert any(key in doomed for key, value in log if value is not None)

    def compacted() -> bool:
        # A further record makes the broker close the segment, which is what it compacts.
        produce(place.bootstrap, place.topic, [Record(b"", 0, b"other")])
        return not any(key in doomed for key, value in place.log() if value is not None)

    wait_until(compacted, 90, "compaction", every_s=1.0)
    outcome = restored(place.store())
    assert outcome.restored is not None
    assert outcome.rejected == []
    assert same(outcome.restored.pieces, owner.task.pieces())
    owner.checkpoint(20)
    assert same(Owner(place.store()).task.pieces(), owner.task.pieces())


# What is missing or damaged


def test_records_that_are_no_state_are_passed_over(place):
    owner = Owner(place.store())
    owner.checkpoint(20)
    keys = Keys("group")
    good = restored(place.store())
    produce(
        place.bootstrap,
        place.topic,
        [
            Record(b"\xff", 0, b"\xff\xfe"),
            Record(b"", 0, b"chunk/group/0/w/0"),
            Record(b"", 0, b"chunk/group/0/w/00/1"),
            Record(b"", 0, b"chunk/group/1/w/0/1"),
            Record(b"", 0, b"manifest/group/0/w w/0"),
            Record(b"", 0, b"manifest/group/0/w/0/0"),
            Record(b"x", 0, keys.marker(0)),
        ],
    )
    again = restored(place.store())
    assert again.restored is not None
    assert again.rejected == []
    assert again.leftovers == good.leftovers


def test_damaged_records_are_refused_by_reason_and_the_checkpoint_before_is_taken(place):
    owner = Owner(place.store())
    owner.task.put(("large", 0))
    writes = [owner.checkpoint(20) for _ in range(2)]
    keys = Keys("group")
    place.overwrite(keys.chunk(0, writes[1].made[0]), b"torn")
    outcome = restored(place.store())
    assert [each.reason for each in outcome.rejected] == [Refusal.TORN]
    assert outcome.restored is not None
    assert outcome.restored.key == writes[0].key
    place.overwrite(keys.manifest(0, writes[0].key), b"")
    outcome = restored(place.store())
    assert outcome.restored is None
    assert {each.reason for each in outcome.rejected} == {Refusal.TORN, Refusal.EMPTY}


def test_a_chunk_too_large_to_be_ours_is_refused_without_being_believed(place):
    owner = Owner(place.store())
    write = owner.checkpoint(20)
    place_key = Keys("group").chunk(0, write.made[0])
    produce(place.bootstrap, place.topic, [Record(bytes(700_000), 0, place_key)], max_request_size=2_000_000)
    outcome = restored(place.store())
    assert [each.reason for each in outcome.rejected] == [Refusal.MALFORMED]


# The topic itself


def test_a_topic_is_made_compacted_with_small_segments(kafka_place):
    kafka_place.partitions = 2
    kafka_place.store()
    found = configs(kafka_place.bootstrap, kafka_place.topic)
    assert found["cleanup.policy"] == "compact"
    assert (found["segment.bytes"], found["segment.ms"]) == ("67108864", "600000")
    assert found["min.cleanable.dirty.ratio"] == "0.1"
    assert int(found["max.message.bytes"]) >= 1024 * 1024
    kafka_place.store()  # and taken as it is the next time


@pytest.mark.parametrize(
    ("partitions", "topic_configs", "words"),
    [
        (2, {}, "cleanup.policy=delete"),
        (2, {"cleanup.policy": "compact,delete"}, "cleanup.policy="),
        (2, COMPACTED | {"max.message.bytes": "100000"}, "max.message.bytes=100000"),
    ],
)
def test_a_topic_that_would_lose_state_is_refused_in_words(kafka, partitions, topic_configs, words):
    topic = unique("state")
    create_topics(kafka, {topic: partitions}, topic_configs)
    with pytest.raises(Unusable, match=words):
        open_store(settings(kafka, topic), 2)


@pytest.mark.parametrize(("there", "then"), [(1, 2), (2, 2), (3, 3)])
def test_a_topic_with_too_few_partitions_gets_more_and_one_with_more_keeps_them(kafka, there, then):
    topic = unique("state")
    create_topics(kafka, {topic: there}, COMPACTED)
    open_store(settings(kafka, topic), 2).close()
    with admin(kafka) as client:
        (found,) = client.describe_topics([topic])
    assert len(found["partitions"]) == then


def test_partitions_that_the_inputs_got_later_are_made_when_they_are_first_restored(kafka_place):
    """While what there was is written on; a second owner finds all of it."""
    store = kafka_place.store()
    first = Owner(store)
    first.checkpoint(10)
    late = Owner(store, LogTask(7, 2), 2)
    late.checkpoint()
    first.checkpoint(10)
    found = [restored(kafka_place.store(), p).restored for p in (0, 2)]
    assert [each and each.offsets["predictions"] for each in found] == [20, 7]


def test_where_a_broker_does_not_tell_a_topics_settings_it_is_taken_and_warned_of(tansu):
    topic = unique("state")
    create_topics(tansu, {topic: 1})
    with structlog.testing.capture_logs() as logs:
        store = open_store(settings(tansu, topic), 1)
    assert any("can't be known" in line["event"] for line in logs)
    Owner(store).checkpoint(10)
    assert restored(store).restored is not None
    store.close()
    with pytest.raises(Unusable, match="1 partitions"):
        open_store(settings(tansu, topic), 2)


def test_two_that_make_the_topic_at_once_both_go_on(broker):
    topic = unique("state")
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_store(settings(broker, topic), 2), range(4)))
    for store in stores:
        store.close()


# Brokers that are away


def test_without_a_broker_opening_writing_and_restoring_fail_within_their_time():
    nowhere = settings(f"127.0.0.1:{free_ports(1)[0]}", "state")
    with pytest.raises(Unavailable):
        open_store(nowhere, 1)
    store = KafkaStore(nowhere, 1)
    write = LogTask(10).plan(Checkpointer(0, new_writer()))
    before = time.monotonic()
    with pytest.raises(WriteFailed):
        store.write(write, 2)
    assert time.monotonic() - before < 5
    with pytest.raises(Unavailable):
        restored(store)
    store.close()


def test_a_broker_that_freezes_amid_a_checkpoint_fails_it_and_all_is_written_once_it_is_back(tmp_path):
    if reason := why_no_kafka():
        not_run(reason)
    with running(apache_kafka(tmp_path)) as broker:
        place = Place(broker.bootstrap)
        owner = Owner(place.store())
        owner.checkpoint(20)
        broker.freeze()
        owner.task.advance(20)
        write = owner.task.plan(owner.checkpointer)
        before = time.monotonic()
        with pytest.raises(WriteFailed):
            owner.store.write(write, 2)
        assert time.monotonic() - before < 10
        owner.checkpointer.failed(write)
        broker.thaw()
        wait_until(lambda: succeeds(owner), 60, "a checkpoint")
        assert same(Owner(place.store()).task.pieces(), owner.task.pieces())
        place.close()


def succeeds(owner: Owner) -> bool:
    try:
        owner.checkpoint(1)
    except WriteFailed:
        return False
    return True


def test_a_topic_that_was_deleted_is_made_anew_and_gets_the_whole_state(kafka_place):
    place = kafka_place
    owner = Owner(place.store())
    owner.checkpoint(50)
    owner.checkpoint(5)
    with admin(place.bootstrap) as client:
        client.delete_topics([place.topic])
    owner.store._drop_producer(0.0)  # type: ignore[attr-defined]
    wait_until(lambda: succeeds(owner), 60, "a checkpoint")
    assert configs(place.bootstrap, place.topic)["cleanup.policy"] == "compact"
    assert same(Owner(place.store()).task.pieces(), owner.task.pieces())


def test_a_topic_that_was_made_anew_behind_our_back_gets_the_whole_state(kafka_place):
    place = kafka_place
    owner = Owner(place.store())
    owner.checkpoint(50)
    owner.checkpoint(5)
    with admin(place.bootstrap) as client:
        client.delete_topics([place.topic])
        wait_until(lambda: place.topic not in client.list_topics(), 20, "the topic to be gone")
    create_topics(place.bootstrap, {place.topic: 1}, COMPACTED)
    wait_until(lambda: succeeds(owner), 60, "a checkpoint")
    assert same(Owner(place.store()).task.pieces(), owner.task.pieces())


def test_unreadable_batches_cost_the_checkpoints_in_them_and_nothing_else(own_kafka):
    # A bit flipped on the broker's disk, below the record batch's own checksum.
    place = Place(own_kafka.bootstrap)
    owner = Owner(place.store())
    first, second = owner.checkpoint(20), owner.checkpoint(20)
    key = Keys("group").chunk(0, second.made[0])
    flip_on_disk(own_kafka, place.topic, key)
    outcome = restored(place.store())
    assert outcome.restored is not None
    assert outcome.restored.key == first.key
    assert [each.reason for each in outcome.rejected] == [Refusal.MISSING_CHUNK]
    place.close()


def flip_on_disk(broker: Broker, topic: str, key: bytes) -> None:
    (segment,) = (broker.log.parent / "data" / f"{topic}-0").glob("*.log")
    data = segment.read_bytes()
    at = data.index(key) + len(key) + 20
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))
