"""F32: upgrade and downgrade: what an older version wrote is read, what a newer one wrote is set aside openly."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path

import numpy as np

from msemon.core.snapshot import Piece
from msemon.state import codec, manifest
from msemon.state.base import ChunkKey, Refusal
from msemon.state.manifest import decode
from msemon.state.sqlite import SCHEMA, SqliteStore
from support.checkpoints import MemoryStore, Owner, restored, same

# A checkpoint as format 1 has it. Once a version with it is out these bytes must be readable for ever.
FORMAT_1_CHUNK = """
AQAAABMAAACSkIKndmVyc2lvbgGjd2hvosOpAQAAACQAAACSkpOnbW9tZW50c6M8ZjiSAgKTpHNlZW6jfGIxkQKBo2VuZMAAAAAA
AAAAAAAA+D8AAAAAAAAAgAAAAAAAAPh/AAAAAAAAAEABAAEAAAAwAAAAkpKTpmRpZ2VzdKM8dTiRA5OkdGltZaM8aTiRAoGkbGlz
dJMBy0AEAAAAAAAAxAF4AAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAP//////////AAAAAAABAAA=
"""
FORMAT_1_MANIFEST = """
bXNlbW9uLW0BAAAAggAAAAAAAAACc4LaQeJFGhfoYDQXLEv0lwOod3JpdGVyLTEAgqZsYWJlbHMHq3ByZWRpY3Rpb25zzwAAAQAA
AAAAgaZsYWJlbHP7kZQAAMzdxBCBYMdmOWINfsgdWT8ABzuCk5KRpGhlYWSRkwAAG5KTpHBhbmWtMzYwMDAwMDAwMC82MM1xuJGT
ABtSkpKkcm93cwCRkwBtcA==
"""
WRITTEN = {
    ("head",): Piece({}, {"version": 1, "who": "é"}),
    ("pane", "3600000000/60", 29112): Piece(
        {"moments": np.array([[1.5, -0.0], [np.nan, 2.0]]), "seen": np.array([True, False])}, {"end": None}
    ),
    ("rows", 0): Piece(
        {"digest": np.arange(3, dtype=np.uint64), "time": np.array([-1, 2**40])}, {"list": [1, 2.5, b"x"]}
    ),
}


def format_1() -> MemoryStore:
    data = base64.b64decode(FORMAT_1_MANIFEST)
    key = decode(data).key
    return MemoryStore(
        chunks={ChunkKey(*key, 0): base64.b64decode(FORMAT_1_CHUNK)}, manifests={key: data}, partition=3
    )  # fmt: skip


def test_f32_a_checkpoint_of_the_first_format_is_read_to_the_last_bit():
    """An upgrade goes on where the older version stopped."""
    found = restored(format_1(), 3).restored
    assert found is not None
    assert same(found.pieces, WRITTEN)
    assert (found.offsets, found.clocks) == ({"labels": 7, "predictions": 2**40}, {"labels": -5})


def test_f32_after_a_downgrade_the_last_checkpoint_that_can_be_read_is_used():
    """A newer version's checkpoints are counted as that and passed over, whatever is in them."""
    store = format_1()
    (key,) = store.manifests
    newer = key._replace(sequence=1)
    store.manifests[newer] = manifest.framed(b"what only a newer version knows", codec.FORMAT + 1)
    outcome = restored(store, 3)
    assert [each.reason for each in outcome.rejected] == [Refusal.NEWER_FORMAT]
    assert outcome.restored is not None
    assert outcome.restored.key == key


def test_f32_newer_tables_are_set_aside_whole_for_the_next_upgrade(tmp_path):
    """A file whose tables this version does not know is kept beside the new one and never written to."""
    store = SqliteStore(tmp_path)
    owner = Owner(store)
    owner.checkpoint(20)
    before = owner.task.pieces()
    set_schema(tmp_path / "task-0.sqlite", SCHEMA + 1)
    outcome = restored(store)
    assert outcome.restored is None
    assert [each.reason for each in outcome.rejected] == [Refusal.NEWER_FORMAT]
    Owner(store).checkpoint(5)
    kept = tmp_path / "task-0.sqlite.bad"
    assert str(kept.name) in outcome.rejected[0].what
    set_schema(kept, SCHEMA)
    kept.replace(tmp_path / "task-0.sqlite")
    found = restored(store).restored
    assert found is not None
    assert same(found.pieces, before)


def set_schema(path: Path, version: int) -> None:
    db = sqlite3.connect(path)
    try:
        db.execute(f"PRAGMA user_version = {version}")
    finally:
        db.close()
