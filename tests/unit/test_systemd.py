"""What systemd is told, and the unit that asks for it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from msemon.daemon import STALLED_S, STOP_S
from msemon.settings import load
from msemon.systemd import Supervisor
from msemon.watchdog import Watchdog
from support.compose import DEPLOY
from support.running import daemon
from support.supervisor import Listener, listening
from support.tools import SYSTEMD, needs
from support.waiting import wait_until

UNIT = DEPLOY / "systemd" / "msemon.service"
WORST_EXPOSURE = 12  # tenths: what is left is the network, and files that the interpreter reads
SILENT = {"kafka.bootstrap_servers": "127.0.0.1:1"}


def service() -> dict[str, str]:
    """The unit's section [Service]; of a name that repeats, all values in one line."""
    found: dict[str, str] = {}
    for line in UNIT.read_text(encoding="utf-8").partition("[Service]\n")[2].partition("\n[")[0].splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name] = f"{found.get(name, '')} {value}".strip()
    return found


# The protocol.


def test_without_a_supervisor_nothing_is_said() -> None:
    supervisor = Supervisor({})
    supervisor.ready()
    supervisor.alive()
    supervisor.stopping()


def test_every_message_is_a_datagram_as_systemd_reads_it(tmp_path: Path) -> None:
    with listening(tmp_path) as (listener, environment):
        supervisor = Supervisor(environment)
        supervisor.ready()
        supervisor.status("reading")
        supervisor.status("reading")  # nothing new
        supervisor.stopping()
        assert listener.hear() == ["READY=1", "STATUS=reading", "STOPPING=1"]


def test_a_socket_may_be_a_name_instead_of_a_path() -> None:
    address = f"@msemon-{secrets.token_hex(8)}"
    listener = Listener(address)
    try:
        Supervisor({"NOTIFY_SOCKET": address}).ready()
        assert listener.hear() == ["READY=1"]
    finally:
        listener.close()


def test_a_supervisor_that_is_gone_or_does_not_listen_holds_nothing_up(tmp_path: Path) -> None:
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
    with listening(tmp_path) as (listener, environment):
        supervisor = Supervisor(environment)
        for n in range(10_000):  # far more than a socket holds
            supervisor.status(str(n))
        assert 0 < len(listener.hear()) < 10_000


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({"WATCHDOG_USEC": "30000000"}, True),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({}, False),
    ],
)
def test_a_sign_of_life_is_given_to_whoever_asks_for_it(
    tmp_path: Path, environment: dict[str, str], asked: bool
) -> None:
    with listening(tmp_path) as (listener, address):
        supervisor = Supervisor(address | environment)
        supervisor.alive()
        supervisor.alive()  # not due again yet
        assert listener.hear() == ["WATCHDOG=1"] * asked


def test_a_loop_that_stands_still_gives_no_sign_of_life() -> None:
    """The watchdog tells of looks that found all well, and of none after the one that did not."""
    lived: list[bool] = []
    ended: list[int] = []
    ailing: list[str] = []
    watchdog = Watchdog(
        lambda: float("inf"),
        lambda: ailing[0] if ailing else None,
        stalled_s=60.0,
        look_s=0.01,
        alive=lambda: lived.append(not ailing),
        end=ended.append,
    )
    watchdog.start()
    try:
        wait_until(lambda: len(lived) > 2, 20.0, "looks")
        ailing.append("as a test wants it")
        wait_until(lambda: ended, 20.0, "the end")
    finally:
        watchdog.stop()
    assert all(lived)


# The daemon.


def test_the_daemon_is_ready_without_a_broker_and_answers_by_then(tmp_path: Path) -> None:
    """READY=1, signs of life, the trouble as its status, STOPPING=1 and exit code 0: no restart loop."""
    with listening(tmp_path) as (listener, environment):
        limit = {"WATCHDOG_USEC": "2000000"}
        with daemon(tmp_path / "daemon.log", SILENT, environment | limit, ready=False) as running:
            listener.until("READY=1")
            assert running.said("serving"), "HTTP comes first"
            assert running.healthy
            assert not running.ready
            listener.until("STATUS=no broker answers")
            listener.until("WATCHDOG=1", times=3)
            running.signal(signal.SIGTERM)
            listener.until("STOPPING=1")
            assert running.wait() == 0
        assert listener.hear().count("READY=1") == 1


@pytest.mark.parametrize("mistake", ["settings", "address"])
def test_a_daemon_that_can_not_start_is_never_ready(tmp_path: Path, mistake: str) -> None:
    with listening(tmp_path) as (listener, environment), socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        bad = {"web.address": address} if mistake == "address" else {"windows.panes": 0}
        with daemon(tmp_path / "daemon.log", SILENT | bad, environment, ready=False) as running:
            assert running.wait() == (1 if mistake == "address" else 2)
        assert listener.hear() == []


# The unit.


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """With a program that is there in the place of the installed one, and no word of complaint."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/msemon/bin/msemon", "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        [needs(SYSTEMD), "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, complaints) == (0, [])


def test_the_unit_leaves_little_open() -> None:
    command = [needs(SYSTEMD), "security", "--offline=true", f"--threshold={WORST_EXPOSURE}", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


def test_the_unit_waits_as_long_as_the_daemon_may_take() -> None:
    seconds = {name: float(value.removesuffix("s")) for name, value in service().items() if name.endswith("Sec")}
    assert seconds["TimeoutStopSec"] > STOP_S
    assert seconds["WatchdogSec"] < STALLED_S, "a process that can't end itself is not waited for longer"
    assert service()["Type"] == "notify"


def test_the_unit_starts_bad_settings_once_and_everything_else_again() -> None:
    assert service()["Restart"] == "on-failure"
    assert service()["RestartPreventExitStatus"] == "2"


def test_the_units_command_and_environment_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`%S` is /var/lib; the state lies in the directory that systemd makes."""
    monkeypatch.chdir(tmp_path)
    variables = dict(word.split("=", 1) for word in service()["Environment"].replace("%S", "/var/lib").split())
    directory = f"/var/lib/{service()['StateDirectory']}"
    assert load(environ=variables).state.path == directory
    program, *rest = service()["ExecStart"].split()
    file = tmp_path / "msemon.toml"
    file.write_text('[kafka]\nbootstrap_servers = "kafka-1:9092"\n')
    rest = [str(file) if word == "/etc/msemon/msemon.toml" else word for word in rest]
    assert (Path(program).name, rest[-1]) == ("msemon", "run")
    shown = subprocess.run(
        [sys.executable, "-m", "msemon", *rest, "--print-config"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "kafka-1:9092" in shown.stdout
