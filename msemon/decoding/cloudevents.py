"""CloudEvents 1.0 on Kafka, in structured and in binary mode: what carries an event, taken off it.

The Kafka protocol binding: with a header `content-type` of `application/cloudevents+json` the value is a JSON object of
the attributes with the event in `data` (or `data_base64`); with a header `ce_specversion` the attributes are headers
that begin with `ce_` and the value is the event. A record that is neither is an event as it stands.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from msemon.decoding.documents import Item, Message, Parser
from msemon.decoding.fields import parse_fields
from msemon.events import Batch, Reason

PREFIX: Final = "ce_"
_TIME: Final = PREFIX + "time"
_STRUCTURED: Final = "application/cloudevents"
_JSON: Final = "application/cloudevents+json"
_CONTENT: Final = ("data", "data_base64")


class _Taken(NamedTuple):
    """What a record carries: bytes for the parser of the encoding, or what is known already; and the attributes."""

    value: bytes | None
    item: Item
    attributes: Mapping[str, str]


class CloudEvents:
    """Takes attributes off, has the rest parsed, and adds attributes to each event as text, as `ce_…`.

    Those that a path of `fields` begins with, and no others: each event of an array gets them, and a message may have
    tens of thousands of both. An event that states no time has that of the attribute `time`.
    """

    def __init__(self, parser: Parser, parse_json: Callable[[bytes], Any], fields: Mapping[str, str]) -> None:
        """`parse_json` gives a document or the Reason why there is none; `fields` are as in `json.JsonDecoder`."""
        self._parser = parser
        self._parse_json = parse_json
        self._looked_at = {_TIME} | {path[0] for path in parse_fields(fields).values()}

    def parse(self, batch: Batch) -> list[Item] | None:
        taken = [self._take(batch, row, value) for row, value in enumerate(batch.values)]
        inner = self._parser.parse(dataclasses.replace(batch, values=[each.value for each in taken]))
        if inner is None:
            return None
        return [
            _with(parsed if each.item is None else each.item, each.attributes)
            for each, parsed in zip(taken, inner, strict=True)
        ]

    def waits(self, batch: Batch) -> bool:
        return self._parser.waits(batch)

    def _take(self, batch: Batch, row: int, value: bytes | None) -> _Taken:
        headers = {name.lower(): text for name, text in batch.origin(row)[1] if text is not None}
        kind = headers.get("content-type", b"").decode("latin-1").split(";")[0].strip().lower()
        if value is not None and kind.startswith(_STRUCTURED):
            return self._structured(value) if kind == _JSON else _Taken(None, Reason.UNKNOWN_SCHEMA, {})
        if "ce_specversion" in headers:
            return self._binary(value, headers)
        return _Taken(value, None, {})

    def _structured(self, value: bytes) -> _Taken:
        envelope = self._parse_json(value)
        if isinstance(envelope, Reason):
            return _Taken(None, envelope, {})
        texts = ((PREFIX + name, _text(each)) for name, each in envelope.items() if name not in _CONTENT)
        attributes = {name: text for name, text in texts if text is not None and name in self._looked_at}
        packed = envelope.get("data_base64")
        if packed is not None:
            try:
                return _Taken(base64.b64decode(packed, validate=True), None, attributes)
            except (ValueError, TypeError):
                return _Taken(None, Reason.MALFORMED, {})
        data = envelope.get("data")
        return _Taken(None, Reason.MISSING_FIELD if data is None else Message(data), attributes)

    def _binary(self, value: bytes | None, headers: Mapping[str, bytes]) -> _Taken:
        try:
            attributes = {name: text.decode() for name, text in headers.items() if name.startswith(PREFIX)}
        except UnicodeDecodeError:
            return _Taken(None, Reason.MALFORMED, {}) if value is not None else _Taken(None, None, {})
        return _Taken(value, None, {name: text for name, text in attributes.items() if name in self._looked_at})


def _text(attribute: Any) -> str | None:
    """An attribute as a header would have it."""
    if isinstance(attribute, bool):
        return "true" if attribute else "false"
    if isinstance(attribute, int):
        return str(attribute)
    return attribute if isinstance(attribute, str) else None


def _with(item: Item, attributes: Mapping[str, str]) -> Item:
    if not isinstance(item, Message) or not attributes:
        return item
    document = item.document
    if isinstance(document, list):
        document = [{**each, **attributes} if isinstance(each, dict) else each for each in document]
    elif isinstance(document, dict):
        document = {**document, **attributes}
    return Message(document, attributes.get(_TIME))
