"""The schemas that the records of a batch need: which of them are asked for, and how many at most.

Who writes to a topic chooses the ids in it. Each that nobody knows yet costs a request to the registry, and the
partition stands still meanwhile: without a bound, random ids would hold it up for as long as they are many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from msemon.events import Reason

AT_ONCE: Final = 20
"""Ids of a batch that are asked for at a time, so that batches take turns."""

MOST_UNKNOWN: Final = 20
"""Ids of a batch that may turn out to be unknown: of the rest none is asked for any more."""

MOST_ASKED: Final = 1_000
"""Ids of a batch that are asked for at all: who knows another topic's ids can name those."""

Ident = int | str
"""A schema's id or its GUID."""

T = TypeVar("T")


class Schema(NamedTuple):
    """A schema as the registry has it."""

    text: str
    kind: str  # AVRO, PROTOBUF or JSON
    references: tuple[str, ...] = ()  # texts of the schemas whose names it uses, each after those it uses itself


class Schemas(Protocol):
    """Where schemas come from. Never waits."""

    def known(self, ident: Ident) -> Schema | Reason | None:
        """The schema of an id or a GUID; `UNKNOWN_SCHEMA` where there is none; None where that is not known yet."""

    def find(self, ident: Ident) -> Schema | Reason | None:
        """Likewise; what is not known yet is asked for from now on."""


class Needs(Generic[T]):
    """What one batch needs, of which some is still to come."""

    def __init__(
        self, first: int, idents: Sequence[Ident], known: Callable[[Ident], T | None], find: Callable[[Ident], T | None]
    ) -> None:
        """`first` is the batch's first offset; `idents` are those of its records, the ones of most records first.

        So what a topic's honest writers use is asked for before what somebody makes up. `known` and `find` are as in
        `Schemas`; what is not asked for is not found, at the end, either.
        """
        self.first = first
        self.idents = frozenset(idents)
        self.found: dict[Ident, T] = {}
        self._find = find
        self._awaited: list[Ident] = []
        self._rest: deque[Ident] = deque()
        self._asked = self._unknown = 0
        for ident in idents:
            if not self._took(ident, known(ident)):
                self._rest.append(ident)

    @property
    def passed_over(self) -> int:
        """How many ids are not asked for; once all is settled."""
        return len(self._rest)

    def settled(self) -> bool:
        """Whether nothing more is to come. Asks for what it is time to ask for."""
        self._awaited = [ident for ident in self._awaited if not self._answered(ident)]
        while self._rest and len(self._awaited) < AT_ONCE and self._asked < MOST_ASKED and self._unknown < MOST_UNKNOWN:
            ident = self._rest.popleft()
            self._asked += 1
            if not self._answered(ident):
                self._awaited.append(ident)
        return not self._awaited

    def _answered(self, ident: Ident) -> bool:
        answer = self._find(ident)
        self._unknown += isinstance(answer, Reason)
        return self._took(ident, answer)

    def _took(self, ident: Ident, answer: T | None) -> bool:
        if answer is not None:
            self.found[ident] = answer
        return answer is not None
