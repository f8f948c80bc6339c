"""docs/sizing.md and the pages that repeat it reckon as the join does."""

from __future__ import annotations

import re

from msemon.core.shape import Shape, Window
from msemon.core.task import Task
from msemon.settings import Settings
from support.compose import ROOT
from support.events import SECOND, decoded, labelled, predicted

PAGE = " ".join((ROOT / "docs" / "sizing.md").read_text(encoding="utf-8").split())
START = 1_700_000_000 * SECOND
STEP_S, DELAY_S, RUN_S = 60, 3_600, 7_200


def held() -> tuple[int, int]:
    """Entries that wait and that are remembered: of a prediction a second, labels an hour late, by the defaults."""
    join = Settings().join
    windows = (Window("1h", 60 * SECOND, 60),)
    timeout, memory = (round(float(span) * SECOND) for span in (join.timeout, join.memory))
    task = Task(0, ["p", "l"], Shape(windows, True, (), (), timeout, memory), b"key")
    for begin in range(0, RUN_S, STEP_S):
        times = range(begin, begin + STEP_S)
        made = [predicted(START + at * SECOND, str(at), 1.0, ("m", "")) for at in times]
        came = [labelled(START + at * SECOND, str(at - DELAY_S)) for at in times if at >= DELAY_S]
        task.apply("p", decoded(made, begin), begin + STEP_S)
        task.apply("l", decoded(came, begin), begin + STEP_S)
    return sum(store.waiting for store in task.join.stores), sum(store.remembered for store in task.join.stores)


def test_the_example_of_entries_is_what_the_join_holds() -> None:
    said = re.search(
        r"1,000 predictions a second whose labels take an hour: ([\d.]+) million that wait and, .*?, "
        r"([\d.]+) million that are remembered, ([\d.]+) million together",
        PAGE,
    )
    assert said is not None
    waiting, remembered, together = (float(number) for number in said.groups())
    first = 1  # the second with which the memory begins
    assert held() == (round(waiting * 1000), round(remembered * 1000) + 2 * first)
    assert together == round(waiting + remembered, 1)
    assert together * 1e6 < Settings().join.max_pending


def test_every_page_reckons_entries_alike() -> None:
    for name in ("README.md", "docs/sizing.md", "docs/runbooks/MsemonEntriesEvicted.md"):
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert "labels and matched predictions a second ×" in text, name
