"""What the daemon knows of a store: the seam between a task's state and the place where it is kept.

A store keeps opaque chunks and manifests under their keys. What they mean is `checkpoint.py`'s business; a store only
has to make them durable in the right order, and to give back what it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

MIB = 1024 * 1024

MAX_CHUNK = MIB // 2
"""Bytes of the largest chunk: a Kafka record's size, with which default brokers have no trouble."""

MAX_MANIFEST = 7 * MIB
"""Bytes of the largest manifest: that of 8 GiB of state is about 1 MiB."""

MAX_STATE = 8 * 1024 * MIB
"""Bytes of the largest state of one task; what claims to be larger is refused."""

MAX_SEQUENCE = 2**53
"""Sequence numbers end here, far beyond any use; a claim beyond is refused before it is added to."""

_WRITER = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ManifestKey(NamedTuple):
    """Names one checkpoint of a task: who wrote it, and the how-manieth of that writer's it is."""

    writer: str
    sequence: int


class ChunkKey(NamedTuple):
    """Names one chunk of a task: the checkpoint it was written for, and its number in that."""

    writer: str
    sequence: int
    number: int


class Refusal(StrEnum):
    """Why a stored snapshot can't be used: the `reason` of `msemon_snapshots_rejected_total`."""

    TORN = "torn"  # shorter or longer than it says
    CHECKSUM = "checksum"
    EMPTY = "empty"
    NEWER_FORMAT = "newer_format"
    MALFORMED = "malformed"  # intact, but it makes no sense
    OTHER_SETTINGS = "other_settings"  # the daemon's to say: its settings no longer fit
    MISSING_CHUNK = "missing_chunk"


class Rejection(NamedTuple):
    """A snapshot that was refused. `what` says which one and what is wrong with it, for the log."""

    reason: Refusal
    what: str


class Corrupt(Exception):
    """Bytes that are not what was once written, or that this version can't read."""

    def __init__(self, reason: Refusal, what: str) -> None:
        super().__init__(f"{what} ({reason})")
        self.reason = reason
        self.what = what


class Unusable(Exception):
    """The store can't be used as it is set up; the message says what to change. The daemon must not start."""


class Unavailable(Exception):
    """The store does not answer at the moment: worth trying again later. It says nothing about what is stored."""


class WriteFailed(Exception):
    """A checkpoint did not become durable, or nobody knows. `lost`: what was written before is gone as well."""

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


class Write(Protocol):
    """One checkpoint on its way into a store. `chunks` can be taken once; `manifest` only after all of them were."""

    @property
    def partition(self) -> int: ...

    @property
    def key(self) -> ManifestKey: ...

    @property
    def base(self) -> ManifestKey | None:
        """The checkpoint that this one leans on; None where it is complete by itself."""

    @property
    def delete_chunks(self) -> Collection[ChunkKey]: ...

    @property
    def delete_manifests(self) -> Collection[ManifestKey]: ...

    def chunks(self) -> Iterator[tuple[ChunkKey, bytes]]: ...

    def manifest(self) -> bytes: ...


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Found:
    """All that a store has of one task, as of one moment. `close` must be called once it is no longer needed."""

    chunk: Callable[[ChunkKey], bytes | None]
    """A chunk's bytes; None where there is none. Raises Corrupt where they can't be read, or are over `MAX_CHUNK`."""

    manifests: Mapping[ManifestKey, bytes] = field(default_factory=dict)
    chunks: Collection[ChunkKey] = frozenset()
    rejected: list[Rejection] = field(default_factory=list)
    """What the store itself had to refuse."""

    close: Callable[[], None] = _nothing


Slices = Generator[None, None, Found]
"""Steps of at most about 50 ms; its return value is what was found."""


class Store(Protocol):
    """Where snapshots live. `restore` belongs to the loop's thread, `write` to the writer's; both may run at a time."""

    @property
    def name(self) -> str:
        """As in `state.store`."""

    def open(self) -> None:
        """Make sure, before anything is read, that state can be kept. Raises Unusable or Unavailable."""

    def write(self, write: Write, timeout_s: float) -> None:
        """Make a checkpoint durable: its chunks, then its manifest, then the deletions.

        It is durable when this returns; where a deletion failed it is tried again with a later write. Raises
        WriteFailed; then the manifest may or may not be there, and nothing was deleted.
        """

    def restore(self, partition: int) -> Slices:
        """Read what there is of a task, in slices between which the loop can go on. Raises Unavailable."""

    def close(self) -> None:
        """Never raises."""


def is_writer(writer: str) -> bool:
    """Whether this can be a writer's name: it stands in keys."""
    return _WRITER.fullmatch(writer) is not None


def missing(_key: ChunkKey) -> None:
    """The `Found.chunk` of a store that has nothing."""
