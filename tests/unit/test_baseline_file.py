"""The baseline file: what may stand in it, and when it is read anew."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from msemon.baseline_file import BadFile, BaselineFile, Entry, parsed, written
from msemon.core.baseline import Baseline
from msemon.core.view import SeriesKey
from msemon.core.watch import ANY, given_of

ENTRY = {"model": "price", "mse": 4.0}


def data(*entries: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"format": 1, "baselines": list(entries)} | more).encode()


def test_model_and_mse_are_enough() -> None:
    """Then the MSE is its own bound, and the entry is for every version."""
    given = parsed(data(ENTRY), 1.1)
    assert given == {SeriesKey("price", ANY): Baseline(4.0, 4.0, 0)}
    assert given_of(given, SeriesKey("price", "7")) == Baseline(4.0, 4.0, 0)
    assert given_of(given, SeriesKey("price", "7", "country", "FR")) is None
    assert given_of(given, SeriesKey("cost", "7")) is None


def test_an_entry_of_a_version_goes_before_one_of_all() -> None:
    """Also where that version is the empty text."""
    given = parsed(data(ENTRY, ENTRY | {"version": "", "mse": 5.0}), 1.1)
    assert [given_of(given, SeriesKey("price", v)).mse for v in ("", "1")] == [5.0, 4.0]  # type: ignore[union-attr]


def test_everything_that_may_be_said_is_taken() -> None:
    """A variance ratio above 1 lowers the stake."""
    entry = ENTRY | {
        "version": "7", "dimension": "country,tier", "segment": "FR,gold", "upper_mse": 4.5, "pairs": 1000,
        "mean_weight": 2.0, "variance_ratio": 2.0, "cv": 1.0,
    }  # fmt: skip
    given = parsed(data(entry), 1.1)
    (key, baseline), *rest = given.items()
    assert (key, rest) == (SeriesKey("price", "7", "country,tier", "FR,gold"), [])
    assert astuple(baseline) == pytest.approx((4.0, 4.5, 1000, 2.0, 0.275))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (data(format=2), "format 2: expected 1"),
        (data(ENTRY, other=1), "unknown field `other`"),
        (data(ENTRY | {"mes": 1}), "unknown field `mes`"),
        (data({"model": "price"}), "missing required field `mse`"),
        (data(ENTRY | {"mse": "4"}), "Expected `float`"),
        (data(ENTRY | {"mse": 0}), "mse: expected a finite number above 0"),
        (data(ENTRY | {"upper_mse": 3.9}), "upper_mse: expected"),
        (data(ENTRY | {"mean_weight": 0}), "mean_weight: expected"),
        (data(ENTRY | {"pairs": -1}), "pairs: expected"),
        (data(ENTRY | {"pairs": 10**400}), "pairs: expected"),
        ('{"format": 1, "baselines": [{"model": "café", "mse": 1}]}'.encode("latin-1"), "utf-8"),
        (data(ENTRY | {"segment": "FR"}), "both or neither"),
        (data(ENTRY | {"variance_ratio": 2}), "cv: expected where"),
        (data(ENTRY | {"variance_ratio": -1}), "variance_ratio: expected"),
        (data(ENTRY | {"cv": 0}), "cv: expected"),
        (data(ENTRY, ENTRY), r"baselines\[1\] \(price\): a second entry"),
    ],
)
def test_what_is_wrong_is_named(content: bytes, text: str) -> None:
    with pytest.raises(BadFile, match=text):
        parsed(content, 1.1)


def test_a_written_file_reads_back() -> None:
    entries = [Entry("a", 1.0, "1", "country", "FR", 1.5, 10, 2.0, 1.2, 1.4), Entry("b", 2.0)]
    assert parsed(written(entries), 1.1) == {entry.key: entry.baseline(1.1) for entry in entries}


def test_a_file_is_read_when_it_changes(tmp_path: Path) -> None:
    """Once a change, also where the change is for the worse; a file that is gone is one change too."""
    path = tmp_path / "baselines.json"
    path.write_bytes(data(ENTRY))
    file = BaselineFile(str(path), 1.1)
    assert file.changed() == {SeriesKey("price", ANY): Baseline(4.0, 4.0, 0)}
    assert file.changed() is None
    path.write_bytes(b"{")
    with pytest.raises(BadFile):
        file.changed()
    assert file.changed() is None
    path.unlink()
    with pytest.raises(BadFile, match="No such file"):
        file.changed()
    assert file.changed() is None
    other = tmp_path / "other.json"
    other.write_bytes(data(ENTRY | {"mse": 5.0}))
    other.replace(path)
    assert file.changed() == {SeriesKey("price", ANY): Baseline(5.0, 5.0, 0)}


def test_a_file_that_cannot_be_read_is_told_once_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "baselines.json"
    path.mkdir()  # there, but nothing to read, as with a missing right
    file = BaselineFile(str(path), 1.1)
    with pytest.raises(BadFile):
        file.changed()
    assert [file.changed(), file.changed()] == [None, None]
    path.rmdir()
    path.write_bytes(data(ENTRY))
    assert file.changed() == {SeriesKey("price", ANY): Baseline(4.0, 4.0, 0)}
