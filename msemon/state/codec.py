"""Pieces to bytes and back: a msgpack header, then the columns as they lie in memory (little-endian, C order).

Nothing read is believed: every size is held against the bytes there are before anything is allocated, and only a fixed
list of column types is known. Checksums are not here but on chunks and manifests.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from msemon.core.snapshot import Piece
from msemon.state.base import Corrupt, Refusal

FORMAT = 1
"""Version of all that is stored. It goes up whenever an older msemon can't read, or would misread, what is written."""

_PREFIX = struct.Struct("<HHI")  # format, nothing, bytes of the header
_ALIGN = 16  # of columns in a piece, so that they can be used where they lie
_DTYPES = {
    np.dtype(kind).str: np.dtype(kind)
    for kind in ("?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8")
}
_MAX_DIMENSIONS = 2
_MAX_DEPTH = 16  # of metadata
_PLAIN = {type(None), bool, int, float, str, bytes}
_NESTING = {dict, list, tuple}


class _Column(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    name: str
    dtype: str
    shape: tuple[int, ...]


class _Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    columns: tuple[_Column, ...]
    meta: dict[str, Any]


_decoder = msgspec.msgpack.Decoder(_Header)
BROKEN = (msgspec.MsgspecError, RecursionError, ValueError, TypeError, OverflowError, MemoryError)
"""What msgspec raises from bytes that are not what they should be."""


def encode(piece: Piece) -> bytes:
    """The piece as bytes. Raises ValueError where a column's type or a metadata's value can't be kept.

    Metadata is None, bool, int (64 bits), float, str, bytes, and lists and dicts of these; tuples come back as lists.
    """
    _require_plain(piece.meta)
    arrays = [_contiguous(name, column) for name, column in piece.columns.items()]
    columns = tuple(
        _Column(name, array.dtype.str, array.shape) for name, array in zip(piece.columns, arrays, strict=True)
    )
    try:
        header = msgspec.msgpack.encode(_Header(columns, piece.meta))
    except (OverflowError, TypeError) as problem:
        raise ValueError(f"metadata can't be kept: {problem}") from problem
    parts: list[bytes | memoryview] = [_PREFIX.pack(FORMAT, 0, len(header)), header]
    size = _PREFIX.size + len(header)
    for array in arrays:
        parts.append(bytes(-size % _ALIGN))
        parts.append(array.reshape(-1).view(np.uint8).data)
        size += -size % _ALIGN + array.nbytes
    return b"".join(parts)


def decode(data: bytearray | memoryview) -> Piece:
    """The piece that was encoded; its columns lie in `data`, writable where that is. Raises Corrupt."""
    header, position = _header(data)
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for column in header.columns:
        position += -position % _ALIGN
        array = _column(column, data, position)
        if column.name in columns:
            raise _malformed(f"column {column.name[:80]!r} twice")
        columns[column.name] = array
        position += array.nbytes
    if position != len(data):
        raise Corrupt(Refusal.TORN, f"a piece of {len(data):,} bytes whose columns end at {position:,}")
    return Piece(columns, header.meta)


def check_format(version: int) -> None:
    """Raises Corrupt for any format but ours."""
    if version > FORMAT:
        raise Corrupt(Refusal.NEWER_FORMAT, f"format {version}, of a newer msemon; this one reads {FORMAT}")
    if version < FORMAT:
        raise _malformed(f"format {version}")


def _header(data: bytearray | memoryview) -> tuple[_Header, int]:
    if len(data) < _PREFIX.size:
        raise Corrupt(Refusal.TORN if data else Refusal.EMPTY, f"a piece of {len(data)} bytes")
    version, _, size = _PREFIX.unpack_from(data)
    check_format(version)
    end = _PREFIX.size + size
    if end > len(data):
        raise Corrupt(Refusal.TORN, f"a piece of {len(data):,} bytes with a header of {size:,}")
    try:
        header = _decoder.decode(memoryview(data)[_PREFIX.size : end])
        _require_plain(header.meta)
    except BROKEN as problem:
        raise _malformed(f"a piece's header: {problem}") from problem
    return header, end


def _column(column: _Column, data: bytearray | memoryview, position: int) -> npt.NDArray[np.generic]:
    dtype = _DTYPES.get(column.dtype)
    if dtype is None:
        raise _malformed(f"a column of type {column.dtype[:20]!r}")
    if not 1 <= len(column.shape) <= _MAX_DIMENSIONS or min(column.shape) < 0:
        raise _malformed(f"a column of shape {column.shape[:8]}")
    count = math.prod(column.shape)
    if position + count * dtype.itemsize > len(data):
        raise Corrupt(Refusal.TORN, f"a piece of {len(data):,} bytes with a column of {count:,} at {position:,}")
    flat = np.frombuffer(data, dtype, count, position) if count else np.empty(0, dtype)
    if dtype == np.bool_ and flat.view(np.uint8).max(initial=0) > 1:
        raise _malformed("a column of truth values holds others")
    try:
        # Zero rows of a million columns are fine, zero rows of 2**63 are not.
        return flat.reshape(column.shape).astype(dtype.newbyteorder("="), copy=False)
    except (ValueError, OverflowError) as problem:
        raise _malformed(f"a column of shape {column.shape}") from problem


def _contiguous(name: str, column: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    stored = column.dtype.newbyteorder("<")
    if stored.str not in _DTYPES or not 1 <= column.ndim <= _MAX_DIMENSIONS:
        raise ValueError(f"column {name!r} of type {column.dtype} and {column.ndim} dimensions can't be kept")
    return np.ascontiguousarray(column, stored)


def _require_plain(value: Any, depth: int = 0) -> None:
    """In msgpack there are also timestamps and types of one's own; neither is metadata."""
    if depth > _MAX_DEPTH:
        raise ValueError("metadata is nested too deep")
    if isinstance(value, dict):
        if not {type(key) for key in value} <= {str}:
            raise ValueError("metadata has a key that is no text")
        value = value.values()
    kinds = set(map(type, value))  # of all at once: there are lists of many thousand texts
    if strange := kinds - _PLAIN - _NESTING:
        raise ValueError(f"metadata has a value of type {strange.pop().__name__}")
    if kinds & _NESTING:
        for inner in value:
            if type(inner) in _NESTING:
                _require_plain(inner, depth + 1)


def _malformed(what: str) -> Corrupt:
    return Corrupt(Refusal.MALFORMED, what)
