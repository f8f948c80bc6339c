"""Settings as TOML that can be read back; secrets are masked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from msemon.settings.layers import KEYS, MASK, Key
from msemon.settings.model import Settings, is_secret_name
from msemon.settings.values import Duration, Start


def to_toml(settings: Settings) -> str:
    """The settings in force, a comment where an optional one is not set."""
    lines: list[str] = []
    values = settings.model_dump()
    section = ""
    for key in sorted(KEYS.values(), key=lambda key: key.section != ""):  # stable: those without a section first
        if key.section != section:
            section = key.section
            lines += ["", f"[{section}]"]
        name = key.name.rpartition(".")[2]
        value = (values[section] if section else values)[name]
        lines.append(f"# {name} is not set" if value is None else f"{name} = {_masked(key.name, value)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def default_text(key: Key) -> str:
    """The default as the documentation writes it: text bare, lists and tables as TOML, "none" where there is none."""
    value = key.info.get_default()
    if value is None:
        return "none"
    return str(value) if isinstance(value, str | Duration | Start) else literal(value)


def _masked(key: str, value: Any) -> str:
    if KEYS[key].secret:
        return literal(MASK)
    if key == "kafka.client_options":
        value = {name: MASK if is_secret_name(name) else inner for name, inner in value.items()}
    return literal(value)


def literal(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_name(name)} = {literal(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, Duration):  # before numbers: it is one
        value = value.name
    # JSON's literals are TOML's, but for DEL, which TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else literal(name)
