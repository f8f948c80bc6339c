"""The README's picture."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from msemon.core.view import SeriesKey
from msemon.demo.picture import svg
from msemon.demo.table import Recent, render, rows
from support.views import view_of


def test_the_picture_is_xml_that_shows_the_table_and_fetches_nothing() -> None:
    view = view_of({SeriesKey("price", "1"): [(3.0, 0.0, 1.0)]})
    text = svg(render(rows(view, 0, Recent(15.0), 10), "5m", 15.0))
    shown = " ".join(ET.fromstring(text).itertext())
    assert "price" in shown
    assert "3.00" in shown
    assert "font-face" not in text
    assert not re.search(r"url\((?!#)", text)  # clip paths of its own are the only addresses
