"""The files of keys and certificates that a client is given: what is wrong with them, and whether they have changed."""

from __future__ import annotations

import ssl
from pathlib import Path

from msemon.settings import Settings


class Certificates:
    """The files that the settings name, as they stood when this was made."""

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        names = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
        self._files = {name: Path(path) for name in names if (path := getattr(kafka, name)) is not None}
        options = kafka.client_options
        self._password = str(options.get("ssl_password") or options.get("ssl.key.password") or "")
        self._held = self._contents()

    def changed(self) -> bool:
        """Whether any of them holds something else now."""
        return bool(self._files) and self._contents() != self._held

    def problem(self) -> str | None:
        """Why no client could use them; None where one can, whatever the brokers think of them."""
        for name, path in self._files.items():
            try:
                path.read_bytes()
            except OSError as problem:
                return f"kafka.{name} {path}: {problem.strerror}"
        return self._authorities() or self._own()

    def _authorities(self) -> str | None:
        path = self._files.get("ssl_cafile")
        try:
            if path is not None:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except ssl.SSLError:
            return f"kafka.ssl_cafile {path}: not certificates in PEM form"
        return None

    def _own(self) -> str | None:
        certificate, key = self._files.get("ssl_certfile"), self._files.get("ssl_keyfile")
        try:
            if certificate is not None:
                # A password that is not given must not be asked for at a terminal.
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, lambda: self._password)
        except (ssl.SSLError, ValueError) as problem:
            files = f"kafka.ssl_certfile {certificate}" + (f" with kafka.ssl_keyfile {key}" if key else "")
            other = getattr(problem, "reason", None) == "KEY_VALUES_MISMATCH"
            why = "the key is another certificate's" if other else "not a certificate and its key in PEM form"
            return f"{files}: {why}" + (", or not with this password" if self._password else "")
        return None

    def _contents(self) -> list[bytes | None]:
        found: list[bytes | None] = []
        for path in self._files.values():
            try:
                found.append(path.read_bytes())
            except OSError:
                found.append(None)
        return found
