"""The wheel that users install, and the versions it asks for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from support.compose import DEPLOY, ROOT, project


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
    assert modules | {"msemon/py.typed", "msemon/demo/baselines.json"} <= set(names)
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


def pinned() -> dict[str, Version]:
    """The versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def locked(name: str) -> dict[str, tuple[Version, list[str]]]:
    """Of one of the image's lists, by package: its version and hashes."""
    text = (DEPLOY / "docker" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    entries = re.findall(r"^([\w.-]+)==(\S+)( .*)$", text, re.MULTILINE)
    return {
        canonicalize_name(package): (Version(version), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", rest))
        for package, version, rest in entries
    }


def needed(requirements: list[str]) -> Iterator[str]:
    """The packages that these ask for, and those that they ask for in turn, as installed here."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)
            yield from needed(requires(requirement.name) or [])


def test_developers_have_versions_that_users_may_have() -> None:
    groups = [project()["dependencies"], *project()["optional-dependencies"].values()]
    for requirement in (Requirement(text) for group in groups for text in group):
        name = canonicalize_name(requirement.name)
        assert pinned()[name] in requirement.specifier, f"constraints.txt has {name} {pinned()[name]}"


def test_what_builds_the_wheel_here_is_what_builds_it_for_users() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert set(build) <= set(project()["optional-dependencies"]["dev"])


def wanted() -> dict[str, set[str]]:
    """What each of the image's lists is for."""
    extras = project()["optional-dependencies"]
    run = [*project()["dependencies"], *extras["librdkafka"], *extras["avro"], *extras["protobuf"]]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    return {"requirements.txt": set(needed(run)), "build-requirements.txt": set(needed(build))}


@pytest.mark.parametrize("name", ["requirements.txt", "build-requirements.txt"])
def test_the_image_is_locked_to_the_versions_that_are_tested(name: str) -> None:
    """All that is needed and no more, each with its hashes; where this fails: `make lock`."""
    lock = locked(name)
    assert {package: version for package, (version, _) in lock.items()} == {
        package: pinned()[package] for package in wanted()[name]
    }
    assert all(hashes for _, hashes in lock.values())
