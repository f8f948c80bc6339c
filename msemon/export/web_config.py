"""Prometheus' web configuration file: TLS, users, headers and a rate limit.

The format is exporter-toolkit's (github.com/prometheus/exporter-toolkit, docs/web-configuration.md), and what it takes
is taken here. docs/http.md says what each field does, and the few places where the safer of two meanings was chosen.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
import yaml

Policy = Literal[
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
]
Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]
Curve = Literal["CurveP256", "CurveP384", "CurveP521", "X25519"]
Truth = Literal["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y",
                "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"]  # fmt: skip
"""YAML 1.1's."""

MOST_COST = 18
"""Of a bcrypt hash: each step doubles the time that one check takes, and this one takes many seconds."""

_HASH = re.compile(r"\$2[abxy]\$(\d\d)\$[./A-Za-z0-9]{53}")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_HEADERS: dict[str, tuple[str, ...]] = {  # with the values that are taken, where not any is
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}


class Mistake(ValueError):
    """Why a file can't be used. It never quotes the file's values: some are secret."""


class TlsServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tls_server_config`."""

    cert: str = ""
    key: str = ""
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    client_auth_type: Policy = "NoClientCert"
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    curve_preferences: tuple[Curve, ...] = ()
    prefer_server_cipher_suites: Truth = "true"

    @property
    def verifies(self) -> bool:
        """Whether a client's certificate is looked at."""
        return self.client_auth_type in {"VerifyClientCertIfGiven", "RequireAndVerifyClientCert"}

    @property
    def wants_clients(self) -> bool:
        return bool(self.client_ca or self.client_ca_file)


class HttpServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`http_server_config`. `http2` is understood and changes nothing: HTTP/1.1 is what is spoken."""

    http2: Truth = "true"
    headers: dict[str, str] = {}


class RateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`rate_limit`."""

    interval: str = "0"
    burst: int = 0


class WebConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. A section that is not there is None or empty."""

    tls_server_config: TlsServer | None = None
    http_server_config: HttpServer = HttpServer()
    basic_auth_users: dict[str, str] = {}
    rate_limit: RateLimit = RateLimit()

    @property
    def interval_s(self) -> float:
        """Between two requests in the long run; 0: no limit."""
        return seconds(self.rate_limit.interval)


def true(text: Truth) -> bool:
    """Whether it is a yes."""
    return text.lower() in {"true", "yes", "on", "y"}


def seconds(text: str) -> float:
    """Of a duration as Go writes it: `1m30s`, `500ms`; a bare number is nanoseconds. Raises Mistake.

    >>> seconds("1m0.5s"), seconds("0"), seconds("1000000")
    (60.5, 0.0, 0.001)
    """
    if text.isascii() and text.isdecimal():
        return int(text) * 1e-9
    found = _SPAN.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise Mistake("rate_limit.interval: expected a duration such as 100ms")
    return sum(float(number) * _UNITS[unit] for number, unit in found)


def parse(text: bytes) -> WebConfig:
    """The file's content, checked as far as it can be without the files that it names. Raises Mistake."""
    try:
        given = yaml.load(text, _Loader)  # noqa: S506 - makes nothing but texts, lists and mappings
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark
        raise Mistake("no YAML" + (f": line {where.line + 1}, column {where.column + 1}" if where else "")) from None
    except (yaml.YAMLError, RecursionError):
        raise Mistake("no YAML") from None
    try:
        config = msgspec.convert(_set(given) or {}, WebConfig, strict=False)
    except msgspec.ValidationError as error:
        raise Mistake(_told(str(error))) from None
    _check_tls(config.tls_server_config)
    _check_headers(config.http_server_config.headers)
    _check_users(config.basic_auth_users)
    if config.interval_s > 0 and config.rate_limit.burst < 1:
        raise Mistake("rate_limit.burst: expected at least 1, or no request would ever be answered")
    return config


class _Loader(yaml.BaseLoader):
    """Every scalar as its text, whatever it looks like: a user may be called 17. A key that stands twice is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        made = super().construct_mapping(node, deep)
        if len(made) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
        return made


def _set(value: Any, users: bool = False) -> Any:
    """Without what is empty: a field that has no value is one that is not there. A user without a hash is a mistake."""
    if not isinstance(value, dict) or users:
        return value
    return {key: kept for key, each in value.items() if (kept := _set(each, key == "basic_auth_users")) != ""}


def _told(problem: str) -> str:
    """The words of msgspec with the field first; its values are left out."""
    what, _, path = re.sub(r"Invalid enum value '[^']*'", "not one of the values that this field may have",
                           problem).partition(" - at `$")  # fmt: skip
    place = path.strip("`.")
    return f"{place}: {what}" if place else what


def _check_tls(tls: TlsServer | None) -> None:
    if tls is None:
        return
    problems = {
        "cert: expected it, or cert_file": not (tls.cert or tls.cert_file),
        "key: expected it, or key_file": not (tls.key or tls.key_file),
        "max_version: expected TLS12 or TLS13": tls.max_version < "TLS12",
        "max_version: expected at least min_version": tls.max_version < tls.min_version,
        "client_auth_type: RequireAnyClientCert would let any stranger's certificate in; RequireAndVerifyClientCert is"
        " what tells them apart": tls.client_auth_type in {"RequireAnyClientCert", "RequireClientCert"},
        "client_ca: needs a client_auth_type that verifies, such as RequireAndVerifyClientCert": (
            tls.wants_clients and not tls.verifies
        ),
        "client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert": (
            tls.client_allowed_sans is not None and not tls.verifies
        ),
        "client_allowed_sans: expected at least one": tls.client_allowed_sans == (),
    }
    for problem, holds in problems.items():
        if holds:
            raise Mistake(f"tls_server_config.{problem}")


def _check_headers(headers: dict[str, str]) -> None:
    for name, value in headers.items():
        values = _HEADERS.get(name)
        if values is None:
            raise Mistake(f"http_server_config.headers: {name!r} can't be set, only {', '.join(_HEADERS)}")
        if values and value not in values:
            raise Mistake(f"http_server_config.headers.{name}: expected {' or '.join(values)}")
        if not value.isascii() or not value.isprintable():  # a line break would begin another header
            raise Mistake(f"http_server_config.headers.{name}: expected printable ASCII")


def _check_users(users: dict[str, str]) -> None:
    for name, hashed in users.items():
        found = _HASH.fullmatch(hashed)
        if found is None:
            raise Mistake(f"basic_auth_users.{name}: expected a bcrypt hash, as htpasswd -nBC 10 makes it")
        if not 4 <= int(found[1]) <= MOST_COST:
            raise Mistake(f"basic_auth_users.{name}: expected a cost from 4 to {MOST_COST}")
