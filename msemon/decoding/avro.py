"""Avro messages into documents, by the schema that wrote them.

The framing is Confluent's wire format: a zero byte and the schema's id in four bytes, big endian, before the datum; or
a header `__value_schema_id` with a zero byte and that id, or a byte 1 and the schema's 16-byte GUID.
"""

from __future__ import annotations

import io
import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

import fastavro
import fastavro._read_py as carefully
import fastavro.read as quickly
import structlog
from fastavro.schema import SchemaParseException

from msemon.decoding.documents import Item, Message
from msemon.decoding.schemas import Ident, Needs, Schema, Schemas
from msemon.decoding.times import number_of
from msemon.events import Batch, Reason

log = structlog.get_logger(__name__)

HEADER: Final = "__value_schema_id"
_SCHEMAS_KEPT: Final = 1_000
_DEEPEST: Final = 64  # nesting of a schema
_WHOLE: Final = "msemon_whole"
_LARGEST: Final = 10_000  # types that a datum without a byte may go through: schemas can be bombs too
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 (a local time has no zone)
_SIZES: Final = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}


Reader = Callable[[bytes, int], Item]
"""From a value and where its datum begins to what it says."""


class AvroParser:
    """Parses Avro of any schema that the registry knows."""

    def __init__(self, schemas: Schemas, message_bytes: int) -> None:
        self._schemas = schemas
        self._message_bytes = message_bytes
        self._readers: dict[Ident, Reader] = {}
        self._needs: dict[tuple[str, int], Needs[Reader | Reason]] = {}  # by topic and partition: what is next there

    def waits(self, batch: Batch) -> bool:
        needs = self._needs.get((batch.topic, batch.partition))
        return needs is not None and bool(batch.offsets) and needs.first == batch.offsets[0] and not needs.settled()

    def parse(self, batch: Batch) -> list[Item] | None:
        found: list[tuple[bytes, Ident, int] | Reason | None] = [
            self._framed(batch, row, value) for row, value in enumerate(batch.values)
        ]
        readers = self._readers_for(batch, Counter(each[1] for each in found if isinstance(each, tuple)))
        if readers is None:
            return None
        items: list[Item] = []
        for each in found:
            if isinstance(each, tuple):
                value, ident, at = each
                reader = readers.get(ident, Reason.UNKNOWN_SCHEMA)
                items.append(reader(value, at) if callable(reader) else reader)
            else:
                items.append(each)
        return items

    def _readers_for(self, batch: Batch, records: Counter[Ident]) -> Mapping[Ident, Reader | Reason] | None:
        """What to read a batch with, by the ids of its records; None where some of that is still to come."""
        if not records:
            return {}
        place = batch.topic, batch.partition
        needs = self._needs.pop(place, None)
        if needs is None or needs.first != batch.offsets[0] or not needs.idents.issuperset(records):  # read again, anew
            common = [ident for ident, _ in records.most_common()]
            needs = Needs(batch.offsets[0], common, self._known, self._find)
        if not needs.settled():
            self._needs[place] = needs
            return None
        if needs.passed_over:
            log.warning(
                "too many unknown schemas to ask for all", topic=place[0], partition=place[1], others=needs.passed_over
            )
        return needs.found

    def _framed(self, batch: Batch, row: int, value: bytes | None) -> tuple[bytes, Ident, int] | Reason | None:
        """A value, its schema's id or GUID, and where its datum begins."""
        if value is None:
            return None
        if len(value) > self._message_bytes:
            return Reason.OVERSIZED
        for name, held in batch.origin(row)[1]:
            if name == HEADER:
                ident = _ident(held or b"", exact=True)
                return Reason.MALFORMED if ident is None else (value, ident, 0)
        ident = _ident(value, exact=False)
        return Reason.MALFORMED if not isinstance(ident, int) else (value, ident, 5)

    def _known(self, ident: Ident) -> Reader | Reason | None:
        return self._readers.get(ident) or self._read_with(ident, self._schemas.known(ident))

    def _find(self, ident: Ident) -> Reader | Reason | None:
        return self._readers.get(ident) or self._read_with(ident, self._schemas.find(ident))

    def _read_with(self, ident: Ident, schema: Schema | Reason | None) -> Reader | Reason | None:
        if not isinstance(schema, Schema):
            return schema
        if len(self._readers) >= _SCHEMAS_KEPT:
            self._readers.clear()
        reader = self._readers[ident] = _reader(schema, ident)
        return reader


def _ident(framed: bytes, *, exact: bool) -> Ident | None:
    """A schema's id or GUID at the beginning of bytes, or all of them."""
    if framed[:1] == b"\x00" and (len(framed) == 5 if exact else len(framed) >= 5):
        return int.from_bytes(framed[1:5], "big")
    if framed[:1] == b"\x01" and len(framed) == 17 and exact:
        return str(uuid.UUID(bytes=framed[1:]))
    return None


def _reader(schema: Schema, ident: Ident) -> Reader:
    try:
        prepared = prepare(schema)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SchemaParseException) as problem:
        log.error("a schema can't be used", schema=ident, problem=type(problem).__name__)  # noqa: TRY400
        return lambda _value, _at: Reason.UNKNOWN_SCHEMA
    read = carefully.schemaless_reader if prepared.recursive else quickly.schemaless_reader
    return lambda value, at: _read(read, prepared, value, at)


def _read(read: Callable[..., Any], prepared: Prepared, value: bytes, at: int) -> Item:
    datum = io.BytesIO(value)
    datum.seek(at)
    try:
        document = read(datum, prepared.schema, None)[_WHOLE]
    except RecursionError:
        return Reason.OVERSIZED
    except Exception:  # noqa: BLE001 (whatever bytes of another schema lead to)
        return Reason.MALFORMED
    return Message(document) if datum.tell() == len(value) else Reason.MALFORMED


class Prepared(NamedTuple):
    """A schema to read with: a record whose only field is the datum, which adds no byte to it.

    Of records alone fastavro remembers what the names in them stand for, and not of an array or a union of others'.
    """

    schema: Any
    recursive: bool  # then it is read by fastavro's Python, for its C has no bound on depth and ends the process


def prepare(schema: Schema) -> Prepared:
    """What to read data of a schema with. Raises ValueError, or what fastavro does, where it can't be used."""
    if schema.kind != "AVRO":
        raise ValueError(f"a schema of kind {schema.kind}")
    named: dict[str, Any] = {}
    for text in schema.references:
        fastavro.parse_schema(_plainer(json.loads(text)), named)
    whole = {"type": "record", "name": _WHOLE, "fields": [{"name": _WHOLE, "type": _plainer(json.loads(schema.text))}]}
    parsed = fastavro.parse_schema(whole, named)
    shape = _Shape(named)
    shape.of(parsed)
    return Prepared(parsed, shape.recursive)


class _Shape:
    """What a schema's data may cost, whatever their bytes."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._known: dict[str, tuple[int, int] | None] = {}  # None: being looked at
        self.recursive = False

    def of(self, schema: Any) -> tuple[int, int]:
        """The fewest bytes of a datum, and how many types it goes through for them. Raises ValueError for bombs."""
        if isinstance(schema, list):
            for branch in schema:
                self.of(branch)
            return 1, 1
        if isinstance(schema, str):
            return (_SIZES[schema], 1) if schema in _SIZES else self._of_named(schema)
        if "name" in schema:
            self._known[schema["name"]] = None
        found = self._of_type(schema)
        if found[1] > _LARGEST:
            raise ValueError("too many types in one datum")
        if "name" in schema:
            self._known[schema["name"]] = found
        return found

    def _of_named(self, name: str) -> tuple[int, int]:
        if name not in self._known:
            return self.of(self._named[name])
        known = self._known[name]
        self.recursive |= known is None
        return (1, 1) if known is None else known  # a union or an array is between, or no datum would ever end

    def _of_type(self, schema: Mapping[str, Any]) -> tuple[int, int]:
        kind = schema["type"]
        if kind in ("record", "error"):
            fields = [self.of(field["type"]) for field in schema["fields"]]
            return sum(size for size, _ in fields), 1 + sum(cost for _, cost in fields)
        if kind == "array":
            if self.of(schema["items"])[0] == 0:
                raise ValueError("an array of what takes no bytes: it could be of any length")
            return 1, 1
        if kind == "map":
            self.of(schema["values"])
            return 1, 1
        return (int(schema["size"]) if kind == "fixed" else 1, 1) if kind in ("fixed", "enum") else self.of(kind)


_OURS: Final = {
    ("long", "timestamp-millis"): "msemon-millis",
    ("long", "timestamp-micros"): "msemon-micros",
    ("long", "timestamp-nanos"): "msemon-nanos",
    ("long", "local-timestamp-millis"): "msemon-local-millis",
    ("long", "local-timestamp-micros"): "msemon-local-micros",
    ("int", "date"): "msemon-date",
    ("bytes", "decimal"): "msemon-decimal",
    ("fixed", "decimal"): "msemon-decimal",
    ("fixed", "uuid"): "msemon-uuid",
}
_SCALE: Final = 100
_UUID_BYTES: Final = 16


def _plainer(schema: Any, depth: int = 0) -> Any:
    """A schema whose logical types read as JSON would have them: ours, and no others."""
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    if isinstance(schema, list):
        return [_plainer(each, depth + 1) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _plainer(each, depth + 1) for name, each in schema.items() if name not in ("default", "doc")}
    logical = made.pop("logicalType", None)
    kind = made.get("type")
    ours = _OURS.get((kind, logical)) if isinstance(kind, str) and isinstance(logical, str) else None
    if ours == "msemon-decimal" and not 0 <= int(made.get("scale", 0)) <= _SCALE:
        raise ValueError("a decimal of that scale")
    return made if ours is None else made | {"logicalType": ours}


def _decimal(data: bytes, schema: Mapping[str, Any], _: Any = None) -> float:
    unscaled = int.from_bytes(data, "big", signed=True)
    try:
        return unscaled / 10 ** int(schema.get("scale", 0))  # type: ignore[no-any-return]  # int ** int may be a float
    except OverflowError:
        return float("inf")


def _date(data: int, *_: Any) -> str:
    try:
        return date.fromordinal(date(1970, 1, 1).toordinal() + data).isoformat()
    except (ValueError, OverflowError):
        return str(data)


def _local(data: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=data)).isoformat()
    except OverflowError:
        return str(data)


_LOGICAL: Final[Mapping[str, Callable[..., Any]]] = {
    "long-msemon-millis": lambda data, *_: number_of(data * 1_000),
    "long-msemon-micros": lambda data, *_: number_of(data),
    "long-msemon-nanos": lambda data, *_: number_of(data // 1_000),
    "long-msemon-local-millis": lambda data, *_: _local(data * 1_000),
    "long-msemon-local-micros": lambda data, *_: _local(data),
    "int-msemon-date": _date,
    "bytes-msemon-decimal": _decimal,
    "fixed-msemon-decimal": _decimal,
    "fixed-msemon-uuid": lambda data, *_: str(uuid.UUID(bytes=data)) if len(data) == _UUID_BYTES else data,
}
for _module in (quickly, carefully):
    _module.LOGICAL_READERS.update(_LOGICAL)
