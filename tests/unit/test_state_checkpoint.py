"""What a checkpoint writes and deletes, and what a restore takes. Random histories are in `property/test_state.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msemon.core.snapshot import BadState, Piece, PieceName, Snapshot
from msemon.state import Checkpointer, Leftovers, checkpoint, manifest, new_writer, restore
from msemon.state.base import MAX_CHUNK, ChunkKey, Corrupt, ManifestKey, Refusal
from msemon.state.none import NoStore
from support.checkpoints import LogTask, MemoryStore, Owner, finish, piece, restored, same


def snapshot(changed: dict[PieceName, Piece], live: set[PieceName] | None = None, offset: int = 1) -> Snapshot:
    return Snapshot(0, {"a": offset}, {}, changed, set(changed) if live is None else live)


def done(checkpointer: Checkpointer, taken: Snapshot, store: MemoryStore) -> Any:
    write = checkpointer.plan(taken)
    store.write(write, 1)
    checkpointer.done(write)
    return write


def stays(count: int, size: int = 200) -> dict[PieceName, Piece]:
    return {("stays", i): piece(size, i) for i in range(count)}


# What is written


def test_only_what_changed_is_written_again():
    store, checkpointer = MemoryStore(), Checkpointer(0, "w")
    pieces = stays(100)
    first = done(checkpointer, snapshot(dict(pieces)), store)
    second = done(checkpointer, snapshot({("head",): piece(10)}, set(pieces) | {("head",)}), store)
    third = done(checkpointer, snapshot({}, set(pieces) | {("head",)}), store)
    assert first.full
    assert not second.full
    assert (len(second.made), len(third.made)) == (1, 0)
    assert third.size < second.size < first.size
    found = restored(store).restored
    assert found is not None
    assert same(found.pieces, pieces | {("head",): piece(10)})


def test_what_changes_each_time_is_kept_apart_from_what_stays():
    store, checkpointer = MemoryStore(), Checkpointer(0, "w")
    live: set[PieceName] = {("head",)}
    write: Any = None
    for i in range(4):
        live.add(("stays", i))
        write = done(checkpointer, snapshot({("head",): piece(10, i), ("stays", i): piece(200, i)}, set(live)), store)
    places = write.content.pieces
    assert places["head",][0].chunk != places["stays", 3][0].chunk
    assert len({key.sequence for key in write.content.chunks}) == 4


def test_a_piece_larger_than_a_chunk_shares_none_with_others():
    store, checkpointer = MemoryStore(), Checkpointer(0, "w")
    big = piece(3 * MAX_CHUNK, 1)
    write = done(checkpointer, snapshot({("a",): piece(50), ("b",): big, ("c",): piece(60)}), store)
    places = write.content.pieces
    assert len(places["b",]) == 4
    assert {place.chunk for place in places["b",]}.isdisjoint({places["a",][0].chunk, places["c",][0].chunk})
    assert all(len(chunk) <= MAX_CHUNK for chunk in store.chunks.values())
    found = restored(store).restored
    assert found is not None
    assert same(found.pieces, {("a",): piece(50), ("b",): big, ("c",): piece(60)})


def test_chunks_are_made_one_at_a_time_and_free_what_they_took():
    pieces: dict[PieceName, Piece] = {("stays", i): Piece({"x": np.full(60_000, i, float)}, {}) for i in range(5)}
    write = Checkpointer(0, "w").plan(snapshot(pieces))
    chunks = write.chunks()
    next(chunks)
    assert len(write.changed) == 3  # the second is in the making: it did not fit
    with pytest.raises(RuntimeError, match="after the chunks"):
        write.manifest()
    assert len(list(chunks)) == 4
    assert write.changed == {}
    write.manifest()
    with pytest.raises(RuntimeError, match="once"):
        list(write.chunks())


# What must not be forgotten


def test_the_first_snapshot_must_have_every_piece():
    checkpointer = Checkpointer(0, "w")
    assert checkpointer.owes_all
    with pytest.raises(ValueError, match="neither stored nor in the snapshot"):
        checkpointer.plan(snapshot({("a",): piece(9)}, {("a",), ("b",)}))


def test_what_a_failed_checkpoint_had_must_be_in_the_next():
    store, checkpointer = MemoryStore(), Checkpointer(0, "w")
    done(checkpointer, snapshot({("a",): piece(9, 1), ("b",): piece(9, 1)}), store)
    checkpointer.failed(checkpointer.plan(snapshot({("a",): piece(9, 2)}, {("a",), ("b",)})))
    assert checkpointer.wanted() == {("a",)}
    # The stored one is older than the offsets would say.
    with pytest.raises(ValueError, match="neither stored"):
        checkpointer.plan(snapshot({}, {("a",), ("b",)}))
    done(checkpointer, snapshot({("a",): piece(9, 3)}, {("a",), ("b",)}), store)
    found = restored(store).restored
    assert found is not None
    assert same(found.pieces, {("a",): piece(9, 3), ("b",): piece(9, 1)})
    assert checkpointer.wanted() == set()


def test_after_the_store_has_lost_everything_everything_is_owed():
    store, checkpointer = MemoryStore(), Checkpointer(0, "w")
    done(checkpointer, snapshot({("a",): piece(9, 1)}), store)
    checkpointer.failed(checkpointer.plan(snapshot({}, {("a",)})), lost=True)
    assert checkpointer.owes_all
    assert done(checkpointer, snapshot({("a",): piece(9, 1)}), MemoryStore()).full


def test_one_checkpoint_at_a_time():
    checkpointer = Checkpointer(0, "w")
    write = checkpointer.plan(snapshot({}))
    assert checkpointer.writing
    with pytest.raises(RuntimeError, match="still being written"):
        checkpointer.plan(snapshot({}))
    checkpointer.failed(write)
    with pytest.raises(RuntimeError, match="not the write"):
        checkpointer.done(write)


@pytest.mark.parametrize("name", [(), ("x" * 2000,), (True,), (2**63,), ("a",) * 9])
def test_a_name_that_could_not_be_read_back_is_refused_at_once(name):
    with pytest.raises(ValueError, match="can't name a piece"):
        Checkpointer(0, "w").plan(snapshot({name: piece(9)}))


@pytest.mark.parametrize("writer", ["", "a/b", "é", "x" * 65, "a\n"])
def test_a_writer_whose_name_would_break_keys_is_refused(writer):
    with pytest.raises(ValueError, match="can't name a writer"):
        Checkpointer(0, writer)


def test_writers_are_never_the_same():
    assert len({new_writer() for _ in range(1000)}) == 1000


# What is deleted


def test_two_checkpoints_are_kept_and_what_they_name():
    store = MemoryStore()
    owner = Owner(store)
    for count in range(1, 6):
        owner.checkpoint(20)
        assert len(store.manifests) == min(count, 2)
    named = {key for data in store.manifests.values() for key in manifest.decode(data).chunks}
    assert named == store.chunks.keys()


def test_what_a_failed_checkpoint_may_have_left_is_deleted_later():
    store = MemoryStore()
    owner = Owner(store)
    owner.checkpoint(20)
    owner.task.advance(5)
    write = owner.task.plan(owner.checkpointer)
    store.write(write, 1)  # it got there, and nobody heard of it
    owner.checkpointer.failed(write)
    assert owner.durable == 20
    assert len(store.manifests) == 2
    owner.checkpoint(5)
    assert write.key not in store.manifests
    assert not set(write.made) & store.chunks.keys()


def test_others_are_deleted_with_the_second_checkpoint_and_not_before():
    others = Leftovers(frozenset({ChunkKey("old", 4, 0)}), frozenset({ManifestKey("old", 4)}))
    checkpointer = Checkpointer(0, "w", others)
    first = checkpointer.plan(snapshot({}))
    assert (first.delete_chunks, first.delete_manifests) == (set(), set())
    checkpointer.failed(first)
    second = checkpointer.plan(snapshot({}))
    assert (second.delete_chunks, second.delete_manifests) == (set(), set())
    checkpointer.done(second)
    third = checkpointer.plan(snapshot({}))
    assert third.delete_chunks == others.chunks
    assert third.delete_manifests == others.manifests | {first.key}
    checkpointer.done(third)
    assert checkpointer.plan(snapshot({})).delete_chunks == set()


def test_a_new_owner_goes_on_with_the_numbers_but_not_from_absurd_ones():
    others = Leftovers(manifests=frozenset({ManifestKey("old", 7), ManifestKey("evil", 2**62)}))
    assert Checkpointer(0, "w", others).plan(snapshot({})).key == ManifestKey("w", 8)


# What is moved


def test_what_is_left_in_emptied_chunks_is_moved():
    store, checkpointer = MemoryStore(), Checkpointer(0, "w")
    pieces = stays(1000, 5000)
    done(checkpointer, snapshot(dict(pieces)), store)
    for i in range(1000):
        if i % 10:
            del pieces["stays", i]
    done(checkpointer, snapshot({}, set(pieces)), store)
    wanted = checkpointer.wanted()
    assert wanted
    done(checkpointer, snapshot({name: pieces[name] for name in wanted}, set(pieces)), store)
    done(checkpointer, snapshot({}, set(pieces)), store)
    assert checkpointer._durable is not None
    live = sum(place.length for places in checkpointer._durable.pieces.values() for place in places)
    assert sum(len(data) for data in store.chunks.values()) <= live / checkpoint.FULLNESS
    found = restored(store).restored
    assert found is not None
    assert same(found.pieces, pieces)


def test_many_small_chunks_become_fewer():
    store, checkpointer = MemoryStore(), Checkpointer(0, "w")
    pieces: dict[PieceName, Piece] = {}
    most = 0
    for i in range(300):
        changed = {("stays", i): piece(100, i)} | {name: pieces[name] for name in checkpointer.wanted()}
        pieces |= changed
        done(checkpointer, snapshot(changed, set(pieces)), store)
        most = max(most, len(store.chunks))
    assert most < 100


# What is restored


def test_the_furthest_offsets_win_whoever_wrote_them_and_then_the_later_one():
    store = MemoryStore()
    for writer, offset in (("far", 9), ("near", 5)):
        done(Checkpointer(0, writer), snapshot({("w",): piece(9, offset)}, offset=offset), store)
    assert restored(store).restored.key.writer == "far"  # type: ignore[union-attr]
    later = Checkpointer(0, "later", Leftovers(manifests=frozenset(store.manifests)))
    done(later, snapshot({("w",): piece(9, 9)}, offset=9), store)
    assert restored(store).restored.key.writer == "later"  # type: ignore[union-attr]


def outcome(store: MemoryStore, **how: Callable[..., Any]) -> Any:
    return finish(restore(store, 0, **how))


def test_offsets_that_the_log_no_longer_reaches_are_passed_over_unread():
    store = MemoryStore()
    owner = Owner(store)
    for _ in range(2):
        owner.checkpoint(20)
    found = outcome(store, usable=lambda offsets: offsets["predictions"] <= 30)
    assert found.restored.offsets["predictions"] == 20
    assert found.rejected == []


def test_a_state_that_the_core_refuses_is_counted_and_the_one_before_is_taken():
    store = MemoryStore()
    owner = Owner(store)
    for _ in range(2):
        owner.checkpoint(20)
    tried = []

    def accept(candidate: Any) -> None:
        tried.append(candidate.offsets["predictions"])
        if len(tried) == 1:
            raise BadState("the head is missing")

    found = outcome(store, accept=accept)
    assert tried == [40, 20]
    assert [each.reason for each in found.rejected] == [Refusal.MALFORMED]
    assert "the head is missing" in found.rejected[0].what
    assert found.restored.offsets["predictions"] == 20


def test_a_chunk_that_can_not_be_read_is_a_reason_like_any_other():
    store = MemoryStore()
    Owner(store).checkpoint(20)
    good = store.restore

    def restore_badly(partition: int) -> Any:
        found = yield from good(partition)

        def chunk(_key: ChunkKey) -> bytes:
            raise Corrupt(Refusal.MALFORMED, "scratched")

        found.chunk = chunk
        return found

    store.restore = restore_badly  # type: ignore[method-assign]
    found = restored(store)
    assert found.restored is None
    assert [each.reason for each in found.rejected] == [Refusal.MALFORMED]


def test_columns_that_come_back_can_be_written_to():
    store = MemoryStore()
    Owner(store).checkpoint(20)
    found = restored(store).restored
    assert found is not None
    for each in found.pieces.values():
        each.columns["values"][0] = 5.0
    assert not same(found.pieces, LogTask(20).pieces())


def test_the_store_of_nothing_keeps_nothing():
    store = NoStore()
    store.open()
    Owner(store).checkpoint(20)
    assert restored(store).restored is None
    store.close()
