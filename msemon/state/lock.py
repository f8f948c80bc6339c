"""One daemon a state directory: two on one would each take the other's task for its own."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from msemon.state.base import Unusable

NAME = "lock"


class DirectoryLock:
    """A lock that the system gives back when the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._file: int | None = None

    def acquire(self) -> None:
        """Raises Unusable where another process, or another store of this one, has it; OSError where it can't be."""
        if self._file is not None:
            return
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # For people; nobody reads it back but the message below.
            os.ftruncate(file, 0)
            os.pwrite(file, b"%d\n" % os.getpid(), 0)
        except OSError as problem:
            holder = os.pread(file, 20, 0).decode("ascii", "replace").strip()
            os.close(file)
            if problem.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise Unusable(
                    f"{self._path.parent} is in use by another msemon (process {holder or 'unknown'}): "
                    "give each its own state.path"
                ) from None
            raise
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
