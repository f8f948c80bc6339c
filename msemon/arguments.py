"""What the command line is made of: commands, their options, and a flag for every setting."""

from __future__ import annotations

import argparse
import math
import re
from typing import NoReturn

from msemon import logs
from msemon.settings import KEYS, SECTIONS, SettingsError, default_text, unknown_flag
from msemon.settings.values import Duration, duration

COMMANDS = {
    "run": "the daemon: reads events from Kafka and serves metrics to Prometheus",
    "demo": "the whole product on one machine: an embedded broker, a simulated fleet of models, the daemon on them",
    "check": "validates the settings, connects, and says how a sample of each topic parses; changes nothing",
    "replay": "the same pipeline over files, or a range of the topics: what the daemon would have shown",
    "baseline": "the baseline file that drift alarms compare with, from the same sources as a replay",
    "version": "prints the version",
}
FORMATS = ("table", "json", "openmetrics", "parquet", "html")

_OWN_LABELS = ("model", "version", "dimension", "segment", "window", "le")

_GLOBAL = argparse.SUPPRESS  # a default would undo, after the command, what stood before it


class _UsageError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(message)


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str], list[str]]:
    """Options, the settings' flags as texts by name, and a line for each mistake that leaves the command known.

    Raises SettingsError with all mistakes where no command can be told. `--help` leaves by SystemExit(0).
    """
    rest, flags, mistakes = _take_flags(argv)
    try:
        options, extra = _parser().parse_known_args(rest)
    except _UsageError as error:
        raise SettingsError([*mistakes, f"usage: {error} (see msemon --help)"]) from None
    mistakes += _unknown(extra)
    if options.command is None and not hasattr(options, "print_config"):
        raise SettingsError([*mistakes, f"usage: expected a command: {', '.join(COMMANDS)} (see msemon --help)"])
    return options, flags, mistakes


def _unknown(words: list[str]) -> list[str]:
    """A line for each unknown flag, not another for its value, and one for each other word."""
    return [
        unknown_flag(word) if word.startswith("-") else f"{word}: unexpected argument"
        for before, word in zip(["", *words], words, strict=False)
        if word.startswith("-") or not before.startswith("-") or "=" in before
    ]


def _command(argv: list[str]) -> str | None:
    """The command, which is no flag's value."""
    for before, word in zip(["", *argv], argv, strict=False):
        is_value = before.startswith("--") and "=" not in before and before != "--print-config"
        if word in COMMANDS and not is_value:
            return word
    return None


def _take_flags(argv: list[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """Takes the settings' flags out, wherever they stand: (what argparse shall read, flags, mistakes).

    By hand, because argparse stops at the first mistake.
    """
    names = {key.flag: key.name for key in KEYS.values()} | {f"--{section}": section for section in SECTIONS}
    if _command(argv) == "replay":
        del names["--format"]  # here it is what comes out
    rest: list[str] = []
    flags: dict[str, str] = {}
    mistakes: list[str] = []
    words = iter(range(len(argv)))
    for i in words:
        flag, equals, value = argv[i].partition("=")
        if flag not in names and not (flag.startswith("--") and "." in flag):
            rest.append(argv[i])
            continue
        if not equals and i + 1 < len(argv) and not argv[i + 1].startswith("--"):
            value = argv[next(words)]
        elif not equals and flag in names:
            mistakes.append(f"{names[flag]}: expected a value (from {flag})")
            continue
        flags[names[flag] if flag in names else flag[2:]] = value
    return rest, flags, mistakes


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="msemon",
        description="Tells how wrong regression models are in production: windowed MSE and RMSE from Kafka to "
        "Prometheus.",
        epilog="Every setting is a flag too: see msemon run --help.",
        allow_abbrev=False,
    )
    _add_global(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, meaning in COMMANDS.items():
        description = f"{meaning[0].upper()}{meaning[1:]}."
        sources = " SOURCE ..." if name in ("replay", "baseline") else ""
        usage = f"msemon {name} [options] [--SECTION.KEY VALUE ...]{sources}"  # argparse would list every setting
        command = commands.add_parser(name, help=meaning, description=description, usage=usage, allow_abbrev=False)
        _add_global(command)
        if name == "demo":
            _add_demo(command)
        if name == "check":
            command.add_argument(
                "--suggest", action="store_true", help="propose settings, as TOML, from what the sample holds"
            )
        if name == "replay":
            _add_replay(command)
        if name == "baseline":
            _add_baseline(command)
        if name != "version":
            _add_settings(command)
    return parser


def _add_global(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("global options")
    group.add_argument(
        "--config", metavar="FILE", default=_GLOBAL, help="settings in TOML (msemon.toml where it exists)"
    )
    group.add_argument(
        "--secrets-dir",
        metavar="DIR",
        default=_GLOBAL,
        help="directory of files such as msemon_kafka__sasl_password (/run/secrets)",
    )
    group.add_argument("--log-level", metavar="|".join(logs.LEVELS), default=_GLOBAL, help="least level logged (info)")
    group.add_argument(
        "--log-format", metavar="|".join(logs.FORMATS), default=_GLOBAL, help="auto: text on a terminal, else JSON"
    )
    group.add_argument(
        "--print-config", action="store_true", default=_GLOBAL, help="print the settings in force, secrets masked"
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("demo")
    group.add_argument("--duration", metavar="SECONDS", type=_positive, help="stop after so long (when interrupted)")
    group.add_argument("--port", metavar="PORT", type=_port, help="port of the metrics and the page")
    group.add_argument(
        "--speed", metavar="X", type=_positive, default=1.0, help="more events and shorter label delays (1)"
    )


def _add_replay(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("replay")
    _add_sources(group)
    group.add_argument("--format", choices=FORMATS, default="table", help="what comes out (table)")
    group.add_argument(
        "--step",
        metavar="DURATION",
        type=_duration,
        help="how often values are taken and drift is looked for (the shortest window; 1m for openmetrics)",
    )
    group.add_argument("--output", metavar="FILE", help="where it goes (stdout)")
    group.add_argument(
        "--label",
        metavar="NAME=VALUE",
        type=_label,
        action="append",
        help="added to every sample of openmetrics: job and instance, as a scrape would",
    )


def _add_baseline(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("baseline")
    _add_sources(group)
    group.add_argument("--output", metavar="FILE", required=True, help="the file to write, for baseline.file")
    group.add_argument("--compare", metavar="OLD", help="an earlier file: say what has changed by more than chance")


def _add_sources(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a file (JSON Lines, gzip or zstd too; Parquet), or kafka://TOPIC?from=TIME&to=TIME",
    )


def _duration(text: str) -> Duration:
    try:
        length = duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if length < 1.0:
        raise argparse.ArgumentTypeError("expected a duration of at least 1s")
    return length


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, not {text!r}")
    if name in _OWN_LABELS or name.startswith("__"):
        raise argparse.ArgumentTypeError(f"{name!r} is a label that samples have already, or Prometheus' own")
    return name, value


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"expected a number above 0, not {text!r}")
    return number


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, not {text!r}")
    return int(text)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """For the help alone: `_take_flags` has taken them."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for key in KEYS.values():
        section = key.section or "segments"
        if section not in groups:
            groups[section] = parser.add_argument_group(f"settings: {section}")
        meaning = f"{key.info.description} ({default_text(key)})".replace("%", "%%")
        groups[section].add_argument(key.flag, metavar=key.kind, default=_GLOBAL, help=meaning)
