"""Protobuf messages into documents, by a descriptor set and the name of each topic's message.

What has no presence in a message type can't be told from what holds its default. Such a field counts as absent then,
but for booleans, numbers and enumerations among the segments, and for a prediction or label where the type has only one
of the two. Types for which that would make wrong numbers are refused (`_Type`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from msemon.decoding.documents import Item, Message
from msemon.decoding.fields import Path, parse_fields
from msemon.decoding.times import number_of
from msemon.events import Batch, Reason

_WELL_KNOWN: Final = (any_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
_TIMESTAMP: Final = "google.protobuf.Timestamp"
_STRUCT: Final = "google.protobuf.Struct"

_MOST_INDEXES: Final = 100


class ProtobufParser:
    """Parses each topic's messages as its type. Raises ValueError where descriptor set and names don't do.

    Confluent's framing before a message (a zero byte, the schema's id, the message's indexes) is passed over: no
    Protobuf message begins with a zero byte, and the type is the configured one.
    """

    def __init__(
        self,
        descriptor_set: bytes,
        messages: Mapping[str, str],
        *,
        fields: Mapping[str, str],
        segment_keys: Sequence[str],
        message_bytes: int,
    ) -> None:
        pool = _pool(descriptor_set)
        paths = parse_fields(fields)
        self._types = {topic: _Type(_descriptor(pool, name), paths, segment_keys) for topic, name in messages.items()}
        self._message_bytes = message_bytes

    def parse(self, batch: Batch) -> list[Item] | None:
        """See `documents.Parser`. Raises KeyError for a topic that has no message."""
        kind = self._types[batch.topic]
        return [self._item(kind, value) for value in batch.values]

    def waits(self, _: Batch) -> bool:
        return False

    def _item(self, kind: _Type, value: bytes | None) -> Item:
        if value is None:
            return None
        if len(value) > self._message_bytes:
            return Reason.OVERSIZED
        at = _unframed(value)
        if at is None:
            return Reason.MALFORMED
        try:
            return Message(kind.read(value[at:]))
        except DecodeError:
            return Reason.MALFORMED


def _pool(descriptor_set: bytes) -> DescriptorPool:
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file
        pool = DescriptorPool()
        own = {each.name for each in files}
        for module in _WELL_KNOWN:
            if module.DESCRIPTOR.name not in own:
                pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        for each in files:  # protoc writes what is imported first
            pool.AddSerializedFile(each.SerializeToString())
    except (DecodeError, TypeError) as problem:
        raise ValueError(f"no descriptor set with all that it imports: {problem}") from None
    return pool


def _descriptor(pool: DescriptorPool, name: str) -> Descriptor:
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        raise ValueError(f"the descriptor set has no message {name}") from None


def _unframed(value: bytes) -> int | None:
    """Where a message begins; None where there is a framing that is broken."""
    if value[:1] != b"\x00":
        return 0
    count, at = _zigzag(value, 5)
    if not 0 <= count <= _MOST_INDEXES:
        return None
    for _ in range(count):
        index, at = _zigzag(value, at)
        if index < 0:
            return None
    return at


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    """A varint's number and where the next byte is; -1 where there is none."""
    number = 0
    for shift in range(0, 35, 7):
        if at >= len(value):
            return -1, at
        byte = value[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
    return -1, at


class _Type:
    """How to read one message type: only what the paths lead to."""

    def __init__(self, descriptor: Descriptor, paths: Mapping[str, Path], segment_keys: Sequence[str]) -> None:
        self._class = GetMessageClass(descriptor)
        self._tree: dict[str, Any] = {}
        for path in [*(path for name, path in paths.items() if name != "segments"),
                     *((*paths["segments"], key) for key in segment_keys)]:  # fmt: skip
            branch = self._tree
            for name in path:
                branch = branch.setdefault(name, {})
        found = {name: _field(descriptor, path) for name, path in paths.items()}
        self._paths = paths
        self._judge_presence(descriptor, found)
        both = found["prediction"] is not None and found["label"] is not None
        valued = () if both else ("prediction", "label")
        self._valued = {paths[name] for name in valued}

    def _judge_presence(self, descriptor: Descriptor, found: Mapping[str, FieldDescriptor | None]) -> None:
        """Raises ValueError where a default would be taken for what was said."""
        if found["prediction"] is None and found["label"] is None:
            raise ValueError(f"{descriptor.full_name} has neither a prediction nor a label; format.fields says where")
        names = ["weight"]
        if found["prediction"] is not None and found["label"] is not None:
            names += ["prediction", "label"]
        for name in names:
            field = found[name]
            if field is not None and not (field.has_presence or field.is_repeated):
                raise ValueError(
                    f"{descriptor.full_name}: {'.'.join(self._paths[name])} must be optional, or one that was left out "
                    "could not be told from a zero"
                )

    def read(self, value: bytes) -> dict[str, Any]:
        """The document. Raises DecodeError."""
        message = self._class()
        message.ParseFromString(value)
        return self._document(message, self._tree, ())

    def _document(self, message: Any, tree: Mapping[str, Any], place: Path) -> dict[str, Any]:
        document = {}
        for name, below in tree.items():
            field = message.DESCRIPTOR.fields_by_name.get(name)
            if field is not None:
                document[name] = self._value(message, field, below, (*place, name))
        return document

    def _value(self, message: Any, field: FieldDescriptor, below: Mapping[str, Any], place: Path) -> Any:
        value = getattr(message, field.name)
        if field.is_repeated:
            return _repeated(field, value, below)
        if field.has_presence and not message.HasField(field.name):
            return None
        if field.message_type is None:
            return self._scalar(field, value, place)
        return self._message(field.message_type, value, below, place)

    def _message(self, kind: Descriptor, value: Any, below: Mapping[str, Any], place: Path) -> Any:
        if kind.full_name == _TIMESTAMP:
            return number_of(value.seconds * 1_000_000 + value.nanos // 1_000)
        if kind.file.name == wrappers_pb2.DESCRIPTOR.name:
            return value.value
        if kind.full_name == _STRUCT:
            return {name: _plain(value.fields[name]) for name in below if name in value.fields}
        return self._document(value, below, place)

    def _scalar(self, field: FieldDescriptor, value: Any, place: Path) -> Any:
        if not field.has_presence and value == field.default_value and not self._stands(field, place):
            return None
        return _named(field, value)

    def _stands(self, field: FieldDescriptor, place: Path) -> bool:
        """Whether a default stands for itself here."""
        if place in self._valued:
            return True
        return place[:-1] == self._paths["segments"] and field.cpp_type != FieldDescriptor.CPPTYPE_STRING


def _plain(value: Any) -> Any:
    """What a `google.protobuf.Value` says; all its numbers are doubles."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: _plain(each) for name, each in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(each) for each in value.list_value.values]
    held = None if kind in (None, "null_value") else getattr(value, kind)
    return int(held) if isinstance(held, float) and held.is_integer() else held


def _named(field: FieldDescriptor, value: Any) -> Any:
    """An enumeration's value by its name, where it has one."""
    known = None if field.enum_type is None else field.enum_type.values_by_number.get(value)
    return value if known is None else known.name


def _repeated(field: FieldDescriptor, value: Any, below: Mapping[str, Any]) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        held = field.message_type.fields_by_name["value"]
        if field.message_type.fields_by_name["key"].cpp_type != FieldDescriptor.CPPTYPE_STRING:
            return []
        names = [name for name in below if name in value]
        return {name: {} if held.message_type is not None else _named(held, value[name]) for name in names}
    return list(value) or None


def _field(descriptor: Descriptor, path: Path) -> FieldDescriptor | None:
    """The field that a path leads to."""
    at: Descriptor | None = descriptor
    field: FieldDescriptor | None = None
    for name in path:
        field = None if at is None else at.fields_by_name.get(name)
        if field is None:
            return None
        at = field.message_type
    return field
