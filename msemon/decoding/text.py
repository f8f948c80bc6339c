"""Text that becomes a label value: made safe to show, bounded in length, and cached."""

from __future__ import annotations

import re
from hashlib import blake2b

from msemon.events import Key

NONE = "__none__"
"""What a segment key that is missing or null compares as; no user value can be equal to it."""

SHORTEST_LIMIT = 9
"""A cut value ends in `~` and eight digits, so a limit below this can't be kept."""

Raw = str | int | None
"""A segment value as it stands in a message: text, integer or boolean (which is an int), or nothing."""

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
    'xxx~9372c8ab'
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
    return NONE if value is None else clean(_plain(value), limit)


def _plain(value: str | int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class Keys:
    """Clean keys for raw (model, version, segment values), found again in a bounded dict.

    Equal keys are one object while cached, so that what is kept of them downstream costs one pointer.
    """

    def __init__(self, segments: int, limit: int) -> None:
        self._limit = limit
        self._nothing: tuple[Raw, ...] = (None,) * segments
        self.known: dict[tuple[str, str | int | None, tuple[Raw, ...] | None], Key] = {}

    def key(self, model: str, version: str | int | None, segments: tuple[Raw, ...] | None) -> Key:
        """The key of a model, a version (None: "") and its segment values (None: an event without any)."""
        known = self.known.get((model, version, segments))
        return self._make(model, version, segments) if known is None else known

    def _make(self, model: str, version: str | int | None, segments: tuple[Raw, ...] | None) -> Key:
        values = self._nothing if segments is None else segments
        if any(not isinstance(value, str) and value in (0, 1) for value in values):
            # In a dict True equals 1 and False equals 0, but as segments they are "true" and "1": cached as text only.
            return self.key(model, version, tuple(None if value is None else _plain(value) for value in values))
        key = (
            clean(model, self._limit),
            "" if version is None else clean(str(version), self._limit),
            *[segment_text(value, self._limit) for value in values],
        )
        if len(model) + sum(len(value) for value in (version, *values) if isinstance(value, str)) <= _CACHED_LENGTH:
            if len(self.known) >= _CACHED_KEYS:
                self.known.clear()
            self.known[model, version, segments] = key
        return key
