"""What a Kafka client logs in with: read anew whenever it does, so that a rotated password needs no restart."""

from __future__ import annotations

import structlog

from msemon.settings import Settings

log = structlog.get_logger(__name__)


class Login:
    """User and password of the SASL mechanism, as the files of the secrets directory hold them now.

    What came from elsewhere (a flag, the environment, the settings file) stays as it was at the start. Files of keys
    and certificates are not read here: the settings hold their paths, and a client reads them.
    """

    def __init__(self, settings: Settings) -> None:
        password = settings.kafka.sasl_password
        self._known = {
            "kafka.sasl_username": settings.kafka.sasl_username,
            "kafka.sasl_password": None if password is None else password.get_secret_value(),
        }
        self._files = {name: path for name, path in settings.files.items() if name in self._known}

    def now(self) -> tuple[str | None, str | None]:
        """User and password. What can't be read, or is empty while it is being written, is what it was."""
        for name, path in self._files.items():
            try:
                text = path.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as problem:
                why = problem.strerror if isinstance(problem, OSError) else "not UTF-8"  # never a part of the secret
                log.warning("a secret can't be read, the last one stands", setting=name, reason=why)
                continue
            if text and text != self._known[name]:
                self._known[name] = text
                log.info("a secret has changed", setting=name)
        return self._known["kafka.sasl_username"], self._known["kafka.sasl_password"]
