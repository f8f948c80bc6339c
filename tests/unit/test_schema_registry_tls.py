"""A registry (a stand-in) over https: whose certificate is believed, who is shown ours, and what is said where not."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from msemon.decoding.schemas import Schema
from msemon.schema_registry import Away, SchemaRegistry, over_http
from msemon.settings import load
from support.doors import Authority, put
from support.registry import RegistryStandIn
from support.waiting import wait_until

WHERE = "/schemas/ids/7"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "other")


def serving(authority: Authority, asks: bool = False) -> RegistryStandIn:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("registry"))
    if asks:
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return RegistryStandIn({WHERE: {"schema": "x"}}, context)


@pytest.fixture
def registry(authority: Authority) -> Iterator[RegistryStandIn]:
    with serving(authority) as stand_in:
        yield stand_in


def getting(url: str, secrets: Path | None = None, **more: object) -> Any:
    names = {f"format.schema_registry_{name}": str(value) for name, value in more.items()}
    given = {"format.encoding": "avro", "format.schema_registry_url": url} | names
    return over_http(load(given, environ={}, secrets_dir=secrets))


def test_a_certificate_of_the_authority_is_believed_and_user_and_password_are_told(authority, registry, tmp_path):
    (tmp_path / "msemon_format__schema_registry_password").write_text("geheim\n")
    get = getting(registry.url, tmp_path, cafile=authority.certificate, username="ada")
    assert json.loads(get(WHERE)) == {"schema": "x"}
    assert registry.asked == [(WHERE, "Basic YWRhOmdlaGVpbQ==")]


def test_a_certificate_of_another_authority_is_refused_before_anything_is_told(other, registry, tmp_path):
    (tmp_path / "msemon_format__schema_registry_password").write_text("geheim\n")
    for more in ({"cafile": other.certificate}, {}):  # none: the system's
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            getting(registry.url, tmp_path, username="ada", **more)(WHERE)
    assert registry.asked == []


def test_a_certificate_for_another_address_is_refused(authority, registry):
    with pytest.raises(OSError, match="Hostname mismatch, certificate is not valid for 'localhost'"):
        getting(f"https://localhost:{registry.port}", cafile=authority.certificate)(WHERE)
    assert registry.asked == []


def test_a_registry_that_asks_for_a_certificate_is_shown_ours(authority, other, tmp_path):
    certificate, key = authority.issue("monitor")
    both = tmp_path / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    with serving(authority, asks=True) as stand_in:
        get = getting(stand_in.url, cafile=authority.certificate, certfile=certificate, keyfile=key)
        assert json.loads(get(WHERE)) == {"schema": "x"}
        assert json.loads(getting(stand_in.url, cafile=authority.certificate, certfile=both)(WHERE)) == {"schema": "x"}
        with pytest.raises(OSError, match=r"(?i)certificate.required|reset|broken pipe|eof"):
            getting(stand_in.url, cafile=authority.certificate)(WHERE)
        strange, its_key = other.issue("monitor")
        with pytest.raises(OSError, match=r"(?i)unknown.ca|reset|broken pipe|eof"):
            getting(stand_in.url, cafile=authority.certificate, certfile=strange, keyfile=its_key)(WHERE)
        with pytest.raises(Away, match=rf"^format\.schema_registry_certfile {certificate}: .*MISMATCH"):
            getting(stand_in.url, cafile=authority.certificate, certfile=certificate, keyfile=its_key)(WHERE)


def test_authorities_that_are_rotated_are_believed_without_a_restart(authority, other, registry, tmp_path):
    """As the log says it meanwhile, with the file's setting or the client's reason."""
    cafile = tmp_path / "ca.pem"
    cafile.write_text(other.certificate.read_text())
    get = getting(registry.url, cafile=cafile)
    errors: list[int] = []
    asking = SchemaRegistry(get, lambda: errors.append(1), retry_s=(0.01, 0.05))
    with structlog.testing.capture_logs() as lines:
        assert asking.find(7) is None
        wait_until(lambda: errors, 10, "a refusal")
        put(cafile, "no PEM")
        wait_until(lambda: any("schema_registry_cafile" in line["error"] for line in lines), 10, "the other refusal")
        put(cafile, authority.certificate.read_text())
        wait_until(lambda: asking.known(7) is not None, 10, "the schema")
    assert asking.known(7) == Schema("x", "AVRO")
    assert "certificate verify failed" in lines[0]["error"]


@pytest.mark.parametrize("name", ["cafile", "certfile"])
def test_a_file_that_can_not_be_used_is_named_with_its_setting(authority, registry, tmp_path, name):
    good = {"cafile": authority.certificate}
    path = tmp_path / "file.pem"
    path.write_text("no PEM")
    get = getting(registry.url, **good | {name: path})
    for _ in range(2):
        with pytest.raises(Away, match=rf"^format\.schema_registry_{name} {path}: ."):
            get(WHERE)
        path.unlink(missing_ok=True)
