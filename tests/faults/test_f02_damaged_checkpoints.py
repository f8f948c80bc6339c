"""F2: a checkpoint that is torn, truncated, bit-flipped, empty or of a newer format is refused by reason; the older one
is used; nothing is ever misread.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from msemon.state import WriteFailed, manifest
from msemon.state.base import ManifestKey, Refusal
from msemon.state.sqlite import SqliteStore
from support.checkpoints import LogTask, MemoryStore, Owner, restored, same

EVERY = ["flipped", "torn", "longer", "empty", "zeroed"]


def damaged(whole: bytes, how: str, draw: random.Random) -> bytes:
    at = draw.randrange(len(whole))
    if how == "flipped":
        return whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :]
    return {"torn": whole[:at], "longer": whole + b"x", "empty": b"", "zeroed": bytes(len(whole))}[how]


def two_checkpoints() -> tuple[MemoryStore, Owner]:
    store = MemoryStore()
    owner = Owner(store)
    owner.checkpoint(40)
    owner.checkpoint(40)
    return store, owner


@pytest.mark.parametrize("how", EVERY)
@pytest.mark.parametrize("what", ["chunk", "manifest"])
def test_f02_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(what, how):
    """Damage to what only the last checkpoint names leaves the one before it."""
    for seed in range(50):
        draw = random.Random(seed)
        store, owner = two_checkpoints()
        last = max(store.manifests)
        if what == "manifest":
            store.manifests[last] = damaged(store.manifests[last], how, draw)
        else:
            key = draw.choice([key for key in store.chunks if key.sequence == last.sequence])
            store.chunks[key] = damaged(store.chunks[key], how, draw)
        outcome = restored(store)
        assert [each.reason for each in outcome.rejected] in expected(what, how)
        assert outcome.restored is not None
        assert outcome.restored.offsets["predictions"] == 40
        assert same(outcome.restored.pieces, LogTask(40).pieces())
        assert owner.durable == 80


def expected(what: str, how: str) -> list[list[Refusal]]:
    if how == "empty":
        return [[Refusal.EMPTY]]
    if how in {"torn", "longer"}:
        return [[Refusal.TORN], [Refusal.EMPTY]]  # cut at its first byte, a record is empty
    if what == "chunk":
        return [[Refusal.CHECKSUM]]
    # A manifest says itself how long it is, and that it is one.
    return [[Refusal.CHECKSUM], [Refusal.TORN], [Refusal.MALFORMED]]


def test_f02_both_checkpoints_damaged_leave_no_state_and_two_reasons():
    """The caller then goes on to what comes after the store."""
    store, _ = two_checkpoints()
    for key in store.manifests:
        store.manifests[key] = store.manifests[key][:-1]
    outcome = restored(store)
    assert outcome.restored is None
    assert [each.reason for each in outcome.rejected] == [Refusal.TORN, Refusal.TORN]


def test_f02_a_checkpoint_of_a_newer_format_is_refused_as_that():
    """With a checksum that is right over contents that this version does not know."""
    store, _ = two_checkpoints()
    last = max(store.manifests)
    store.manifests[last] = manifest.framed(b"anything", 2)
    outcome = restored(store)
    assert [each.reason for each in outcome.rejected] == [Refusal.NEWER_FORMAT]
    assert outcome.restored is not None
    assert same(outcome.restored.pieces, LogTask(40).pieces())


def test_f02_an_intact_checkpoint_under_another_ones_key_is_refused():
    """Copied by hand from another task, it would be restored as this one's."""
    store, _ = two_checkpoints()
    last = max(store.manifests)
    store.manifests[ManifestKey("other", 9)] = store.manifests[last]
    outcome = restored(store)
    assert [each.reason for each in outcome.rejected] == [Refusal.MALFORMED]
    assert outcome.restored is not None
    assert outcome.restored.key == last


@pytest.mark.timeout(300)
def test_f02_a_sqlite_file_damaged_anywhere_gives_an_exact_state_or_none(tmp_path: Path):
    """Bits and runs of bytes flipped all over a file, its journal's remains and SQLite's own pages included; cut short
    at any length. What can be read is exact; afterwards checkpoints are written and read as ever.
    """
    original = tmp_path / "original"
    original.mkdir()
    owner = Owner(SqliteStore(original))
    for _ in range(4):
        owner.checkpoint(25)
    whole = (original / "task-0.sqlite").read_bytes()
    counts: dict[str, int] = {}
    for seed in range(160):
        draw = random.Random(seed)
        directory = tmp_path / "damaged"
        directory.mkdir()
        data = bytearray(whole)
        if seed % 4 == 0:
            del data[draw.randrange(len(data)) :]
        else:
            # Half of them near the beginning of a page, where SQLite keeps what it needs most.
            at = draw.randrange(len(data))
            at = at if seed % 2 else at // 8192 * 8192 + draw.randrange(110)
            for i in range(draw.choice([1, 1, 8, 500])):
                data[(at + i) % len(data)] ^= 1 << draw.randrange(8)
        (directory / "task-0.sqlite").write_bytes(data)
        store = SqliteStore(directory)
        outcome = restored(store)
        offset = outcome.restored.offsets["predictions"] if outcome.restored else None
        counts[str(offset)] = counts.get(str(offset), 0) + 1
        if outcome.restored is not None:
            assert offset in {75, 100}
            assert same(outcome.restored.pieces, LogTask(offset).pieces())
        else:
            assert outcome.rejected
        afterwards(store)
        shutil.rmtree(directory)
    assert len(counts) == 3, counts  # all of them come about: the last, the one before, none


def afterwards(store: SqliteStore) -> None:
    """Two attempts may fail (the file turns out to be bad; then it is written anew), no more."""
    owner = Owner(store)
    failures = 0
    for _ in range(4):
        try:
            owner.checkpoint(5)
        except WriteFailed:
            failures += 1
    assert failures <= 2
    found = restored(store).restored
    assert found is not None
    assert same(found.pieces, owner.task.pieces())
