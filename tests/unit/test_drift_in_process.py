"""Baselines, alarms and recovery through tasks and a process."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msemon.core import drift, keeping
from msemon.core.alarms import Change
from msemon.core.baseline import Baseline
from msemon.core.evidence import Evidence, Share
from msemon.core.panes import Block
from msemon.core.process import Process
from msemon.core.task import Task
from msemon.core.view import SeriesKey
from msemon.core.watch import ANY
from support.drifting import SECOND, SHAPE, START_S, Stream, pairs_of, shaped
from support.events import decoded, paired

MSE, UPPER, PAIRS, EVIDENCE, THRESHOLD, ACTIVE, ALARMS = range(7)


def copied(task: Task, shape=SHAPE) -> tuple[Task, list[str]]:
    """The task after a restart."""
    keeping.touch(task)
    return keeping.restored(task.partition, ["t"], shape, keeping.snapshot(task).changed)


def test_while_learning_only_the_pairs_are_there() -> None:
    """Afterwards all is, for the model and its segment, and nothing is NaN or infinite."""
    stream = Stream(rate=19)
    stream.run(10)
    for key in (("m", "1", "", ""), ("m", "1", "country", "FR")):
        row = stream.gauges(key)
        assert row[PAIRS] == 190
        assert np.isnan(np.delete(row, PAIRS)).all()
    stream.run(1)
    for key in (("m", "1", "", ""), ("m", "1", "country", "FR")):
        row = stream.gauges(key)
        assert np.isfinite(row).all()
        assert row[PAIRS] == 200
        assert 0 < row[MSE] < row[UPPER]
        assert (row[ACTIVE], row[ALARMS]) == (0.0, 0.0)
        assert row[THRESHOLD] == pytest.approx(math.log(365 * 86400 * 2))


def test_evidence_of_a_pane_that_went_and_came_back_is_another() -> None:
    """As a lagging series' pane that only others had been in before."""
    task = Task(0, ["t"], SHAPE, b"key")
    ring = task.watch.rings[0]
    evidence, share = Evidence(SHAPE), Share(task, np.array([0]))
    ever = [np.zeros(1, np.int64) for _ in SHAPE.windows]

    def won(sums: float) -> object:
        for number in range(5):
            ring[number] = Block(drift.K, np.float32)
            rows = ring[number].rows(np.array([0]))  # first, for it may replace the data
            ring[number].data[:, rows] = sums
        return evidence.owned([share], ever, np.zeros(1, np.int64))[0][:, 0].tolist()

    assert won(1.0) != won(2.0) == Evidence(SHAPE).owned([share], ever, np.zeros(1, np.int64))[0][:, 0].tolist()


def test_partitions_that_are_anothers_raise_the_threshold() -> None:
    """Also those that came after the group began: the promise is for all of them together."""
    stream = Stream(rate=20)
    stream.process.partitions = 8
    stream.run(11)
    assert stream.gauges()[THRESHOLD] == pytest.approx(math.log(365 * 86400 * 2 * 8))


def test_drift_alarms_once_and_recovers() -> None:
    """Gauges and changes tell when; an alarm stands while the drift lasts, and evidence begins anew after it."""
    stream = Stream()
    stream.run(60)
    stream.run(200, rmse=2.0)
    assert [active for _, active in stream.alarms] == [True]
    assert 60 < stream.alarms[0][0] < 75
    assert stream.gauges()[[ACTIVE, ALARMS]].tolist() == [1.0, 1.0]
    stream.run(120)
    assert [active for _, active in stream.alarms] == [True, False]
    assert 260 < stream.alarms[1][0] < 300
    row = stream.gauges()
    assert row[[ACTIVE, ALARMS]].tolist() == [0.0, 1.0]
    assert row[EVIDENCE] < row[THRESHOLD]
    stream.run(60, rmse=2.0)
    assert [active for _, active in stream.alarms] == [True, False, True]


def test_an_alarm_says_what_matters() -> None:
    """The likeliest start is when the drift began, and the MSE is of what came since."""
    stream = Stream()
    stream.run(60)
    changes: list[Change] = []
    while not changes:
        errors = stream.rng.normal(size=20) * 3.0
        stream.process.apply(0, "t", pairs_of(errors, stream.now_s + np.arange(20) / 20), 0, stream.wall_us)
        stream.now_s += 1
        changes = stream.process.look(stream.wall_us)
    change = next(change for change in changes if not change.key.dimension)
    assert change.active
    assert abs(change.since_us / SECOND - START_S - 60) <= 1
    assert change.mse_lower < 9.0 < change.mse_upper
    assert change.mse > change.baseline_upper_mse
    assert change.evidence >= change.threshold
    assert change.max_absolute_error > 3.0


@pytest.mark.parametrize("tasks", [1, 4])
def test_tasks_add_up(tasks: int) -> None:
    """Pairs spread over tasks are as much evidence as in one."""
    stream = Stream(tasks=tasks, rate=40 // tasks)
    stream.run(60)
    stream.run(20, rmse=2.0)
    assert [active for _, active in stream.alarms] == [True]
    assert stream.alarms[0][0] < 72
    assert stream.gauges()[PAIRS] == 200 * tasks


def test_an_alarm_is_found_again_after_a_restart() -> None:
    """Another process with the same state has the same alarm on, or over, though it never saw the beginning."""
    stream = Stream(shape=shaped(windows=(SHAPE.windows[1],)))
    shape = stream.process.shape
    stream.run(100)
    stream.run(60, rmse=2.0)
    for calm, active in ((10, 1.0), (200, 0.0)):
        stream.run(calm)
        other = Process(["t"], shape, lambda: bytes(16))
        other.adopt(copied(stream.task, shape)[0])
        changes = other.look(stream.wall_us)
        assert [c for c in changes if c.active] == []
        view = other.view(stream.wall_us)
        assert view.models.drift[ACTIVE].tolist() == [active]
        assert stream.gauges()[ACTIVE] == active


def test_baselines_and_sums_come_back_with_the_state() -> None:
    """Learnt, being learnt, and kept of an ended series alike; evidence goes on from the same panes."""
    stream = Stream()
    stream.run(30)
    stream.run(5, key=("m", "1", "DE"))
    stream.run(3, rmse=1.6)
    other = Process(["t"], SHAPE, lambda: bytes(16))
    task, dropped = copied(stream.task)
    other.adopt(task)
    other.look(stream.wall_us)
    assert dropped == []
    ours, theirs = stream.process.view(stream.wall_us), other.view(stream.wall_us)
    assert ours.models.keys == theirs.models.keys
    np.testing.assert_array_equal(ours.models.drift, theirs.models.drift)
    order = [theirs.segments.keys.index(key) for key in ours.segments.keys]
    np.testing.assert_array_equal(ours.segments.drift, theirs.segments.drift[:, order])


def test_another_tolerated_ratio_drops_the_evidence_alone() -> None:
    """Baselines and windows stay, and what was dropped is said."""
    stream = Stream()
    stream.run(30)
    task, dropped = copied(stream.task, shaped(tolerated_ratio=1.5))
    assert dropped == ["the evidence of drift: drift.tolerated_ratio is another"]
    assert not task.incomplete, "windows and join lack nothing"
    assert task.watch.rings == [{}, {}]
    assert task.watch.watched(2).upper.tolist() == stream.task.watch.watched(2).upper.tolist()
    assert len(task.windows.rings[0]) == 30


def test_a_state_without_baselines_is_taken() -> None:
    """What an older version left is restored, and learns."""
    stream = Stream()
    stream.run(30)
    keeping.touch(stream.task)
    changed = keeping.snapshot(stream.task).changed
    pieces = {name: piece for name, piece in changed.items() if name[0] not in ("baselines", "sums")}
    task, dropped = keeping.restored(0, ["t"], SHAPE, pieces)
    assert dropped == []
    assert not task.watch.watched(2).upper.any()


def test_a_given_baseline_counts_from_the_first_pair() -> None:
    """For each version it names or does not name; a changed entry begins anew, a removed one learns."""
    stream = Stream()
    given = {SeriesKey("m", ANY): Baseline(1.0, 1.0, 7)}
    assert stream.process.give(given) == []
    stream.run(1)
    row = stream.gauges()
    assert row[[MSE, UPPER, PAIRS]].tolist() == [1.0, 1.0, 7.0]
    stream.run(30, rmse=1.5)
    assert stream.gauges()[ACTIVE] == 1.0
    assert stream.process.give(given) == []
    assert stream.process.give({SeriesKey("m", "1"): Baseline(2.25, 2.25, 7)}) == [SeriesKey("m", "1")]
    stream.look()
    assert stream.gauges()[EVIDENCE] == 0.0
    assert stream.process.give({}) == [SeriesKey("m", "1")]
    stream.look()
    assert np.isnan(stream.gauges()[MSE])
    stream.run(15)
    assert stream.gauges()[PAIRS] == 200


def test_a_new_version_is_judged_by_the_one_before() -> None:
    """It alarms at once if it is worse; what it learns itself counts only where it is lower."""
    stream = Stream()
    stream.run(30)
    old = stream.gauges()
    stream.run(1, key=("m", "2", "FR"))
    assert stream.gauges(("m", "2", "", ""))[[MSE, UPPER]].tolist() == old[[MSE, UPPER]].tolist()
    stream.run(30, rmse=2.0, key=("m", "2", "FR"))
    row = stream.gauges(("m", "2", "", ""))
    assert row[[MSE, UPPER]].tolist() == old[[MSE, UPPER]].tolist()
    assert row[ACTIVE] == 1.0
    stream.run(30, rmse=0.5, key=("m", "3", "FR"))
    assert stream.gauges(("m", "3", "", ""))[MSE] == pytest.approx(0.25, rel=0.4)
    assert stream.gauges(("m", "3", "", ""))[ACTIVE] == 0.0


def test_a_worse_version_is_adopted_only_where_asked() -> None:
    stream = Stream(shape=shaped(adopt=("m",)))
    stream.run(30)
    stream.run(30, rmse=2.0, key=("m", "2", "FR"))
    assert stream.gauges(("m", "2", "", ""))[MSE] == pytest.approx(4.0, rel=0.4)


def test_other_has_no_detector() -> None:
    """Neither a baseline nor evidence, however long it goes on."""
    stream = Stream(shape=shaped(series_limit=1))
    stream.run(1)
    stream.run(30, key=("m", "1", "DE"))
    assert np.isnan(stream.gauges(("m", "1", "country", "__other__"))).all()
    assert np.isfinite(stream.gauges()).all()


def test_other_has_none_either_where_only_the_process_folds() -> None:
    """Each task has room for its one segment, all of them together have not."""
    process = Process(["t"], shaped(total_series_limit=1), lambda: b"key")
    for partition in range(3):
        process.start(partition)
    process.give({SeriesKey("m", ANY, "country", segment): Baseline(1.0, 1.0, 10) for segment in "abc"})
    for second in range(START_S, START_S + 60):
        for partition, segment in enumerate("abc"):
            pair = paired(second * SECOND, 5.0, key=("m", "", segment))
            process.apply(partition, "t", decoded([pair]), second, second * SECOND)
    process.look((START_S + 60) * SECOND)
    table = process.view((START_S + 60) * SECOND).segments
    drift = {key.segment: row for key, row in zip(table.keys, table.drift.T, strict=True)}
    assert drift["a"][ACTIVE] == 1.0
    assert np.isnan(drift["__other__"]).all()


def test_a_series_that_comes_back_has_its_baseline() -> None:
    """It is kept 30 days, and forgotten then."""
    stream = Stream()
    stream.run(30)
    kept = stream.gauges(("m", "1", "country", "FR"))[[MSE, UPPER, PAIRS]].tolist()
    stream.now_s += 2000
    stream.run(1, key=("m", "1", "DE"))
    assert SeriesKey("m", "1", "country", "FR") in stream.task.watch.kept
    stream.run(1)
    assert stream.gauges(("m", "1", "country", "FR"))[[MSE, UPPER, PAIRS]].tolist() == kept
    assert not stream.task.watch.kept
    stream.now_s += 2000
    stream.run(1, key=("m", "1", "DE"))
    stream.now_s += 31 * 86_400
    stream.run(1, key=("m", "1", "DE"))
    stream.run(1)
    assert stream.gauges(("m", "1", "country", "FR"))[PAIRS] == 20


def test_however_many_series_come_and_go_what_is_kept_of_them_is_bounded() -> None:
    stream = Stream(shape=shaped(total_series_limit=3))
    for number in range(10):
        stream.run(30, key=("m", "1", f"S{number}"))
        stream.now_s += 2000
    stream.run(1, key=("m", "1", "DE"))
    watch = stream.task.watch
    assert [key.segment for key in watch.kept if key.segment] == ["S8", "S9"]
    assert len(watch._versions) == 4, (
        "those, the segment that is there, and the model, which was the third of those kept"
    )


def test_a_checkpoint_writes_what_ended_only_when_that_changes() -> None:
    """Learning goes on all the time, and must not cost what thirty days of ended series cost."""
    stream = Stream()
    stream.run(5)
    stream.now_s += 2000
    stream.run(5, key=("m", "1", "DE"))
    assert ("kept",) in keeping.snapshot(stream.task).changed
    stream.run(5, key=("m", "1", "DE"))
    changed = keeping.snapshot(stream.task).changed
    assert ("baselines",) in changed
    assert ("kept",) not in changed


def test_drift_can_be_switched_off() -> None:
    """Baselines are learnt all the same."""
    stream = Stream(shape=shaped(drift=False))
    stream.run(30)
    stream.run(30, rmse=3.0)
    row = stream.gauges()
    assert np.isfinite(row[[MSE, UPPER, PAIRS]]).all()
    assert np.isnan(row[[EVIDENCE, THRESHOLD, ACTIVE, ALARMS]]).all()
    assert stream.task.watch.rings == [{}, {}]


def test_an_alarm_with_too_few_pairs_ends_with_the_window() -> None:
    """When nothing comes any more that could be judged."""
    stream = Stream()
    stream.run(60)
    stream.run(10, rmse=3.0)
    assert stream.gauges()[ACTIVE] == 1.0
    for _ in range(70):
        stream.now_s += 9
        stream.run(1, rmse=3.0, rate=0)
        errors = stream.rng.normal(size=1)
        if stream.now_s % 30 < 10:
            stream.process.apply(0, "t", pairs_of(errors, [stream.now_s]), 0, stream.wall_us)
    assert [active for _, active in stream.alarms] == [True, False]


def test_a_block_is_judged_at_the_latest_when_it_leaves_the_longest_window() -> None:
    """After a drift of outliers a block would have to be longer than what comes in ten minutes now."""
    stream = Stream()
    stream.run(60)
    errors = np.where(np.arange(400) % 50 == 25, 40.0, 1.0)
    stream.process.apply(0, "t", pairs_of(errors, 60 + np.arange(400) / 20), 0, stream.wall_us)
    stream.now_s += 20
    stream.look()
    assert [active for _, active in stream.alarms] == [True]
    for _ in range(180):
        stream.now_s += 9
        stream.run(1, rate=1)
    assert [active for _, active in stream.alarms] == [True, False]
    assert 80 + 2 * 600 <= stream.alarms[1][0] < 80 + 3 * 600


def test_late_pairs_count_where_they_belong() -> None:
    """Late errors are evidence of the time they are of, and the same evidence in whichever order they come."""
    results = []
    for late in (False, True):
        stream = Stream(seed=3)
        stream.run(60)
        errors = stream.rng.normal(size=200) * 1.4
        seconds = 60 + np.arange(200) / 20
        order = np.random.default_rng(1).permutation(200) if late else np.arange(200)
        for part in np.split(order, 4):
            stream.process.apply(0, "t", pairs_of(errors[part], seconds[part]), 0, stream.wall_us)
        stream.now_s += 10
        stream.look()
        results.append(stream.gauges()[EVIDENCE])
    assert results[0] > 1.0
    assert results[1] == pytest.approx(results[0], rel=1e-4)


def test_without_the_lease_only_counted_alarms_are_there() -> None:
    stream = Stream()
    stream.run(60)
    stream.run(20, rmse=3.0)
    view = stream.process.view(stream.wall_us, owned=False)
    assert np.isnan(view.models.drift[:ALARMS]).all()
    assert view.models.drift[ALARMS].tolist() == [1.0]
