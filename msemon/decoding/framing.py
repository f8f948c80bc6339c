"""Confluent's wire format before a message: a zero byte and its schema's id in four bytes, big endian.

Serializers of JSON Schema write it too. No JSON begins with a zero byte, and what the schema says is nothing to us.
"""

from __future__ import annotations

from typing import Final, overload

_SIZE: Final = 5


def is_framed(value: bytes | None) -> bool:
    """Whether a message begins as a framing does."""
    return value is not None and value[:1] == b"\x00"


@overload
def unframed(value: bytes, largest: int) -> bytes: ...
@overload
def unframed(value: bytes | None, largest: int) -> bytes | None: ...
def unframed(value: bytes | None, largest: int) -> bytes | None:
    """What is behind a framing, where there is one; what is larger than `largest` bytes stays as it is, not copied."""
    return value[_SIZE:] if value is not None and value[:1] == b"\x00" and len(value) <= largest else value
