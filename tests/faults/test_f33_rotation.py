"""F33: a password or a certificate is rotated while the daemon runs: read anew, without a restart or a loss."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from support.brokers import admin, running, why_no_kafka
from support.doors import Authority, put, scram, tls, with_door
from support.lives import Monitor
from support.report import not_run
from support.topics import unique

USER = "monitor"


@pytest.fixture(autouse=True)
def _kafka() -> None:
    if reason := why_no_kafka():
        not_run(reason)


def refused(running: Any) -> float:
    return float(running.scrape().number("msemon_kafka_errors_total", kind="authentication"))


@pytest.mark.timeout(240)
def test_f33_a_password_that_is_rotated(tmp_path):
    """The broker asks again every few seconds. Refused, the daemon says so and stays; with the new file it goes on."""
    broker, door = with_door(tmp_path, "SASL_PLAINTEXT", scram(connections_max_reauth_ms="4000"))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    secret = secrets / "msemon_kafka__sasl_password"

    def password(text: str) -> None:
        with admin(broker.bootstrap) as client:
            change = UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_256, text)
            assert client.alter_user_scram_credentials([change]) == {USER: None}

    with running(broker):
        password("first")
        put(secret, "first\n")
        monitor = Monitor(broker.bootstrap, tmp_path, kafka__security_protocol="SASL_PLAINTEXT",
                          kafka__sasl_over_plaintext=True, kafka__sasl_mechanism="SCRAM-SHA-256",
                          kafka__sasl_username=USER, state__store="kafka", state__topic=unique("state"))  # fmt: skip
        environment = {"MSEMON_SECRETS_DIR": str(secrets)}
        with monitor.run(environment=environment, kafka__bootstrap_servers=door) as daemon:
            monitor.send(*monitor.events(100, "before"))
            monitor.await_exact(daemon)
            assert refused(daemon) == 0
            password("second")
            daemon.until(lambda: refused(daemon) >= 2, "the old password to be refused twice", 60)
            monitor.send(*monitor.events(100, "meanwhile"))
            assert daemon.healthy
            assert any(line.get("kind") == "authentication" for line in daemon.said("kafka"))
            put(secret, "second\n")
            monitor.send(*monitor.events(100, "after"))
            monitor.await_exact(daemon)
            monitor.await_kept(daemon)  # the clients of the state topic log in anew as well
            assert daemon.said("a secret has changed")
            assert not {"first", "second"} & {str(value) for line in daemon.lines() for value in line.values()}


class Certificates:
    """Paths that a daemon is given, and what stands there."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.authority, self.certificate, self.key = (directory / f"{each}.pem" for each in ("ca", "cert", "key"))

    def hold(self, trusted: Authority, issued: tuple[Path, Path]) -> None:
        put(self.authority, trusted.certificate.read_text())
        for target, source in zip((self.certificate, self.key), issued, strict=True):
            put(target, source.read_text())

    def settings(self, door: str) -> dict[str, Any]:
        return {
            "kafka__bootstrap_servers": door, "kafka__security_protocol": "SSL",
            "kafka__ssl_cafile": str(self.authority), "kafka__ssl_certfile": str(self.certificate),
            "kafka__ssl_keyfile": str(self.key),
        }  # fmt: skip


@pytest.mark.timeout(300)
def test_f33_certificates_that_are_rotated_are_wrong_or_have_expired(tmp_path):
    """At the start each is said in one line an attempt, with its reason; later the new files are enough to go on."""
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    broker, door = with_door(tmp_path, "SSL", tls(old, tmp_path))
    mine = Certificates(tmp_path / "mine")
    with running(broker):
        monitor = Monitor(broker.bootstrap, tmp_path)
        for trusted, issued, reason in (
            (new, old.issue("client"), "CERTIFICATE.VERIFY.FAILED"),
            (old, old.issue("expired", days=-1), "CERTIFICATE.(EXPIRED|UNKNOWN)"),  # the latter is what Java says
            (old, new.issue("stranger"), "CERTIFICATE.UNKNOWN|UNKNOWN.CA"),
        ):
            mine.hold(trusted, issued)
            with monitor.run(ready=False, **mine.settings(door)) as daemon:
                daemon.until(lambda daemon=daemon: len(daemon.said("not let in")) >= 2, f"two times {reason}", 60)
                said = daemon.said("not let in")
                assert daemon.healthy
                assert not daemon.ready
                assert all(re.search(reason, line["error"], re.IGNORECASE) for line in said), said
        mine.hold(old, old.issue("good"))
        with monitor.run(**mine.settings(door)) as daemon:
            monitor.send(*monitor.events(100, "before"))
            monitor.await_exact(daemon)
            broker.stop()
            tls(new, tmp_path)  # into the broker's own files
            broker.start()
            daemon.until(lambda: refused(daemon) >= 2, "the old authority to be of no use twice", 60)
            monitor.send(*monitor.events(100, "meanwhile"))
            assert daemon.healthy
            mine.hold(new, new.issue("good"))
            monitor.send(*monitor.events(100, "after"))
            monitor.await_exact(daemon)
