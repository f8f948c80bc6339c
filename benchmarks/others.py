"""The peers: small scripts in `peers/` that do the same job with something else, each checked against the truth.

What they need and msemon does not is installed into virtual environments of their own, so that their pins touch
nothing else. One that can't be installed or does not work is left out, and the page says why.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring import ROOT
from benchmarks.traffic import Log, Truth, mistakes

VENVS = ROOT / ".venv-bench"
INSTALL_S = 300.0
ENVIRONMENTS = {
    "bytewax": ("bytewax[kafka]==0.21.1", "orjson==3.13.0"),
    "faust": ("faust-streaming==0.15.3", "orjson==3.13.0"),
    "pathway": ("pathway==0.33.0",),
    "plots": ("matplotlib==3.10.8",),
    "quix": ("quixstreams==3.28.1", "orjson==3.13.0"),
}


class Peer(NamedTuple):
    """A script, where it runs (None: in msemon's own environment), and what it is given beside its arguments."""

    script: str
    environment: str | None = None
    variables: tuple[tuple[str, str], ...] = ()
    checked: bool = True  # it finds pairs, which must be right


PEERS = {
    "drain, kafka-python": Peer("drain_kafka_python.py", checked=False),
    "drain, confluent-kafka": Peer("drain_confluent.py", checked=False),
    "by hand": Peer("by_hand.py"),
    "river": Peer("river_rolling.py"),
    "Pathway, two threads": Peer("pathway_flow.py", "pathway", (("PATHWAY_THREADS", "2"),)),
    "Pathway, one thread": Peer("pathway_flow.py", "pathway", (("PATHWAY_THREADS", "1"),)),
    "Bytewax": Peer("bytewax_flow.py", "bytewax"),
    "Quix Streams": Peer("quix_flow.py", "quix"),
    "Faust": Peer("faust_worker.py", "faust"),
}


class Unusable(Exception):
    """Why a peer can't be measured here."""


def python_of(environment: str | None) -> Path:
    """Its interpreter, installed where that was not done yet; raises Unusable."""
    if environment is None:
        return Path(sys.executable)
    wanted = ENVIRONMENTS[environment]
    home = VENVS / environment
    python = home / "bin" / "python"
    stamp = home / "installed"
    digest = hashlib.sha256(repr(wanted).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    _run([sys.executable, "-m", "venv", "--clear", str(home)])
    _run([str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", *wanted])
    stamp.write_text(digest)
    return python


def versions() -> list[str]:
    """What is installed for the peers alone, as asked for."""
    return sorted({each for peer in PEERS.values() if peer.environment for each in ENVIRONMENTS[peer.environment]})


def rate(peer: Peer, bootstrap: str, log: Log, limit_s: float) -> float:
    """Events a second from its first record to its last result; raises Unusable where it is wrong or does not end."""
    python = python_of(peer.environment)
    command = [str(python), "-W", "ignore", str(ROOT / "benchmarks" / "peers" / peer.script)]
    done = _run([*command, bootstrap, log.topic, str(log.events)], limit_s, dict(peer.variables))
    try:
        said = json.loads(done.splitlines()[-1])
    except (IndexError, ValueError):
        raise Unusable(f"it ended with no result: {done[-100:]!r}") from None
    if said["events"] != log.events:
        raise Unusable(f"read {said['events']:,} of {log.events:,} events")
    if peer.checked and (wrong := mistakes(_total(said["groups"]), log)):
        raise Unusable(f"wrong: {wrong[0]}")
    return float(log.events / said["seconds"])


def _total(groups: list[tuple[str, str, int, float]]) -> Truth:
    """Windows of one model and country put together."""
    total: Truth = {}
    for model, country, n, mse in groups:
        have, before = total.get((model, country), (0, 0.0))
        total[model, country] = have + n, (have * before + n * mse) / (have + n)
    return total


def _run(command: list[str], limit_s: float = INSTALL_S, variables: dict[str, str] | None = None) -> str:
    """What it printed; raises Unusable with the end of what it said."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False,
            env=os.environ | (variables or {}),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unusable(f"not done after {limit_s:.0f} s") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise Unusable(f"exit code {done.returncode}: {said[-1] if said else 'said nothing'}")
    return done.stdout
