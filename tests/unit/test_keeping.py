"""A task to pieces and back: what only shows once names have been renumbered."""

from __future__ import annotations

from dataclasses import replace

from msemon.core import keeping
from msemon.core.process import Process
from support.events import SECOND, Event, decoded, labelled, paired, predicted
from support.task_logs import LABELS, LONG, PREDICTIONS, START, shape

TOPICS = [PREDICTIONS, LABELS]


def test_rows_that_died_before_names_were_collected_do_not_stand_in_the_way_of_a_restore():
    process = Process(TOPICS, shape(True), lambda: b"key")
    task = process.start(0)
    gone = [predicted(START + i * SECOND, f"gone {i}", 1.0, key=("m", "", f"c{i}", "t")) for i in range(30)]
    left = [predicted(START + 200 * SECOND, f"left {i}", 1.0, key=("m", "", f"d{i}", "t")) for i in range(3)]
    process.apply(0, PREDICTIONS, decoded([*gone, *left]), 33, START)
    for turn in range(2):  # the timeout of the first ones passes on both topics
        process.apply(0, LABELS, decoded([labelled(START + 240 * SECOND, f"label {turn}")], turn), turn + 1, START)
    assert len(task.join.predictions) == 3
    task._collect_names()
    assert len(task.names.combos) == 3
    restored, dropped = keeping.restored(0, TOPICS, task.shape, keeping.snapshot(task).changed)
    assert not dropped
    rows = restored.join.predictions.live()
    kept = {restored.names.combos[combo] for combo in restored.join.predictions.ref[rows].tolist()}
    assert kept == {event.key for event in left}


def test_a_series_that_has_ended_does_not_stand_in_the_way_of_a_restore():
    """The youngest one of all, while a pane that it was in is still there for the sake of others."""
    process = Process(TOPICS, shape(True), lambda: b"key")
    task = process.start(0)
    late, early = (("late", "", "NL", "x"), ("early", "", "FR", "x"))

    def read(second: int, *events: Event) -> None:
        process.apply(0, PREDICTIONS, decoded(list(events)), second + 1, START + second * SECOND)

    def behind(second: int) -> Event:
        time = START + second * SECOND
        return replace(paired(time - LONG // 2, 1.0, key=late), record_time=time)

    read(0, behind(0), paired(START, 1.0, key=early))
    sids = [sid for sid, key in enumerate(task.series.keys) if key is not None and key.model == "early"]
    for second in range(20, 340, 20):
        read(second, behind(second))
    assert [task.series.keys[sid] for sid in sids] == [None] * 3
    assert max(sids) == len(task.series.keys) - 1
    restored, dropped = keeping.restored(0, TOPICS, task.shape, keeping.snapshot(task).changed)
    assert not dropped
    assert {key for key in restored.series.keys if key} == {key for key in task.series.keys if key}
