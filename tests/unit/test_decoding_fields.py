"""Where an event's fields are in a message."""

from __future__ import annotations

from typing import Any

import pytest

from msemon.decoding.fields import WRONG, Layout, parse_path
from msemon.events import Reason
from support.decoding import decode, decoder, reason

NESTED = {
    "id": "request.id",
    "model": "request.meta.model",
    "version": r"request.meta.model\.version",
    "prediction": "out.value",
    "segments": "request.context",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id", ("id",)),
        ("a.b.c", ("a", "b", "c")),
        (r"a\.b.c", ("a.b", "c")),
        (r"a\\.b", ("a\\", "b")),
        ("ä ö", ("ä ö",)),
    ],
)
def test_a_path_is_names_between_dots(text: str, expected: tuple[str, ...]) -> None:
    """A backslash takes the meaning from a dot or another backslash."""
    assert parse_path(text) == expected


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a\\", r"a\b"])
def test_a_bad_path_is_refused(text: str) -> None:
    """Empty names and stray backslashes are mistakes, and named."""
    with pytest.raises(ValueError, match="path"):
        parse_path(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "a", "model": "a.b"},
        {"id": "a.b", "model": "a"},
        {"id": "x", "model": "x"},
        {"id": "model"},
        {"id": "label.id"},
        {"model": "segments.model"},
    ],
)
def test_paths_in_each_others_way_are_refused(fields: dict[str, str]) -> None:
    """Two fields can't have one place, nor can one be inside the other; defaults count too."""
    with pytest.raises(ValueError, match="a place of its own"):
        decoder(fields=fields)


def test_an_unknown_name_is_refused() -> None:
    """Only an event's own names can be mapped."""
    with pytest.raises(ValueError, match="country"):
        decoder(fields={"country": "geo.country"})


def test_names_can_be_swapped() -> None:
    """A place whose owner moved away is free."""
    swapped = {"prediction": "r1", "id": 2.0, "model": "m"}
    assert decode(swapped, fields={"id": "prediction", "prediction": "id"}).predictions.ids == [b"r1"]


def test_nested_fields_are_found() -> None:
    """Every field comes from its path, through shared and separate objects."""
    decoded = decode(
        {
            "request": {
                "id": "r1",
                "meta": {"model": "m", "model.version": 7},
                "context": {"country": "de", "tier": 2},
            },
            "out": {"value": 2.5, "other": [1]},
            "ts": 1_732_259_000,
        },
        fields=NESTED,
    )
    assert decoded.predictions.ids == [b"r1"]
    assert decoded.predictions.keys == [("m", "7", "de", "2")]
    assert decoded.predictions.values.tolist() == [2.5]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"id": "r1"}, Reason.MISSING_FIELD),
        ({"id": "r1", "meta": None}, Reason.MISSING_FIELD),
        ({"id": "r1", "meta": {}}, Reason.MISSING_FIELD),
        ({"id": "r1", "meta": 5}, Reason.WRONG_TYPE),
        ({"id": "r1", "meta": ["model"]}, Reason.WRONG_TYPE),
        (None, Reason.MISSING_FIELD),
        ("r1", Reason.WRONG_TYPE),
        ({"id": "r1", "meta": {"model": "m"}}, None),
        ({"id": "r1", "meta": {"model": "m"}, "context": None}, None),
        ({"id": "r1", "meta": {"model": "m"}, "context": "de"}, Reason.WRONG_TYPE),
    ],
)
def test_a_path_that_leads_nowhere(request_: Any, expected: Reason | None) -> None:
    """Through null or a missing object there is nothing; through anything else the type is wrong."""
    assert reason({"request": request_, "out": {"value": 1}}, fields=NESTED) == expected


@pytest.mark.parametrize("name", ['with "quotes"', "back\\\\slash", "tab\there", "ünï", "m0", "__class__"])
def test_any_member_name_can_be_read(name: str) -> None:
    """Names that the quick parser can't take are read all the same."""
    member = parse_path(name)[0]
    decoded = decode({member: "r1", "label": 1, "segments": {name: "x"}}, fields={"id": name}, segment_keys=(name,))
    assert decoded.labels.ids == [b"r1"]
    decoded = decode({"id": "r", "model": "m", "prediction": 1, "segments": {name: "x"}}, segment_keys=(name,))
    assert decoded.predictions.keys == [("m", "", "x")]


def test_find_marks_what_is_no_object() -> None:
    """Segments that are no object are told apart from none."""
    layout = Layout({}, ("country",))
    assert layout.find({"segments": 5}).segments is WRONG
    assert layout.find({"segments": None}).segments is None
    assert layout.find({}).segments is None
    assert layout.find({"segments": {"tier": 1}}).segments == (None,)


def test_the_usual_layouts_have_a_quick_way() -> None:
    """Flat and nested layouts are compiled, or decoding would take five times as long unnoticed."""
    assert Layout({}, ("country", "tier")).quick is not None
    assert Layout(NESTED, ("country", "a.b", "")).quick is not None
