"""Text that becomes a label value: made safe to show, bounded in length, and cached."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Any

from msemon.events import Key, Target

NONE = "__none__"
"""What a segment key that is missing or null compares as; no user value can be equal to it."""

ANYONE: Target = (None, None)
"""Whom a label answers that names neither model nor version."""

SHORTEST_LIMIT = 9
"""A cut value ends in `~` and eight digits, so a limit below this can't be kept."""

Raw = str | int | None
"""A segment value as it stands in a message: text, integer or boolean (which is an int), or nothing."""

RawKey = tuple[Any, ...]

_REPLACEMENT = "\ufffd"
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CACHED_KEYS = 65_536
_CACHED_LENGTH = 512  # longer ones are not cached: a cache bounded in entries alone could still hold gigabytes


def clean(text: str, limit: int) -> str:
    r"""`text` as a label value of at most `limit` characters (`limit` ≥ 9).

    Control characters (C0, DEL, C1, U+2028, U+2029) and lone surrogates become U+FFFD; a value that begins with `__`
    gets one more `_`, so that no user can imitate `__none__` or `__other__`; a longer value is cut and ends in `~` and
    8 hex digits of the BLAKE2b hash of the text as it came. `\` and `,` are escaped later, where values are joined.

    >>> clean("de\n", 128)
    'de�'
    >>> clean("__none__", 128)
    '___none__'
    >>> clean("x" * 20, 12)
    'xxx~111cb193'
    """
    safe = _UNSAFE.sub(_REPLACEMENT, text)
    if safe.startswith("__"):
        safe = "_" + safe
    if len(safe) <= limit:
        return safe
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{safe[: limit - SHORTEST_LIMIT]}~{digest}"


def segment_text(value: Raw, limit: int) -> str:
    """The text that a segment value compares as.

    >>> segment_text(True, 128), segment_text(1, 128), segment_text(None, 128)
    ('true', '1', '__none__')
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(str(value), limit)


class Keys:
    """Clean keys for raw (model, version, segment values), found again in a bounded dict.

    Equal keys are one object while cached, so that what is kept of them downstream costs one pointer. `known` (by what
    `raw_key` gives), `plain` and `targets` (by model and version) may be read directly: only what was asked for once is
    there. `plain` is by (model, version, segments as `struct` makes them of their values, or None), and only has what
    no booleans equal: True is 1 in a dict, but not as a segment.
    """

    def __init__(self, segments: int, limit: int, struct: Callable[..., Hashable] | None = None) -> None:
        self._limit = limit
        self._nothing: tuple[Raw, ...] = (None,) * segments
        self._struct = struct
        self.known: dict[RawKey, Key] = {}
        self.plain: dict[tuple[str, str | int | None, Hashable], Key] = {}
        self.targets: dict[tuple[str | None, str | int | None], Target] = {}

    def key(self, model: str, version: str | int | None, segments: tuple[Raw, ...] | None) -> Key:
        """The key of a model, a version (None: "") and its segment values (None: an event without any)."""
        raw = raw_key(model, version, segments)
        key = self.known.get(raw)
        if key is None:
            key = self._make(model, version, self._nothing if segments is None else segments)
            if (
                len(model) + sum(len(each) for each in (version, *(segments or ())) if isinstance(each, str))
                <= _CACHED_LENGTH
            ):
                if len(self.known) >= _CACHED_KEYS:
                    self.known.clear()
                    self.plain.clear()
                self.known[raw] = key
                self._keep_plain(model, version, segments, key)
        return key

    def target(self, model: str | None, version: str | int | None) -> Target:
        """Whom a label answers, by clean names: None is any."""
        target = self.targets.get((model, version))
        if target is None:
            target = (
                None if model is None else clean(model, self._limit),
                None if version is None else clean(str(version), self._limit),
            )
            if len(model or "") + len(str(version)) <= _CACHED_LENGTH:
                if len(self.targets) >= _CACHED_KEYS:
                    self.targets.clear()
                self.targets[model, version] = target
        return target

    def _keep_plain(self, model: str, version: str | int | None, segments: tuple[Raw, ...] | None, key: Key) -> None:
        if segments is None:
            self.plain[model, version, None] = key
        elif self._struct is not None and not any(value in (0, 1) for value in segments):
            self.plain[model, version, self._struct(*segments)] = key

    def _make(self, model: str, version: str | int | None, segments: tuple[Raw, ...]) -> Key:
        return (
            clean(model, self._limit),
            "" if version is None else clean(str(version), self._limit),
            *[segment_text(value, self._limit) for value in segments],
        )


def raw_key(model: str, version: str | int | None, segments: tuple[Raw, ...] | None) -> RawKey:
    """What a key is cached by. Booleans bring their types along: True equals 1 in a dict, but not as a segment."""
    if segments is None:
        return (model, version)
    kinds = tuple(map(type, segments))
    return (model, version, segments, kinds) if bool in kinds else (model, version, segments)
