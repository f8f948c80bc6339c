"""Text that becomes label values."""

from __future__ import annotations

import pytest

from msemon.decoding.text import Keys, clean, segment_text


@pytest.mark.parametrize(
    "character", ["\x00", "\t", "\n", "\r", "\x1f", "\x7f", "\x80", "\x85", "\u2028", "\u2029", "\ud800"]
)
def test_what_can_break_a_line_or_a_scrape_is_replaced(character: str) -> None:
    """Control characters, line separators and lone surrogates become U+FFFD."""
    assert clean(f"a{character}b", 128) == "a\ufffdb"


@pytest.mark.parametrize("text", ["", " ", "Zürich", "東京", "😀", 'quote " brace } comma , backslash \\', "_one"])
def test_everything_else_stays_as_it_is(text: str) -> None:
    """Text without control characters is not touched; escaping is done where values are joined."""
    assert clean(text, 128) == text


@pytest.mark.parametrize(
    ("text", "expected"), [("__none__", "___none__"), ("__", "___"), ("___other__", "____other__")]
)
def test_two_leading_underscores_get_a_third(text: str, expected: str) -> None:
    """No user value can be equal to the names msemon gives itself."""
    assert clean(text, 128) == expected


def test_a_long_value_is_cut_to_the_limit_in_all() -> None:
    """The limit holds for the whole, which ends in ~ and eight hex digits."""
    cut = clean("x" * 129, 128)
    assert len(cut) == 128
    assert cut[:119] == "x" * 119
    assert cut[119] == "~"
    assert set(cut[120:]) <= set("0123456789abcdef")


def test_a_value_of_exactly_the_limit_is_not_cut() -> None:
    """Only what is longer than the limit is cut."""
    assert clean("x" * 128, 128) == "x" * 128


def test_a_prefix_that_takes_a_value_over_the_limit_cuts_it() -> None:
    """The added underscore counts."""
    assert len(clean("__" + "x" * 126, 128)) == 128


def test_long_values_that_differ_only_at_the_end_stay_apart() -> None:
    """The hash is of the whole text as it came, control characters included."""
    values = {clean("x" * 500 + end, 128) for end in ("a", "b", "\x00", "\x01", "\ud800")}
    assert len(values) == 5


def test_a_key_has_each_segment_as_text() -> None:
    """Booleans, integers and nothing become the texts they compare as."""
    assert Keys(4, 128).key("m", 3, (True, 1, None, "de")) == ("m", "3", "true", "1", "__none__", "de")


def test_a_key_without_segments_has_none_everywhere() -> None:
    """An event without segments belongs to the __none__ of every dimension."""
    assert Keys(2, 128).key("m", None, None) == ("m", "", "__none__", "__none__")


def test_true_and_one_are_not_mixed_up_by_the_cache() -> None:
    """True equals 1 in Python and must not here, whichever comes first and however often."""
    keys = Keys(1, 128)
    for _ in range(3):
        assert keys.key("m", "v", (1,))[2] == "1"
        assert keys.key("m", "v", (True,))[2] == "true"
        assert keys.key("m", "v", (0,))[2] == "0"
        assert keys.key("m", "v", (False,))[2] == "false"


def test_equal_keys_are_one_object() -> None:
    """What is kept per waiting prediction is a pointer, not a tuple of its own."""
    keys = Keys(1, 128)
    assert keys.key("m", "v", (str(b"de", "ascii"),)) is keys.key("m", "v", ("de",))


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of ever new values holds a bounded number of them, and none that is huge."""
    monkeypatch.setattr("msemon.decoding.text._CACHED_KEYS", 10)
    keys = Keys(1, 128)
    for i in range(100):
        assert keys.key("m", "v", (f"s{i}",))[2] == f"s{i}"
        assert len(keys.known) <= 10
    keys.known.clear()
    huge = "x" * 1_000_000
    for model, version, segment in [(huge, "v", "de"), ("m", huge, "de"), ("m", "v", huge)]:
        keys.key(model, version, (segment,))
        keys.target(model, version)
    assert not keys.known
    assert list(keys.targets) == [("m", "v")]


def test_segment_text_of_a_user_none() -> None:
    """A user's own "__none__" is another value than a missing one."""
    assert segment_text("__none__", 128) != segment_text(None, 128)
