"""The places settings come from: a TOML file, a secrets directory, the environment, flags.

Each reader gives the keys it holds with their values and where they came from, and one line for each mistake. Values
are checked later, together, by the model.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from msemon.settings.model import Settings
from msemon.settings.values import Duration, Start

MASK = "**********"
PREFIX = "MSEMON_"
DEFAULT_SECRETS = Path("/run/secrets")

OPTION_NAMES = ("MSEMON_CONFIG", "MSEMON_SECRETS_DIR", "MSEMON_LOG_LEVEL", "MSEMON_LOG_FORMAT")
"""Variables that are no settings but stand for a global option."""

# Kubernetes gives every pod variables for the Services around it; one named msemon gives these.
_SERVICE_LINK = re.compile(
    r"MSEMON_(\w+_)?(SERVICE_HOST=.*|SERVICE_PORT\w*=\d+|PORT=\w+://.*|PORT_\d+_(TCP|UDP|SCTP)\w*=.*)"
)


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, the rest of "from ...", and the file that holds it alone, where one does."""

    value: Any
    origin: str
    file: Path | None = None


@dataclass(slots=True)
class Layer:
    """What one place says: key (`join.timeout`) to value. Mistakes and warnings are whole lines."""

    given: dict[str, Given] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: `join.timeout`, its environment name and flag, and the model's field."""

    name: str
    info: FieldInfo

    @property
    def section(self) -> str:
        return self.name.partition(".")[0] if "." in self.name else ""

    @property
    def environment(self) -> str:
        return PREFIX + self.name.replace(".", "__").upper()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def secret(self) -> bool:
        return SecretStr in _members(self.info.annotation)

    @property
    def structured(self) -> bool:
        """Whether it is a list or a table: JSON in the environment, in flags and in secrets."""
        return not {list, dict}.isdisjoint(_members(self.info.annotation))

    @property
    def kind(self) -> str:
        """What its value looks like, for the help."""
        if self.structured:
            return "JSON"
        members = _members(self.info.annotation)
        kinds = {bool: "true|false", int: "N", float: "X", Duration: "DURATION", Start: "WHEN"}
        return next((kind for member, kind in kinds.items() if member in members), "|".join(self.words) or "TEXT")

    @property
    def words(self) -> tuple[str, ...]:
        """The texts it may be; empty where it is not a choice."""
        return _literals(self.info.annotation)


def _literals(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(word for part in get_args(annotation) for word in _literals(part))


def _members(annotation: Any) -> set[Any]:
    """The plain types of an annotation, through unions but not into lists."""
    parts = get_args(annotation) if get_origin(annotation) not in (list, dict, Literal) else ()
    return {get_origin(annotation) or annotation}.union(*(_members(part) for part in parts))


def _keys() -> Iterator[Key]:
    for name, info in Settings.model_fields.items():
        model = info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (Key(f"{name}.{key}", inner) for key, inner in model.model_fields.items())
        else:
            yield Key(name, info)


KEYS = {key.name: key for key in _keys()}
SECTIONS = tuple(dict.fromkeys(key.section for key in KEYS.values() if key.section))


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean x?`, or nothing where none is near."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""


def from_file(path: Path, named_by: str) -> Layer:
    """The TOML file; a mistake where it can't be read or parsed."""
    layer = Layer()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        layer.mistakes.append(f"{path}: expected TOML: {' '.join(str(error).split())}")
    except UnicodeDecodeError as error:
        layer.mistakes.append(f"{path}: expected UTF-8: byte {error.start} is not")
    except OSError as error:
        layer.mistakes.append(f"{path}: can't be read: {error.strerror or error} (from {named_by})")
    else:
        _flatten(tables, str(path), layer)
    return layer


def _flatten(tables: Mapping[str, Any], origin: str, layer: Layer) -> None:
    for name, value in tables.items():
        if name in KEYS:
            layer.given[name] = Given(value, origin)
        elif name not in SECTIONS:
            hint = nearest(name, [*SECTIONS, *KEYS]) or nearest(name, [key.rpartition(".")[2] for key in KEYS])
            layer.mistakes.append(f"{_quoted(name)}: unknown section{hint} (from {origin})")
        elif isinstance(value, dict):
            _flatten_section(name, value, origin, layer)
        else:
            layer.mistakes.append(f"{name}: expected a table (from {origin})")


def _flatten_section(section: str, table: Mapping[str, Any], origin: str, layer: Layer) -> None:
    own = [key for key in KEYS if key.startswith(section + ".")]
    for name, value in table.items():
        key = f"{section}.{name}"
        if key not in KEYS:
            layer.mistakes.append(f"{_quoted(key)}: unknown setting{nearest(key, own)} (from {origin})")
        elif KEYS[key].secret and value == MASK:
            layer.warnings.append(f"{key}: the mask that --print-config prints is ignored (from {origin})")
        else:
            layer.given[key] = Given(value, origin)


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Variables `MSEMON_JOIN__TIMEOUT`. Others that begin with MSEMON_ are warned of."""
    layer = Layer()
    names = {key.environment: key for key in KEYS.values()}
    sections = {PREFIX + section.upper(): section for section in SECTIONS}
    for variable in sorted(environ, key=lambda name: (name.count("__"), name)):  # a section's JSON before its keys
        name = variable.upper()
        if not name.startswith(PREFIX) or name in OPTION_NAMES:
            continue
        if name in names:
            _text(names[name], environ[variable], variable, layer)
        elif name in sections:
            _section_text(sections[name], environ[variable], variable, layer)
        elif not _SERVICE_LINK.fullmatch(f"{name}={environ[variable]}"):
            layer.warnings.append(f"{variable}: no such setting{nearest(name, [*names, *OPTION_NAMES], 0.0)}")
    return layer


def from_secrets(directory: Path, named_by: str | None) -> Layer:
    """Files named like the variables in lower case, `msemon_kafka__sasl_password`; other files are not ours.

    A directory that is not there is a mistake only where something named it.
    """
    layer = Layer()
    origin = f"secrets directory {directory}"
    names = {key.environment.lower(): key for key in KEYS.values()}
    try:
        files = sorted(path for path in directory.iterdir() if path.name.lower().startswith(PREFIX.lower()))
    except OSError as error:
        if named_by is not None:
            layer.mistakes.append(f"{directory}: can't be read: {error.strerror or error} (from {named_by})")
        return layer
    for path in files:
        name = path.name.lower()
        if name not in names:
            layer.mistakes.append(f"{_quoted(path.name)}: unknown setting{nearest(name, names)} (from {origin})")
            continue
        try:
            _text(names[name], path.read_text(encoding="utf-8").rstrip("\r\n"), origin, layer)
        except (OSError, UnicodeDecodeError) as error:
            why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
            layer.mistakes.append(f"{names[name].name}: the file {path.name} can't be read: {why} (from {origin})")
        if names[name].name in layer.given:
            layer.given[names[name].name] = replace(layer.given[names[name].name], file=path)
    return layer


def from_flags(flags: Mapping[str, str]) -> Layer:
    """Flags by name without dashes in front, `{"join.timeout": "2h"}` or `{"kafka.group-id": "x"}`."""
    layer = Layer()
    names = {key.flag[2:]: key for key in KEYS.values()} | KEYS
    for flag in sorted(flags, key=lambda name: (name.count("."), name)):
        if flag in names:
            _text(names[flag], flags[flag], names[flag].flag, layer)
        elif flag in SECTIONS:
            _section_text(flag, flags[flag], f"--{flag}", layer)
        else:
            layer.mistakes.append(unknown_flag(f"--{flag}"))
    return layer


def unknown_flag(flag: str) -> str:
    """The line for a flag that does not exist."""
    hint = nearest(flag, [*(key.flag for key in KEYS.values()), *GLOBAL_FLAGS])
    return f"{_quoted(flag)}: unknown flag{hint}"


GLOBAL_FLAGS = ("--config", "--secrets-dir", "--log-level", "--log-format", "--print-config", "--help")


def _text(key: Key, text: str, origin: str, layer: Layer) -> None:
    """Takes a text; lists and tables are JSON, and so are choices that may also be a list."""
    if not key.structured or text in key.words:
        layer.given[key.name] = Given(text, origin)
        return
    try:
        layer.given[key.name] = Given(json.loads(text), origin)
    except (ValueError, RecursionError):
        example = '{"name": "value"}' if dict in _members(key.info.annotation) else '["a", "b"]'
        example = '[["country"], ["country", "tier"]]' if key.name == "segments" else example
        shown = "" if key.name == "kafka.client_options" else f" = {_quoted(text)}"
        layer.mistakes.append(f"{key.name}{shown}: expected JSON such as {example} (from {origin})")


def _section_text(section: str, text: str, origin: str, layer: Layer) -> None:
    """A section is a table, so it may come as JSON too; its value is never shown, it may hold a secret."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if isinstance(table, dict):
        _flatten_section(section, table, origin, layer)
    else:
        layer.mistakes.append(f"{section}: expected a JSON object (from {origin})")


def _quoted(text: str) -> str:
    """A name as it is, or in JSON's quotes where it could break the line."""
    return text if re.fullmatch(r"[\w.-]{1,80}", text, re.ASCII) else json.dumps(text[:80])
