"""F3: the disk is full, the directory read-only, fsync fails: the checkpoint fails with its reason, what is durable
stays durable, and once writing is possible again everything owed is written.

Real: a full disk, by the system's bound on the size of a process's files (`RLIMIT_FSIZE`) in a process of its own.
Simulated: the other two, since root's rights go past a directory's mode and no file system here refuses to sync; there
SQLite's connection raises what SQLite raises.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msemon.state import WriteFailed
from msemon.state.sqlite import SqliteStore
from support.checkpoints import Owner, restored, same

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import json, resource, sys
from pathlib import Path
from msemon.state import WriteFailed
from msemon.state.sqlite import SqliteStore
from support.checkpoints import Owner, same, restored

def bound(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

store = SqliteStore(Path(sys.argv[1]))
store.open()
owner = Owner(store)
owner.checkpoint(20)
said = []
owner.task.put(("large", 0))
for size in (3_000_000, 500_000, 0):
    bound(size)
    try:
        owner.checkpoint(5)
    except WriteFailed as problem:
        said.append(str(problem))
durable_while_full = owner.durable
bound(resource.RLIM_INFINITY)
owner.checkpoint(5)
found = restored(store).restored
print(json.dumps([said, durable_while_full, owner.durable, same(found.pieces, owner.task.pieces())]))
"""


def test_f03_a_full_disk_fails_checkpoints_until_there_is_room(tmp_path):
    """Whatever room is left; then one checkpoint has all that the failed ones owed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, durable_while_full, durable, exact = json.loads(done.stdout)
    assert len(said) == 3
    assert all("task-0.sqlite: " in line for line in said)
    assert (durable_while_full, durable, exact) == (20, 40, True)


class Broken(sqlite3.Connection):
    """Raises like SQLite at the statement that a test names, after the system has refused."""

    at = ""
    message = ""

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if Broken.at and statement.startswith(Broken.at):
            raise sqlite3.OperationalError(Broken.message)
        return super().execute(statement, *parameters)


@pytest.fixture
def breaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[SqliteStore, Callable[[str, str], None]]:
    monkeypatch.setattr(Broken, "at", "")

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        return sqlite3.connect(*args, factory=Broken, **options)

    def break_at(statement: str, message: str) -> None:
        Broken.at, Broken.message = statement, message

    return SqliteStore(tmp_path, connect), break_at


@pytest.mark.parametrize(
    ("at", "message"),
    [("COMMIT", "disk I/O error"), ("INSERT INTO chunks", "attempt to write a readonly database")],
    ids=["fsync fails", "read-only directory"],
)
def test_f03_what_fails_is_told_and_written_once_it_is_possible_again(breaking, at, message):
    """What was durable before stays what a restart would find; nothing later is claimed."""
    store, break_at = breaking
    owner = Owner(store)
    owner.checkpoint(20)
    break_at(at, message)
    for _ in range(3):
        with pytest.raises(WriteFailed, match=message):
            owner.checkpoint(10)
        assert owner.durable == 20
    break_at("", "")
    found = restored(store).restored
    assert found is not None
    assert found.offsets["predictions"] == 20
    owner.checkpoint(10)
    found = restored(store).restored
    assert found is not None
    assert found.offsets["predictions"] == owner.durable == 60
    assert same(found.pieces, owner.task.pieces())
