"""The files of keys and certificates: each way in which they can be wrong is said with the setting that names them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from msemon.settings import Settings
from msemon.sources.base import ErrorKind, Unreachable
from msemon.sources.certificates import Certificates
from msemon.sources.opening import open_source
from support.doors import Authority
from support.tools import OPENSSL, needs


def settings(**kafka: Any) -> Settings:
    return Settings(kafka={"security_protocol": "SSL", **kafka})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("files") / "authority")


def test_files_that_belong_together_are_no_problem(authority):
    certificate, key = authority.issue("good")
    assert Certificates(settings()).problem() is None
    files = {"ssl_cafile": authority.certificate, "ssl_certfile": certificate, "ssl_keyfile": key}
    assert Certificates(settings(**{name: str(path) for name, path in files.items()})).problem() is None


def test_each_way_files_can_be_wrong_is_said_with_its_setting(authority, tmp_path):
    certificate = str(authority.issue("mine")[0])
    others = str(authority.issue("another")[1])
    junk, gone = tmp_path / "junk.pem", tmp_path / "gone.pem"
    junk.write_text("-----BEGIN CERT")
    gone.write_text("")
    for files, words in (
        ({"ssl_cafile": str(junk)}, f"kafka.ssl_cafile {junk}: not certificates in PEM form"),
        ({"ssl_certfile": str(junk)}, f"kafka.ssl_certfile {junk}: not a certificate and its key in PEM form"),
        ({"ssl_certfile": certificate, "ssl_keyfile": others},
         f"kafka.ssl_certfile {certificate} with kafka.ssl_keyfile {others}: the key is another certificate's"),
        ({"ssl_certfile": certificate, "ssl_keyfile": str(gone)},
         f"kafka.ssl_keyfile {gone}: No such file or directory"),
    ):  # fmt: skip
        given = settings(**files)
        if words.endswith("directory"):
            gone.unlink()
        assert Certificates(given).problem() == words


def test_a_key_with_a_password_needs_that_password(authority):
    certificate, key = authority.issue("locked")
    locked = key.with_suffix(".locked")
    command = [needs(OPENSSL), "rsa", "-in", str(key), "-aes256", "-passout", "pass:right", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    files = {"ssl_certfile": str(certificate), "ssl_keyfile": str(locked)}
    assert Certificates(settings(**files, client_options={"ssl_password": "right"})).problem() is None
    found = Certificates(settings(**files, client_options={"ssl_password": "wrong"})).problem()
    assert found is not None
    assert found.endswith("or not with this password")
    assert "wrong" not in found
    assert Certificates(settings(**files)).problem() is not None


@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_no_client_is_made_of_files_that_are_no_use_and_the_daemon_may_try_again(client, tmp_path):
    """They may be about to be replaced, so this is no reason to end."""
    file = Path(tmp_path) / "ca.pem"
    file.write_text("junk")
    source = open_source(settings(client=client, ssl_cafile=str(file)))
    with pytest.raises(Unreachable, match=re.escape("kafka.ssl_cafile")) as caught:
        source.connect()
    assert caught.value.kind is ErrorKind.AUTHENTICATION
