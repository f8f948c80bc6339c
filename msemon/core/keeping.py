"""A task to pieces, and pieces to a task.

What the settings no longer fit is left out openly: panes of a ring that is no longer kept, series of a dimension that
is no longer asked for, all panes where a pair's time means something else now. The join always comes back whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from msemon.core.baseline import Baseline
from msemon.core.panes import Block
from msemon.core.shape import Shape, Window
from msemon.core.snapshot import BadState, Piece, PieceName, Snapshot
from msemon.core.task import NEVER, Past, Task
from msemon.core.view import SeriesKey
from msemon.core.watch import Kept, Source
from msemon.events import Ints, Key

FORMAT = 1
NONE = "__none__"

_STORES = ("predictions", "matched", "labels")
_TIMES = ("stream", "predicted", "last_pair", "lag")


def snapshot(task: Task) -> Snapshot:
    """What has changed since the last call, copied; and the names of all pieces. On the thread that applies batches."""
    pieces = dict(_pieces(task))
    changed = {name: piece for name, piece in pieces.items() if piece is not None}
    return Snapshot(task.partition, dict(task.offsets), dict(task.clocks), changed, set(pieces))


def touch(task: Task) -> None:
    """Everything is to be in the next snapshot: what the last ones held may not be durable."""
    task.names.touch()
    task.saved_series = None
    for store in task.join.stores:
        store.touch()
    task.watch.dirty = task.watch.kept_dirty = True
    for _, _, block in _blocks(task):
        block.dirty = True


def touch_some(task: Task, names: Collection[PieceName]) -> None:
    """These pieces are to be in the next snapshot, changed or not; names of pieces that have ended do no harm."""
    kinds = {name[0] for name in names}
    if "series" in kinds:
        task.saved_series = None
    task.watch.dirty |= "baselines" in kinds
    task.watch.kept_dirty |= "kept" in kinds
    if kinds & {"combos", "targets"}:
        task.names.touch()
    for name, store in zip(_STORES, task.join.stores, strict=True):
        if name in kinds:
            store.touch({int(piece[1]) for piece in names if piece[0] == name})
    for kind, ring, block in _blocks(task):
        if (kind, *ring) in names:
            block.dirty = True


def restored(
    partition: int, topics: Sequence[str], shape: Shape, pieces: Mapping[PieceName, Piece]
) -> tuple[Task, list[str]]:
    """A task from all its pieces, and what was left out of it, in words. Raises BadState."""
    try:
        return _Restoring(partition, topics, shape, pieces).task()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BadState(f"pieces that contradict each other: {type(error).__name__} {error}") from error


def _pieces(task: Task) -> Iterator[tuple[PieceName, Piece | None]]:
    yield ("head",), _head(task)
    yield ("totals",), _totals(task)
    changed = task.saved_series != task.series.version
    task.saved_series = task.series.version
    yield ("series",), _series(task) if changed else None
    yield ("baselines",), _baselines(task) if task.watch.dirty else None
    yield ("kept",), _kept(task) if task.watch.kept_dirty else None
    task.watch.dirty = task.watch.kept_dirty = False
    yield from task.names.pieces()
    for name, store in zip(_STORES, task.join.stores, strict=True):
        yield from store.pieces(name)
    for kind, ring, block in _blocks(task):
        piece = None
        if block.dirty:
            sids, data = block.held()
            piece = Piece({"sids": sids.astype(np.int64), "data": data}, {})
            block.dirty = False
        yield (kind, *ring), piece


def _blocks(task: Task) -> Iterator[tuple[str, tuple[str, int], Block]]:
    parts = (("panes", task.windows.rings), ("coverage", task.coverage.rings), ("sums", task.watch.rings))
    for kind, rings in parts:
        for window, ring in zip(task.shape.windows, rings, strict=True):
            for pane, block in ring.items():
                yield kind, (_ring_name(window), pane), block


def _ring_name(window: Window) -> str:
    return f"{window.pane_us}/{window.panes}"


def _head(task: Task) -> Piece:
    return Piece({}, {
        "format": FORMAT,
        "key": task.digest_key.hex(),
        "clocks": dict(task.clocks),
        "record_clock": task.record_clock,
        "ended_at": task.ended_at,
        "incomplete_since": task.incomplete_since,
        "topic_ids": dict(task.topic_ids),
        "born_with": task.born_with,
        "observed": task.shape.observed,
        "segment_keys": list(task.shape.segment_keys),
        "rings": [_ring_name(window) for window in task.shape.windows],
        "dimensions": [task.shape.dimension_name(number) for number in range(len(task.shape.dimensions))],
    })  # fmt: skip


def _totals(task: Task) -> Piece:
    keys = task.series.keys
    sids = np.array([sid for sid, key in enumerate(keys) if key is not None and not key.dimension], np.int64)
    columns: dict[str, npt.NDArray[Any]] = {"sids": sids}
    for name, column in task.times().items():
        columns[name] = column[sids]
    columns["lifetime"] = np.concatenate([part[:, sids] for part in task.lifetime.parts(len(keys))])
    past = [[*name, *past.lifetime.ravel().tolist(), *past.times] for name, past in task.past.items()]
    return Piece(columns, {"past": past})


def _series(task: Task) -> Piece:
    held = [(sid, key) for sid, key in enumerate(task.series.keys) if key is not None]
    return Piece({"sids": np.array([sid for sid, _ in held], np.int64)}, {"keys": [list(key) for _, key in held]})


def _baselines(task: Task) -> Piece:
    watch = task.watch
    sids = np.array([sid for sid, key in enumerate(task.series.keys) if key is not None], np.int64)
    learning, table = watch.learner.held()
    columns: dict[str, npt.NDArray[Any]] = {"sids": sids, "baselines": watch.columns(sids)}
    columns |= {"learning": learning.astype(np.int64), "table": table}
    return Piece(columns, {"tolerated_ratio": task.shape.tolerated_ratio})


def _kept(task: Task) -> Piece:
    """Baselines of series that have ended: apart, for they change seldom and may be many."""
    kept = [
        [*key, int(each.source), _values(each.baseline), each.learning, each.ended_us]
        for key, each in task.watch.kept.items()
    ]
    return Piece({}, {"kept": kept})


def _values(baseline: Baseline | None) -> tuple[float, ...] | None:
    if baseline is None:
        return None
    return baseline.mse, baseline.upper_mse, baseline.pairs, baseline.mean_weight, baseline.stake


class _Restoring:
    """One restore: what each step needs of the ones before."""

    def __init__(self, partition: int, topics: Sequence[str], shape: Shape, pieces: Mapping[PieceName, Piece]) -> None:
        self._pieces = pieces
        self._shape = shape
        self._head = pieces[("head",)].meta
        if self._head["format"] != FORMAT:
            raise BadState(f"format {self._head['format']}")
        self._task = Task(partition, list(topics), shape, bytes.fromhex(self._head["key"]))
        self._dropped: list[str] = []
        self._adopt = {
            "panes": self._task.windows.adopt,
            "coverage": self._task.coverage.adopt,
            "sums": self._task.watch.adopt_pane,
        }

    def task(self) -> tuple[Task, list[str]]:
        task, head = self._task, self._head
        task.clocks.update({topic: clock for topic, clock in head["clocks"].items() if topic in task.clocks})
        task.record_clock, task.ended_at = head["record_clock"], head["ended_at"]
        task.incomplete_since = head["incomplete_since"]
        task.topic_ids = {str(topic): str(name) for topic, name in head.get("topic_ids", {}).items()}
        task.born_with = int(head.get("born_with", 0))
        self._dropped += self._begin_empty()
        combos = self._combos()
        targets = self._targets()
        sids = self._series()
        self._totals(sids)
        self._baselines(sids)
        same_time = head["observed"] == self._shape.observed
        if not same_time:
            self._dropped.append("the windows: pairs have another time under the new windows.clock")
            task.forget_stream_times()
        self._blocks(sids, same_time)
        for name, store, refs in zip(_STORES, task.join.stores, (combos, combos, targets), strict=True):
            serials = sorted(int(key[1]) for key in self._pieces if key[0] == name and len(key) == 2)
            store.adopt([(self._pieces[(name, i)], self._pieces[(name, i, "states")]) for i in serials], refs)
        if self._dropped:
            task.mark_incomplete()  # of drift's evidence windows and join know nothing
        return task, self._dropped + self._evidence()

    def _begin_empty(self) -> list[str]:
        """What the settings ask for and this state knows nothing of, in words."""
        head, shape = self._head, self._shape
        rings = {_ring_name(window): window.name for window in shape.windows}
        names = [shape.dimension_name(number) for number in range(len(shape.dimensions))]
        before = set(head.get("rings", rings)), set(head.get("dimensions", names))
        new = [f"the window {name}: new, it begins empty" for ring, name in rings.items() if ring not in before[0]]
        return new + [f"the segments of {name}: new, they begin empty" for name in names if name not in before[1]]

    def _combos(self) -> Ints:
        """Numbers of the combos by their numbers in the pieces."""
        before = self._head["segment_keys"]
        names = sorted((name for name in self._pieces if name[0] == "combos"), key=lambda name: int(name[1]))
        keys = [tuple(key) for name in names for key in self._pieces[name].meta["keys"]]
        places = [before.index(key) if key in before else None for key in self._shape.segment_keys]

        def now(key: Key) -> Key:
            return (*key[:2], *(NONE if place is None else key[2 + place] for place in places))

        same = places == list(range(len(before)))
        return self._task.names.combos_of(keys if same else [now(key) for key in keys])

    def _targets(self) -> Ints:
        targets = self._pieces[("targets",)].meta["targets"]
        return self._task.names.targets_of([None, *(tuple(target) for target in targets)])

    def _series(self) -> Ints:
        """Sids by their sids in the pieces; -1 for series that are not kept."""
        piece = self._pieces[("series",)]
        keys = [SeriesKey(*key) for key in piece.meta["keys"]]
        kept = {"", *(self._shape.dimension_name(i) for i in range(len(self._shape.dimensions)))}
        gone = sorted({key.dimension for key in keys} - kept)
        self._dropped += [f"the segments of {dimension}: no longer a dimension" for dimension in gone]
        sids = np.full(int(piece.columns["sids"].max(initial=-1)) + 1, -1, np.int64)
        rows = list(zip(keys, piece.columns["sids"].tolist(), strict=True))
        for key, old in sorted(rows, key=lambda row: bool(row[0].dimension)):  # totals first
            if key.dimension in kept:
                sids[old] = self._task.series.adopt(key)
        return sids

    def _totals(self, sids: Ints) -> None:
        piece = self._pieces[("totals",)]
        rows = sids[piece.columns["sids"]]
        self._task.set_times(rows, {name: piece.columns[name] for name in _TIMES})
        for sid, parts in zip(rows.tolist(), piece.columns["lifetime"].T, strict=True):
            self._task.lifetime.put(sid, parts.reshape(2, 3))
        for model, version, *rest in piece.meta["past"]:
            times = (int(rest[6]), int(rest[7]), int(rest[8]), int(rest[9]))
            self._task.past[model, version] = Past(np.array(rest[:6]).reshape(2, 3), times)

    def _baselines(self, sids: Ints) -> None:
        piece = self._pieces.get(("baselines",))  # an older version's state has none
        if piece is None:
            return
        watch = self._task.watch
        for *key, source, baseline, learning, ended_us in self._pieces[("kept",)].meta["kept"]:
            known = None if baseline is None else Baseline(*baseline)
            watch.kept[SeriesKey(*key)] = Kept(Source(source), known, tuple(learning), int(ended_us))
        owners, learners = sids[piece.columns["sids"]], sids[piece.columns["learning"]]
        here, there = owners >= 0, learners >= 0
        table = piece.columns["table"][:, there]
        watch.adopt(owners[here], piece.columns["baselines"][:, here], (learners[there], table), self._task.series)
        if self._evidence():
            self._pieces = {name: piece for name, piece in self._pieces.items() if name[0] != "sums"}

    def _evidence(self) -> list[str]:
        """That the evidence of drift begins anew, where it does, in words."""
        piece = self._pieces.get(("baselines",))
        same = piece is None or piece.meta["tolerated_ratio"] == self._shape.tolerated_ratio
        return [] if same else ["the evidence of drift: drift.tolerated_ratio is another"]

    def _blocks(self, sids: Ints, same_time: bool) -> None:
        rings = {_ring_name(window): number for number, window in enumerate(self._shape.windows)}
        left = set()
        for name in sorted(name for name in self._pieces if name[0] in ("panes", "coverage", "sums")):
            kind, ring, pane = name
            if ring not in rings:
                left.add(ring)
                continue
            if kind != "coverage" and not same_time:
                continue
            piece = self._pieces[name]
            owners, data = _owners(sids, piece.columns["sids"]), piece.columns["data"]
            if (owners < 0).any():
                kept = np.flatnonzero(owners >= 0)
                owners, data = owners[kept], data[:, kept]
            self._adopt[str(kind)](rings[str(ring)], int(pane), owners, data)
        self._dropped += [f"the panes of {ring} µs: no longer a window" for ring in sorted(map(str, left))]


def _owners(sids: Ints, before: Ints) -> Ints:
    """Sids now of a pane's series (k,) by their sids in the pieces; -1 for what has ended, perhaps of the largest."""
    owners = np.full(before.size, -1, np.int64)
    known = before < sids.size
    owners[known] = sids[before[known]]
    return owners


__all__ = ["FORMAT", "NEVER", "restored", "snapshot", "touch"]
