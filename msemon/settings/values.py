"""The kinds of values settings have beside text, numbers and lists: what they mean and what is refused.

Everything here raises ValueError with the rest of the sentence "expected ...".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator

_UNITS = (86_400, 3_600, 60, 1)
_DURATION = re.compile("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in "dhms"))
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_CENTURY = 36_525 * 86_400.0


class Duration(float):
    """Whole seconds that remember how they were written: `Duration("5m") == 300.0`, its `name` is `5m`.

    >>> Duration("1h30m").seconds
    5400.0
    """

    name: str

    def __new__(cls, text: str) -> Self:
        match = _DURATION.fullmatch(text)
        if match is None or not text:
            raise ValueError("expected a duration such as 90s, 5m, 1h30m or 7d")
        seconds = sum(int(count) * unit for count, unit in zip(match.groups(), _UNITS, strict=True) if count)
        if seconds > _CENTURY:  # microseconds of it, added to a time, must fit int64
            raise ValueError("expected a duration of at most 36525d")
        self = super().__new__(cls, seconds)
        self.name = text
        return self

    @property
    def seconds(self) -> float:
        return float(self)

    def __reduce__(self) -> tuple[type[Duration], tuple[str]]:
        return Duration, (self.name,)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Duration({self.name!r})"


def duration(value: object) -> Duration:
    """A Duration from its text; a bare number is refused because its unit would be a guess."""
    if isinstance(value, Duration):
        return value
    if isinstance(value, str):
        return Duration(value.strip())
    raise ValueError("expected a duration in quotes such as 90s, 5m, 1h30m or 7d")


def _positive(value: Duration) -> Duration:
    if value <= 0:
        raise ValueError("expected a duration longer than 0s")
    return value


@dataclass(frozen=True, slots=True)
class Start:
    """Where a group with no state begins to read: exactly one of the four policies.

    `time_us` (microseconds since the epoch) belongs to "time", `ago_s` (seconds back from now) to "ago".
    """

    policy: Literal["latest", "earliest", "time", "ago"]
    text: str
    time_us: int = 0
    ago_s: float = 0.0

    def __str__(self) -> str:
        return self.text

    def timestamp_us(self, now_us: int) -> int | None:
        """The time to begin at, given the wall clock; None for latest and earliest."""
        if self.policy == "time":
            return self.time_us
        return now_us - round(self.ago_s * 1e6) if self.policy == "ago" else None


def start(value: object) -> Start:
    """A Start from its text, or from a TOML date-time with an offset."""
    if isinstance(value, Start):
        return value
    text = value.isoformat() if isinstance(value, datetime) else value
    if isinstance(text, str):
        text = text.strip()
        if text in ("latest", "earliest"):
            return Start("latest" if text == "latest" else "earliest", text)
        if _DURATION.fullmatch(text) and text:
            return Start("ago", text, ago_s=float(Duration(text)))
        if _RFC3339.fullmatch(text.upper()):
            return Start("time", text, time_us=_microseconds(text.upper()))
    raise ValueError(
        'expected "latest", "earliest", an RFC 3339 time with an offset such as 2026-01-31T08:00:00Z,'
        " or a duration back from now such as 6h"
    )


def _microseconds(text: str) -> int:
    try:
        elapsed = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"expected a time that exists ({error})") from error
    if elapsed.days < 0:
        raise ValueError("expected a time after 1970")
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def split_address(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`; an IPv6 host stands in brackets and loses them.

    >>> split_address("[::1]:0")
    ('::1', 0)
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s\[\]:/@]+)):([0-9]{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65_535:
        raise ValueError("expected host:port such as 0.0.0.0:10673 or [::1]:10673")
    return match[1] or match[2], int(match[3])


def _address(text: str) -> str:
    split_address(text)
    return text


def _servers(text: str) -> str:
    for server in text.split(","):
        try:
            port = split_address(server.strip())[1]
        except ValueError:
            port = 0
        if port == 0:
            raise ValueError("expected host:port, or several joined by commas, such as kafka-1:9092,kafka-2:9092")
    return text


_NAME = r"(?:[^.\\]|\\[.\\])+"
_PATH = re.compile(rf"{_NAME}(?:\.{_NAME})*", re.DOTALL)


def path_names(text: str) -> list[str]:
    r"""The member names on a path, still escaped: a dot parts them, `\.` is a literal dot, `\\` a backslash."""
    if _PATH.fullmatch(text) is None:
        raise ValueError("expected a path such as request.id, a dot inside a name written as \\.")
    return re.findall(_NAME, text, re.DOTALL)


def _path(text: str) -> str:
    path_names(text)
    return text


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take true for 1
        raise ValueError("expected a number")  # noqa: TRY004 - what pydantic turns into a mistake
    return value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a text that is not empty")
    return text


def distinct(values: list[Any], what: str) -> None:
    """Raises where two values are equal."""
    repeated = [value for i, value in enumerate(values) if value in values[:i]]
    if repeated:
        names = ", ".join(sorted({str(value) for value in repeated}))
        raise ValueError(f"expected each {what} once; {names} is repeated")


def later(*values: str) -> AfterValidator:
    """Refuses values that the contract names but whose function is not in this version."""

    def check(value: Any) -> Any:
        if value in values:
            raise ValueError(f'"{value}" is not in this version')
        return value

    return AfterValidator(check)


def _file(path: str | None) -> str | None:
    if path is not None and not Path(path).is_file():
        raise ValueError("expected a file that exists")
    return path


Span = Annotated[Duration, PlainValidator(duration), PlainSerializer(lambda value: value.name)]
PositiveSpan = Annotated[Span, AfterValidator(_positive)]
Begin = Annotated[Start, PlainValidator(start), PlainSerializer(lambda value: value.text)]
Text = Annotated[str, AfterValidator(_not_blank)]
FieldPath = Annotated[str, AfterValidator(_path)]
Address = Annotated[str, AfterValidator(_address)]
Servers = Annotated[str, AfterValidator(_servers)]
Count = Annotated[int, BeforeValidator(_not_a_bool), Field(gt=0)]
Number = Annotated[float, BeforeValidator(_not_a_bool), Field(allow_inf_nan=False)]
Unset = BeforeValidator(_none_if_empty)
"""An optional setting: empty text is "none", so that a later layer can take back what an earlier one set."""
File = Annotated[str | None, Unset, AfterValidator(_file)]
MaybeText = Annotated[str | None, Unset]
