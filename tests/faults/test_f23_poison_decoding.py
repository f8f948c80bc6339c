"""F23 at the decoder: poison of every kind between good events; each is counted, none stops or spoils anything."""

from __future__ import annotations

import time

import pytest

from msemon.events import Kind, Reason
from support.decoding import WALL_US, Message, assert_accounted, batch, decode, decoder

EVENT = b'"id":1,"model":"m","prediction":'
POISON: dict[str, tuple[Message, Reason | None]] = {
    "bad JSON": (b"{" + EVENT, Reason.MALFORMED),
    "not JSON": (b"\x00\x00\x00\x00\x07avro?", Reason.MALFORMED),
    "empty": (b"", Reason.MALFORMED),
    "JSON null": (b"null", Reason.MALFORMED),
    "an array in an array": (b'[[{"id":1,"label":1}]]', Reason.MALFORMED),
    "an array never closed": (b'[{"id":1,"label":1},', Reason.MALFORMED),
    "something after an array": (b'[{"id":1,"label":1}],', Reason.MALFORMED),
    "an empty array": (b" [ ] ", Reason.MISSING_FIELD),
    "an array of 300,000 events": (b"[" + b"{}," * 300_000 + b"{}]", Reason.OVERSIZED),
    "two events": (b'{"id":1,"label":1}\n{"id":2,"label":2}', Reason.MALFORMED),
    "invalid UTF-8": (b"{" + EVENT + b'1,"version":"\xff"}', Reason.MALFORMED),
    "invalid UTF-8 in what is ignored": (b"{" + EVENT + b'1,"unknown":"\xff"}', Reason.MALFORMED),
    "a NUL byte": (b"{" + EVENT + b'1,"version":"\x00"}', Reason.MALFORMED),
    "wrong type": (b"{" + EVENT + b'"high"}', Reason.WRONG_TYPE),
    "boolean": (b"{" + EVENT + b"true}", Reason.WRONG_TYPE),
    "boolean in a vector": (b"{" + EVENT + b"[1,true]}", Reason.WRONG_TYPE),
    "null in a vector": (b"{" + EVENT + b"[1,null]}", Reason.WRONG_TYPE),
    "NaN": (b"{" + EVENT + b"NaN}", Reason.NOT_FINITE),
    "Infinity": (b"{" + EVENT + b"-Infinity}", Reason.NOT_FINITE),
    "NaN in a vector": (b"{" + EVENT + b"[1,NaN]}", Reason.NOT_FINITE),
    "1e400": (b"{" + EVENT + b"1e400}", Reason.NOT_FINITE),
    "1e76": (b"{" + EVENT + b"1e76}", Reason.NOT_FINITE),
    "an integer of 5,000 digits": (b"{" + EVENT + b"9" * 5_000 + b"}", Reason.NOT_FINITE),
    "an integer of 900,000 digits": (b"{" + EVENT + b"9" * 900_000 + b"}", Reason.NOT_FINITE),
    "such an integer in a vector": (b"{" + EVENT + b"[1," + b"9" * 900_000 + b"]}", Reason.NOT_FINITE),
    "such an integer as an id": (b'{"label":1,"id":' + b"9" * 900_000 + b"}", Reason.NOT_FINITE),
    "nothing in it": (b"{}", Reason.MISSING_FIELD),
    "no id": (b'{"model":"m","prediction":1}', Reason.MISSING_FIELD),
    "null for an id": (b'{"id":null,"label":1}', Reason.MISSING_FIELD),
    "100,000 lists": (b"{" + EVENT + b"[" * 100_000 + b"]" * 100_000 + b"}", Reason.OVERSIZED),
    "100,000 lists, never closed": (b"[" * 100_000, Reason.OVERSIZED),
    "100,000 objects in what is ignored": (
        b"{" + EVENT + b'1,"x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001,
        Reason.OVERSIZED,
    ),
    "5,000 outputs": (b"{" + EVENT + b"[" + b"1," * 4_999 + b"1]}", Reason.OVERSIZED),
    "a message too large": (b"{" + EVENT + b'1,"x":"' + b"x" * 1_000_000 + b'"}', Reason.OVERSIZED),
    "300,000 escaped quotes, never closed": (b'{"x":"' + b'\\"[' * 300_000, Reason.MALFORMED),
    "300,000 flat lists": (b"{" + EVENT + b'1,"x":[' + b"[]," * 300_000 + b"1]}", None),
    "a fraction of 900,000 digits": (b"{" + EVENT + b"1." + b"9" * 900_000 + b"}", None),
    "duplicate keys": (b"{" + EVENT + b'true,"prediction":1}', None),
    "lone surrogates": (b'{"id":"\\ud800","model":"\\udfff","prediction":1,"segments":{"country":"\\ud800"}}', None),
    "a NUL escaped": (b'{"id":"a\\u0000b","model":"m\\u0000","prediction":1}', None),
    "NaN in what is ignored": (b"{" + EVENT + b'1,"x":NaN}', None),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_counted_by_reason(name: str) -> None:
    """Rejected for what it is, or taken where there is nothing wrong; by both ways of decoding alike."""
    message, why = POISON[name]
    decoded = decode(message)
    assert decoded.rejections == ([] if why is None else [(0, why)])
    assert decoded.kinds[Kind.REJECTED if why else Kind.PREDICTION] == 1


@pytest.mark.parametrize("name", POISON)
def test_poison_is_quickly_judged(name: str) -> None:
    """No message of allowed size holds the loop for long; in quadratic time the largest would take minutes."""
    made, poison = decoder(), batch([POISON[name][0]])
    start = time.process_time()
    made.decode(poison, WALL_US)
    assert time.process_time() - start < 5


def test_poison_between_good_events() -> None:
    """Every good event comes through, in order; every poisoned one is accounted for at its row; tombstones too."""
    messages: list[Message] = []
    for i, (message, _) in enumerate(POISON.values()):
        messages += [{"id": f"good {i}", "label": i}, message, None]
    decoded = decode(*messages)
    assert decoded.labels.ids == [f"good {i}".encode() for i in range(len(POISON))]
    assert decoded.labels.values.tolist() == [float(i) for i in range(len(POISON))]
    expected = [(3 * i + 1, why) for i, (_, why) in enumerate(POISON.values()) if why is not None]
    assert decoded.rejections == expected
    assert decoded.kinds[Kind.TOMBSTONE] == len(POISON)
    assert_accounted(decoded, len(messages))
