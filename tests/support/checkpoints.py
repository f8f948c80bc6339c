"""For tests of what keeps the state: a task that is nothing but pieces, a store in memory that goes step by step."""

from __future__ import annotations

import functools
import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from msemon.core.snapshot import Piece, PieceName, Snapshot
from msemon.state import Checkpointer, CheckpointWrite, Restoration, Store, new_writer, restore
from msemon.state.base import ChunkKey, Found, ManifestKey, Slices, Write

T = TypeVar("T")
Pieces = dict[PieceName, Piece]


def finish(steps: Generator[None, None, T]) -> T:
    """What a generator returns in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def restored(store: Store, partition: int = 0) -> Restoration:
    return finish(restore(store, partition))


def same(left: Pieces, right: Pieces) -> bool:
    """Whether two states agree to the last bit, types, shapes and the signs of zeros included."""
    return left.keys() == right.keys() and all(same_piece(piece, right[name]) for name, piece in left.items())


def same_piece(left: Piece, right: Piece) -> bool:
    return (
        repr(left.meta) == repr(right.meta)
        and list(left.columns) == list(right.columns)
        and all(
            (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
            for a, b in zip(left.columns.values(), right.columns.values(), strict=True)
        )
    )


@functools.cache
def piece(size: int, seed: int = 0) -> Piece:
    """About `size` bytes, different for each seed."""
    values = np.sin(np.arange(max(1, size // 9)) + seed)
    return Piece({"values": values, "signs": values > 0.5}, {"seed": seed, "name": f"é{seed}", "list": [None, 1.5]})


ALL: PieceName = ("all",)


@functools.cache
def _event(offset: int) -> tuple[frozenset[PieceName], PieceName]:
    """What one event changes, and what it ends."""
    draw = random.Random(offset)
    changed: PieceName = (draw.choice(["pane", "rows"]), draw.randrange(40))
    ended: PieceName = (draw.choice(["pane", "rows"]), draw.randrange(40))
    return frozenset({changed, ("head",)}), ALL if draw.random() < 0.02 else ended


class LogTask:
    """A task whose state is a function of how far it has read: each event makes, changes and ends some pieces."""

    def __init__(self, offset: int = 0, partition: int = 0) -> None:
        self.partition = partition
        self.stamps: dict[PieceName, int] = {}  # which event wrote each piece last
        self.dirty: set[PieceName] = set()
        self.offset = 0
        self.advance(offset)

    @classmethod
    def from_pieces(cls, pieces: Pieces, offset: int, partition: int = 0) -> LogTask:
        task = cls(partition=partition)
        task.offset = offset
        task.stamps = {name: found.meta["seed"] for name, found in pieces.items()}
        return task

    def advance(self, events: int) -> None:
        for _ in range(events):
            self.offset += 1
            changed, ended = _event(self.offset)
            if ended == ALL:  # as panes end after a silence; what a test has put stays
                self.stamps = {name: stamp for name, stamp in self.stamps.items() if name[0] == "large"}
            self.stamps.pop(ended, None)
            self.stamps |= dict.fromkeys(changed, self.offset)
            self.dirty |= changed
        self.dirty &= self.stamps.keys()

    def put(self, name: PieceName) -> None:
        """A piece of the test's own; `("large", …)` has 9 MB, the others less."""
        self.stamps[name] = self.offset
        self.dirty.add(name)

    def pieces(self) -> Pieces:
        return {name: self._piece(name) for name in self.stamps}

    def snapshot(self) -> Snapshot:
        changed = {name: self._piece(name) for name in self.dirty & self.stamps.keys()}
        self.dirty.clear()
        offsets = {"predictions": self.offset, "labels": 2}
        return Snapshot(self.partition, offsets, {"labels": -5}, changed, set(self.stamps))

    def plan(self, checkpointer: Checkpointer) -> CheckpointWrite:
        """As the daemon does it."""
        self.dirty |= set(self.stamps) if checkpointer.owes_all else checkpointer.wanted()
        return checkpointer.plan(self.snapshot())

    def _piece(self, name: PieceName) -> Piece:
        stamp = self.stamps[name]
        if name[0] == "large":
            return piece(9_000_000, stamp)
        return piece((1, 30, 200, 200, 2500)[(stamp + len(name)) % 5], stamp)


@dataclass
class MemoryStore:
    """Keeps everything in dictionaries; `steps` writes one thing at a time, so that a test can stop anywhere."""

    name: str = "memory"
    chunks: dict[ChunkKey, bytes] = field(default_factory=dict)
    manifests: dict[ManifestKey, bytes] = field(default_factory=dict)
    partition: int = 0

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def steps(self, write: Write) -> Iterator[str]:
        """Says after each step what it was."""
        for key, data in write.chunks():
            assert key not in self.chunks, "a chunk is overwritten"
            self.chunks[key] = data
            yield "chunk"
        assert write.key not in self.manifests
        self.manifests[write.key] = write.manifest()
        yield "manifest"
        for manifest in write.delete_manifests:
            self.manifests.pop(manifest, None)
            yield "deletion"
        for chunk in write.delete_chunks:
            self.chunks.pop(chunk, None)
            yield "deletion"

    def write(self, write: Write, timeout_s: float) -> None:
        assert timeout_s > 0
        for _ in self.steps(write):
            pass

    def restore(self, partition: int) -> Slices:
        assert partition == self.partition
        yield
        return Found(self.chunks.get, dict(self.manifests), set(self.chunks))


class Owner:
    """One owner of the task: what the daemon does between taking it over and losing it."""

    def __init__(self, store: Store, task: LogTask | None = None, partition: int = 0) -> None:
        self.store = store
        self.outcome = restored(store, partition)
        found = self.outcome.restored
        if task is not None:
            self.task = task
        elif found is not None:
            self.task = LogTask.from_pieces(found.pieces, found.offsets["predictions"], partition)
        else:
            self.task = LogTask(partition=partition)
        self.checkpointer = Checkpointer(partition, new_writer(), self.outcome.leftovers)
        self.durable = -1  # the offset of the last checkpoint that was told to be durable

    def checkpoint(self, events: int = 0) -> CheckpointWrite:
        """Read on, then a checkpoint from plan to done; a WriteFailed is told to the checkpointer and raised."""
        self.task.advance(events)
        write = self.task.plan(self.checkpointer)
        try:
            self.store.write(write, 30.0)
        except Exception as problem:
            self.checkpointer.failed(write, lost=getattr(problem, "lost", False))
            raise
        self.checkpointer.done(write)
        self.durable = write.offsets["predictions"]
        return write
