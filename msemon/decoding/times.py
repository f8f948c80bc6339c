"""Times of events and records, in microseconds since the epoch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from msemon.events import Floats, Ints

_SECONDS_BELOW, _MILLISECONDS_BELOW, _MICROSECONDS_BELOW = 10**11, 10**14, 10**17
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_SECONDS = 86_400
_CACHED_MINUTES = 4_096
_minutes: dict[tuple[str, str], int] = {}


def from_number(ts: float) -> int:
    """Microseconds of a finite number that tells its unit by its size; 0 or less where it is no time after the epoch.

    Below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. Integers are exact, and
    nanoseconds are cut to the microsecond; a float, which is inexact anyway, is rounded to it.

    >>> from_number(1_700_000_000), from_number(1_700_000_000_000.5), from_number(1_700_000_000_000_000_999)
    (1700000000000000, 1700000000000500, 1700000000000000)
    """
    if ts < _SECONDS_BELOW:
        scaled = ts * 1_000_000
    elif ts < _MILLISECONDS_BELOW:
        scaled = ts * 1_000
    elif ts < _MICROSECONDS_BELOW:
        scaled = ts
    elif isinstance(ts, int):
        scaled = ts // 1_000
    else:
        scaled = ts / 1_000
    return scaled if isinstance(scaled, int) else round(scaled)


def number_of(micros: int) -> int | float:
    """A number that `from_number` reads as this time: nanoseconds, or seconds where those would be taken for less.

    >>> [from_number(number_of(micros)) for micros in (5, 10**14 - 1, 10**14, 10**20)]
    [5, 99999999999999, 100000000000000, 100000000000000000000]
    """
    return micros * 1_000 if micros >= _MILLISECONDS_BELOW else micros / 1_000_000


def from_numbers(ts: Ints | Floats) -> Ints:
    """As `from_number` for each of an array: int64, or float64 from 0 to below 1e17."""
    whole = ts.dtype == np.int64
    scaled = np.where(
        ts < _SECONDS_BELOW,
        np.minimum(ts, _SECONDS_BELOW) * 1_000_000,
        np.where(ts < _MILLISECONDS_BELOW, np.minimum(ts, _MILLISECONDS_BELOW) * 1_000, ts),
    )
    if not whole:
        return np.rint(scaled).astype(np.int64)
    return np.where(ts < _MICROSECONDS_BELOW, scaled, ts // 1_000)


def from_text(text: str) -> int:
    """Microseconds of RFC 3339 text, cut to the microsecond; 0 or less where it is no time after the epoch.

    `T` and `Z` may be lower case, `T` may be a space, a fraction may have any length. An offset is required. A leap
    second (23:59:60 UTC) is the second after it.

    >>> from_text("2023-11-14T22:13:20.000000999Z"), from_text("2023-11-15t00:13:20+02:00")
    (1700000000000000, 1700000000000000)
    >>> from_text("2023-11-14T22:13:20"), from_text("yesterday")
    (0, 0)
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return 0
    day, clock, second, fraction, sign, hours, minutes = match.groups()
    start = _minute(day, clock)
    seconds = int(second)
    if start is None or seconds > 60:
        return 0
    if sign is not None:
        if hours > "23" or minutes > "59":
            return 0
        offset = int(hours) * 3600 + int(minutes) * 60
        start += offset if sign == "-" else -offset
    if seconds == 60 and start % _DAY_SECONDS != _DAY_SECONDS - 60:
        return 0
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return (start + seconds) * 1_000_000 + micros


def _minute(day: str, clock: str) -> int | None:
    """Seconds since the epoch at the start of a minute; None where there is no such minute. Cached: times cluster."""
    known = _minutes.get((day, clock))
    if known is not None:
        return known
    try:
        start = int((datetime.fromisoformat(f"{day}T{clock}Z") - _EPOCH).total_seconds())
    except ValueError:
        return None
    if len(_minutes) >= _CACHED_MINUTES:
        _minutes.clear()
    _minutes[day, clock] = start
    return start


def record_times(timestamps_ms: Sequence[int], wall_us: int, max_future_us: int) -> tuple[Ints, Ints, Ints]:
    """What a batch's own timestamps say, each int64[n] in microseconds: (claimed, horizon, kept).

    `claimed` is the time of an event that states none: the record's own, 0 where it has none (≤ 0), and somewhere
    beyond its horizon where it is too far ahead (no overflow, whatever the timestamp). `horizon` is the latest time
    an event may have: `max_future_us` after the earlier of the record's own time and the wall clock. `kept` is the
    record's time as it goes on: at most the wall clock, since panes are dropped by it that the export may still show;
    the wall clock too where there is none.
    """
    limit = wall_us + max_future_us
    own = np.asarray(timestamps_ms, dtype=np.int64)
    claimed = np.clip(own, 0, limit // 1_000 + 1) * 1_000
    known = np.where(claimed > 0, claimed, wall_us)
    return claimed, np.minimum(known, wall_us) + max_future_us, np.minimum(known, wall_us)
