"""From what a store has of a task to its state: the intact checkpoint with the furthest offsets.

State is a function of a log's prefix, so any intact checkpoint is right, whoever wrote it; the furthest saves the most
reading. One that is not intact is refused with a reason, and the next is tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from msemon.core.snapshot import BadState, Piece, PieceName
from msemon.state import codec, manifest
from msemon.state.base import ChunkKey, Corrupt, Found, ManifestKey, Refusal, Rejection, Store
from msemon.state.checkpoint import Leftovers
from msemon.state.manifest import Manifest

SLICE_S = 0.02
"""After so long the loop gets its turn; a chunk's reading and checking takes about 1 ms on top."""


@dataclass(slots=True)
class Restored:
    """A task's state as of some offsets."""

    pieces: dict[PieceName, Piece]
    offsets: dict[str, int]
    clocks: dict[str, int]
    key: ManifestKey
    store: str
    size: int  # bytes of the chunks it came from


@dataclass(slots=True)
class Restoration:
    """What a restore found. Without `restored` the store has nothing that can be used."""

    restored: Restored | None = None
    rejected: list[Rejection] = field(default_factory=list)
    leftovers: Leftovers = field(default_factory=Leftovers)
    """For the new owner's `Checkpointer`."""


def restore(
    store: Store,
    partition: int,
    *,
    usable: Callable[[Mapping[str, int]], bool] = lambda _: True,
    accept: Callable[[Restored], None] = lambda _: None,
) -> Generator[None, None, Restoration]:
    """Restore a task in slices of at most about 50 ms; the generator's return value is the outcome.

    `usable` is asked with each candidate's offsets, before its chunks are read; what it declines (the log was cut back
    below them) is passed over without a word. `accept` gets a restored state and may raise BadState to have it refused
    and the next one tried. Raises Unavailable.
    """
    found = yield from store.restore(partition)
    try:
        outcome, beyond = Restoration(rejected=list(found.rejected)), set()
        for candidate in (yield from _candidates(found, partition, outcome.rejected)):
            if usable(candidate.offsets):
                outcome.restored = yield from _try(candidate, found, store.name, accept, outcome.rejected)
            else:
                beyond.add(candidate.key)
            if outcome.restored is not None:
                break
        outcome.leftovers = Leftovers(frozenset(found.chunks), frozenset(found.manifests), frozenset(beyond))
        return outcome
    finally:
        found.close()


def _candidates(found: Found, partition: int, rejected: list[Rejection]) -> Generator[None, None, list[Manifest]]:
    """The readable manifests, the furthest first; among equals the later one."""
    candidates = []
    for key, data in found.manifests.items():
        try:
            candidate = manifest.decode(data)
        except Corrupt as problem:
            rejected.append(_rejection(key, problem))
        else:
            if (candidate.partition, candidate.key) == (partition, key):
                candidates.append(candidate)
            else:
                rejected.append(_rejection(key, Corrupt(Refusal.MALFORMED, "a manifest that belongs elsewhere")))
        yield
    candidates.sort(key=lambda each: (sum(each.offsets.values()), each.key.sequence), reverse=True)
    return candidates


def _try(
    candidate: Manifest,
    found: Found,
    store: str,
    accept: Callable[[Restored], None],
    rejected: list[Rejection],
) -> Generator[None, None, Restored | None]:
    size = sum(each.size for each in candidate.chunks.values())
    restored = Restored({}, candidate.offsets, candidate.clocks, candidate.key, store, size)
    try:
        yield from _load(candidate, found, restored.pieces)
        accept(restored)
    except Corrupt as problem:
        rejected.append(_rejection(candidate.key, problem))
    except BadState as problem:
        rejected.append(Rejection(Refusal.MALFORMED, f"checkpoint {_words(candidate.key)}: {problem}"))
    else:
        return restored
    return None


def _load(candidate: Manifest, found: Found, pieces: dict[PieceName, Piece]) -> Iterator[None]:
    """Reads each chunk once; what is held is one chunk beside the pieces."""
    inside: dict[ChunkKey, list[tuple[PieceName, int, int, int]]] = {key: [] for key in candidate.chunks}
    lacking: dict[PieceName, int] = {}
    for name, places in candidate.pieces.items():
        lacking[name] = 0
        for place in places:
            inside[place.chunk].append((name, lacking[name], place.offset, place.length))
            lacking[name] += place.length
    buffers: dict[PieceName, memoryview] = {}
    turn = time.monotonic()
    for key, parts in inside.items():
        chunk = memoryview(_chunk(candidate, found, key))
        for name, at, offset, length in parts:
            buffer = buffers.get(name)
            if buffer is None:
                # Not touched yet: what the manifest claims costs memory only as its chunks come.
                buffer = buffers[name] = np.empty(lacking[name], np.uint8).data
            buffer[at : at + length] = chunk[offset : offset + length]
            lacking[name] -= length
            if not lacking[name]:
                pieces[name] = codec.decode(buffers.pop(name))
        if time.monotonic() - turn > SLICE_S:
            yield
            turn = time.monotonic()


def _chunk(candidate: Manifest, found: Found, key: ChunkKey) -> bytes:
    data = found.chunk(key)
    size, checksum = candidate.chunks[key]
    if data is None:
        raise Corrupt(Refusal.MISSING_CHUNK, f"chunk {_words(key)}")
    if len(data) != size:
        raise Corrupt(Refusal.TORN if data else Refusal.EMPTY, f"chunk {_words(key)} of {len(data):,} bytes")
    if manifest.digest(data) != checksum:
        raise Corrupt(Refusal.CHECKSUM, f"chunk {_words(key)}")
    return data


def _rejection(key: ManifestKey, problem: Corrupt) -> Rejection:
    return Rejection(problem.reason, f"checkpoint {_words(key)}: {problem.what}")


def _words(key: ManifestKey | ChunkKey) -> str:
    return "/".join(str(part) for part in key)
