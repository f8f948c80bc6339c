"""What `msemon run` says at once of a place where no state can be kept; no broker is needed, or asked, for that."""

from __future__ import annotations

import pytest

from support.running import Daemon, daemon

SILENT = {"kafka.bootstrap_servers": "127.0.0.1:1", "state.store": "sqlite"}


def _refusal(running: Daemon) -> str:
    """The only error in its log, once it has ended with 1: another start may do."""
    assert running.wait() == 1
    (line,) = [line for line in running.lines() if line.get("level") == "error"]
    return str(line["error"])


@pytest.mark.parametrize("path", ["file/state", "file"])
def test_a_state_path_that_can_not_be_written_to_is_a_bad_setting(tmp_path, path):
    """Exit code 2, and one line with the path, what is in the way, and where the setting is from."""
    (tmp_path / "file").write_text("in the way")
    given = SILENT | {"state.path": str(tmp_path / path)}
    with daemon(tmp_path / "daemon.log", given, ready=False) as running:
        assert running.wait() == 2
    (line,) = (tmp_path / "daemon.log").read_text().splitlines()
    assert line == (
        f"state.path {tmp_path / path} can't be written to: {tmp_path / 'file'} is no directory that may be"
        " (from --state.path)"
    )


def test_two_daemons_on_one_state_path_are_one_too_many(tmp_path):
    """The second is told who has it, and the first goes on."""
    given = SILENT | {"state.path": str(tmp_path / "state")}
    with daemon(tmp_path / "first.log", given, ready=False) as first:
        first.until((tmp_path / "state" / "lock").exists, "the first to have it")
        with daemon(tmp_path / "second.log", given, ready=False) as second:
            assert f"in use by another msemon (process {first.process.pid})" in _refusal(second)
        assert first.healthy
        assert first.stop() == 0
