"""The web configuration file beside Prometheus itself: promtool takes the same ones, and one lets Prometheus in."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from msemon.export.access import Configured
from msemon.export.server import Server
from msemon.export.web_config import Mistake
from support.doors import Authority
from support.prometheus import prometheus
from support.sites import FakeSite
from support.tools import PROMETHEUS, PROMTOOL, needs
from support.waiting import wait_until

PASSWORD = "geheim-4711"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
CERTIFICATE = {"cert_file": "authority/server.pem", "key_file": "authority/server.key"}
MUTUAL = CERTIFICATE | {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "authority/ca.pem"}

SAME: list[tuple[bool, dict[str, Any]]] = [
    (True, {}),
    (True, {"tls_server_config": CERTIFICATE}),
    (True, {"tls_server_config": MUTUAL}),
    (True, {"tls_server_config": CERTIFICATE | {"client_auth_type": "RequestClientCert"}}),
    (True, {"tls_server_config": MUTUAL | {"client_auth_type": "VerifyClientCertIfGiven"}}),
    (True, {"tls_server_config": CERTIFICATE | {"min_version": "TLS10", "max_version": "TLS13"}}),
    (True, {"tls_server_config": CERTIFICATE | {"curve_preferences": ["X25519", "CurveP521"]}}),
    (True, {"tls_server_config": CERTIFICATE | {"cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"]}}),
    (True, {"tls_server_config": CERTIFICATE | {"prefer_server_cipher_suites": False}}),
    (True, {"http_server_config": {"http2": False, "headers": {"X-Frame-Options": "deny"}}}),
    (True, {"basic_auth_users": {"alice": HASH, "17": HASH}}),
    (False, {"basic_auth_users": {"alice": PASSWORD}}),
    (False, {"basic_auth_users": {"alice": ""}}),
    (False, {"http_server_config": {"headers": {"Server": "x"}}}),
    (False, {"http_server_config": {"headers": {"X-Content-Type-Options": "sniff"}}}),
    (False, {"tls_server_config": {"cert_file": "authority/server.pem"}}),
    (False, {"tls_server_config": CERTIFICATE | {"key_file": "authority/ca.key"}}),
    (False, {"tls_server_config": CERTIFICATE | {"key_file": "nowhere"}}),
    (False, {"tls_server_config": CERTIFICATE | {"cipher_suites": ["TLS_RSA_WITH_RC4_128_SHA"]}}),
    (False, {"tls_server_config": CERTIFICATE | {"curve_preferences": ["CurveP128"]}}),
    (False, {"tls_server_config": CERTIFICATE | {"min_version": "SSL3"}}),
    (False, {"tls_server_config": CERTIFICATE | {"client_ca_file": "authority/ca.pem"}}),
    (False, {"tls_server_config": CERTIFICATE | {"client_auth_type": "Whoever"}}),
    (False, {"tls_server": CERTIFICATE}),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("web")
    authority = Authority(directory / "authority")
    authority.issue("server")
    authority.issue("client", names="DNS:prometheus.example")
    return directory


def write(directory: Path, given: dict[str, Any]) -> Path:
    file = directory / "web.yml"
    file.write_text(json.dumps(given))  # JSON is YAML
    return file


@pytest.mark.parametrize(("is_good", "given"), SAME, ids=lambda each: json.dumps(each) if each in (True, False) else "")
def test_promtool_takes_and_refuses_the_same_files(directory: Path, is_good: bool, given: dict[str, Any]) -> None:
    file = write(directory, given)
    done = subprocess.run([needs(PROMTOOL), "check", "web-config", file], capture_output=True, timeout=60, check=False)
    assert (done.returncode == 0) is is_good, done.stderr
    with contextlib.nullcontext() if is_good else pytest.raises(Mistake):
        Configured(file)


def test_prometheus_scrapes_with_a_certificate_and_a_password(directory: Path, tmp_path: Path) -> None:
    """And not with another."""
    sans = {"client_allowed_sans": ["prometheus.example"]}
    users = {"basic_auth_users": {"prometheus": HASH}}
    server = Server(
        "127.0.0.1:0", None, FakeSite(), Configured(write(directory, {"tls_server_config": MUTUAL | sans, **users}))
    )
    authority = directory / "authority"
    known = {
        "scheme": "https",
        "tls_config": {
            "ca_file": str(authority / "ca.pem"),
            "cert_file": str(authority / "client.pem"),
            "key_file": str(authority / "client.key"),
        },
        "basic_auth": {"username": "prometheus", "password": PASSWORD},
    }
    wrong = known | {"basic_auth": {"username": "prometheus", "password": "other"}}
    server.start()
    try:
        for number, (scraping, is_up) in enumerate([(known, 1.0), (wrong, 0.0)]):
            with prometheus(
                needs(PROMETHEUS), tmp_path / str(number), {"it": server.port}, scraping=scraping
            ) as scraper:
                wait_until(lambda: scraper.vector("up"), 30, "a scrape", 0.1)
                assert set(scraper.vector("up").values()) == {is_up}
                assert bool(scraper.vector("msemon_mse")) is bool(is_up)
    finally:
        server.stop()
