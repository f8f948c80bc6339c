"""Checkpoints under random histories of writes, failures, crashes and owners; damaged bytes."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Iterator

import hypothesis.extra.numpy as hnp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from msemon.core.snapshot import Piece, PieceName
from msemon.state import checkpoint, codec, manifest
from msemon.state.base import ChunkKey, Corrupt, ManifestKey, Refusal
from msemon.state.checkpoint import CheckpointWrite
from msemon.state.manifest import Manifest, Place, Sum
from support.checkpoints import LogTask, MemoryStore, Owner, restored, same, same_piece

DTYPES = ["?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8", ">i8", ">f8"]
MAX_CHUNK = 1000

columns = st.dictionaries(
    st.text(max_size=8),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=20))
    ),
    max_size=5,
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
pieces = st.builds(Piece, columns, st.dictionaries(st.text(), plain, max_size=4))


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    """So that small states have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "MAX_CHUNK", MAX_CHUNK)
        yield


# Bytes


@given(pieces)
def test_a_piece_comes_back_to_the_last_bit(given_piece):
    back = codec.decode(bytearray(codec.encode(given_piece)))
    native = {name: column.astype(column.dtype.newbyteorder("=")) for name, column in given_piece.columns.items()}
    assert same_piece(back, Piece(native, given_piece.meta))
    assert all(column.flags.writeable for column in back.columns.values() if column.size)


@given(pieces, st.data())
def test_a_damaged_piece_is_refused_or_read_and_nothing_else_happens(given_piece, data):
    # No checksum here: the chunk has it. Whatever the bytes, decoding ends, and within the memory they take.
    damaged = bytearray(codec.encode(given_piece))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        back = codec.decode(damaged)
    except Corrupt:
        return
    assert sum(column.nbytes for column in back.columns.values()) <= len(damaged)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_piece_or_refused(noise, proper_prefix):
    data = struct.pack("<HHI", codec.FORMAT, 0, len(noise)) + noise if proper_prefix else noise
    with contextlib.suppress(Corrupt):
        codec.decode(bytearray(data))


def some_manifest(seed: int) -> Manifest:
    draw = random.Random(seed)
    chunks = {ChunkKey("w", draw.randrange(5), i): Sum(100, bytes([i] * 16)) for i in range(3)}
    keys = list(chunks)
    names = [("head",), ("pane", "3600000000/60", -7), ("é", 2**62), (0,)]
    places: dict[PieceName, tuple[Place, ...]] = {}
    for i, name in enumerate(names):
        first, second = draw.sample(keys, 2)
        places[name] = (Place(first, 20 * i, 20), Place(second, 20 * i + 1, 9))
    return Manifest(draw.randrange(9), ManifestKey("w", 5), {"a": 1, "b": 2**60}, {"a": -1}, chunks, places)


@given(st.integers(0, 1000))
def test_a_manifest_comes_back_as_it_was(seed):
    assert manifest.decode(manifest.encode(some_manifest(seed))) == some_manifest(seed)


@given(st.integers(0, 1000), st.data())
def test_a_manifest_of_which_any_bit_is_flipped_is_refused(seed, data):
    whole = manifest.encode(some_manifest(seed))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Corrupt):
        manifest.decode(bytes(damaged))


@given(st.integers(0, 1000), st.data())
def test_a_manifest_cut_short_or_with_more_behind_it_is_refused(seed, data):
    whole = manifest.encode(some_manifest(seed))
    cut = data.draw(st.integers(0, len(whole) - 1))
    for damaged in (whole[:cut], whole + whole[: cut + 1]):
        with pytest.raises(Corrupt) as refused:
            manifest.decode(damaged)
        assert refused.value.reason == (Refusal.TORN if damaged else Refusal.EMPTY)


@given(st.integers(0, 1000), st.data())
def test_a_manifest_with_a_right_checksum_over_wrong_contents_is_refused_or_makes_sense(seed, data):
    body = bytearray(manifest.encode(some_manifest(seed))[36:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = manifest.decode(manifest.framed(bytes(body), codec.FORMAT))
    except Corrupt:
        return
    held = sum(total.size for total in found.chunks.values())
    places = [place for places in found.pieces.values() for place in places]
    assert sum(place.length for place in places) <= held
    assert all(place.offset + place.length <= found.chunks[place.chunk].size for place in places)


# Whole states


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.data())
def test_of_damaged_checkpoints_the_state_is_exact_or_refused_and_never_another(steps, data):
    store = MemoryStore()
    owner = Owner(store)
    for events in steps:
        owner.checkpoint(events)
    stores = [store.chunks, store.manifests]
    for _ in range(data.draw(st.integers(1, 3), "damages")):
        place = data.draw(st.sampled_from(stores), "where")
        if place:
            key = data.draw(st.sampled_from(sorted(place)), "which")
            place[key] = damage(place[key], data)
            if data.draw(st.integers(0, 3)) == 0:
                del place[key]
    outcome = restored(store)
    if outcome.restored is None:
        assert outcome.rejected or not store.manifests
    else:
        offset = outcome.restored.offsets["predictions"]
        assert same(outcome.restored.pieces, LogTask(offset).pieces())
        durable = owner.checkpointer._durable
        if not outcome.rejected and durable is not None and durable.key in store.manifests:
            assert offset == owner.durable


def damage(whole: bytes, data: st.DataObject) -> bytes:
    if not whole:
        return b"x"
    at = data.draw(st.integers(0, len(whole) - 1), "at")
    kind = data.draw(st.sampled_from(["flip", "cut", "empty", "longer", "swap"]), "how")
    if kind == "flip":
        return whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :]
    if kind == "swap":
        other = (at + 1) % len(whole)
        swapped = bytearray(whole)
        swapped[at], swapped[other] = whole[other], whole[at]
        return bytes(swapped)
    return {"cut": whole[:at], "empty": b"", "longer": whole + b"\0"}[kind]


class Histories(RuleBasedStateMachine):
    """Owners come and go; the last one is the rightful owner, the others are zombies that may still write."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.owners = [Owner(self.store)]
        self.writing: dict[Owner, tuple[CheckpointWrite, Iterator[str]]] = {}
        self.promised = -1  # the furthest offset that a rightful owner was told to be durable
        self.sizes: list[tuple[int, int]] = []  # of the rightful owner's checkpoints: written, live

    @property
    def rightful(self) -> Owner:
        return self.owners[-1]

    def pick(self, index: int) -> Owner:
        """Mostly the rightful one."""
        return self.owners[-1 - index % len(self.owners)]

    @rule(index=st.integers(0, 6), events=st.integers(1, 60))
    def read(self, index, events):
        self.pick(index).task.advance(events)

    @rule(index=st.integers(0, 3))
    def begin_checkpoint(self, index):
        owner = self.pick(index)
        if owner not in self.writing:
            write = owner.task.plan(owner.checkpointer)
            self.writing[owner] = write, self.store.steps(write)

    @precondition(lambda self: self.writing)
    @rule(index=st.integers(0, 3), steps=st.integers(1, 400))
    def go_on_writing(self, index, steps):
        owner = list(self.writing)[index % len(self.writing)]
        write, going = self.writing[owner]
        for _ in range(steps):
            if next(going, None) is None:
                self.finish(owner, write)
                return

    @rule(events=st.integers(1, 60), times=st.integers(1, 4))
    def whole_checkpoints(self, events, times):
        owner = self.rightful
        for _ in range(times):
            if owner in self.writing:
                write, going = self.writing[owner]
            else:
                owner.task.advance(events)
                write = owner.task.plan(owner.checkpointer)
                going = self.store.steps(write)
            for _ in going:
                pass
            self.finish(owner, write)

    def finish(self, owner: Owner, write: CheckpointWrite) -> None:
        self.writing.pop(owner, None)
        owner.checkpointer.done(write)
        if owner is not self.rightful:
            return
        self.promised = max(self.promised, write.offsets["predictions"])
        content = write.content
        live = sum(place.length for places in content.pieces.values() for place in places)
        written = sum(len(self.store.chunks[key]) for key in write.made)
        self.sizes.append((written, live))
        own = sum(len(data) for key, data in self.store.chunks.items() if key.writer == write.key.writer)
        assert own <= 2 * max(live for _, live in self.sizes[-3:]) + sum(written for written, _ in self.sizes[-2:])
        if len(self.sizes) > 1:
            assert not owner.outcome.leftovers.chunks & self.store.chunks.keys()
            assert not owner.outcome.leftovers.manifests & self.store.manifests.keys()

    @precondition(lambda self: self.writing)
    @rule(index=st.integers(0, 3))
    def fail(self, index):
        owner = list(self.writing)[index % len(self.writing)]
        write, _ = self.writing.pop(owner)
        owner.checkpointer.failed(write)

    @rule(zombie=st.booleans())
    def take_over(self, zombie):
        old = self.rightful
        if not zombie:
            self.owners.pop()
            self.writing.pop(old, None)
        new = Owner(self.store)
        self.expect_exact(new)
        self.owners.append(new)
        self.sizes = []

    @invariant()
    def what_was_promised_is_there(self):
        self.expect_exact(Owner(self.store))

    def expect_exact(self, new: Owner) -> None:
        found = new.outcome.restored
        offset = found.offsets["predictions"] if found else 0
        assert offset >= self.promised or self.promised < 0
        assert same(found.pieces if found else {}, LogTask(offset).pieces())

    @invariant()
    def nobody_took_what_the_rightful_owner_names(self):
        durable = self.rightful.checkpointer._durable
        if durable is not None:
            assert durable.key in self.store.manifests
            assert durable.chunks.keys() <= self.store.chunks.keys()


Histories.TestCase.settings = settings(deadline=None, stateful_step_count=25)
TestHistories = Histories.TestCase


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_moving_what_is_scattered_costs_less_than_twice_the_changes(start, events):
    # A checkpoint that wrote everything each time would keep every other promise.
    store = MemoryStore()
    owner = Owner(store, LogTask(start))
    owner.checkpoint()
    changed = written = 0
    for _ in range(30):
        owner.task.advance(events)
        changed += sum(len(codec.encode(owner.task._piece(name))) for name in owner.task.dirty)
        written += sum([len(store.chunks[key]) for key in owner.checkpoint().made])
    assume(changed)
    assert written < 3 * changed
