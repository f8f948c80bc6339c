"""TLS as a web configuration file wants it: a context of Python's, and whom a client's certificate is for."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from msemon.export.web_config import Mistake, TlsServer, true

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1_2,  # older ones are broken: who allows them gets the oldest that is not
    "TLS11": ssl.TLSVersion.TLSv1_2,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_CODES = {
    "AES_128_CBC_SHA": "AES128-SHA",
    "AES_256_CBC_SHA": "AES256-SHA",
    "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
}
CIPHERS = {
    f"TLS_ECDHE_{proof}_WITH_{code}": f"ECDHE-{proof}-{name}"
    for proof in ("ECDSA", "RSA")
    for code, name in _CODES.items()
} | dict.fromkeys(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"), "")
"""Go's `tls.CipherSuites()` by OpenSSL's names; those of TLS 1.3 are always on, here as in Go."""


class Pems(NamedTuple):
    """What the file names or holds, as it was read."""

    cert: bytes
    key: bytes
    client_ca: bytes


def context_of(given: TlsServer, pems: Pems) -> ssl.SSLContext:
    """Raises Mistake where these can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[given.min_version]
    context.maximum_version = _VERSIONS[given.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if not true(given.prefer_server_cipher_suites):
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _set_ciphers(context, given.cipher_suites)
    if given.curve_preferences:  # Python takes one
        context.set_ecdh_curve(_CURVES[given.curve_preferences[0]])
    _load_own(context, pems)
    if given.verifies:
        _verify_clients(context, given, pems.client_ca)
    return context


def _set_ciphers(context: ssl.SSLContext, names: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in CIPHERS]
    if unknown:
        raise Mistake(f"tls_server_config.cipher_suites: {', '.join(unknown)}: not of {', '.join(CIPHERS)}")
    older = [cipher for name in names if (cipher := CIPHERS[name])]
    if older:
        context.set_ciphers(":".join(older))
    elif names:  # none but TLS 1.3's: then older versions have none
        if context.maximum_version != ssl.TLSVersion.TLSv1_3:
            raise Mistake("tls_server_config.cipher_suites: none of them is for max_version")
        context.minimum_version = ssl.TLSVersion.TLSv1_3


def _load_own(context: ssl.SSLContext, pems: Pems) -> None:
    try:
        with _file(pems.cert) as cert, _file(pems.key) as key:
            context.load_cert_chain(cert, key, lambda: "")  # a password must not be asked for at a terminal
    except (ssl.SSLError, ValueError) as problem:
        other = getattr(problem, "reason", None) == "KEY_VALUES_MISMATCH"
        why = "the key is another certificate's" if other else "not a certificate and its key in PEM form"
        raise Mistake(f"tls_server_config: cert and key: {why}") from None


def _verify_clients(context: ssl.SSLContext, given: TlsServer, authorities: bytes) -> None:
    required = given.client_auth_type == "RequireAndVerifyClientCert"
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    if not given.wants_clients:  # then, as in Go, the system's
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))  # remarks may be in any alphabet
    except (ssl.SSLError, ValueError):
        raise Mistake("tls_server_config: client_ca: not certificates in PEM form") from None


@contextlib.contextmanager
def _file(pem: bytes) -> Iterator[str]:
    """A path at which OpenSSL, which wants files, finds this: in memory where the system can, so that no key of a
    configuration is written to a disk, and what is used is what was compared.
    """
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("pem"), "wb") as file:  # noqa: PTH123 - a descriptor is no path
            file.write(pem)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:  # pragma: no cover - other systems than Linux
        with tempfile.NamedTemporaryFile() as named:
            named.write(pem)
            named.flush()
            yield named.name


def names_in(certificate: dict[str, Any]) -> set[str]:
    """Whom a client's certificate is for: DNS names, addresses, e-mail and URIs of its subject alternative name.

    >>> sorted(names_in({"subjectAltName": (("DNS", "a.example"), ("IP Address", "0:0:0:0:0:0:0:1"))}))
    ['::1', 'a.example']
    """
    found = set()
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "IP Address":
            with contextlib.suppress(ValueError):
                found.add(str(ipaddress.ip_address(value.strip())))
        elif kind in {"DNS", "email", "URI"}:
            found.add(value)
    return found
