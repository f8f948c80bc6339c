"""The sqlite store: what comes back, what is refused, and disks that fail.

Failing disks are simulated where root's rights would get past the real thing: by SQLite's own bound on a file's pages,
by a connection that raises what SQLite raises, and, in `tests/faults/test_f03_*`, by the system's bound on file sizes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msemon.state import Unavailable, Unusable, WriteFailed, restore
from msemon.state import sqlite as state_sqlite
from msemon.state.base import MAX_CHUNK, MAX_MANIFEST, Refusal
from msemon.state.sqlite import SqliteStore
from support.checkpoints import LogTask, Owner, finish, restored, same


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path)


def sql(path: Path, *statements: str) -> list[Any]:
    """Runs statements as a person with the sqlite3 command would; the last one's rows."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return [db.execute(statement).fetchall() for statement in statements][-1]
    finally:
        db.close()


def exact(store: SqliteStore, owner: Owner) -> bool:
    found = restored(store).restored
    return found is not None and same(found.pieces, owner.task.pieces())


# What comes back


def test_the_last_of_several_checkpoints_comes_back(store):
    owner = Owner(store)
    for _ in range(5):
        owner.checkpoint(20)
    outcome = restored(store)
    assert outcome.restored is not None
    assert exact(store, owner)
    assert outcome.restored.offsets == {"predictions": 100, "labels": 2}
    assert (outcome.restored.store, outcome.rejected) == ("sqlite", [])


def test_where_there_is_no_file_there_is_no_state_and_none_is_made(store, tmp_path):
    outcome = restored(store)
    assert (outcome.restored, outcome.rejected) == (None, [])
    assert list(tmp_path.iterdir()) == []


def test_tasks_have_a_file_each(store, tmp_path):
    for partition in (0, 3):
        Owner(store, LogTask(10 + partition, partition), partition).checkpoint()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task-0.sqlite", "task-3.sqlite"]
    found = restored(store, 3).restored
    assert found is not None
    assert found.offsets["predictions"] == 13


def test_a_new_owner_takes_away_what_the_old_one_left_with_its_second_checkpoint(store):
    old = Owner(store)
    old.checkpoint(50)
    new = Owner(store)
    new.checkpoint(10)
    assert new.outcome.leftovers.manifests < restored(store).leftovers.manifests
    new.checkpoint(10)
    left = restored(store).leftovers
    assert not left.manifests & new.outcome.leftovers.manifests
    assert not left.chunks & new.outcome.leftovers.chunks
    assert exact(store, new)


def test_a_restore_sees_one_moment_whatever_is_written_meanwhile(store):
    owner = Owner(store)
    owner.task.put(("large", 0))
    owner.checkpoint(20)
    before = LogTask.from_pieces(owner.task.pieces(), owner.task.offset)
    steps = restore(store, 0)
    for _ in range(3):
        next(steps)
    for _ in range(3):
        owner.task.put(("large", 0))
        owner.checkpoint(20)
    found = finish(steps).restored
    assert found is not None
    assert same(found.pieces, before.pieces())


def test_an_abandoned_restore_leaves_nothing_open(store, tmp_path):
    owner = Owner(store)
    owner.task.put(("large", 0))
    owner.checkpoint()
    steps = restore(store, 0)
    for _ in range(3):
        next(steps)
    steps.close()
    # The last connection that closes takes the journal away: there is no other.
    owner.checkpoint(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task-0.sqlite"]


def test_room_is_given_back_when_a_state_has_shrunk(store, tmp_path):
    owner = Owner(store)
    for i in range(3):
        owner.task.put(("large", i))
    owner.checkpoint()
    for i in range(3):
        del owner.task.stamps["large", i]
    for _ in range(40):
        owner.checkpoint(1)
    assert (tmp_path / "task-0.sqlite").stat().st_size < 6_000_000
    assert exact(store, owner)


def test_twenty_megabytes_are_durable_within_half_a_second_on_an_idle_machine(store):
    owner = Owner(store)
    owner.task.put(("large", 0))
    owner.task.put(("large", 1))
    write = owner.task.plan(owner.checkpointer)
    before = time.monotonic()
    store.write(write, 30)
    seconds = time.monotonic() - before
    assert write.size > 17_000_000
    assert seconds < 5  # ten times what is aimed at, for machines that are not idle


# What is refused


@pytest.mark.parametrize("contents", [b"", b"x"])  # SQLite takes both for a new database
def test_an_empty_file_is_refused_and_used_again(store, contents):
    store.path(0).write_bytes(contents)
    assert [each.reason for each in restored(store).rejected] == [Refusal.EMPTY]
    owner = Owner(store)
    owner.checkpoint(10)
    assert exact(store, owner)


def test_a_file_that_is_no_database_is_set_aside(store, tmp_path):
    contents = b"this is no database, however long it is. " * 500
    store.path(0).write_bytes(contents)
    outcome = restored(store)
    assert (outcome.restored, [each.reason for each in outcome.rejected]) == (None, [Refusal.MALFORMED])
    assert (tmp_path / "task-0.sqlite.bad").read_bytes() == contents
    owner = Owner(store)
    owner.checkpoint(10)
    assert exact(store, owner)
    store.path(0).write_bytes(contents)
    restored(store)
    assert (tmp_path / "task-0.sqlite.bad-1").read_bytes() == contents


def test_somebody_elses_database_is_set_aside(store, tmp_path):
    sql(store.path(0), "CREATE TABLE manifests (a)")
    assert [each.reason for each in restored(store).rejected] == [Refusal.MALFORMED]
    assert sql(tmp_path / "task-0.sqlite.bad", "SELECT count(*) FROM manifests") == [(0,)]


def test_a_file_of_a_newer_version_is_set_aside_with_all_that_is_in_it(store, tmp_path):
    owner = Owner(store)
    owner.checkpoint(10)
    sql(store.path(0), "PRAGMA user_version = 2")
    assert [each.reason for each in restored(store).rejected] == [Refusal.NEWER_FORMAT]
    kept = tmp_path / "task-0.sqlite.bad"
    sql(kept, "PRAGMA user_version = 1")
    kept.rename(store.path(0))
    assert exact(store, owner)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("UPDATE chunks SET data = zeroblob(length(data)) WHERE sequence = 1", Refusal.CHECKSUM),
        ("UPDATE chunks SET data = substr(data, 2) WHERE sequence = 1", Refusal.TORN),
        ("UPDATE chunks SET data = x'' WHERE sequence = 1", Refusal.EMPTY),
        (f"UPDATE chunks SET data = zeroblob({MAX_CHUNK + 1}) WHERE sequence = 1", Refusal.MALFORMED),
        ("UPDATE chunks SET data = 'text' WHERE sequence = 1", Refusal.MALFORMED),
        ("DELETE FROM chunks WHERE sequence = 1", Refusal.MISSING_CHUNK),
        ("UPDATE manifests SET data = x'' WHERE sequence = 1", Refusal.EMPTY),
        ("UPDATE manifests SET data = 5 WHERE sequence = 1", Refusal.EMPTY),
        (f"UPDATE manifests SET data = zeroblob({MAX_MANIFEST + 1}) WHERE sequence = 1", Refusal.MALFORMED),
        ("UPDATE manifests SET sequence = 'x' WHERE sequence = 1", Refusal.MALFORMED),
        ("UPDATE manifests SET sequence = 7 WHERE sequence = 1", Refusal.MALFORMED),
        ("UPDATE manifests SET writer = cast(x'ff' AS TEXT) WHERE sequence = 1", Refusal.MALFORMED),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_reason_and_the_one_before_is_taken(store, damage, reason):
    owner = Owner(store)
    for _ in range(2):
        owner.checkpoint(20)
    sql(store.path(0), damage)
    outcome = restored(store)
    assert [each.reason for each in outcome.rejected] == [reason]
    assert outcome.restored is not None
    assert same(outcome.restored.pieces, LogTask(20).pieces())
    new = Owner(store)
    for _ in range(3):
        new.checkpoint(20)
    assert exact(store, new)


def test_a_key_that_no_writer_of_ours_has_costs_only_itself(store):
    owner = Owner(store)
    owner.checkpoint(20)
    sql(
        store.path(0),
        "INSERT INTO chunks VALUES (cast(x'ff' AS TEXT), 'x', 1.5, 0)",
        f"INSERT INTO manifests SELECT 'w', {2**63 - 1}, data FROM manifests",
    )
    new = Owner(store)
    assert same(new.task.pieces(), owner.task.pieces())
    for _ in range(2):
        new.checkpoint(5)
    assert exact(store, new)


# Disks that fail


class Failing(sqlite3.Connection):
    """Raises what SQLite raises, at the statement that a test names."""

    at: str = ""
    error: Callable[[], Exception] = staticmethod(lambda: sqlite3.OperationalError("disk I/O error"))

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if Failing.at and statement.startswith(Failing.at):
            raise Failing.error()
        return super().execute(statement, *parameters)


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteStore:
    monkeypatch.setattr(Failing, "at", "")

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        return sqlite3.connect(*args, factory=Failing, **options)

    return SqliteStore(tmp_path, connect)


@pytest.mark.parametrize("at", ["PRAGMA journal", "BEGIN", "INSERT INTO chunks", "INSERT INTO manifests", "COMMIT"])
def test_a_disk_that_fails_anywhere_fails_the_checkpoint_and_the_next_one_has_everything(failing, at):
    owner = Owner(failing)
    owner.checkpoint(30)
    Failing.at = at
    for _ in range(3):
        with pytest.raises(WriteFailed, match="disk I/O error"):
            owner.checkpoint(10)
        assert owner.durable == 30
    Failing.at = ""
    found = restored(failing).restored
    assert found is not None
    assert found.offsets["predictions"] == 30
    owner.checkpoint(10)
    assert exact(failing, owner)


def test_the_very_first_checkpoint_may_fail_too(failing):
    Failing.at = "COMMIT"
    owner = Owner(failing)
    with pytest.raises(WriteFailed):
        owner.checkpoint(10)
    assert owner.checkpointer.owes_all
    Failing.at = ""
    owner.checkpoint(10)
    assert exact(failing, owner)


def test_a_full_disk_fails_the_checkpoint_and_room_mends_it(tmp_path):
    pages = [100]

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = sqlite3.connect(*args, **options)
        db.execute(f"PRAGMA max_page_count = {pages[0]}")
        return db

    store = SqliteStore(tmp_path, connect)
    owner = Owner(store)
    owner.checkpoint(20)
    owner.task.put(("large", 0))
    for _ in range(2):
        with pytest.raises(WriteFailed, match="full"):
            owner.checkpoint(5)
    assert Owner(store).task.offset == 20
    pages[0] = 1_000_000
    owner.checkpoint(5)
    assert exact(store, owner)


def test_a_directory_that_goes_away_fails_the_checkpoint_and_a_new_one_gets_the_whole_state(tmp_path):
    directory = tmp_path / "state"
    store = SqliteStore(directory)
    store.open()
    owner = Owner(store)
    owner.checkpoint(20)
    moved = directory.rename(tmp_path / "elsewhere")
    with pytest.raises(WriteFailed):
        owner.checkpoint(5)
    directory.mkdir()
    with pytest.raises(WriteFailed, match="no longer holds"):
        owner.checkpoint(5)
    assert owner.checkpointer.owes_all
    owner.checkpoint(5)
    assert exact(store, owner)
    assert Owner(SqliteStore(moved)).task.offset == 20
    store.close()


def test_a_file_that_turns_bad_while_it_is_written_is_set_aside_and_a_new_one_gets_the_whole_state(store, tmp_path):
    owner = Owner(store)
    owner.checkpoint(20)
    store.path(0).write_bytes(b"scribble" * 4096)
    with pytest.raises(WriteFailed, match="set aside"):
        owner.checkpoint(5)
    assert (tmp_path / "task-0.sqlite.bad").exists()
    owner.checkpoint(5)
    assert exact(store, owner)


def test_a_file_that_can_be_read_in_part_stays_until_the_whole_state_is_written_elsewhere(store, tmp_path):
    owner = Owner(store)
    for _ in range(2):
        owner.task.put(("large", 0))
        owner.checkpoint(20)
    # Pages of the second checkpoint's chunks: SQLite itself finds their links broken.
    data = bytearray(store.path(0).read_bytes())
    at = len(data) * 3 // 4 // 8192 * 8192
    data[at : at + 8] = b"\xff" * 8
    store.path(0).write_bytes(data)
    outcome = restored(store)
    assert [each.reason for each in outcome.rejected][:1] == [Refusal.MALFORMED]
    assert store.path(0).exists()
    new = Owner(store)
    new.checkpoint(5)
    assert (tmp_path / "task-0.sqlite.bad").exists()
    assert exact(store, new)


def test_a_file_that_somebody_has_locked_is_unavailable_and_not_taken_for_empty(store, monkeypatch):
    monkeypatch.setattr(state_sqlite, "BUSY_S", 0.05)
    owner = Owner(store)
    owner.checkpoint(20)
    db = sqlite3.connect(store.path(0), isolation_level=None)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable):
            restored(store)
        with pytest.raises(WriteFailed, match="locked"):
            owner.checkpoint(1)
    finally:
        db.close()
    owner.checkpoint(1)
    assert exact(store, owner)


# Opening


def test_opening_makes_the_directory_and_leaves_only_the_lock(tmp_path):
    store = SqliteStore(tmp_path / "a" / "b")
    store.open()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["lock"]
    store.close()


def test_a_path_that_is_no_directory_is_refused_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unusable, match=r"state\.path .*file"):
        SqliteStore(tmp_path / "file").open()


def test_a_directory_that_can_not_be_written_to_is_refused_in_words(tmp_path, monkeypatch):
    # Root may write anywhere, so the system's refusal is simulated.
    def refuse(*_: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(Unusable, match="Read-only"):
        SqliteStore(tmp_path).open()
    monkeypatch.undo()
    store = SqliteStore(tmp_path)
    store.open()  # the first one holds no lock
    store.close()


def test_two_stores_on_one_directory_are_refused_naming_the_process(tmp_path):
    first, second = SqliteStore(tmp_path), SqliteStore(tmp_path)
    first.open()
    with pytest.raises(Unusable, match=rf"process {os.getpid()}"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_the_lock_ends_with_its_process(tmp_path):
    child = os.fork()
    if child == 0:
        SqliteStore(tmp_path).open()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    store = SqliteStore(tmp_path)
    store.open()
    store.close()


def test_writing_and_restoring_may_go_on_in_different_threads(store):
    owner = Owner(store)
    owner.checkpoint(20)
    problems: list[WriteFailed] = []

    def write() -> None:
        try:
            for _ in range(20):
                owner.checkpoint(5)
        except WriteFailed as problem:
            problems.append(problem)

    thread = threading.Thread(target=write)
    thread.start()
    while thread.is_alive():
        found = restored(store)
        assert found.restored is not None
        assert found.rejected == []
        assert same(found.restored.pieces, LogTask(found.restored.offsets["predictions"]).pieces())
    thread.join()
    assert problems == []
