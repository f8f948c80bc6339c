"""What a checkpoint writes, and what it makes superfluous.

The pieces that changed are packed into new chunks; the manifest names where every live piece lies, in new chunks or in
those of earlier checkpoints. Nothing stored is ever overwritten. Two checkpoints are kept: the one being written and
the last one known to be durable; what neither names is deleted, always after the new manifest.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from msemon.core.snapshot import Piece, PieceName, Snapshot
from msemon.state import codec, manifest
from msemon.state.base import MAX_CHUNK, MAX_SEQUENCE, ChunkKey, ManifestKey, is_writer
from msemon.state.manifest import Manifest, Place, Sum

FULLNESS = 0.6
"""Where less than this share of the stored bytes is live, the emptiest chunks are written again. The promise is half:
between two looks at it some more may die."""

_SPARE_CHUNKS = 64  # on top of twice as many as the live bytes need: small ones are merged beyond that


@dataclass(frozen=True, slots=True)
class Leftovers:
    """All that a store had of a task when it was restored, whoever wrote it."""

    chunks: frozenset[ChunkKey] = frozenset()
    manifests: frozenset[ManifestKey] = frozenset()
    beyond: frozenset[ManifestKey] = frozenset()
    """Those of the manifests whose log was cut back below them: once it has grown again they would look right."""


@dataclass(slots=True)
class CheckpointWrite:
    """One checkpoint on its way into a store, encoded while the store takes it: see `base.Write`."""

    changed: dict[PieceName, Piece]
    order: list[list[PieceName]]  # of the changed pieces; each list gets chunks of its own
    content: Manifest  # of what stays where it is; grows while the chunks are made
    base: ManifestKey | None
    delete_chunks: Collection[ChunkKey]
    delete_manifests: Collection[ManifestKey]
    names: frozenset[PieceName]  # of the changed pieces
    made: list[ChunkKey] = field(default_factory=list)
    size: int = 0
    """Bytes written so far: chunks and manifest."""
    _begun: bool = False
    _complete: bool = False

    @property
    def offsets(self) -> dict[str, int]:
        return self.content.offsets

    @property
    def partition(self) -> int:
        return self.content.partition

    @property
    def key(self) -> ManifestKey:
        return self.content.key

    @property
    def full(self) -> bool:
        """Whether it leans on no other checkpoint."""
        return self.base is None

    def chunks(self) -> Iterator[tuple[ChunkKey, bytes]]:
        """The chunks, each made when it is asked for; can be taken once. Raises ValueError from `codec.encode`."""
        if self._begun:
            raise RuntimeError("the chunks of a checkpoint can be taken once")
        self._begun = True
        for names in self.order:
            filling = bytearray()
            for name in names:
                data = codec.encode(self.changed.pop(name))  # popped: what is written need not be held any more
                if filling and len(filling) + len(data) > MAX_CHUNK:
                    yield self._finish(filling)
                    filling = bytearray()
                yield from self._place(name, data, filling)
                if len(data) > MAX_CHUNK:
                    # Its end shares a chunk with nothing: else the whole piece would be moved when that empties.
                    yield self._finish(filling)
                    filling = bytearray()
            if filling:
                yield self._finish(filling)
        self._complete = True

    def manifest(self) -> bytes:
        """The manifest, once all chunks are made. Raises ValueError from `manifest.encode`."""
        if not self._complete:
            raise RuntimeError("the manifest comes after the chunks")
        data = manifest.encode(self.content)
        self.size += len(data)
        return data

    def _place(self, name: PieceName, data: bytes, filling: bytearray) -> Iterator[tuple[ChunkKey, bytes]]:
        """Put a piece behind what `filling` holds; a piece larger than a chunk begins one and goes on in the next."""
        places = []
        view = memoryview(data)
        while view:
            part = view[: MAX_CHUNK - len(filling)]
            places.append(Place(self._next_key(), len(filling), len(part)))
            filling += part
            view = view[len(part) :]
            if view:
                yield self._finish(filling)
                filling.clear()
        self.content.pieces[name] = tuple(places)

    def _next_key(self) -> ChunkKey:
        return ChunkKey(*self.key, len(self.made))

    def _finish(self, filling: bytearray) -> tuple[ChunkKey, bytes]:
        key, data = self._next_key(), bytes(filling)
        self.content.chunks[key] = Sum(len(data), manifest.digest(data))
        self.made.append(key)
        self.size += len(data)
        return key, data


class Checkpointer:
    """Of one task while it is owned: knows what lies where. One write at a time; not for two threads at once.

    A checkpoint: touch `wanted()`, or everything while it `owes_all`; `plan` the task's snapshot; hand the plan to the
    store, on the writer's thread; then tell how it went with `done` or `failed`.
    """

    def __init__(self, partition: int, writer: str, leftovers: Leftovers | None = None) -> None:
        """`writer` was never used before (`new_writer`). `leftovers` as found when the task was restored: what others
        wrote is deleted with the second checkpoint, when the first, full one is known to be durable; what lies beyond
        the log's end already with the first, since it can't be gone back to."""
        if not is_writer(writer):
            raise ValueError(f"{writer[:80]!r} can't name a writer")
        self._partition = partition
        self._writer = writer
        self._others = leftovers or Leftovers()
        # Going on from the others' numbers: of two checkpoints with the same offsets the later one is taken.
        sequences = (key.sequence for key in self._others.manifests)
        self._sequence = 1 + max((each for each in sequences if 0 <= each < MAX_SEQUENCE // 2), default=-1)
        self._durable: Manifest | None = None
        self._chunks: set[ChunkKey] = set()  # own ones that may be in the store
        self._manifests: set[ManifestKey] = set()
        self._owed: set[PieceName] = set()  # changed in a checkpoint that failed
        self._previous: frozenset[PieceName] = frozenset()  # changed in the last one
        self._writing: CheckpointWrite | None = None

    @property
    def owes_all(self) -> bool:
        """Whether the next snapshot must have every piece: nothing of this owner's is in the store."""
        return self._durable is None

    @property
    def writing(self) -> bool:
        """Whether a write is planned and neither done nor failed yet."""
        return self._writing is not None

    def wanted(self) -> set[PieceName]:
        """Pieces that must be in the next snapshot although they did not change: owed ones, and those whose chunks hold
        too little beside them. Some may have ceased to live since."""
        return self._owed | (_scattered(self._durable) if self._durable else set())

    def plan(self, snapshot: Snapshot) -> CheckpointWrite:
        """The checkpoint of this snapshot, which it takes over. Raises ValueError where a piece is missing that is
        not in the store as it is now, or a name can't be kept; RuntimeError while another write is under way."""
        if self._writing is not None:
            raise RuntimeError("the last checkpoint is still being written")
        changed = {name: piece for name, piece in snapshot.changed.items() if name in snapshot.live}
        for name in changed:
            manifest.check_name(name)
        content = self._kept(snapshot, changed)
        write = CheckpointWrite(
            changed,
            self._order(changed),
            content,
            self._durable.key if self._durable else None,
            *self._superfluous(content),
            frozenset(changed),
        )
        self._sequence += 1
        self._writing = write
        return write

    def done(self, write: CheckpointWrite) -> None:
        """The store has made it durable, deletions included."""
        self._require_current(write)
        if write.base is not None:
            self._others = Leftovers()
        self._durable = write.content
        self._chunks = (self._chunks | set(write.made)).difference(write.delete_chunks)
        self._manifests = (self._manifests | {write.key}).difference(write.delete_manifests)
        self._owed.clear()
        self._previous = write.names

    def disown(self) -> None:
        """All that others had left lies beyond the log's end."""
        self._others = replace(self._others, beyond=self._others.manifests)

    def failed(self, write: CheckpointWrite, *, lost: bool = False) -> None:
        """It may or may not be in the store: all of it is owed again. `lost`: what was there before is gone too."""
        self._require_current(write)
        self._owed |= write.names
        self._chunks.update(write.made)  # perhaps; deleting what is not there does no harm
        self._manifests.add(write.key)
        if lost:
            self._durable = None

    def _require_current(self, write: CheckpointWrite) -> None:
        if write is not self._writing:
            raise RuntimeError("not the write that is under way")
        self._writing = None

    def _kept(self, snapshot: Snapshot, changed: Collection[PieceName]) -> Manifest:
        """What stays where it is."""
        old = self._durable.pieces if self._durable else {}
        stay = snapshot.live.difference(changed)
        lacking = [name for name in stay if name not in old or name in self._owed]
        if lacking:
            raise ValueError(f"{len(lacking)} pieces are neither stored nor in the snapshot, such as {lacking[0]}")
        # In the order of the last manifest, so that equal states make equal manifests.
        pieces = {name: places for name, places in old.items() if name in stay}
        named = {place.chunk for places in pieces.values() for place in places}
        sums = self._durable.chunks if self._durable else {}
        return Manifest(
            snapshot.partition,
            ManifestKey(self._writer, self._sequence),
            dict(snapshot.offsets),
            dict(snapshot.clocks),
            {key: total for key, total in sums.items() if key in named},
            pieces,
        )

    def _superfluous(self, content: Manifest) -> tuple[set[ChunkKey], set[ManifestKey]]:
        """What this checkpoint and the last durable one do not name; while there is none, only what is wrong."""
        if self._durable is None:
            return set(), set(self._others.beyond)
        chunks = (self._chunks | self._others.chunks) - content.chunks.keys() - self._durable.chunks.keys()
        return chunks, (self._manifests | self._others.manifests) - {self._durable.key}

    def _order(self, changed: Collection[PieceName]) -> list[list[PieceName]]:
        """Changed again since the last checkpoint: likely to change once more, so kept apart from what may stay."""
        volatile = sorted((name for name in changed if name in self._previous), key=_alike)
        lasting = sorted((name for name in changed if name not in self._previous), key=_alike)
        return [names for names in (lasting, volatile) if names]


def new_writer() -> str:
    """A writer's name that nobody has used: one for every time a task is taken over."""
    return secrets.token_hex(8)


def _alike(name: PieceName) -> list[tuple[bool, str | int]]:
    """Sorts pieces of one kind together: they tend to be rewritten, and to end, together."""
    return [(isinstance(part, str), part) for part in name]


def _scattered(content: Manifest) -> set[PieceName]:
    """The pieces to write again so that enough of the stored bytes is live, and chunks are not too many."""
    live: Counter[ChunkKey] = Counter()
    inside: dict[ChunkKey, list[PieceName]] = {}
    for name, places in content.pieces.items():
        for place in places:
            live[place.chunk] += place.length
            inside.setdefault(place.chunk, []).append(name)
    total = live.total()
    stored = sum(each.size for each in content.chunks.values())
    emptiest = sorted(content.chunks, key=lambda key: live[key] / content.chunks[key].size)
    chosen: set[PieceName] = set()
    for key in emptiest:
        if total >= FULLNESS * stored:
            break
        stored -= content.chunks[key].size - _take(key, inside, content, chosen)
    too_many = len(content.chunks) - _SPARE_CHUNKS - 2 * -(-total // MAX_CHUNK)
    if too_many > 0:
        split = {place.chunk for places in content.pieces.values() if len(places) > 1 for place in places}
        smallest = sorted(content.chunks.keys() - split, key=lambda key: content.chunks[key].size)
        for key in smallest[: too_many + _SPARE_CHUNKS // 2]:
            _take(key, inside, content, chosen)
    return chosen


def _take(
    key: ChunkKey, inside: dict[ChunkKey, list[PieceName]], content: Manifest, chosen: set[PieceName]
) -> int:
    """Choose all pieces in this chunk; returns the bytes that are then stored anew."""
    new = set(inside.get(key, ())) - chosen
    chosen |= new
    return sum(place.length for name in new for place in content.pieces[name])
