"""The default store: one SQLite file a task, one transaction a checkpoint.

Each operation opens the file anew and closes it: nothing is remembered of a disk that was full, a directory that was
read-only, or a file that somebody moved away. A file that SQLite can't read is set aside under another name, never
deleted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msemon.state import failpoints
from msemon.state.base import (
    MAX_CHUNK,
    MAX_MANIFEST,
    ChunkKey,
    Corrupt,
    Found,
    ManifestKey,
    Refusal,
    Rejection,
    Slices,
    Unavailable,
    Unusable,
    Write,
    WriteFailed,
    is_writer,
    missing,
)
from msemon.state.lock import DirectoryLock

APPLICATION_ID = 0x6D73656D  # "msem", in the file's header
SCHEMA = 1
"""Version of the tables, in the file's header; what they hold has its own."""

BUSY_S = 10.0  # a person with a file open may hold its lock for a moment
_MAX_MANIFESTS = 1000  # two a writer are there; more is no state of ours
_SHRINK_PAGES = 256  # given back to the system with one checkpoint: 2 MiB

_BAD_FILE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_NOTADB}

_CREATE = (
    """CREATE TABLE chunks
        (writer TEXT NOT NULL, sequence INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,
         PRIMARY KEY (writer, sequence, number))""",
    """CREATE TABLE manifests
        (writer TEXT NOT NULL, sequence INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (writer, sequence))""",
)


class SqliteStore:
    """The files in one directory. `connect` stands in for `sqlite3.connect` in tests of failing disks."""

    name = "sqlite"

    def __init__(self, directory: Path, connect: Callable[..., sqlite3.Connection] = sqlite3.connect) -> None:
        self._directory = directory
        self._connect = connect
        self._lock = DirectoryLock(directory)
        self._damaged: set[int] = set()  # tasks whose file could be read in part only

    def open(self) -> None:
        """See `Store`: the directory is made, locked, and written to."""
        probe = self._directory / "probe"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            with probe.open("wb") as file:
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
            probe.unlink()
        except OSError as problem:
            self._lock.release()
            raise Unusable(f"state.path {self._directory} can't be written to: {problem.strerror}") from problem

    def look(self) -> str:
        """What `open` would find, in words, as far as it can be known without writing. Raises Unusable."""
        there = next(each for each in (self._directory, *self._directory.absolute().parents) if each.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise Unusable(f"state.path {self._directory} can't be written to: {there} is no directory that may be")
        return "can be used" if there == self._directory else "does not exist: run would make it"

    def close(self) -> None:
        """See `Store`."""
        self._lock.release()

    def path(self, partition: int) -> Path:
        """The task's file."""
        return self._directory / f"task-{partition}.sqlite"

    def write(self, write: Write, timeout_s: float) -> None:
        """See `Store`. SQLite's own limits hold in place of `timeout_s`: a local disk answers or fails."""
        del timeout_s
        path = self.path(write.partition)
        if write.base is None and write.partition in self._damaged:
            # Not before: until now it was the only place of what could still be read.
            _set_aside(path)
            self._damaged.discard(write.partition)
        try:
            with self._opened(path) as db:
                _prepare(db)
                self._transact(db, write)
                failpoints.reach(failpoints.AFTER_MANIFEST)
                _shrink(db)
        except (_Foreign, sqlite3.DatabaseError) as problem:
            if not _beyond_repair(problem):
                raise WriteFailed(f"{path}: {problem}") from problem
            kept = _set_aside(path)
            raise WriteFailed(f"{path} was set aside as {kept.name}: {problem}", lost=True) from problem
        except (OSError, sqlite3.Error) as problem:
            raise WriteFailed(f"{path}: {problem}") from problem

    def _transact(self, db: sqlite3.Connection, write: Write) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            self._require_base(db, write)
            failpoints.reach(failpoints.BEFORE_CHUNKS)
            for key, data in write.chunks():
                db.execute("INSERT INTO chunks VALUES (?, ?, ?, ?)", (*key, data))
                failpoints.reach(failpoints.AMID_CHUNKS)
            failpoints.reach(failpoints.AFTER_CHUNKS)
            db.execute("INSERT INTO manifests VALUES (?, ?, ?)", (*write.key, write.manifest()))
            db.executemany("DELETE FROM manifests WHERE writer = ? AND sequence = ?", write.delete_manifests)
            db.executemany("DELETE FROM chunks WHERE writer = ? AND sequence = ? AND number = ?", write.delete_chunks)
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # the first problem is the one to tell
                db.execute("ROLLBACK")
            raise

    def _require_base(self, db: sqlite3.Connection, write: Write) -> None:
        """Somebody may have moved or emptied the file: what is not in it any more must not be leant on."""
        if write.base is not None and not _has(db, write.base):
            raise WriteFailed(f"{self.path(write.partition)} no longer holds the last checkpoint", lost=True)

    def restore(self, partition: int) -> Slices:
        """See `Store`."""
        path = self.path(partition)
        yield
        if not path.exists():
            return Found(missing)
        reading = _Reading(path, lambda: self._damaged.add(partition))
        try:
            reading.db = self._connect(path, timeout=BUSY_S, isolation_level=None)
            reading.db.text_factory = _text
            yield
            return (yield from reading.found())
        except (_Foreign, sqlite3.DatabaseError) as problem:
            reading.close()
            if not _beyond_repair(problem):
                raise Unavailable(f"{path}: {problem}") from problem
            kept = _set_aside(path)
            reason = problem.reason if isinstance(problem, _Foreign) else Refusal.MALFORMED
            return Found(missing, rejected=[Rejection(reason, f"{path}, set aside as {kept.name}: {problem}")])
        except BaseException:
            reading.close()
            raise

    @contextlib.contextmanager
    def _opened(self, path: Path) -> Iterator[sqlite3.Connection]:
        db = self._connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            yield db
        finally:
            with contextlib.suppress(sqlite3.Error):
                db.close()


class _Foreign(Exception):
    """A SQLite file, but none that this version can use."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class _Reading:
    """One restore's view of a file, the same from its beginning to `close`."""

    path: Path
    on_damage: Callable[[], None]
    db: sqlite3.Connection | None = None

    def found(self) -> Slices:
        db = self._require_db()
        if not _check_identity(db):
            self.close()
            return Found(missing, rejected=[Rejection(Refusal.EMPTY, str(self.path))])
        db.execute("BEGIN")
        listing = "SELECT rowid, writer, sequence, length(data) FROM manifests LIMIT ?"
        rows = db.execute(listing, (_MAX_MANIFESTS,)).fetchall()
        manifests: dict[ManifestKey, bytes] = {}
        rejected = []
        for row, writer, sequence, size in rows:
            if not _typed(writer, sequence) or size > MAX_MANIFEST:
                what = f"checkpoint {str(writer)[:80]}/{sequence}: a manifest of {size:,} bytes"
                rejected.append(Rejection(Refusal.MALFORMED, what))
                continue
            (data,) = db.execute("SELECT data FROM manifests WHERE rowid = ?", (row,)).fetchone()
            manifests[ManifestKey(writer, sequence)] = data if isinstance(data, bytes) else b""
            yield
        keys = db.execute("SELECT writer, sequence, number FROM chunks")
        return Found(self.chunk, manifests, {ChunkKey(*key) for key in keys if _typed(*key)}, rejected, self.close)

    def chunk(self, key: ChunkKey) -> bytes | None:
        where = "FROM chunks WHERE writer = ? AND sequence = ? AND number = ?"
        db = self._require_db()
        try:
            row = db.execute(f"SELECT length(data) {where}", key).fetchone()
            if row is None:
                return None
            if row[0] > MAX_CHUNK:
                raise Corrupt(Refusal.MALFORMED, f"chunk {key} of {row[0]:,} bytes")
            (data,) = db.execute(f"SELECT data {where}", key).fetchone()
        except sqlite3.DatabaseError as problem:
            self.on_damage()
            raise Corrupt(Refusal.MALFORMED, f"{self.path}: {problem}") from problem
        if not isinstance(data, bytes):
            raise Corrupt(Refusal.MALFORMED, f"chunk {key} is not bytes")
        return data

    def close(self) -> None:
        if self.db is not None:
            with contextlib.suppress(sqlite3.Error):
                self.db.close()
            self.db = None

    def _require_db(self) -> sqlite3.Connection:
        if self.db is None:
            raise RuntimeError("closed")
        return self.db


def _prepare(db: sqlite3.Connection) -> None:
    """Tables and modes; the modes are no part of any transaction, and the first two only matter to a new file."""
    db.execute("PRAGMA page_size = 8192")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if not _check_identity(db):
        db.execute("BEGIN IMMEDIATE")
        for statement in _CREATE:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.execute("COMMIT")


def _check_identity(db: sqlite3.Connection) -> bool:
    """Whether the file is ours and ready; False for an empty one. Raises _Foreign."""
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (schema,) = db.execute("PRAGMA user_version").fetchone()
    if not tables:
        return False
    if application != APPLICATION_ID or schema < SCHEMA:
        raise _Foreign(Refusal.MALFORMED, "a SQLite file that is not msemon's")
    if schema > SCHEMA:
        raise _Foreign(Refusal.NEWER_FORMAT, f"tables of version {schema}, of a newer msemon; this one knows {SCHEMA}")
    return True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _typed(writer: Any, *numbers: Any) -> bool:
    """SQLite keeps any type in any column."""
    return isinstance(writer, str) and is_writer(writer) and all(isinstance(number, int) for number in numbers)


def _has(db: sqlite3.Connection, key: ManifestKey) -> bool:
    row = db.execute("SELECT 1 FROM manifests WHERE writer = ? AND sequence = ?", key).fetchone()
    return row is not None


def _shrink(db: sqlite3.Connection) -> None:
    """Give some of the room back where more than half the file is free. It is durable already: no failure matters."""
    with contextlib.suppress(sqlite3.Error):
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        if free > max(_SHRINK_PAGES, pages // 2):
            # One page a step; `execute` would take a single one.
            db.executescript(f"PRAGMA incremental_vacuum({_SHRINK_PAGES})")


def _beyond_repair(problem: Exception) -> bool:
    """Whether the file itself is bad, and not only the moment.

    All statements here are fixed, so an error in one (SQLITE_ERROR) means that the tables are not what they were.
    """
    code = getattr(problem, "sqlite_errorcode", None)
    return isinstance(problem, _Foreign) or (
        code is not None and (code & 0xFF in _BAD_FILE or code == sqlite3.SQLITE_IOERR_SHORT_READ)
    )


def _set_aside(path: Path) -> Path:
    """Rename a file with what belongs to it, so that nothing reads or overwrites it; returns the new name."""
    names: Iterable[Path] = (path.with_name(f"{path.name}.bad{f'-{i}' if i else ''}") for i in range(1_000_000))
    target = next(each for each in names if not each.exists())
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
    return target
