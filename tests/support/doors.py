"""A broker with a guarded door beside the open one that tests come in by, and certificates for such a door."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from support.brokers import Broker, apache_kafka, free_ports
from support.tools import OPENSSL, needs


def with_door(directory: Path, protocol: str, properties: Mapping[str, str]) -> tuple[Broker, str]:
    """Apache Kafka, not yet started, and where its door USERS is. `properties` are the broker's further ones."""
    broker = apache_kafka(directory)
    (port,) = free_ports(1)
    file = broker.log.parent / "server.properties"
    lines = []
    for line in file.read_text().splitlines():
        more = f",USERS://127.0.0.1:{port}" if line.startswith(("listeners=", "advertised.listeners=")) else ""
        lines.append(line + more)
    lines.append(f"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:{protocol}")
    lines += [f"{name}={value}" for name, value in properties.items()]
    file.write_text("\n".join(lines) + "\n")
    return broker, f"127.0.0.1:{port}"


def scram(**options: str) -> dict[str, str]:
    """A broker's properties that let users in by SCRAM-SHA-256; their passwords are the cluster's."""
    door = "listener.name.users"
    module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    return {
        f"{door}.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        f"{door}.scram-sha-256.sasl.jaas.config": module,
    } | {f"{door}.scram-sha-256.{name.replace('_', '.')}": value for name, value in options.items()}


class Authority:
    """A certificate authority in a directory, and what it issues, all as PEM files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.certificate = directory / "ca.pem"
        self._key = directory / "ca.key"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(self._key), "-out",
                      str(self.certificate), "-days", "2", "-subj", "/CN=authority")  # fmt: skip

    def issue(self, name: str, days: int = 2, names: str = "IP:127.0.0.1") -> tuple[Path, Path]:
        """Files of a certificate for these names and of its key; with -1 days it has expired already."""
        key, request, certificate = (self.directory / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        alternative = self.directory / f"{name}.ext"
        alternative.write_text(f"subjectAltName={names}\n")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(request), "-subj",
                      f"/CN={name}")  # fmt: skip
        self._openssl("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key),
                      "-CAcreateserial", "-out", str(certificate), "-days", str(days), "-extfile",
                      str(alternative))  # fmt: skip
        return certificate, key

    @staticmethod
    def _openssl(*arguments: str) -> None:
        done = subprocess.run([needs(OPENSSL), *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def tls(authority: Authority, directory: Path) -> dict[str, str]:
    """A broker's properties for a door of TLS at which both sides show a certificate of this authority."""
    certificate, key = authority.issue("broker")
    store = directory / "broker-store.pem"
    store.write_text(key.read_text() + certificate.read_text())
    trusted = directory / "trusted.pem"
    trusted.write_text(authority.certificate.read_text())
    door = "listener.name.users"
    return {
        f"{door}.ssl.keystore.type": "PEM",
        f"{door}.ssl.keystore.location": str(store),
        f"{door}.ssl.truststore.type": "PEM",
        f"{door}.ssl.truststore.location": str(trusted),
        f"{door}.ssl.client.auth": "required",
    }


def put(target: Path, text: str) -> None:
    """Replace a file at once, as those who rotate secrets do."""
    beside = target.with_name(f".{target.name}")  # what begins with a dot is no setting
    beside.write_text(text)
    beside.replace(target)
