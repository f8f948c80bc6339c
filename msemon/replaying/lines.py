"""JSON Lines, plain or compressed: one event a line, decoded as the daemon decodes a message."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from msemon.decoding import JsonDecoder
from msemon.events import Batch, Decoded
from msemon.replaying.streams import FEW, BadSource, by_event_time
from msemon.wiring import decoded_in_time

AT_ONCE = 5_000  # lines
_MOST_AT_ONCE = 1 << 24  # bytes
_CHUNK, _FIRST_CHUNK = 1 << 20, 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ZSTD_CHUNK = 1 << 12  # of compressed bytes: a block of 128 KiB may come of four of them
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class _Bytes(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Lines:
    """A file of JSON Lines. What it is compressed with is told by its first bytes."""

    partition = 0

    def __init__(self, path: Path, decoder: JsonDecoder, message_bytes: int, name: str | None = None) -> None:
        """Lines of more than `message_bytes` are rejected, and never held whole. `name` stands for the path."""
        self.topic = name or str(path)
        self._path = path
        self._decoder = decoder
        self._largest = message_bytes
        self._size = max(path.stat().st_size, 1)
        self._read = 0

    def progress(self) -> float:
        return min(1.0, self._read / self._size)

    def __iter__(self) -> Iterator[Decoded]:
        """A few events first; until more are asked for, the file is closed."""
        try:
            with closing(self._batches(0, FEW)) as batches:
                few = [*islice(batches, 1)]
            for first, lines in few:
                yield from self._decoded(first, lines)
            for first, lines in self._batches(len(few[0][1]), AT_ONCE) if few else ():
                yield from self._decoded(first, lines)
        except EOFError:
            raise BadSource(f"{self.topic}: cut off: it ends in the middle of its compressed data") from None
        except (OSError, zlib.error, zstandard.ZstdError) as error:
            raise BadSource(f"{self.topic}: {getattr(error, 'strerror', None) or error}") from None

    def _decoded(self, first: int, lines: list[bytes]) -> Iterator[Decoded]:
        for _, decoded in decoded_in_time(self._decoder, self._batch(first, lines)):
            yield by_event_time(decoded)

    def _batch(self, first: int, lines: list[bytes]) -> Batch:
        offsets = range(first, first + len(lines))
        return Batch(
            topic=self.topic,
            partition=0,
            offsets=offsets,
            timestamps_ms=[-1] * len(lines),
            values=lines,
            next_offset=first + len(lines),
            size=sum(map(len, lines)),
            origin=lambda _: (None, ()),
        )

    def _batches(self, begin: int, at_once: int) -> Generator[tuple[int, list[bytes]]]:
        """(number of the first, lines), blank ones left out, from the line with the number `begin` on."""
        number, skipped, waiting = begin, 0, list[bytes]()
        with self._path.open("rb") as file:
            for lines in self._lines(_opened(file), file):
                waiting += [line for line in lines if line and not line.isspace()]
                skips = min(begin - skipped, len(waiting))
                del waiting[:skips]
                skipped += skips
                while len(waiting) >= at_once or sum(map(len, waiting)) >= _MOST_AT_ONCE:
                    yield number, waiting[:at_once]
                    number += len(waiting[:at_once])
                    del waiting[:at_once]
        if waiting:
            yield number, waiting

    def _lines(self, data: _Bytes, file: BinaryIO) -> Iterator[list[bytes]]:
        chunk, rest = data.read(_FIRST_CHUNK).removeprefix(_BYTE_ORDER_MARK), b""
        while chunk:
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if len(rest) > self._largest:
                rest = rest[: self._largest + 1]  # too large already, however it goes on
            self._read = file.tell()
            yield lines
            chunk = data.read(_CHUNK)
        yield [rest]


def _opened(file: BinaryIO) -> _Bytes:
    start = file.read(4)
    file.seek(0)
    if start.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file, mode="rb")
    return _Zstd(file) if start == _ZSTD else file


class _Zstd:
    """Frames one after another. The library's own reader takes the end of a file for the end of its data."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._input = b""

    def read(self, size: int, /) -> bytes:
        """About `size` bytes, none at the end. Raises EOFError where a frame is not complete."""
        parts, have = [], 0
        while have < size:
            self._input = self._input or self._file.read(_ZSTD_CHUNK)
            if not self._input:
                if self._frame is not None:
                    raise EOFError
                break
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            parts.append(self._frame.decompress(self._input))
            have += len(parts[-1])
            self._input = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        return b"".join(parts)
