"""The state topic's records without a broker: keys, and what a log holds."""

from __future__ import annotations

import pytest

from msemon.state import kafka_log
from msemon.state.base import MAX_CHUNK, MAX_MANIFEST, ChunkKey, Corrupt, ManifestKey, Refusal
from msemon.state.kafka_log import Contents, Keys

KEYS = Keys("a group/with é")
CHUNK, MANIFEST = ChunkKey("w_-9", 12, 3), ManifestKey("w_-9", 12)


def test_keys_are_text_and_come_back():
    assert KEYS.chunk(4, CHUNK) == b"chunk/a%20group%2Fwith%20%C3%A9/4/w_-9/12/3"
    assert KEYS.parse(4, KEYS.chunk(4, CHUNK)) == CHUNK
    assert KEYS.parse(4, KEYS.manifest(4, MANIFEST)) == MANIFEST
    assert KEYS.parse(4, KEYS.marker(4)) is None


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"\xff\xfe",
        b"chunk/g/4/w/12",
        b"manifest/g/4/w/12/3",
        b"chunk/g/5/w/12/3",
        b"chunk/other/4/w/12/3",
        b"chunk/g/4/w/012/3",
        b"chunk/g/4/w/-1/3",
        b"chunk/g/4/w w/12/3",
        b"chunk/g/4//12/3",
        b"chunk/g/4/w/12/3\n",
        b"chunk/g/4/w/12/99999999999999999999",
        "chunk/g/4/w/1٣/3".encode(),
    ],
)
def test_other_keys_are_not_ours(key):
    assert Keys("g").parse(4, key) is None


def test_the_last_record_of_a_key_counts_and_a_tombstone_ends_it():
    contents = Contents(KEYS, 4)
    chunk, manifest = KEYS.chunk(4, CHUNK), KEYS.manifest(4, MANIFEST)
    for key, value in [(chunk, b"1"), (manifest, b"m"), (chunk, b"22"), (b"other", b"x"), (chunk, None)]:
        contents.add(key, value)
    assert (contents.chunks, contents.manifests) == ({}, {MANIFEST: b"m"})
    contents.add(chunk, b"333")
    contents.add(manifest, None)
    assert (contents.chunk(CHUNK), contents.manifests) == (b"333", {})
    assert contents.chunk(CHUNK._replace(number=9)) is None


def test_what_is_too_large_to_be_ours_is_not_held():
    contents = Contents(KEYS, 4)
    contents.add(KEYS.chunk(4, CHUNK), bytes(MAX_CHUNK + 1))
    contents.add(KEYS.manifest(4, MANIFEST), bytes(MAX_MANIFEST + 99))
    assert contents.chunks == {CHUNK: None}
    assert len(contents.manifests[MANIFEST]) == MAX_MANIFEST + 1  # one too many, so that it is refused
    with pytest.raises(Corrupt) as refused:
        contents.chunk(CHUNK)
    assert refused.value.reason == Refusal.MALFORMED


def test_no_more_is_held_than_a_state_may_have(monkeypatch):
    monkeypatch.setattr(kafka_log, "MAX_HELD", 25)
    contents = Contents(KEYS, 4)
    keys = [CHUNK._replace(number=i) for i in range(4)]
    for key in keys[:3]:
        contents.add(KEYS.chunk(4, key), bytes(10))
    assert [contents.chunks[key] is None for key in keys[:3]] == [False, False, True]
    contents.add(KEYS.chunk(4, keys[0]), None)
    contents.add(KEYS.chunk(4, keys[3]), bytes(10))
    assert contents.chunk(keys[3]) == bytes(10)
