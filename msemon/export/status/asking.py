"""What a question to the API asks for; anything not understood is refused, so that a typing error is not an answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

DEFAULT_LIMIT, MOST_ROWS = 1_000, 10_000
"""Rows of one answer."""

MOST_TRENDS = 100
"""Rows of one answer with their trends."""

KINDS = ("all", "models", "segments")
SORTS = ("name", "rmse", "mse", "bias", "pairs", "ratio", "drift", "coverage", "share")


class Wrong(Exception):
    """A question that can't be answered. The message is for whoever asked."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Sort(NamedTuple):
    """By what, and in which direction."""

    by: str = "name"
    descending: bool = False


_BY_NAME = Sort()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question for series. None: any."""

    model: str | None = None
    version: str | None = None
    dimension: str | None = None
    kind: str = "all"
    search: str = ""  # in lower case
    drifting: bool = False
    sort: Sort = _BY_NAME
    window: str | None = None  # of the values sorted by; None: the first
    offset: int = 0
    limit: int = DEFAULT_LIMIT
    trend: bool = False

    @staticmethod
    def of(query: Mapping[str, str]) -> Asked:
        """Raises Wrong."""
        fields = understood(query, _SERIES)
        limit = min(fields.get("limit", DEFAULT_LIMIT), MOST_TRENDS if fields.get("trend") else MOST_ROWS)
        return Asked(**(fields | {"limit": limit}))


def model_of(query: Mapping[str, str]) -> str:
    """The model asked for. Raises Wrong."""
    name = understood(query, {"model": str}).get("model")
    if name is None:
        raise Wrong("the parameter 'model' is needed")
    return str(name)


def understood(query: Mapping[str, str], known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The query's fields, each read by what is known of it. Raises Wrong."""
    found = {}
    for name, text in query.items():
        if name not in known:
            raise Wrong(f"there is no parameter {name!r}; there are: {', '.join(sorted(known)) or 'none'}")
        try:
            found[name] = known[name](text)
        except ValueError as error:
            raise Wrong(f"{name}: {error}") from None
    return found


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ValueError("a whole number from 0 is needed")
    return int(text)


def _yes(text: str) -> bool:
    return _one_of(("true", "false"))(text) == "true"


def _one_of(words: Collection[str]) -> Callable[[str], str]:
    def chosen(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)} is needed")
        return text

    return chosen


def _sort(text: str) -> Sort:
    return Sort(_one_of(SORTS)(text.removeprefix("-")), text.startswith("-"))


_SERIES: Mapping[str, Callable[[str], Any]] = {
    "model": str, "version": str, "dimension": str, "kind": _one_of(KINDS), "search": str.lower, "drifting": _yes,
    "sort": _sort, "window": str, "offset": _whole, "limit": _whole, "trend": _yes,
}  # fmt: skip
