"""Who asks waits for a turn: one answer is made at a time, and shared by all who asked the same meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

PATIENCE_S = 30.0
"""Longest wait for one's turn."""

T = TypeVar("T")


class Busy(Exception):
    """Too many wait already, or waiting took too long."""


class Turns(Generic[T]):
    """Makes one answer at a time, and gives it to all who asked for the same before its making began.

    So twenty scrapes at once cost two renderings and not twenty, and the loop that reads Kafka keeps its share of
    the interpreter; yet nobody is given numbers older than their question.
    """

    def __init__(self, most: int, patience_s: float = PATIENCE_S) -> None:
        self._most = most
        self._patience_s = patience_s
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._inside = 0
        self._begun = 0
        self._made: dict[Hashable, tuple[int, T]] = {}

    def get(self, question: Hashable, make: Callable[[], T]) -> T:
        """The answer to a question. Raises Busy, and what `make` raises."""
        asked = self._begun
        with self._count:
            if self._inside >= self._most:
                raise Busy
            self._inside += 1
        try:
            return self._in_turn(question, make, asked)
        finally:
            with self._count:
                self._inside -= 1
                if not self._inside:
                    self._made = {}  # nobody waits for it: let its memory go

    def _in_turn(self, question: Hashable, make: Callable[[], T], asked: int) -> T:
        if not self._turn.acquire(timeout=self._patience_s):
            raise Busy
        try:
            made = self._made.get(question)
            if made is None or made[0] <= asked:
                self._begun += 1
                made = self._made[question] = self._begun, make()
            return made[1]
        finally:
            self._turn.release()
