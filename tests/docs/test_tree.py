"""The tree as a whole: what has to be there, and what may stand nowhere in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = (
    ".ci/run",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "constraints.txt",
    "deploy",
    "docker-compose.yml",
    "docs",
    "msemon",
    "pyproject.toml",
    "tests",
)
# Where packages come from is each machine's own matter, and so is where its files lie.
FOREIGN = re.compile(
    r"pypi\.org|pythonhosted\.org|repo1?\.maven|maven\.org|npmjs\.|crates\.io|proxy\.golang\.org|deb\.debian\.org"
    r"|--(extra-)?index-url|(?<![\w.~/$}])/(home|Users|root|work)/\w"
)
SHOWN_COMMAND = re.compile(r"(?:^|[`$(])\s*make ([a-z][a-z-]*)", re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")


def files() -> list[Path]:
    """Every text file of the project."""
    inside = (path for name in TOP for path in (ROOT / name).rglob("*") if "__pycache__" not in path.parts)
    found = {path for path in (*ROOT.iterdir(), *(ROOT / name for name in TOP), *inside) if path.is_file()}
    found.discard(ROOT / ".git")  # a file in a work tree beside the clone
    return sorted(path for path in found if b"\0" not in path.read_bytes()[:8000])


def pages() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


@pytest.mark.parametrize("name", TOP)
def test_what_a_visitor_looks_for_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_no_file_knows_a_registry_or_one_machines_folders() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files()
        for match in FOREIGN.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("pip install -i https://" + "pypi." + "org/simple", True),
        ("cd /" + "home/ada/msemon", True),
        ("'/" + "work/main'", True),
        ("$HOME/work/x, ./work/x, ~/home/x, network/root/x", False),
        ("an index of the work/life balance", False),
    ],
)
def test_foreign_names_are_recognised(text: str, foreign: bool) -> None:
    assert bool(FOREIGN.search(text)) == foreign


def targets() -> dict[str, str]:
    """The Makefile's targets that have a word of explanation, which is what `make help` shows."""
    return dict(re.findall(r"^([a-z-]+):.*## (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_every_target_is_explained() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert sorted(phony.group(1).split()) == sorted(targets())


def test_make_commands_in_the_pages_exist() -> None:
    shown = {
        (path.name, target)
        for path in pages()
        for target in SHOWN_COMMAND.findall(path.read_text(encoding="utf-8"))
    }
    assert {target for name, target in shown if name == "README.md"} >= {"demo", "test"}
    assert not [f"{name}: make {target}" for name, target in sorted(shown) if target not in targets()]


def test_links_between_files_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {link}"
        for path in pages()
        for link in LINK.findall(path.read_text(encoding="utf-8"))
        if not (path.parent / link).exists()
    ]
    assert not broken


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} imports by a relative name"
            yield str(node.module)


def test_the_core_knows_only_events_numpy_and_the_standard_library() -> None:
    # import-linter forbids what it is told of; this allows only what is listed.
    allowed = {"numpy", *sys.stdlib_module_names} - {"asyncio", "http", "socket", "ssl", "subprocess", "time", "urllib"}
    for file in [ROOT / "msemon" / "events.py", *(ROOT / "msemon" / "core").rglob("*.py")]:
        for name in imported(file):
            ours = re.match(r"msemon\.(core|events)(\.|$)", name)
            assert ours or name.split(".")[0] in allowed, f"{file.name} imports {name}"


def test_the_script_of_ci_is_valid_and_requires_everything() -> None:
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
    commands = [line.strip() for line in script.read_text(encoding="utf-8").splitlines() if re.search(r"\bmake ", line)]
    assert commands == ["make check", "make test-deps", "MSEMON_TEST_REQUIRE_ALL=1 make test"]
