"""What the daemon knows of a source: the seam between it and a Kafka client.

Partition number p of every topic belongs together: a *task*. Members of the group own tasks, so assignments are sets of
partition numbers here, while positions, pauses and lags belong to single topic partitions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from msemon.events import Batch
from msemon.settings.values import Start


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class ErrorKind(StrEnum):
    """What the cluster would not do."""

    AUTHENTICATION = "authentication"  # know us, or we it: a password, a certificate, an authority
    AUTHORIZATION = "authorization"  # allow it: a right on a topic or the group is missing
    OTHER = "other"


class Trouble(NamedTuple):
    """Something that went wrong, in words."""

    kind: ErrorKind
    text: str


class Unreachable(Exception):
    """No broker answered in time, or none that let us in: worth trying again later."""

    def __init__(self, text: str, kind: ErrorKind = ErrorKind.OTHER) -> None:
        super().__init__(text)
        self.kind = kind


class UnequalPartitions(Exception):
    """The topics have different numbers of partitions, so events of one id do not meet.

    `counts` has every topic; None stands for one that does not exist.
    """

    def __init__(self, counts: Mapping[str, int | None]) -> None:
        self.counts = dict(counts)
        described = ", ".join(f"{topic} has {'none' if count is None else count}" for topic, count in counts.items())
        super().__init__(f"the topics must have the same number of partitions: {described}")


class Fatal(Exception):
    """Going on would be wrong (fenced by another member, refused by the cluster): the process must exit non-zero."""


class Gap(NamedTuple):
    """The log no longer has the next `records` offsets; reading went on at its start."""

    where: TopicPartition
    records: int


class Truncated(NamedTuple):
    """The log was cut back to `end`, below what had been read (`position`); reading went on at `end`.

    A task whose snapshot lies at or below `end` can seek back to it; else what it counted beyond is lost to it.
    """

    where: TopicPartition
    position: int
    end: int


class Skipped(NamedTuple):
    """`records` offsets that could not be read (a wrong checksum, an unknown or lying codec); reading went on after."""

    where: TopicPartition
    offset: int
    records: int
    why: str


@dataclass(slots=True)
class Polled:
    """What one poll brought. Apply `lost`, then `revoked`, then `assigned`, then the batches."""

    batches: list[Batch] = field(default_factory=list)

    lost: frozenset[int] = frozenset()
    """Taken away without a word (the group went on without us): drop the state, write nothing."""

    revoked: frozenset[int] = frozenset()
    """Given away by a rebalance that is now complete."""

    assigned: frozenset[int] | None = None
    """All that is owned once a rebalance is complete, else None. What is new in it stays paused, at no position, until
    `seek` and `resume`; what was owned before goes on where it was."""

    rebalancing: bool = False
    """A rebalance is under way: nothing is delivered and commits fail, but nobody else has the partitions yet."""

    unequal: UnequalPartitions | None = None
    """The topics' numbers of partitions have come to differ. Told at every poll until they are equal again; from the
    second on no batches come."""

    remade: frozenset[str] = frozenset()
    """Topics that were deleted and made again since they began to be read; told once. Their positions are void."""

    gaps: list[Gap] = field(default_factory=list)
    truncated: list[Truncated] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    errors: list[Trouble] = field(default_factory=list)
    """Troubles the client will try to get over by itself, for the log."""


class Source(Protocol):
    """Batches of records of some topics, shared with the other members of a group.

    Used by one thread. Every call is bounded in time.
    """

    @property
    def session_timeout_s(self) -> float:
        """How long after it last heard from us the group gives our partitions to others."""

    def connect(self) -> None:
        """One attempt to reach the cluster.

        Raises Unreachable, UnequalPartitions (of topics that exist) or Fatal; may be called again after the first two.
        """

    def partition_counts(self) -> dict[str, int | None]:
        """Partitions of every topic, asked of the cluster now; None where a topic does not exist (yet).

        Creates no topic, whatever the brokers' settings. Raises Unreachable.
        """

    def topic_ids(self) -> dict[str, str]:
        """The cluster's own name of every topic, asked now: another one says that it was deleted and made again.

        Topics that do not exist, or whose cluster gives no such names, are left out. Raises Unreachable.
        """

    def subscribe(self) -> None:
        """Take part in the group from the next poll on."""

    def poll(self, timeout_s: float) -> Polled:
        """Serve the group membership and return what has come, waiting up to `timeout_s` for something.

        A dead cluster looks like an idle one: see `last_heard_s`. Raises Fatal.
        """

    def start_offsets(self, partitions: Collection[int], start: Start) -> dict[TopicPartition, int]:
        """Where to begin to read these partitions of every topic, by the policy. Raises Unreachable."""

    def committed(self, partitions: Collection[int]) -> dict[TopicPartition, int]:
        """What the group has committed of these partitions; nothing where it has not. Raises Unreachable."""

    def committed_note(self, partition: int) -> str:
        """What was noted with the commit of this partition; empty where there is none. Raises Unreachable."""

    def seek(self, where: TopicPartition, offset: int) -> None:
        """Read on from `offset`. Ignored for what is not owned (any more), as are the two below."""

    def pause(self, where: Iterable[TopicPartition]) -> None:
        """Deliver nothing of these until `resume`."""

    def resume(self, where: Iterable[TopicPartition]) -> None:
        """Deliver these again."""

    def lag(self) -> dict[TopicPartition, int]:
        """Offsets between the position and the log's end as last heard, of owned partitions where it is known.

        Never waits. Where a partition is paused the end grows stale.
        """

    def commit(self, offsets: Mapping[TopicPartition, int], timeout_s: float, note: str = "") -> bool:
        """Tell the group the next offsets to read, with a note; False where it did not take them. Raises Fatal."""

    def last_heard_s(self) -> float:
        """When the group last showed that it counts us in, on `time.monotonic`'s clock; -inf for never."""

    def alive(self) -> bool:
        """Whether the client can still do anything; False for ever once a part of it that can't be replaced is gone."""

    def outdated(self) -> bool:
        """Whether the cluster refuses what the client knows, and the files it was given say something else by now."""

    def close(self, timeout_s: float) -> None:
        """Leave the group (a static member does not) and end. Never raises."""
