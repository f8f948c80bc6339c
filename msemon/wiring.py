"""From the settings to the parts that know nothing of settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msemon.core.shape import Shape, Window
from msemon.decoding.cloudevents import CloudEvents
from msemon.decoding.documents import DocumentDecoder, Item, Parser
from msemon.decoding.json import JsonDecoder, JsonParser
from msemon.decoding.portions import portions
from msemon.events import Batch, Decoded
from msemon.settings import Settings

# ruff: noqa: PLC0415 (what an encoding needs is an extra: it is loaded where it is asked for)

_SECOND_US = 1_000_000

T = TypeVar("T")


def shape_of(settings: Settings) -> Shape:
    """What the core needs of the settings, in its own units."""
    keys = tuple(sorted({key for dimension in settings.segments for key in dimension}))
    panes = settings.windows.panes
    return Shape(
        windows=tuple(
            Window(length.name, round(length.seconds * _SECOND_US) // panes, panes)
            for length in settings.windows.lengths
        ),
        observed=settings.windows.clock == "observed",
        segment_keys=keys,
        dimensions=tuple(tuple(keys.index(key) for key in dimension) for dimension in settings.segments),
        timeout_us=round(settings.join.timeout * _SECOND_US),
        memory_us=round(settings.join.memory * _SECOND_US),
        series_limit=settings.limits.series,
        models_limit=settings.limits.models,
        total_series_limit=settings.limits.total_series,
        drift=settings.drift.enabled,
        tolerated_ratio=settings.drift.tolerated_ratio,
        false_alarm_us=round(settings.drift.mean_time_between_false_alarms * _SECOND_US),
        learn_pairs=settings.baseline.learn_pairs,
        learn_after_us=round(settings.baseline.learn_after * _SECOND_US),
        learn_time_us=round(settings.baseline.learn_time * _SECOND_US),
        adopt=tuple(settings.baseline.adopt),
    )


class Decoder(Protocol):
    """Bytes to events; one that has to wait for a schema gives None until it is there."""

    def decode(self, batch: Batch, wall_us: int) -> Decoded | None: ...

    def most_events(self, batch: Batch) -> Sequence[int] | None: ...


class SchemasMissing(Exception):
    """Records can't be decoded without them."""


def decoded_in_time(decoder: Decoder, batch: Batch, wait_s: float = 15.0) -> Iterator[tuple[Batch, Decoded]]:
    """For whoever has nothing else to do: waits a while for schemas. Raises SchemasMissing.

    In portions, as the daemon has it.
    """
    for part in portions(batch, decoder.most_events(batch)):

        def decode(part: Batch = part) -> Decoded | None:
            return decoder.decode(part, time.time_ns() // 1_000)

        yield part, _in_time(decode, batch.topic, wait_s)


def parsed_in_time(parser: Parser, batch: Batch, wait_s: float = 15.0) -> list[Item]:
    """Likewise, to documents."""
    return _in_time(lambda: parser.parse(batch), batch.topic, wait_s)


def _in_time(ask: Callable[[], T | None], topic: str, wait_s: float) -> T:
    deadline_s = time.monotonic() + wait_s
    while (found := ask()) is None:
        if time.monotonic() > deadline_s:
            raise SchemasMissing(f"{topic}: the schema registry gives no schema of its records: see the log")
        time.sleep(0.05)
    return found


def encoding_missing(settings: Settings) -> str | None:
    """What to say where the encoding that the settings name needs what is not installed."""
    module, extra = {"avro": ("fastavro", "avro"), "protobuf": ("google.protobuf", "protobuf")}.get(
        settings.format.encoding, (None, "")
    )
    try:
        missing = module is not None and find_spec(module) is None
    except ModuleNotFoundError:  # of a parent
        missing = True
    if missing:
        return f'format.encoding = "{settings.format.encoding}": needs {module}: pip install \'msemon[{extra}]\''
    return None


def _common(settings: Settings) -> dict[str, Any]:
    """What all decoders are told."""
    return {
        "segment_keys": shape_of(settings).segment_keys,
        "fields": settings.format.fields,
        "max_future_us": round(settings.windows.max_future * _SECOND_US),
        "label_length": settings.limits.label_length,
        "vector_length": settings.limits.vector_length,
        "message_events": settings.limits.message_events,
    }


def json_decoder_of(settings: Settings) -> JsonDecoder:
    """A decoder of JSON, whatever the topics are encoded in."""
    limits = settings.limits
    return JsonDecoder(**_common(settings), message_bytes=limits.message_bytes, json_depth=limits.json_depth)


def decoder_of(
    settings: Settings,
    on_registry_error: Callable[[], None] = lambda: None,
    on_schemas_awaited: Callable[[int], None] = lambda _: None,
) -> Decoder:
    """The decoder these settings ask for. Raises ValueError where the descriptor set and its messages can't be used."""
    if settings.format.encoding == "json" and not settings.format.cloudevents:
        return json_decoder_of(settings)
    return DocumentDecoder(parser_of(settings, on_registry_error, on_schemas_awaited), **_common(settings))


def parser_of(
    settings: Settings,
    on_registry_error: Callable[[], None] = lambda: None,
    on_schemas_awaited: Callable[[int], None] = lambda _: None,
) -> Parser:
    """What makes documents of messages as these settings have them. Raises as `decoder_of`."""
    plain = json_decoder_of(settings)
    parser = _parser_of(settings, plain, on_registry_error, on_schemas_awaited)
    return CloudEvents(parser, plain.parse, settings.format.fields) if settings.format.cloudevents else parser


def _parser_of(
    settings: Settings, plain: JsonDecoder, on_error: Callable[[], None], on_awaited: Callable[[int], None]
) -> Parser:
    if settings.format.encoding == "avro":
        from msemon.decoding.avro import AvroParser
        from msemon.schema_registry import SchemaRegistry, over_http

        registry = SchemaRegistry(over_http(settings), on_error, on_awaited)
        return AvroParser(registry, settings.limits.message_bytes)
    if settings.format.encoding == "protobuf":
        from msemon.decoding.protobuf import ProtobufParser

        assert settings.format.descriptor_set is not None  # or the settings would have been refused
        if unnamed := sorted(set(settings.kafka.topics) - set(settings.format.messages)):
            raise ValueError(f"format.messages has no message for the topics {', '.join(unnamed)}")
        return ProtobufParser(
            Path(settings.format.descriptor_set).read_bytes(),
            settings.format.messages,
            fields=settings.format.fields,
            segment_keys=shape_of(settings).segment_keys,
            message_bytes=settings.limits.message_bytes,
        )
    return JsonParser(plain)
