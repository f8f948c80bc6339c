"""docs/configuration.md has a row for every setting, and no other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from msemon.settings import KEYS, Settings, default_text, load
from msemon.settings.layers import GLOBAL_FLAGS, OPTION_NAMES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


class Row(NamedTuple):
    """A row of the page's settings tables, as written."""

    name: str
    default: str
    environment: str
    flag: str
    meaning: str


def rows(page: str) -> dict[str, Row]:
    """The rows of all tables with five columns, by setting."""
    cells = [
        re.split(r"\s*(?<!\\)\|\s*", line.strip().strip("|").strip()) for line in page.splitlines() if line[:1] == "|"
    ]
    found = [Row(*line) for line in cells if len(line) == 5 and line[0].startswith("`")]
    assert len({row.name for row in found}) == len(found), "a setting has two rows"
    return {row.name.strip("`"): row for row in found}


def test_every_setting_has_a_row_and_every_row_a_setting() -> None:
    """Settings and rows are the same, both ways."""
    assert rows(PAGE).keys() == KEYS.keys()


@pytest.mark.parametrize("name", KEYS)
def test_a_row_is_right(name: str) -> None:
    """A row has the setting's true default, variable and flag, and says what it means."""
    row, key = rows(PAGE)[name], KEYS[name]
    default = default_text(key)
    assert row.default == ("none" if default == "none" else f"`{default}`")
    assert row.environment == f"`{key.environment}`"
    assert row.flag == f"`{key.flag}`"
    assert row.meaning.endswith(".")


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if default_text(key) != "none"])
def test_a_documented_default_is_what_the_variable_would_give(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default on the page, put into the variable on the page, changes nothing."""
    monkeypatch.chdir(tmp_path)
    row = rows(PAGE)[name]
    given = load(environ={row.environment.strip("`"): row.default.strip("`")})
    assert given.origins.keys() == {name}
    assert given.model_dump() == Settings().model_dump()


def test_sections_are_headings() -> None:
    """Each setting stands under its section's heading."""
    for part in PAGE.split("\n## ")[1:]:
        heading = part.splitlines()[0].strip("`[]").lower()
        assert {KEYS[name].section or "segments" for name in rows(part)} == {heading}


def test_the_example_is_valid(tmp_path: Path) -> None:
    """The example file on the page can be used."""
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    assert tomllib.loads(example[1])["segments"]
    path = tmp_path / "msemon.toml"
    path.write_text(example[1])
    assert load(config=path, environ={}).kafka.start.ago_s == 6 * 3600


def test_global_options_are_named() -> None:
    """The options that are no settings, and their variables, are on the page."""
    assert all(f"`{flag}" in PAGE for flag in GLOBAL_FLAGS if flag != "--help")
    assert all(f"`{name}`" in PAGE for name in OPTION_NAMES)
