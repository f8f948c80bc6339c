"""F34: the state topic is empty, or compaction removed what a manifest points to: falls back, and does not hang."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from msemon.state.base import Refusal
from msemon.state.kafka_log import Keys
from support.checkpoints import LogTask, MemoryStore, Owner, restored, same
from support.state_topics import EAGER, Place
from support.topics import Record, create_topics, produce
from support.waiting import wait_until

SOON_S = 20.0
"""A restore of next to nothing, connecting included, on a busy machine."""


@pytest.fixture
def place(kafka: str) -> Iterator[Place]:
    place = Place(kafka)
    yield place
    place.close()
    gc.collect()  # sockets, while the warnings about them are still ignored


def settled(place: Place, gone: str) -> None:
    """Wait until the broker has compacted every chunk and manifest in whose key `gone` stands."""

    def compacted() -> bool:
        # Further records make the broker close the segment, which is what it compacts.
        produce(place.bootstrap, place.topic, [Record(b"", 0, b"other"), Record(None, 0, b"other")])
        return not any(gone in key.decode() for key, _ in place.log() if key.startswith((b"chunk", b"manifest")))

    wait_until(compacted, 90, "compaction", every_s=1.0)


def test_f34_an_empty_topic_has_no_state_and_says_so_at_once(place):
    """Nothing to restore is an answer, not a reason to wait."""
    before = time.monotonic()
    outcome = restored(place.store())
    assert (outcome.restored, outcome.rejected) == (None, [])
    assert time.monotonic() - before < SOON_S


def test_f34_a_topic_whose_every_record_was_compacted_away_has_no_state_and_no_hang(place):
    """Then the log's end is an offset at which no record is left to wait for."""
    create_topics(place.bootstrap, {place.topic: 1}, EAGER)
    Owner(place.store()).checkpoint(20)
    place.tombstone(*(key for key, _ in place.log()))
    settled(place, gone="/")
    before = time.monotonic()
    outcome = restored(place.store())
    assert (outcome.restored, outcome.rejected, outcome.leftovers.chunks) == (None, [], frozenset())
    assert time.monotonic() - before < SOON_S


def test_f34_a_manifest_whose_chunk_was_compacted_away_is_refused_and_the_one_before_is_taken(place):
    """The checkpoint before the last still has all its chunks, and the reading goes on from its offsets."""
    create_topics(place.bootstrap, {place.topic: 1}, EAGER)
    owner = Owner(place.store())
    _, last = owner.checkpoint(20), owner.checkpoint(20)
    key = Keys("group").chunk(0, last.made[0])
    place.tombstone(key)
    settled(place, gone=key.decode())
    outcome = restored(place.store())
    assert [each.reason for each in outcome.rejected] == [Refusal.MISSING_CHUNK]
    assert outcome.restored is not None
    assert outcome.restored.offsets["predictions"] == 20
    assert same(outcome.restored.pieces, LogTask(20).pieces())


def test_f34_where_no_manifest_has_all_its_chunks_there_is_no_state_and_each_is_counted():
    """Whatever is missing: never a state with a hole."""
    store = MemoryStore()
    owner = Owner(store)
    for _ in range(2):
        owner.checkpoint(20)
    store.chunks.clear()
    outcome = restored(store)
    assert outcome.restored is None
    assert [each.reason for each in outcome.rejected] == [Refusal.MISSING_CHUNK] * 2
    new = Owner(store)
    for _ in range(2):
        new.checkpoint(30)
    assert same(Owner(store).task.pieces(), new.task.pieces())
    assert {key.writer for key in store.manifests} == {new.checkpointer._writer}
