"""The real core with the real checkpoints: owners that read, write, crash, take over and live on as zombies.

Every owner's numbers must at any time be those of the log as far as it has read, worked out in exact fractions.
"""

from __future__ import annotations

import random as randoms
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from property.test_keeping import assert_same
from property.test_task import Checked, Read, reference

from msemon.core import entries, join, keeping, names
from msemon.core.process import Process
from msemon.core.view import View
from msemon.state import (
    Checkpointer,
    CheckpointWrite,
    Leftovers,
    Restored,
    WriteFailed,
    checkpoint,
    new_writer,
    restore,
)
from msemon.state.base import ChunkKey, ManifestKey
from msemon.state.sqlite import SqliteStore
from support.checkpoints import MemoryStore, finish
from support.events import SECOND, Event, decoded
from support.task_logs import LABELS, PREDICTIONS, START, random_events, shape

TOPICS = [PREDICTIONS, LABELS]
SHORT, FAR = (0, 0.1, 0.5, 2, 4), (0, 1, 10, 70, 400)  # seconds between events: within every window, or far longer

Batches = tuple[tuple[str, int, int], ...]  # topic, begin and end in its log, in the order in which they were read


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Small blocks, chunks and tables, so that a few events fill, merge, split and collect them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "MAX_CHUNK", 1500)
        patch.setattr(entries, "BLOCK", 8)
        patch.setattr(join, "_SWEEP_LEAST", 8)
        patch.setattr(names, "_SPARE", 2)
        patch.setattr(names, "_PART", 3)
        yield


def usable_offsets(read: Batches) -> dict[str, int]:
    return {topic: max((end for each, _, end in read if each == topic), default=0) for topic in TOPICS}


@dataclass(eq=False)
class Node:
    """An owner: its process, what it has read since the log's beginning through all owners before it, its writes."""

    process: Process
    checkpointer: Checkpointer
    read: Batches
    write: CheckpointWrite | None = None
    going: Iterator[str] | None = None
    history: Batches = ()  # what was read when the write was planned
    written: dict[ManifestKey, Batches] = field(default_factory=dict)

    @property
    def starting(self) -> bool:
        """Nothing may be read before the first checkpoint is durable."""
        return not self.read and self.checkpointer.owes_all


class Owners(RuleBasedStateMachine):
    """One task, its log, a store, and whoever holds it to be theirs; the last node is the rightful owner."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.store: MemoryStore | SqliteStore = MemoryStore()
        self.nodes: list[Node] = []
        self.histories: dict[ManifestKey, Batches] = {}  # what each checkpoint has read
        self.promised = 0  # sum of the offsets that a rightful owner was told to be durable
        self.serial = 0

    @initialize(
        seed=st.integers(0, 1 << 32), observed=st.booleans(), steps=st.sampled_from([SHORT, SHORT, FAR]),
        sqlite=st.sampled_from([False, False, True]),
    )  # fmt: skip
    def begin(self, seed, observed, steps, sqlite):
        self.random = randoms.Random(seed)
        self.observed, self.steps = observed, steps
        self.log = random_events(self.random, 0, 60, steps)
        if sqlite:
            self.store = SqliteStore(Path(self.directory.name), lambda *a, **k: sqlite3.connect(*a, **k, factory=Quick))
            self.store.open()
        self.take_over()

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    @property
    def rightful(self) -> Node:
        return self.nodes[-1]

    def pick(self, index: int) -> Node:
        return self.nodes[-1 - index % len(self.nodes)]

    # What an owner does.

    @rule(index=st.integers(0, 4), batches=st.integers(1, 8))
    def read(self, index, batches):
        node = self.pick(index)
        for _ in range(batches if not node.starting else 0):
            done = usable_offsets(node.read)
            topics = [topic for topic in TOPICS if done[topic] < len(self.log[topic])]
            if not topics:
                return
            topic = self.random.choice(topics)
            begin = done[topic]
            end = min(len(self.log[topic]), begin + self.random.choice([1, 2, 7, 20]))
            apply(node.process, self.log, topic, begin, end)
            node.read = (*node.read, (topic, begin, end))

    @rule(index=st.integers(0, 4))
    def begin_checkpoint(self, index):
        node = self.pick(index)
        if node.write is None:
            self.plan(node)

    def plan(self, node: Node) -> None:
        """As the keeper does it."""
        task = node.process.tasks[0]
        if node.checkpointer.owes_all:
            keeping.touch(task)
        else:
            keeping.touch_some(task, node.checkpointer.wanted())
        node.write = node.checkpointer.plan(keeping.snapshot(task))
        node.history = self.histories[node.write.key] = node.read
        if isinstance(self.store, MemoryStore):
            node.going = self.store.steps(node.write)

    @precondition(lambda self: any(node.write for node in self.nodes))
    @rule(index=st.integers(0, 4), steps=st.integers(1, 60))
    def go_on_writing(self, index, steps):
        """One chunk, manifest or deletion after the other; SQLite does all of it in one transaction."""
        writing = [node for node in self.nodes if node.write]
        node = writing[index % len(writing)]
        if node.going is not None:
            if all(next(node.going, None) is not None for _ in range(steps)):
                return
        elif not self.transact(node):
            return
        self.told_durable(node)

    @rule(times=st.integers(1, 3))
    def whole_checkpoints(self, times):
        """The rightful owner's, as they nearly always are."""
        for _ in range(times):
            node = self.rightful
            if node.write is None:
                self.read(0, 2)
                self.plan(node)
            if node.going is not None:
                finish_steps(node.going)
            elif not self.transact(node):
                continue
            self.told_durable(node)

    def transact(self, node: Node) -> bool:
        assert isinstance(self.store, SqliteStore)
        assert node.write is not None
        try:
            self.store.write(node.write, 30.0)
        except WriteFailed as problem:  # a zombie whose last checkpoint was deleted
            assert node is not self.rightful
            node.checkpointer.failed(node.write, lost=problem.lost)
            node.write = None
            return False
        return True

    def told_durable(self, node: Node) -> None:
        assert node.write is not None
        node.checkpointer.done(node.write)
        if node is self.rightful:
            self.promised = max(self.promised, sum(usable_offsets(node.history).values()))
        node.write = node.going = None

    @precondition(lambda self: any(node.write for node in self.nodes))
    @rule(index=st.integers(0, 4))
    def fail_to_write(self, index):
        """Some of it may be in the store, and the owner goes on."""
        writing = [node for node in self.nodes if node.write]
        node = writing[index % len(writing)]
        assert node.write is not None
        if node.going is None:
            self.tear(node.write)
        node.checkpointer.failed(node.write)
        node.write = node.going = None

    @rule(batches=st.integers(1, 3), steps=st.integers(0, 6))
    def fail_once_and_then_succeed(self, batches, steps):
        """What a failed checkpoint had is in the next one although nothing of it changes in between."""
        node = self.rightful
        self.whole_checkpoints(1)
        self.read(0, batches)
        self.plan(node)
        assert node.write is not None
        if node.going is None:
            self.tear(node.write)
        else:
            for _ in zip(range(steps), node.going, strict=False):
                pass
        node.checkpointer.failed(node.write)
        self.plan(node)
        if node.going is not None:
            finish_steps(node.going)
        else:
            assert self.transact(node)
        self.told_durable(node)
        self.look_at_what_a_new_owner_would_have(0)

    def tear(self, write: CheckpointWrite) -> None:
        """A transaction that ends amid the chunks."""
        assert isinstance(self.store, SqliteStore)
        with pytest.raises(WriteFailed):
            self.store.write(Torn(write), 30.0)

    # Owners come and go.

    @rule(zombie=st.booleans())
    def change(self, zombie):
        """Killed at whatever it was doing, or taken to be dead while it goes on."""
        if not zombie or len(self.nodes) > 2:
            lost = self.nodes.pop(-1 if not zombie else 0)
            note(f"lost one that had read {usable_offsets(lost.read)}")
        self.take_over()

    def take_over(self) -> None:
        self.serial += 1
        key = f"key {self.serial}".encode()
        process = Process(TOPICS, shape(self.observed), lambda: key)
        outcome, read = self.restore(process)
        self.nodes.append(Node(process, Checkpointer(0, new_writer(), outcome), read))

    def restore(self, process: Process) -> tuple[Leftovers, Batches]:
        """As the keeper and the ownership do it; what was promised must be there."""

        def accept(candidate: Restored) -> None:
            task, dropped = keeping.restored(0, TOPICS, process.shape, candidate.pieces)
            assert not dropped
            task.offsets = dict(candidate.offsets)
            process.adopt(task)

        outcome = finish(restore(self.store, 0, accept=accept))
        assert all(rejection.reason == "missing_chunk" for rejection in outcome.rejected), outcome.rejected
        if outcome.restored is None:
            assert not self.promised
            process.start(0).offsets = dict.fromkeys(TOPICS, 0)
            return outcome.leftovers, ()
        read = self.histories[outcome.restored.key]
        assert outcome.restored.offsets == usable_offsets(read)
        assert sum(outcome.restored.offsets.values()) >= self.promised
        return outcome.leftovers, read

    # What must hold.

    @invariant()
    def offsets_and_clocks_are_those_of_what_was_read(self):
        for node in self.nodes:
            task, offsets = node.process.tasks[0], usable_offsets(node.read)
            assert task.offsets == offsets
            for topic, offset in offsets.items():
                times = (event.time for event in self.log[topic][:offset])
                assert task.clocks[topic] == max(times, default=keeping.NEVER)

    @rule(index=st.integers(0, 4), later=st.sampled_from([0, 0, 2, 17, 90]))
    def look(self, index, later):
        self.look_at(self.pick(index), later)

    @rule(later=st.sampled_from([0, 2]))
    def look_at_what_a_new_owner_would_have(self, later):
        self.change(zombie=True)
        self.look_at(self.rightful, later)

    def look_at(self, node: Node, later: int) -> None:
        newest = max((e.record_time for topic, b, end in node.read for e in self.log[topic][b:end]), default=START)
        wall = newest + later * SECOND
        steady = replayed(self.log, node.read, self.observed)
        assert entries_of(node.process) == entries_of(steady)
        assert_same(bare(steady, wall), bare(node.process, wall))
        if self.steps is SHORT:
            view = with_counters(bare(node.process, wall), steady.view(wall))
            Checked(view, [reference(reads(self.log, node.read))], self.observed, wall).check()


def entries_of(process: Process) -> list[list[tuple[float, ...]]]:
    """What the join holds, without what the next sweep may take: how far sweeps are is no state."""
    task = process.tasks[0]
    horizon = min(task.clocks.values())
    patience = (process.shape.timeout_us, process.shape.memory_us, process.shape.memory_us)
    found = []
    for store, wait in zip(task.join.stores, patience, strict=True):
        rows = store.live()
        until = np.maximum(store.time[rows] + wait, store.clock[rows] + process.shape.memory_us)
        rows = rows[until >= horizon]
        columns = (store.state, store.time, store.clock, store.record, np.nan_to_num(store.value), store.width)
        found.append(sorted(zip(*(column[rows].tolist() for column in columns), strict=True)))
    return found


class Quick(sqlite3.Connection):
    """Does not wait for the disk: no power fails here."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return super().execute("PRAGMA synchronous = OFF" if sql.startswith("PRAGMA sync") else sql, *parameters)


class Torn:
    """A write whose chunks end in an error, as a full disk's do."""

    def __init__(self, write: CheckpointWrite) -> None:
        self._write = write
        self.partition, self.key, self.base = write.partition, write.key, write.base
        self.delete_chunks, self.delete_manifests = write.delete_chunks, write.delete_manifests

    def chunks(self) -> Iterator[tuple[ChunkKey, bytes]]:
        yield next(iter(self._write.chunks()))
        raise OSError("the disk is full")

    def manifest(self) -> bytes:
        raise AssertionError("not after a failure")


def finish_steps(steps: Iterator[str]) -> None:
    for _ in steps:
        pass


def apply(process: Process, log: dict[str, list[Event]], topic: str, begin: int, end: int) -> None:
    process.apply(0, topic, decoded(log[topic][begin:end], begin), end, START)


def replayed(log: dict[str, list[Event]], read: Batches, observed: bool) -> Process:
    """A process that read the same in the same order and was never disturbed."""
    process = Process(TOPICS, shape(observed), lambda: b"another key")
    process.start(0)
    for batch in read:
        apply(process, log, *batch)
    return process


def reads(log: dict[str, list[Event]], read: Batches) -> dict[str, list[Read]]:
    out: dict[str, list[Read]] = {topic: [] for topic in TOPICS}
    for topic, begin, end in read:
        done = out[topic]
        for event in log[topic][begin:end]:
            done.append(Read(event, topic, max(event.time, done[-1].clock if done else 0)))
    return out


def bare(of: Process, wall: int) -> View:
    """What is state of a view: another process with the same task has no counters of its own."""
    process = Process(TOPICS, of.shape, lambda: b"")
    process.adopt(of.tasks[0])
    return process.view(wall)


def with_counters(view: View, steady: View) -> View:
    """The view with the counters of another process, for those are no state and die with theirs."""
    tables = []
    for mine, theirs in ((view.models, steady.models), (view.segments, steady.segments)):
        places = [theirs.keys.index(key) for key in mine.keys]
        tables.append(replace(mine, counters=theirs.counters[:, places]))
    places = [steady.models.keys.index(key) for key in view.models.keys]
    return replace(
        view, models=tables[0], segments=tables[1], delays=np.array(steady.delays)[places],
        delay_sum=np.array(steady.delay_sum)[places],
    )  # fmt: skip


Owners.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=25)
TestOwners = Owners.TestCase
