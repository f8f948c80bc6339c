"""The wheel that users install, and the versions it asks for."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from support.compose import ROOT, project


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree with what the development environment has: nothing is fetched."""
    target = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build; hatchling.build.build_wheel({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=60)
    return next(target.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "msemon").rglob("*.py")}
    assert modules | {"msemon/py.typed"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"msemon", f"msemon-{project()['version']}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_command_works_from_the_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(tmp_path), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True, timeout=100)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from msemon.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "version"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert project()["version"] in done.stdout


def test_developers_have_versions_that_users_may_have() -> None:
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pinned[canonicalize_name(name)] = Version(version)
    groups = [project()["dependencies"], *project()["optional-dependencies"].values()]
    for requirement in (Requirement(text) for group in groups for text in group):
        name = canonicalize_name(requirement.name)
        assert pinned[name] in requirement.specifier, f"constraints.txt has {name} {pinned[name]}"


def test_what_builds_the_wheel_here_is_what_builds_it_for_users() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert set(build) <= set(project()["optional-dependencies"]["dev"])
