"""What a rebalance means, whatever the client: which partitions are ours, and whether the topics' go together. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msemon.sources.base import Fatal, Polled, TopicPartition, UnequalPartitions

CHECK_S = 5.0
"""How long after an assignment that was not sound it is looked at again."""

UNEVEN_S = 120.0
"""How long an assignment may differ between topics of equal partition counts: the group's leader may have made it while
the topics grew one after the other, and learns of that within `metadata_max_age_ms`."""


class Note(NamedTuple):
    """Something a rebalance did, as the client's listener was told."""

    kind: str  # revoked, assigned or lost
    partitions: frozenset[TopicPartition]


def missed_one(before: tuple[int, str] | None, now: tuple[int, str] | None) -> bool:
    """Whether the group had a generation between these two, in which others may have had our partitions.

    A member that is thrown out while it rejoins gets a new id and its partitions back without a word of their loss.
    """
    return before is not None and now is not None and (before[1] != now[1] or not 0 <= now[0] - before[0] <= 1)


class Group:
    """This member's part of the group."""

    def __init__(self, topics: Sequence[str], name: str, uneven_s: float = UNEVEN_S) -> None:
        self._topics = tuple(topics)
        self._name = name
        self._uneven_limit_s = uneven_s
        self.owned: frozenset[int] = frozenset()
        """Partition numbers that are here of every topic. Others are not read: their events would find no partner."""
        self.assigned: frozenset[TopicPartition] = frozenset()
        self.rebalancing = False
        self.unequal: UnequalPartitions | None = None
        self.check_at_s = math.inf
        """When the topics' partitions should be counted."""
        self._uneven_since_s: float | None = None

    def apply(self, notes: deque[Note], polled: Polled) -> bool:
        """Turn what was noted into what the daemon has to know; whether there was an assignment."""
        before, assigned = self.owned, False
        while notes:
            note = notes.popleft()
            self.rebalancing = note.kind != "assigned"
            if note.kind == "lost":
                polled.lost |= before & {where.partition for where in note.partitions}
                before -= polled.lost
                self.owned -= {where.partition for where in note.partitions}
                polled.assigned = None if polled.assigned is None else self.owned
                self.assigned -= note.partitions
            elif note.kind == "assigned":
                assigned = True
                self.assigned = note.partitions
                self.owned = self._whole(note.partitions)
                polled.revoked |= before - self.owned  # also of what a further assignment brings back
                polled.assigned = self.owned
                self.check_at_s = 0.0
        return assigned

    def due(self, now_s: float) -> bool:
        """Whether the topics' partitions should be counted now; asked again only later, whatever comes of it."""
        if now_s < self.check_at_s:
            return False
        self.check_at_s = now_s + CHECK_S
        return True

    def counted(self, counts: Mapping[str, int | None], now_s: float) -> str | None:
        """Judge the topics' partition counts: `unequal` says whether they differ.

        Gives what is wrong with the assignment where that may mend itself. Raises Fatal where it has not.
        """
        self.unequal = UnequalPartitions(counts) if len(set(counts.values())) > 1 else None
        if self.unequal is not None:
            return None
        if len(self.assigned) == len(self.owned) * len(self._topics):
            self.check_at_s = math.inf
            self._uneven_since_s = None
            return None
        text = f"the group {self._name} gave us different partitions of different topics: {_listed(self.assigned)}"
        self._uneven_since_s = now_s if self._uneven_since_s is None else self._uneven_since_s
        if now_s - self._uneven_since_s >= self._uneven_limit_s:
            raise Fatal(f"{text}; are there members that read other topics?")
        return text

    def _whole(self, assigned: Collection[TopicPartition]) -> frozenset[int]:
        sets = [{where.partition for where in assigned if where.topic == topic} for topic in self._topics]
        return frozenset(set.intersection(*sets))


def require_equal(counts: Mapping[str, int | None]) -> None:
    """Raises UnequalPartitions where topics that exist differ in their numbers of partitions."""
    if len({count for count in counts.values() if count is not None}) > 1:
        raise UnequalPartitions(counts)


def _listed(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{where.topic}-{where.partition}" for where in sorted(partitions))
