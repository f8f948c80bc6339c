"""Who is let in by a web configuration file: over real sockets, with real certificates."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import structlog
import yaml

from msemon.export.access import Configured, Rate, Rules, of
from msemon.export.server import Server
from msemon.export.tls import CIPHERS
from msemon.export.web_config import Mistake
from support.doors import Authority, put
from support.sites import Answer, FakeSite, ask, until

PASSWORD = "geheim-4711"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("ours") / "authority")
    authority.issue("server")
    authority.issue("client", names="DNS:prometheus.example,IP:::1,URI:spiffe://here/prometheus")
    return authority


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("strange") / "authority")
    authority.issue("server")
    authority.issue("client", names="DNS:prometheus.example")
    return authority


def files(authority: Authority, name: str) -> tuple[Path, Path]:
    return authority.directory / f"{name}.pem", authority.directory / f"{name}.key"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def tls(authority: Authority, **more: Any) -> dict[str, Any]:
    cert, key = files(authority, "server")
    return {"tls_server_config": {"cert_file": str(cert), "key_file": str(key), **more}}


def mutual(authority: Authority, **more: Any) -> dict[str, Any]:
    given = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": str(authority.certificate)}
    return tls(authority, **(given | more))


def users(**hashes: str) -> dict[str, Any]:
    return {"basic_auth_users": hashes or {"alice": HASH}}


def basic(password: str, user: str = "alice") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@contextmanager
def serving(file: Path, *sections: dict[str, Any]) -> Iterator[Server]:
    write(file, *sections)
    server = Server("127.0.0.1:0", "127.0.0.1:0", FakeSite(), Configured(file))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def write(file: Path, *sections: dict[str, Any]) -> None:
    put(file, yaml.safe_dump({name: value for section in sections for name, value in section.items()}))


def client(authority: Authority, own: tuple[Path, Path] | None = None, **more: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if own is not None:
        context.load_cert_chain(*own)
    for name, value in more.items():
        setattr(context, name, value)
    return context


def fetch(
    server: Server, context: ssl.SSLContext, headers: dict[str, str] | None = None, path: str = "/metrics"
) -> Answer:
    connection = HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def turned_away(server: Server, context: ssl.SSLContext) -> bool:
    try:
        fetch(server, context)
    except OSError:
        return True
    return False


def test_without_a_file_everybody_is_let_in() -> None:
    assert of(None)() == Rules()


def test_a_scrape_comes_over_tls_and_health_in_the_clear_at_its_own_address(file: Path, ours: Authority) -> None:
    with serving(file, tls(ours)) as server:
        answer = fetch(server, client(ours))
        assert answer.status == 200
        assert b"msemon_build_info" in answer.body
        assert ask(server.health_port, "/healthz").status == 200
        with pytest.raises(OSError):  # noqa: PT011 - reset or closed, as the system has it
            ask(server.port, "/metrics")


def test_certificate_and_key_may_stand_in_the_file_itself(file: Path, ours: Authority) -> None:
    cert, key = (path.read_text() for path in files(ours, "server"))
    inline = {"cert": cert, "key": key, "client_ca": "# Ämter\n" + ours.certificate.read_text()}
    given = {"tls_server_config": inline | {"client_auth_type": "RequireAndVerifyClientCert"}}
    with serving(file, given) as server:
        assert fetch(server, client(ours, files(ours, "client"))).status == 200
        assert turned_away(server, client(ours))


def test_paths_are_from_where_the_file_is(tmp_path: Path, ours: Authority) -> None:
    for name, path in zip(("cert.pem", "key.pem"), files(ours, "server"), strict=True):
        (tmp_path / name).write_text(path.read_text())
    with serving(tmp_path / "web.yml", {"tls_server_config": {"cert_file": "cert.pem", "key_file": "key.pem"}}) as made:
        assert fetch(made, client(ours)).status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("asked", "spoken", "is_served"),
    [
        ({}, ssl.TLSVersion.TLSv1_1, False),
        ({}, ssl.TLSVersion.TLSv1_2, True),
        ({}, ssl.TLSVersion.TLSv1_3, True),
        ({"min_version": "TLS10"}, ssl.TLSVersion.TLSv1_1, False),
        ({"min_version": "TLS13"}, ssl.TLSVersion.TLSv1_2, False),
        ({"max_version": "TLS12"}, ssl.TLSVersion.TLSv1_3, False),
        ({"max_version": "TLS12"}, ssl.TLSVersion.TLSv1_2, True),
    ],
)
def test_tls_1_2_and_1_3_are_spoken_and_nothing_older_whatever_the_file_says(
    file: Path, ours: Authority, asked: dict[str, str], spoken: ssl.TLSVersion, is_served: bool
) -> None:
    context = client(ours)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # the client would speak it
    context.maximum_version = spoken
    context.minimum_version = spoken
    with serving(file, tls(ours, **asked)) as server:
        assert turned_away(server, context) is not is_served


def test_suites_are_those_of_the_file_by_gos_names(file: Path, ours: Authority) -> None:
    older = ssl.TLSVersion.TLSv1_2
    with serving(file, tls(ours, cipher_suites=["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"])) as server:
        context = client(ours, maximum_version=older)
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        assert turned_away(server, context)
        context.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384")
        assert not turned_away(server, context)
        write(file, tls(ours, cipher_suites=["TLS_AES_128_GCM_SHA256"]))
        assert turned_away(server, client(ours, maximum_version=older)), "none of TLS 1.2 is left"
        assert not turned_away(server, client(ours))


def test_openssl_has_every_suite_and_a_curve_is_the_only_one(file: Path, ours: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name in filter(None, CIPHERS.values()):
        context.set_ciphers(name)
        assert name in {cipher["name"] for cipher in context.get_ciphers()}
    with serving(file, tls(ours, curve_preferences=["CurveP384", "CurveP256"])) as server:
        for curve, refused in (("prime256v1", True), ("secp384r1", False)):
            peer = client(ours)
            peer.set_ecdh_curve(curve)
            assert turned_away(server, peer) is refused


def test_a_suite_is_the_servers_choice_unless_the_file_leaves_it_to_the_client(ours: Authority, file: Path) -> None:
    for given, chosen in (("true", True), ("no", False)):
        write(file, tls(ours, prefer_server_cipher_suites=given))
        context = Configured(file)().tls
        assert context is not None
        assert bool(context.options & ssl.OP_CIPHER_SERVER_PREFERENCE) is chosen
        assert context.options & ssl.OP_NO_RENEGOTIATION


def test_only_certificates_of_the_files_own_authority_are_let_in(
    file: Path, ours: Authority, strange: Authority
) -> None:
    with serving(file, mutual(ours)) as server:
        assert fetch(server, client(ours, files(ours, "client"))).status == 200
        assert turned_away(server, client(ours)), "without any"
        assert turned_away(server, client(ours, files(strange, "client"))), "of another authority"
        assert turned_away(server, client(ours, ours.issue("old", days=-1))), "that has expired"


def test_a_certificate_that_may_be_missing_must_be_good_where_there_is_one(
    file: Path, ours: Authority, strange: Authority
) -> None:
    with serving(file, mutual(ours, client_auth_type="VerifyClientCertIfGiven")) as server:
        assert fetch(server, client(ours)).status == 200
        assert fetch(server, client(ours, files(ours, "client"))).status == 200
        assert turned_away(server, client(ours, files(strange, "client")))


@pytest.mark.parametrize("policy", ["NoClientCert", "RequestClientCert"])
def test_certificates_nobody_verifies_are_not_looked_at(
    file: Path, ours: Authority, strange: Authority, policy: str
) -> None:
    with serving(file, tls(ours, client_auth_type=policy)) as server:
        assert fetch(server, client(ours, files(strange, "client"))).status == 200


@pytest.mark.parametrize(
    ("names", "is_let_in"),
    [
        (["prometheus.example"], True),
        (["::1"], True),
        (["other", "spiffe://here/prometheus"], True),
        (["example"], False),
        (["*.example", "client"], False),
    ],
)
def test_a_clients_certificate_must_be_for_one_of_the_names(
    file: Path, ours: Authority, names: list[str], is_let_in: bool
) -> None:
    with serving(file, mutual(ours, client_allowed_sans=names)) as server:
        assert turned_away(server, client(ours, files(ours, "client"))) is not is_let_in


def test_without_an_authority_of_its_own_the_systems_verify(
    file: Path, ours: Authority, strange: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(strange.certificate))
    with serving(file, tls(ours, client_auth_type="RequireAndVerifyClientCert")) as server:
        assert fetch(server, client(ours, files(strange, "client"))).status == 200
        assert turned_away(server, client(ours, files(ours, "client")))


def test_users_are_asked_for_everything_but_health(file: Path) -> None:
    with serving(file, users()) as server:
        for path in ("/metrics", "/", "/static/page.js", "/api/v1/status", "/nowhere", "//healthz", "/healthz/"):
            answer = ask(server.port, path)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Basic realm=")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert ask(server.port, path, basic("wrong")).status == 401
        for path in ("/-/healthy", "/healthz", "/-/ready", "/readyz"):
            assert ask(server.port, path).status == 200
        assert ask(server.port, "/metrics", basic(PASSWORD)).status == 200
        assert ask(server.port, "/api/v1/status").body == b'{"error":"Unauthorized"}'


def test_a_flood_of_wrong_passwords_holds_up_neither_health_nor_those_who_are_known(file: Path) -> None:
    dear = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    over = threading.Event()

    def guess(server: Server, number: int) -> set[int]:
        seen, turn = set(), 0
        while not over.is_set():
            turn += 1
            seen.add(ask(server.port, "/metrics", basic(f"guess {number} {turn}"), timeout_s=60).status)
        return seen

    with serving(file, users(alice=dear)) as server:
        assert ask(server.port, "/metrics", basic(PASSWORD)).status == 200
        seen: list[set[int]] = []
        guessing = [
            threading.Thread(target=lambda number=number: seen.append(guess(server, number))) for number in range(12)
        ]
        for thread in guessing:
            thread.start()
        try:
            for _ in range(10):
                assert ask(server.port, "/healthz", timeout_s=10).status == 200
                assert ask(server.health_port, "/healthz", timeout_s=10).status == 200
                assert ask(server.port, "/metrics", basic(PASSWORD), timeout_s=10).status == 200
        finally:
            over.set()
            for thread in guessing:
                thread.join(60)
        assert set().union(*seen) <= {401, 503}
        assert 503 in set().union(*seen), "more than a few are told to come again"


def test_headers_of_the_file_stand_in_for_ours(file: Path) -> None:
    given = {"X-Frame-Options": "sameorigin", "Content-Security-Policy": "default-src 'self'"}
    with serving(file, {"http_server_config": {"headers": given, "http2": True}}, users()) as server:
        for path in ("/healthz", "/metrics", "/" + "a" * 3000):
            headers = ask(server.port, path).headers
            assert headers["x-frame-options"] == "sameorigin"
            assert headers["content-security-policy"] == "default-src 'self'"
            assert headers["cache-control"] == "no-store"


def test_requests_beyond_the_rate_are_told_to_come_again_but_for_health(file: Path) -> None:
    with serving(file, {"rate_limit": {"interval": "1h", "burst": 2}}) as server:
        statuses = [ask(server.port, "/metrics").status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert ask(server.port, "/healthz").status == 200


def test_a_bucket_fills_at_its_rate_up_to_its_burst() -> None:
    now = [0.0]
    rate = Rate(2.0, 3, clock=lambda: now[0])
    assert [rate.allows() for _ in range(4)] == [True, True, True, False]
    now[0] = 1.9
    assert not rate.allows()
    now[0] = 4.1
    assert [rate.allows() for _ in range(3)] == [True, True, False]
    now[0] = 1e6
    assert [rate.allows() for _ in range(4)] == [True, True, True, False]


def test_certificates_authorities_and_users_are_read_anew(
    tmp_path: Path, ours: Authority, strange: Authority, file: Path
) -> None:
    cert, key, ca = (tmp_path / name for name in ("cert", "key", "ca"))

    def place(server: Authority, clients: Authority) -> None:
        for target, source in zip((cert, key), files(server, "server"), strict=True):
            put(target, source.read_text())
        put(ca, clients.certificate.read_text())

    given = mutual(ours, cert_file="cert", key_file="key", client_ca_file="ca")
    place(ours, ours)
    with serving(file, given, users()) as server:
        context = client(ours, files(ours, "client"))
        assert fetch(server, context, basic(PASSWORD)).status == 200
        place(strange, strange)
        assert turned_away(server, context), "it shows another certificate"
        context = client(strange, files(strange, "client"))
        assert fetch(server, context, basic(PASSWORD)).status == 200
        assert turned_away(server, client(strange, files(ours, "client"))), "the old authority is none any more"
        write(file, given, users(bob=HASH))
        assert fetch(server, context, basic(PASSWORD)).status == 401
        assert fetch(server, context, basic(PASSWORD, "bob")).status == 200


def test_what_can_not_be_used_later_leaves_what_held_and_is_said_once(
    tmp_path: Path, ours: Authority, strange: Authority, file: Path
) -> None:
    cert, key = tmp_path / "cert", tmp_path / "key"
    for target, source in zip((cert, key), files(ours, "server"), strict=True):
        put(target, source.read_text())
    whole = mutual(ours, cert_file="cert", key_file="key"), users()
    write(file, *whole)
    damages: list[Callable[[], object]] = [
        lambda: put(cert, files(strange, "server")[0].read_text()),  # its key is still to come
        lambda: put(cert, "nonsense"),
        cert.unlink,
        lambda: put(file, "basic_auth_users: {alice: geheim}"),
        lambda: put(file, ""),
        lambda: write(file, whole[0]),
        lambda: write(file, tls(ours), whole[1]),
        file.unlink,
    ]
    with structlog.testing.capture_logs() as lines:
        configured = Configured(file)
        before = configured()
        for damage in damages:
            damage()
            assert configured() is before
            assert configured() is before
            put(cert, files(ours, "server")[0].read_text())
            write(file, *whole)
            assert configured() is before
        complaints = [line["error"] for line in lines if line["log_level"] == "error"]
        assert len(complaints) == 8
        assert "key is another certificate's" in complaints[0]
        assert complaints[2].endswith("No such file or directory")
        assert complaints[4].endswith("would be gone: that needs a restart")
        assert complaints[5] == "basic_auth_users would be gone: that needs a restart"
        assert complaints[6].startswith("client_auth_type")
        assert "geheim" not in repr(lines)
        for target, source in zip((cert, key), files(strange, "server"), strict=True):
            put(target, source.read_text())
        write(file, *whole)
        assert configured().tls is not before.tls
        assert configured().users is before.users, "what is remembered of passwords stays while they do"
        assert lines[-1]["event"] == "web.config_file read anew"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cert_file": "none", "key_file": "none"}, "tls_server_config.cert_file none: No such file"),
        ({"cert": "x", "key": "y"}, "cert and key: not a certificate and its key"),
        ({"cipher_suites": ["TLS_RSA_WITH_RC4_128_SHA"]}, "cipher_suites: TLS_RSA_WITH_RC4_128_SHA: not of"),
        ({"cipher_suites": ["TLS_AES_128_GCM_SHA256"], "max_version": "TLS12"}, "none of them is for max_version"),
        (
            {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "web.yml"},
            "client_ca: not certificates in PEM form",
        ),
    ],
)
def test_what_can_not_be_used_at_the_start_is_refused(
    file: Path, ours: Authority, given: dict[str, Any], said: str
) -> None:
    section = given if "cert" in given or "cert_file" in given else tls(ours)["tls_server_config"] | given
    write(file, {"tls_server_config": section})
    with pytest.raises(Mistake, match=said):
        Configured(file)


def test_an_authority_that_is_pem_of_something_else_is_refused(file: Path, ours: Authority) -> None:
    write(file, mutual(ours, client_ca_file=str(files(ours, "server")[1])))
    with pytest.raises(Mistake, match="client_ca: not certificates"):
        Configured(file)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(tmp_path: Path, file: Path, ours: Authority) -> None:
    cert, key = files(ours, "server")
    locked = tmp_path / "locked.key"
    ours._openssl("rsa", "-aes256", "-passout", "pass:geheim", "-in", str(key), "-out", str(locked))
    write(file, tls(ours, key_file=str(locked), cert_file=str(cert)))
    with pytest.raises(Mistake, match="cert and key"):
        Configured(file)


def test_a_stopped_server_leaves_no_connection(file: Path, ours: Authority) -> None:
    with serving(file, tls(ours)) as server:
        assert fetch(server, client(ours)).status == 200
        until(lambda: not server._main._open)
