"""Settings from all their places, or every mistake at once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from msemon.settings.layers import (
    DEFAULT_SECRETS,
    KEYS,
    Given,
    Layer,
    from_environment,
    from_file,
    from_flags,
    from_secrets,
)
from msemon.settings.model import Settings

DEFAULT_FILE = Path("msemon.toml")

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_unicode": "valid Unicode text",
    "list_type": "a list",
    "dict_type": "a table",
    "too_short": "a list that is not empty",
    "greater_than": "more than {gt:,}",
    "greater_than_equal": "at least {ge:,}",
    "less_than_equal": "at most {le:,}",
    "literal_error": "{expected}",
}


class SettingsError(Exception):
    """Settings can't be used: `mistakes` has one line for each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def load(
    flags: Mapping[str, str] | None = None,
    config: Path | str | None = None,
    secrets_dir: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
    mistakes: list[str] | None = None,
) -> Settings:
    """The settings in force: file < secrets directory < environment < flags.

    `flags` maps names such as `join.timeout` to texts. Without `config` it is MSEMON_CONFIG or, where it exists,
    `msemon.toml`; without `secrets_dir` it is MSEMON_SECRETS_DIR or, where it holds files of ours, /run/secrets.
    `mistakes` found before are reported with those found here. Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    layers = [
        _file(config, environ),
        _secrets(secrets_dir, environ),
        from_environment(environ),
        from_flags(flags or {}),
    ]
    found = [*(mistakes or []), *(line for layer in layers for line in layer.mistakes)]
    given = {key: value for layer in layers for key, value in layer.given.items()}  # the later layer wins
    try:
        settings = Settings(**_nested(given))
    except ValidationError as error:
        raise SettingsError(found + _lines(error, given)) from None
    if found:
        raise SettingsError(found)
    origins = {key: value.origin for key, value in given.items()}
    warnings = [line for layer in layers for line in layer.warnings]
    files = {key: value.file for key, value in given.items() if value.file is not None}
    return settings.came_from(origins, warnings, files)


def _named(option: Path | str | None, flag: str, environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """The path that a flag or its variable names, and which of them."""
    variable = "MSEMON_" + flag.lstrip("-").replace("-", "_").upper()
    if option:
        return Path(option), flag
    return (Path(environ[variable]), variable) if environ.get(variable) else (None, "")


def _file(config: Path | str | None, environ: Mapping[str, str]) -> Layer:
    path, named_by = _named(config, "--config", environ)
    if path is not None:
        return from_file(path, named_by)
    return from_file(DEFAULT_FILE, "the default") if DEFAULT_FILE.exists() else Layer()


def _secrets(directory: Path | str | None, environ: Mapping[str, str]) -> Layer:
    path, named_by = _named(directory, "--secrets-dir", environ)
    return from_secrets(path or DEFAULT_SECRETS, named_by or None)


def _nested(given: Mapping[str, Given]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, item in given.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = item.value
    return tree


def _lines(error: ValidationError, given: Mapping[str, Given]) -> list[str]:
    lines = [_line(details, given) for details in error.errors(include_url=False)]
    return list(dict.fromkeys(lines))


def _line(details: ErrorDetails, given: Mapping[str, Given]) -> str:
    """`join.timeout = "soon": expected a duration such as ... (from msemon.toml)`."""
    depth = 1 if details["loc"][0] in KEYS else 2
    key = ".".join(str(part) for part in details["loc"][:depth])
    inner = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in details["loc"][depth:])
    value = "" if KEYS[key].secret else _shown(key, details["input"])
    origin = f"from {given[key].origin}" if key in given else "the default"
    return f"{key}{inner}{value}: {_expected(details)} ({origin})"


def _expected(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    if details["type"] == "value_error":
        return str(context["error"])
    if details["type"] in _EXPECTED:
        return "expected " + _EXPECTED[details["type"]].format(**context)
    return "expected " + " ".join(details["msg"].split())


def _shown(key: str, value: Any) -> str:
    """` = value` on one line, cut; nothing where a part of it may be secret."""
    if key == "kafka.client_options":
        return ""
    text = json.dumps(value, default=str)
    text = re.sub(r"://[^/@\s]*@", "://**********@", text)
    return f" = {text if len(text) <= 100 else text[:97] + '...'}"
