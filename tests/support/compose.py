"""The project's deployment files, parsed."""

from __future__ import annotations

import json
import shlex
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


@cache
def read_yaml(path: Path) -> Any:
    """The document of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def compose() -> dict[str, Any]:
    """docker-compose.yml, its merges resolved."""
    document: dict[str, Any] = read_yaml(ROOT / "docker-compose.yml")
    return document


def services() -> dict[str, dict[str, Any]]:
    """The services of docker-compose.yml by name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


@cache
def project() -> dict[str, Any]:
    """The `[project]` table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions as (name, rest), continued lines joined and comments left out."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    split = [line.strip().partition(" ") for line in joined if line.strip()]
    return [(name.upper(), rest.strip()) for name, _, rest in split]


def words(rest: str) -> list[str]:
    """An instruction's arguments, from JSON or shell form."""
    if not rest.startswith("["):
        return shlex.split(rest)
    found: list[str] = json.loads(rest)
    return found
