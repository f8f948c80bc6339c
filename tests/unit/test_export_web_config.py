"""Prometheus' web configuration file: what is understood, and what is refused."""

from __future__ import annotations

import re

import pytest

from msemon.export.web_config import Mistake, parse, seconds, true

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"  # exporter-toolkit's example
TLS = "tls_server_config: {cert_file: a, key_file: b, %s}"

WHOLE = f"""
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans:
    - prometheus.example
  min_version: TLS12
  max_version: TLS13
  cipher_suites:
    - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
  prefer_server_cipher_suites: yes
  curve_preferences:
    - X25519
    - CurveP256
http_server_config:
  http2: false
  headers:
    Strict-Transport-Security: max-age=31536000
    X-Frame-Options: deny
    X-XSS-Protection:
basic_auth_users:
  alice: {HASH}
  17: '{HASH}'
rate_limit:
  interval: 1m0.5s
  burst: 20
"""


def test_every_field_of_prometheus_is_understood() -> None:
    config = parse(WHOLE.encode())
    tls = config.tls_server_config
    assert tls is not None
    assert (tls.cert_file, tls.key_file, tls.client_ca_file) == ("server.crt", "server.key", "ca.crt")
    assert tls.client_allowed_sans == ("prometheus.example",)
    assert tls.curve_preferences == ("X25519", "CurveP256")
    assert true(tls.prefer_server_cipher_suites)
    assert not true(config.http_server_config.http2)
    headers = config.http_server_config.headers
    assert headers == {"Strict-Transport-Security": "max-age=31536000", "X-Frame-Options": "deny"}, "blank is unset"
    assert config.basic_auth_users == {"alice": HASH, "17": HASH}
    assert (config.interval_s, config.rate_limit.burst) == (60.5, 20)


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"tls_server_config:\nbasic_auth_users:\n", b"{}"])
def test_what_says_nothing_asks_for_nothing(text: bytes) -> None:
    config = parse(text)
    assert config.tls_server_config is None
    assert not config.basic_auth_users
    assert config.interval_s == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls_config: {}", "unknown field `tls_config`"),
        (TLS % "certs: x", "unknown field `certs`"),
        (TLS % "min_version: TLS9", "min_version: not one of the values"),
        (TLS % "min_version: TLS13, max_version: TLS12", "max_version: expected at least min_version"),
        (TLS % "max_version: TLS11, min_version: TLS10", "max_version: expected TLS12 or TLS13"),
        (TLS % "curve_preferences: [P256]", "curve_preferences[0]: not one of the values"),
        (TLS % "prefer_server_cipher_suites: perhaps", "prefer_server_cipher_suites: not one"),
        (TLS % "client_ca_file: c", "client_ca: needs a client_auth_type"),
        (TLS % "client_ca_file: c, client_auth_type: RequestClientCert", "client_ca: needs a client_auth_type"),
        (TLS % "client_auth_type: Any", "client_auth_type: not one of the values"),
        (TLS % "client_auth_type: RequireAnyClientCert", "any stranger"),
        (TLS % "client_auth_type: RequireClientCert", "any stranger"),
        (TLS % "client_allowed_sans: [a]", "client_allowed_sans: needs"),
        (TLS % "client_allowed_sans: [], client_auth_type: RequireAndVerifyClientCert", "expected at least one"),
        ("tls_server_config: {key_file: b}", "expected it, or cert_file"),
        ("tls_server_config: {cert_file: b}", "expected it, or key_file"),
        ("tls_server_config: {min_version: TLS13}", "expected it, or cert_file"),
        ("http_server_config: {headers: {Server: x}}", "'Server' can't be set"),
        ("http_server_config: {headers: {X-Frame-Options: allow}}", "expected deny or sameorigin"),
        ('http_server_config: {headers: {X-XSS-Protection: "0\\r\\nSet-Cookie: a=b"}}', "printable ASCII"),
        ("basic_auth_users: {alice: geheim}", "basic_auth_users.alice: expected a bcrypt hash"),
        ("basic_auth_users: {alice: }", "basic_auth_users.alice: expected a bcrypt hash"),
        ("basic_auth_users: {alice: $2y$19$" + "a" * 53 + "}", "cost from 4 to 18"),
        ("basic_auth_users: {alice: $2y$03$" + "a" * 53 + "}", "cost from 4 to 18"),
        (f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}", "no YAML: line 2"),
        ("basic_auth_users: [a]", "basic_auth_users: Expected `object`"),
        ("rate_limit: {interval: 1s}", "burst: expected at least 1"),
        ("rate_limit: {interval: -1s, burst: 1}", "expected a duration"),
        ("rate_limit: {interval: 1s, burst: many}", "rate_limit.burst: Expected `int`"),
        ("just text", "Expected `object`"),
        ("a: b: c", "no YAML: line 1, column 5"),
        ("\x00", "no YAML"),
        ("[" * 1_000, "no YAML"),
    ],
)
def test_what_can_not_be_used_is_refused_by_its_field(text: str, said: str) -> None:
    with pytest.raises(Mistake, match=re.escape(said)):
        parse(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_users: {alice: geheim}",
        "basic_auth_users: {alice: geheim, alice: geheim}",
        "basic_auth_users: {alice: [geheim]}",
        "basic_auth_users:\n  alice: *geheim",
        "basic_auth_users:\n  alice: 'geheim",
        "tls_server_config: {key: [geheim]}",
        "tls_server_config: {key: geheim, client_auth_type: geheim}",
        "rate_limit: {burst: geheim}",
        "rate_limit: {interval: geheim}",
    ],
)
def test_no_mistake_says_what_the_file_holds(text: str) -> None:
    with pytest.raises(Mistake) as mistake:
        parse(text.encode())
    assert "geheim" not in str(mistake.value)


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("250ms", 0.25), ("1h2m3s", 3723.0), ("5us", 5e-6)])
def test_durations_are_read_as_go_writes_them(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)
