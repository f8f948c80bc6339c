"""Where an event's fields are in a message, and the msgspec type that reads just those."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import astuple

NAMES: Final = ("id", "ts", "prediction", "label", "weight", "model", "version", "segments")
"""The names of an event, in the order of `Fields`."""

Path = tuple[str, ...]


class Wrong:
    """Stands where a message has something that can't hold the value looked for."""


WRONG: Final = Wrong()


class Fields(NamedTuple):
    """The values of one message under an event's names, unjudged; None where absent or null.

    `segments` holds a value per segment key, or `WRONG` where there is something that is not an object.
    """

    id: Any
    ts: Any
    prediction: Any
    label: Any
    weight: Any
    model: Any
    version: Any
    segments: Any


_TYPES: Final[Mapping[str, Any]] = {
    "id": str | int | None,
    "ts": int | float | str | None,
    "prediction": float | list[float] | None,
    "label": float | list[float] | None,
    "weight": float | None,
    "model": str | None,
    "version": str | int | None,
}


def parse_path(text: str) -> Path:
    r"""The member names of a dotted path; a literal dot is written `\.`, a literal backslash `\\`.

    >>> parse_path(r"request.user\.id")
    ('request', 'user.id')
    """
    names, escaped = [""], False
    for character in text:
        if escaped:
            if character not in r"\.":
                raise ValueError(f"path {text!r}: a backslash stands before a dot or a backslash only")
            names[-1] += character
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ".":
            names.append("")
        else:
            names[-1] += character
    if escaped or "" in names:
        raise ValueError(f"path {text!r}: " + ("ends in a lone backslash" if escaped else "has an empty name"))
    return tuple(names)


def parse_fields(fields: Mapping[str, str]) -> dict[str, Path]:
    """The path of every name of an event: the configured one, else the name itself.

    Raises ValueError for a name events don't have, a bad path, and for paths of which one is or contains another.
    """
    for name in fields:
        if name not in NAMES:
            raise ValueError(f"{name!r} is no field of an event; these are: {', '.join(NAMES)}")
    paths = {name: parse_path(fields[name]) if name in fields else (name,) for name in NAMES}
    for i, name in enumerate(NAMES):
        for other in NAMES[i + 1 :]:
            short, long = sorted((name, other), key=lambda each: len(paths[each]))
            if paths[long][: len(paths[short])] == paths[short]:
                relation = "are one path" if paths[long] == paths[short] else "can't both be read"
                raise ValueError(
                    f"{short} = {written_path(paths[short])!r} and {long} = {written_path(paths[long])!r} {relation}: "
                    "give each field a place of its own"
                )
    return paths


def written_path(path: Path) -> str:
    """What `parse_path` reads as this path."""
    return ".".join(name.replace("\\", "\\\\").replace(".", "\\.") for name in path)


class Quick(NamedTuple):
    """The quick way from bytes to fields: `values(decode(message))`, apart because a call of a call is not free.

    `decode` raises for whatever is not plainly right; `values` gives plain values in the order of `NAMES`, of the
    types in the contract, segments as a struct or None; `segments` makes such a struct of its values.
    """

    decode: Callable[[bytes], Any]
    values: Callable[[Any], tuple[Any, ...]]
    segments: Callable[..., Any]


class Layout:
    """How to take `Fields` out of a message, quickly from bytes or from a parsed document."""

    def __init__(self, fields: Mapping[str, str], segment_keys: Sequence[str]) -> None:
        self.paths = parse_fields(fields)
        self.segment_keys = tuple(segment_keys)
        self.message: Any = None  # the quick way's type
        self.quick = self._compile()

    def _compile(self) -> Quick | None:
        """The quick way; None where msgspec can't name a member (one with quotes in it, say)."""
        try:
            segments = _struct("Segments", [(key, str | bool | int | None, None) for key in self.segment_keys])
            message, reads = _message({**_TYPES, "segments": segments | None}, self.paths)
        except (ValueError, TypeError):
            return None
        self.message = message
        decode = msgspec.json.Decoder(message).decode
        flat = all("." not in read for read in reads)
        return Quick(decode, astuple if flat else attrgetter(*reads), segments)

    def find(self, document: Mapping[str, Any]) -> Fields:
        """The fields of a parsed message."""
        found = {name: _follow(document, path) for name, path in self.paths.items()}
        segments = found["segments"]
        if segments is not None:
            is_object = isinstance(segments, dict)
            found["segments"] = tuple(segments.get(key) for key in self.segment_keys) if is_object else WRONG
        return Fields(**found)


def _follow(document: Any, path: Path) -> Any:
    """What stands at a path; None where any part is absent or null, WRONG where the way leads through no object."""
    for name in path:
        if document is None:
            return None
        if not isinstance(document, dict):
            return WRONG
        document = document.get(name)
    return document


def _struct(name: str, members: Sequence[tuple[str, Any, Any]]) -> Any:
    """A struct type of (member's name in the message, type, default or factory); its own names are m0, m1, ...

    No garbage collection of them: they hold nothing that could refer back, and tracking costs a tenth of the decoding.
    Frozen, and so hashable: segments are found by what they hold.
    """
    made = []
    for i, (member, kind, default) in enumerate(members):
        given: Any = {"default_factory": default} if callable(default) else {"default": default}
        made.append((f"m{i}", kind, msgspec.field(name=member, **given)))
    return msgspec.defstruct(name, made, gc=False, frozen=True)


def _message(types: Mapping[str, Any], paths: Mapping[str, Path]) -> tuple[Any, list[str]]:
    """The struct type for a message, and where in it each name of an event is read, in the order of `types`."""
    tree: dict[str, Any] = {}
    for name in types:
        branch = tree
        for member in paths[name][:-1]:
            branch = branch.setdefault(member, {})
        branch[paths[name][-1]] = name
    reads: dict[str, str] = {}
    message = _branch(tree, types, "", reads)
    return message, [reads[name] for name in types]


def _branch(tree: Mapping[str, Any], types: Mapping[str, Any], prefix: str, reads: dict[str, str]) -> Any:
    members: list[tuple[str, Any, Any]] = []
    for i, (member, below) in enumerate(tree.items()):
        place = f"{prefix}m{i}"
        if isinstance(below, str):
            reads[below] = place
            members.append((member, types[below], None))
        else:  # absent: an empty one; null is left to the careful way, so that reading never meets None half way
            kind = _branch(below, types, f"{place}.", reads)
            members.append((member, kind, kind))
    return _struct("Message", members)
