"""How kafka-python's fetcher is made to survive what it can't read.

By itself, kafka-python 3.0.12 raises where a batch has a wrong checksum, an unknown codec or bytes that are no records,
and then neither gets past it nor comes back: the next `poll()` spins for ever. It also decompresses a batch whatever
it may grow to, and takes most of a core to make its records of the bytes. `install` replaces the class that unpacks
fetched bytes by one that skips such a batch, says so, bounds the sizes, and gives records as `record_format.Row`. All
that it leans on is private to kafka-python; the pin in `pyproject.toml` and the source's contract test watch over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch

from msemon.sources.base import Skipped, TopicPartition
from msemon.sources.decompress import decompress
from msemon.sources.record_format import Row, rows

MAX_BATCH_BYTES = 64 * 1024 * 1024
"""A batch that decompresses to more is skipped."""

MAX_POLL_BYTES = 64 * 1024 * 1024
"""Once one poll has decompressed so much, the rest of what was fetched is dropped and fetched again later."""


_FORMAT = 2


class Unpacking:
    """What one consumer's fetcher did while it unpacked records; read and emptied by the source after each poll."""

    def __init__(
        self,
        highwater: Callable[[Any], int | None],
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_poll_bytes: int = MAX_POLL_BYTES,
    ) -> None:
        self.highwater = highwater
        self.max_batch_bytes = max_batch_bytes
        self.max_poll_bytes = max_poll_bytes
        self.skipped: list[Skipped] = []
        self.stuck: list[tuple[TopicPartition, int]] = []
        """Fetched bytes of these positions held no complete batch."""
        self.decompressed_bytes = 0

    def begin(self) -> None:
        """A poll begins."""
        self.skipped = []
        self.stuck = []
        self.decompressed_bytes = 0


def install(consumer: Any) -> Unpacking:
    """Make this consumer skip what it can't read. Raises AttributeError where kafka-python's inside has changed."""
    unpacking = Unpacking(consumer.highwater)

    def build(fetch_offset: int, where: Any, records: Any, **options: Any) -> _Tolerant:
        return _Tolerant(unpacking, fetch_offset, where, records, **options)

    consumer._fetcher.PartitionRecords = build  # noqa: SLF001 (there is no other way in)
    return unpacking


class _Enough(Exception):
    """This poll has decompressed as much as it may."""


class _Bounded(DefaultRecordBatch):  # type: ignore[misc]
    """A batch that does not decompress to more than it may. Raises CorruptRecordError or _Enough."""

    _buffer: bytes | bytearray
    _pos: int
    _decompressed: bool

    def __init__(self, batch: DefaultRecordBatch, unpacking: Unpacking) -> None:
        super().__init__(batch._buffer)  # noqa: SLF001
        self._unpacking = unpacking

    def rows(self) -> Iterator[Row]:
        """Its records. Raises CorruptRecordError after those that are sound, and _Enough before any."""
        self._maybe_uncompress()
        appended_ms = self.max_timestamp if self.timestamp_type == self.LOG_APPEND_TIME else None
        try:
            yield from rows(
                bytes(self._buffer), self._pos, self.records_count, self.base_offset, self.first_timestamp, appended_ms
            )
        except (ValueError, IndexError) as problem:
            raise CorruptRecordError(f"no records: {problem}") from problem

    def _maybe_uncompress(self) -> None:
        if not self._decompressed and self.compression_type != self.CODEC_NONE:
            if self._unpacking.decompressed_bytes >= self._unpacking.max_poll_bytes:
                raise _Enough
            packed = bytes(memoryview(self._buffer)[self._pos :])
            try:
                unpacked = decompress(self.compression_type, packed, self._unpacking.max_batch_bytes)
            except ValueError as problem:
                raise CorruptRecordError(str(problem)) from problem
            self._unpacking.decompressed_bytes += len(unpacked)
            self._buffer = unpacked  # not copied: it may be large
            self._pos = 0
        self._decompressed = True


class _Batches:
    """The batches of one fetch, one read ahead: where the next begins tells where a broken one ends."""

    def __init__(self, records: Any, unpacking: Unpacking) -> None:
        self._records = records
        self._unpacking = unpacking
        self._ahead: DefaultRecordBatch | None = None
        self._problem: Exception | None = None
        self.current: DefaultRecordBatch | None = None
        self._advance()

    def next_batch(self) -> Any:
        """As MemoryRecords has it. Raises what reading ahead raised; after that there are no more."""
        self.current = self._ahead
        self._ahead = None
        if self.current is None and self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem
        if self.current is not None:
            self._advance()
        if self.current is None or self.current.magic < _FORMAT:
            return self.current
        return _Bounded(self.current, self._unpacking)

    def end_of_current(self, position: int, highwater: int | None) -> int:
        """The first offset after the current batch, as far as it can be known; more than `position`.

        The batch's own claim is under the checksum that may be what is wrong. So the next batch's beginning, which is
        not, goes first; then the claim, if the number of records agrees with it; else one offset is tried at a time.
        """
        if self._ahead is not None:
            return max(position + 1, int(self._ahead.base_offset))
        batch = self.current
        if batch is None or batch.magic < _FORMAT or batch.last_offset_delta + 1 != batch.records_count:
            return position + 1
        end = int(batch.next_offset)
        return max(position + 1, end if highwater is None else min(end, highwater))

    def goes_on_at(self, offset: int) -> bool:
        """Whether there is another batch, and nothing of it lies before the offset."""
        return self._ahead is not None and bool(self._ahead.base_offset >= offset)

    def are_old(self) -> bool:
        """Whether the next batch is of a message format before 2, and so all of the fetch: it was written before."""
        return self._ahead is not None and bool(self._ahead.magic < _FORMAT)

    def _advance(self) -> None:
        try:
            self._ahead = self._records.next_batch()
        except Exception as problem:  # noqa: BLE001 (whatever bytes that are no batch lead to)
            self._problem = problem


class _Tolerant(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one partition's fetch, without what can't be read."""

    next_fetch_offset: int

    def __init__(self, unpacking: Unpacking, fetch_offset: int, where: Any, records: Any, **options: Any) -> None:
        self._unpacking = unpacking
        self._where = TopicPartition(where.topic, where.partition)
        if records.size_in_bytes() > 0 and not records.has_next():
            unpacking.stuck.append((self._where, fetch_offset))
        super().__init__(fetch_offset, where, records, **options)

    def _maybe_skip_record(self, row: Row) -> bool:
        """A batch that is fetched from its middle comes whole."""
        return bool(row[0] < self.fetch_offset)

    def _unpack_records(self, where: Any, records: Any, *deserializers: Any) -> Iterator[Row]:
        batches = _Batches(records, self._unpacking)
        while True:
            try:
                if batches.are_old():
                    for record in super()._unpack_records(where, batches, *deserializers):
                        yield record.offset, record.timestamp, record.key, record.value, record.headers
                else:
                    yield from self._rows(batches)
                    self.drain()
                return
            except _Enough:
                break
            except Exception as problem:  # noqa: BLE001 (codecs raise what they like)
                self._skip(batches, problem)
            if not batches.goes_on_at(self.next_fetch_offset):
                break
        self.drain()  # what kafka-python forgets after an exception

    def _rows(self, batches: _Batches) -> Iterator[Row]:
        """The records of batches that a reader may see: of no control batch and of no aborted transaction."""
        while not batches.are_old() and (batch := batches.next_batch()) is not None:
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(f"failed crc check at offset {batch.base_offset}")
            self.leader_epoch = batch.leader_epoch
            if not self._withheld(batch):
                self.bytes_read += batch.size_in_bytes
                self.records_read += batch.records_count
                for row in batch.rows():
                    self.next_fetch_offset = row[0] + 1
                    yield row
            self.next_fetch_offset = batch.next_offset  # after a compaction that is beyond its last record

    def _withheld(self, batch: _Bounded) -> bool:
        """Whether nobody is to see this batch; keeps account of the aborted transactions (KIP-98)."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if batch.records_count > 0 and self._contains_abort_marker(batch):  # a compaction may have taken it
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)

    def _skip(self, batches: _Batches, problem: Exception) -> None:
        position = self.next_fetch_offset
        end = batches.end_of_current(position, self._unpacking.highwater(self.topic_partition))
        why = f"{type(problem).__name__}: {problem}"[:200]
        self._unpacking.skipped.append(Skipped(self._where, position, end - position, why))
        self.next_fetch_offset = end
