"""What a partition's life can be tested with: a source and a store that do what the test says, and all between them."""

# ruff: noqa: ARG002 (the fakes take what a source and a store take)

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from msemon.accounts import Accounts
from msemon.core.process import Process
from msemon.core.task import Task
from msemon.export.pipeline import Pipeline
from msemon.keeper import Keeper
from msemon.ownership import Ownership
from msemon.settings.values import Duration, Start
from msemon.sources.base import Polled, TopicPartition, Unreachable
from msemon.sources.in_step import InStep
from msemon.state.base import ChunkKey, Found, ManifestKey, Slices, Unavailable, Write
from support.events import SECOND, Event, decoded, labelled, paired, predicted
from support.task_logs import LABELS, PREDICTIONS, START, shape

TOPICS = [PREDICTIONS, LABELS]
KEY = ("m", "", "NL", "gold")
PATIENCE_S = 10.0


@dataclass
class FakeSource:
    """A member that is told what it owns, and remembers what it was asked to do."""

    session_timeout_s: float = 1000.0
    heard_s: float = field(default_factory=time.monotonic)
    ends: dict[str, int] = field(default_factory=lambda: {PREDICTIONS: 70, LABELS: 50})
    starts: dict[str, int] = field(default_factory=lambda: {PREDICTIONS: 7, LABELS: 5})
    committed_before: dict[TopicPartition, int] = field(default_factory=dict)
    rewound: dict[str, int] = field(default_factory=lambda: {PREDICTIONS: 30, LABELS: 30})
    unreachable: bool = False
    accepts: bool = True
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    resumed: set[TopicPartition] = field(default_factory=set)
    commits: list[dict[TopicPartition, int]] = field(default_factory=list)

    def _answer(self) -> None:
        if self.unreachable:
            raise Unreachable("no broker")

    def connect(self) -> None: ...

    def subscribe(self) -> None: ...

    def poll(self, timeout_s: float) -> Polled:
        return Polled()

    def partition_counts(self) -> dict[str, int | None]:
        self._answer()
        return dict.fromkeys(TOPICS, 4)

    def topic_ids(self) -> dict[str, str]:
        self._answer()
        return {}

    def start_offsets(self, partitions: Collection[int], start: Start) -> dict[TopicPartition, int]:
        self._answer()
        offsets = {"earliest": self.starts, "latest": self.ends}.get(start.policy, self.rewound)
        return {TopicPartition(topic, p): offsets[topic] for p in partitions for topic in TOPICS}

    def committed(self, partitions: Collection[int]) -> dict[TopicPartition, int]:
        self._answer()
        return {where: offset for where, offset in self.committed_before.items() if where.partition in partitions}

    def committed_note(self, partition: int) -> str:
        return ""

    def seek(self, where: TopicPartition, offset: int) -> None:
        self.positions[where] = offset

    def pause(self, where: Iterable[TopicPartition]) -> None:
        self.resumed -= set(where)

    def resume(self, where: Iterable[TopicPartition]) -> None:
        self.resumed |= set(where)

    def lag(self) -> dict[TopicPartition, int]:
        return {}

    def commit(self, offsets: Mapping[TopicPartition, int], timeout_s: float, note: str = "") -> bool:
        assert timeout_s > 0
        if self.accepts:
            self.commits.append(dict(offsets))
        return self.accepts

    def last_heard_s(self) -> float:
        return self.heard_s

    def alive(self) -> bool:
        return True

    def outdated(self) -> bool:
        return False

    def close(self, timeout_s: float) -> None: ...


@dataclass
class Shelf:
    """What a store has of one partition."""

    chunks: dict[ChunkKey, bytes] = field(default_factory=dict)
    manifests: dict[ManifestKey, bytes] = field(default_factory=dict)


@dataclass
class FakeStore:
    """Keeps everything in memory. The test may hold writes back, let them fail, and say when restores go on."""

    name: str = "memory"
    shelves: dict[int, Shelf] = field(default_factory=dict)
    written: list[int] = field(default_factory=list)  # partitions, as their checkpoints became durable
    attempts: list[int] = field(default_factory=list)  # … and were begun
    problem: Exception | None = None  # of every write
    unavailable: bool = False
    slices: int = 1  # that a restore takes
    restoring: dict[int, int] = field(default_factory=dict)  # by partition: restores that are open
    restores: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def let_go(self) -> None:
        """Hold nothing back any more."""
        self.slices = 1
        self.gate.set()

    def shelf(self, partition: int) -> Shelf:
        return self.shelves.setdefault(partition, Shelf())

    def open(self) -> None: ...

    def close(self) -> None: ...

    def write(self, write: Write, timeout_s: float) -> None:
        self.attempts.append(write.partition)
        assert self.gate.wait(timeout_s), "the test forgot the gate"
        if self.problem is not None:
            raise self.problem
        shelf = self.shelf(write.partition)
        for key, data in write.chunks():
            assert key not in shelf.chunks, "a chunk is overwritten"
            shelf.chunks[key] = data
        shelf.manifests[write.key] = write.manifest()
        for manifest in write.delete_manifests:
            shelf.manifests.pop(manifest, None)
        for chunk in write.delete_chunks:
            shelf.chunks.pop(chunk, None)
        self.written.append(write.partition)

    def restore(self, partition: int) -> Slices:
        self.restores += 1
        self.restoring[partition] = self.restoring.get(partition, 0) + 1
        try:
            gone = 0
            while gone < self.slices:
                gone += 1
                yield
            if self.unavailable:
                raise Unavailable("away")
            shelf = self.shelf(partition)
            return Found(shelf.chunks.get, dict(shelf.manifests), set(shelf.chunks))
        finally:
            self.restoring[partition] -= 1


class Member:
    """One process's share in the group, without its loop: the test assigns, drops and takes turns."""

    def __init__(self, store: FakeStore, source: FakeSource | None = None, interval_s: float = 1000.0) -> None:
        self.store = store
        self.source = source or FakeSource()
        self.pipeline = Pipeline("fake", TOPICS)
        self.process = Process(TOPICS, shape(observed=True), lambda: b"key")
        self.keeper = Keeper(store, TOPICS, self.process.shape)
        self.in_step = InStep(TOPICS, lambda _: decoded([]))
        self.accounts = Accounts(self.pipeline)
        self.ownership = Ownership(
            self.source,
            self.in_step,
            self.process,
            self.accounts,
            self.keeper,
            threading.Lock(),
            topics=TOPICS,
            start=Start("latest", "latest"),
            rewind=Duration("1h"),
            interval_s=interval_s,
            wall_us=lambda: START,
        )

    def assign(self, *partitions: int) -> None:
        self.ownership.assigned(frozenset(partitions))

    def lose(self, *partitions: int) -> None:
        self.ownership.drop(partitions, lost=True)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Take turns until it holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s for {what}"
            self.ownership.turn()
            time.sleep(0.001)

    def own(self, *partitions: int) -> Member:
        """Assigned, and read."""
        self.assign(*partitions)
        self.until(lambda: self.ownership.settled, f"{partitions} to be read")
        return self

    def task(self, partition: int) -> Task:
        return self.process.tasks[partition]

    def read(self, partition: int, topic: str, events: list[Event]) -> None:
        """What the loop does with a batch."""
        first = self.task(partition).offsets[topic]
        self.process.apply(partition, topic, decoded(events, first), first + len(events), START)

    def read_pairs(self, partition: int, count: int) -> None:
        self.read(partition, PREDICTIONS, [paired(START + i * SECOND, 3.0, 1.0, KEY) for i in range(count)])

    def read_halves(self, partition: int, *ids: str) -> None:
        """A prediction each, which waits for its label."""
        self.read(partition, PREDICTIONS, [predicted(START, each, 5.0, KEY) for each in ids])

    def read_labels(self, partition: int, *ids: str) -> None:
        self.read(partition, LABELS, [labelled(START + SECOND, each, 3.0) for each in ids])

    def checkpoint(self, *partitions: int) -> None:
        """A durable one of each."""
        for partition in partitions:
            before = len(self.store.written)
            self.until(lambda p=partition: self.keeper.checkpoint(self.task(p)), "the last one to end")  # type: ignore[misc]
            self.until(lambda b=before: len(self.store.written) > b, "the checkpoint")  # type: ignore[misc]
            self.until(lambda: not self.keeper.writing, "the checkpoint to be heard of")

    def position(self, partition: int) -> tuple[int | None, int | None]:
        """Where it is read, of predictions and labels; None where it is not."""
        found = [TopicPartition(topic, partition) for topic in TOPICS]
        first, second = (self.source.positions.get(where) if where in self.source.resumed else None for where in found)
        return first, second

    def pairs(self) -> float:
        """Lifetime pairs of all models, as they would be exported."""
        return float(self.process.view(START).lifetime[0].sum())

    def close(self) -> None:
        self.store.gate.set()
        self.keeper.close(5.0)
