"""Child processes that end with us."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

STOP_S = 5.0
"""How long a child may take to end when asked, before it is killed."""

_DIE_WITH_PARENT = """
import os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
os.execv(command[0], command)
"""
"""Runs between our fork and the command. A `preexec_fn` could do the same, but is not safe where threads run."""


def start(command: Sequence[str], log: IO[bytes], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Run `command` (its first word a path) with its output in `log`.

    It gets a session of its own, so Ctrl-C in the terminal reaches us and not it: we end our children in the order
    that we need. On Linux the kernel kills it when the thread that called this is gone, even by `kill -9`; so call it
    from a thread that lives as long as the child should. Elsewhere a child outlives a parent that was killed so.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd=tempfile.gettempdir(),  # Tansu reads an `.env` file where it starts: keep the user's out of it
        env=dict(environment),
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, kill it after STOP_S, and wait until it is gone."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
