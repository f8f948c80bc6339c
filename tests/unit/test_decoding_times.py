"""Times of events and records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from msemon.decoding.times import from_number, from_numbers, from_text, record_times

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        (1, 1_000_000),
        (99_999_999_999, 99_999_999_999_000_000),
        (100_000_000_000, 100_000_000_000_000),
        (99_999_999_999_999, 99_999_999_999_999_000),
        (100_000_000_000_000, 100_000_000_000_000),
        (99_999_999_999_999_999, 99_999_999_999_999_999),
        (100_000_000_000_000_000, 100_000_000_000_000),
        (1_732_259_000_123_456_789, 1_732_259_000_123_456),
        (2**63 - 1, (2**63 - 1) // 1_000),
        (10**70, 10**67),
        (1_732_259_000.123, 1_732_259_000_123_000),
        (1_732_259_000.123456, 1_732_259_000_123_456),
        (1_732_259_000_123.5, 1_732_259_000_123_500),
        (1e-7, 0),
        (0, 0),
    ],
)
def test_the_unit_of_a_number_follows_from_its_size(ts: float, expected: int) -> None:
    """Seconds, milliseconds, microseconds, nanoseconds; integers exactly, floats to the nearest microsecond."""
    assert from_number(ts) == expected


@pytest.mark.parametrize("ts", [-1, -0.5, -(10**70), -1e75, 0, -0.0])
def test_no_number_at_or_below_zero_is_a_time(ts: float) -> None:
    """What is not after the epoch stays ≤ 0, which is refused."""
    assert from_number(ts) <= 0


def test_arrays_of_numbers_are_read_as_each_of_them() -> None:
    """Whole columns give what single numbers give, on both sides of each bound and where floats need rounding."""
    whole = [*range(10), 2**63 - 1]
    for power in (11, 14, 17):
        whole += [10**power + step for step in (-1_999, -1, 0, 1, 1_999)]
    assert from_numbers(np.array(whole)).tolist() == [from_number(ts) for ts in whole]
    floats = [float(ts) for ts in whole if float(ts) < 1e17]
    floats += [1_732_259_000 + i / 997 for i in range(997)] + [1_732_259_000_000 + i / 997 for i in range(997)]
    assert from_numbers(np.array(floats)).tolist() == [from_number(ts) for ts in floats]


@pytest.mark.parametrize(
    "text",
    [
        "2024-11-22T07:03:20Z",
        "2024-11-22t07:03:20z",
        "2024-11-22 07:03:20Z",
        "2024-11-22T07:03:20+00:00",
        "2024-11-22T07:03:20-00:00",
        "2024-11-22T09:33:20+02:30",
        "2024-11-21T23:03:20-08:00",
        "2024-11-22T07:03:20.0Z",
        "2024-11-22T07:03:20.000000999Z",
        "2024-11-22T07:03:20." + "0" * 100_000 + "Z",
    ],
)
def test_rfc_3339_in_all_its_forms(text: str) -> None:
    """Offsets, either case, a space, and fractions of any length."""
    assert from_text(text) == int(datetime(2024, 11, 22, 7, 3, 20, tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("fraction", "micros"), [("1", 100_000), ("12", 120_000), ("123456", 123_456), ("123456789", 123_456)]
)
def test_fractions_are_cut_to_the_microsecond(fraction: str, micros: int) -> None:
    """Digits beyond the sixth do not round up."""
    assert from_text(f"1970-01-01T00:00:01.{fraction}Z") == SECOND + micros


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1732259000",
        "2024-11-22",
        "2024-11-22T07:03:20",
        "2024-11-22T07:03Z",
        "20241122T070320Z",
        "2024-W47-5T07:03:20Z",
        "2024-11-22T07:03:20.Z",
        "2024-11-22T07:03:20,5Z",
        "2024-11-22T07:03:20+0100",
        "2024-11-22T07:03:20+24:00",
        "2024-11-22T07:03:20+01:60",
        "2024-11-22T24:00:00Z",
        "2024-11-22T07:60:00Z",
        "2024-11-22T07:03:61Z",
        "2024-11-22T07:03:60Z",
        "2024-02-30T07:03:20Z",
        "2024-13-01T07:03:20Z",
        "2024-11-22T07:03:20Z\n",
        " 2024-11-22T07:03:20Z",
        "0000-01-01T00:00:00Z",
        "٢٠٢٤-11-22T07:03:20Z",
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:30:00+01:00",
        "0001-01-01T00:00:00+23:59",
    ],
)
def test_anything_else_is_no_time(text: str) -> None:
    """No offset, other formats, days that do not exist, and nothing up to the epoch."""
    assert from_text(text) <= 0


def test_a_leap_second_is_the_second_after_it() -> None:
    """23:59:60 UTC, in any offset, is midnight."""
    midnight = from_text("2017-01-01T00:00:00Z")
    assert from_text("2016-12-31T23:59:60Z") == midnight
    assert from_text("2016-12-31T15:59:60.5-08:00") == midnight + 500_000


def test_the_last_year_does_not_overflow() -> None:
    """An offset may lead beyond the year 9999."""
    assert from_text("9999-12-31T23:59:59-23:59") == (253_402_300_799 + 23 * 3_600 + 59 * 60) * SECOND


def test_text_agrees_with_datetime() -> None:
    """A spread of moments and offsets, against the standard library."""
    for i in range(2_000):
        zone = timezone(timedelta(minutes=i % 1_439 - 719))
        moment = datetime(1971, 1, 1, tzinfo=UTC) + timedelta(seconds=i * 1_234_567, microseconds=i * 499)
        text = moment.astimezone(zone).isoformat()
        assert from_text(text) == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_record_times() -> None:
    """Own time, horizon and the time kept: for a usual record, an old one, one ahead, one far ahead and one without."""
    wall, ahead = 1_000_000_000, 5_000_000
    claimed, horizon, kept = record_times([999_999, 10, 1_004_000, 1_006_000, -1], wall, ahead)
    assert claimed[[0, 1, 2, 4]].tolist() == [999_999_000, 10_000, 1_004_000_000, 0]
    assert claimed[3] > horizon[3]
    assert horizon.tolist() == [1_004_999_000, 5_010_000, 1_005_000_000, 1_005_000_000, 1_005_000_000]
    assert kept.tolist() == [999_999_000, 10_000, 1_000_000_000, 1_000_000_000, 1_000_000_000]


@pytest.mark.parametrize("wild", [2**63 - 1, 253_402_300_799_000, -(2**63), -2, 0])
def test_wild_record_timestamps_do_not_overflow(wild: int) -> None:
    """The largest and the smallest timestamp a record can carry are beyond the horizon, or none."""
    wall = 1_732_260_000_000_000
    claimed, horizon, kept = record_times([wild], wall, 300_000_000)
    assert claimed[0] == 0 if wild <= 0 else claimed[0] > horizon[0]
    assert kept[0] == wall
