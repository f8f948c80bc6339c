"""Keeps the state of the tasks a process owns: checkpoints on a thread of their own, restores in slices.

The loop's thread takes snapshots (a copy of what changed) and steps restores; only encoding and writing happen
elsewhere. What is reported as written is durable, and only that may be committed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

import structlog

from msemon.core import keeping
from msemon.core.shape import Shape
from msemon.core.task import Task
from msemon.state import (
    Checkpointer,
    CheckpointWrite,
    Leftovers,
    Rejection,
    Restoration,
    Restored,
    Store,
    Unavailable,
    WriteFailed,
    new_writer,
    restore,
)

log = structlog.get_logger(__name__)

WRITE_S = 30.0  # longest wait of one write
RETRY_S = 5.0  # before a restore that found its store unavailable begins again


@dataclass(slots=True)
class Found:
    """A restore has ended. Without a task the store had nothing that can be used."""

    partition: int
    task: Task | None
    offsets: dict[str, int]
    dropped: list[str]  # what the settings no longer fit, in words
    rejected: list[Rejection]
    seconds: float


@dataclass(slots=True)
class Written:
    """A checkpoint has ended. `offsets` are durable where it did not fail."""

    partition: int
    offsets: dict[str, int]
    error: str | None
    bytes: int
    seconds: float


@dataclass(slots=True)
class _Restore:
    """A restore under way."""

    steps: Generator[None, None, Restoration]
    began: float
    built: list[tuple[Task, list[str]]] = field(default_factory=list)


class Keeper:
    """Checkpoints and restores. All but the writing itself on the loop's thread."""

    def __init__(self, store: Store, topics: list[str], shape: Shape) -> None:
        self._store = store
        self._topics = topics
        self._shape = shape
        self._restores: dict[int, _Restore] = {}
        self._again: dict[int, tuple[float, Callable[[Mapping[str, int]], bool]]] = {}
        self._checkpointers: dict[int, Checkpointer] = {}
        self._jobs: queue.SimpleQueue[tuple[Checkpointer, CheckpointWrite] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Checkpointer, CheckpointWrite, Written, bool]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)
        self._thread.start()

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._store.name != "none"

    @property
    def source(self) -> str:
        """The store's name."""
        return self._store.name

    def begin(self, partition: int, usable: Callable[[Mapping[str, int]], bool], after_s: float = 0.0) -> None:
        """Begin to restore a partition, after a while; `usable` says whether a log still has what a checkpoint's
        offsets ask for."""
        built: list[tuple[Task, list[str]]] = []

        def accept(candidate: Restored) -> None:
            task, dropped = keeping.restored(partition, self._topics, self._shape, candidate.pieces)
            task.offsets = {topic: offset for topic, offset in candidate.offsets.items() if topic in self._topics}
            built[:] = [(task, dropped)]

        steps = restore(self._store, partition, usable=usable, accept=accept)
        self._restores[partition] = _Restore(steps, time.monotonic(), built)
        self._again[partition] = time.monotonic() + after_s, usable

    def restored(self, budget_s: float) -> list[Found]:
        """Go on with the restores for about so long; those that have ended."""
        ended: list[Found] = []
        until = time.monotonic() + budget_s
        while time.monotonic() < until:
            ready = [p for p in self._restores if self._again[p][0] <= time.monotonic()]
            if not ready:
                break
            if (found := self._step(ready[0])) is not None:
                ended.append(found)
        return ended

    def _step(self, partition: int) -> Found | None:
        under_way = self._restores[partition]
        try:
            next(under_way.steps)
            return None
        except StopIteration as stop:
            outcome: Restoration = stop.value
        except Unavailable as error:
            log.warning("state can't be read yet", partition=partition, error=str(error))
            self.begin(partition, self._again[partition][1], RETRY_S)
            return None
        del self._restores[partition], self._again[partition]
        self._checkpointers[partition] = Checkpointer(partition, new_writer(), outcome.leftovers)
        task, dropped = under_way.built[0] if outcome.restored and under_way.built else (None, [])
        seconds = time.monotonic() - under_way.began
        return Found(partition, task, dict(task.offsets) if task else {}, dropped, outcome.rejected, seconds)

    def checkpoint(self, task: Task) -> bool:
        """Take a snapshot and have it written; False where the last one still is."""
        checkpointer = self._checkpointers.get(task.partition)
        if checkpointer is None:
            checkpointer = self._checkpointers[task.partition] = Checkpointer(task.partition, new_writer(), Leftovers())
        if checkpointer.writing:
            return False
        if checkpointer.owes_all:
            keeping.touch(task)
        else:
            keeping.touch_some(task, checkpointer.wanted())
        self._jobs.put((checkpointer, checkpointer.plan(keeping.snapshot(task))))
        return True

    def disown(self, partition: int) -> None:
        """Whatever is stored of it counts events that its log no longer has."""
        self._checkpointers[partition].disown()

    def written(self, timeout_s: float = 0.0) -> list[Written]:
        """Checkpoints that have ended since the last call; waits for one where a timeout is given."""
        ended: list[Written] = []
        while True:
            try:
                checkpointer, write, result, lost = self._results.get(timeout=timeout_s if not ended else 0.0)
            except queue.Empty:
                return ended
            if result.error is None:
                checkpointer.done(write)
            else:
                checkpointer.failed(write, lost=lost)
            if self._checkpointers.get(result.partition) is checkpointer:
                ended.append(result)

    @property
    def writing(self) -> bool:
        """Whether a checkpoint of what is owned is under way."""
        return any(checkpointer.writing for checkpointer in self._checkpointers.values())

    def drop(self, partition: int) -> None:
        """A partition is no longer ours: give up its restore and what waits to be written; what is being written of it
        already is of no interest."""
        if (under_way := self._restores.pop(partition, None)) is not None:
            under_way.steps.close()
        self._again.pop(partition, None)
        self._checkpointers.pop(partition, None)

    def close(self, timeout_s: float) -> None:
        """End the thread, once what it has been given is written or the time is over."""
        self._jobs.put(None)
        self._thread.join(timeout_s)
        self._store.close()

    def _write_all(self) -> None:
        while (job := self._jobs.get()) is not None:
            checkpointer, write = job
            if self._checkpointers.get(write.partition) is not checkpointer:
                continue  # dropped since
            began = time.monotonic()
            error, lost = None, False
            try:
                self._store.write(write, WRITE_S)
            except WriteFailed as problem:
                error, lost = str(problem), problem.lost
            except Exception as problem:  # a checkpoint that fails must not end checkpoints
                log.exception("checkpoint failed unexpectedly", partition=write.partition)
                error = f"{type(problem).__name__}: {problem}"
            result = Written(write.partition, dict(write.offsets), error, write.size, time.monotonic() - began)
            self._results.put((checkpointer, write, result, lost))
