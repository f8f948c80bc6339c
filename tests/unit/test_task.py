"""A task moves on by batches: series begin, fold, end and return; nothing held grows without bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from msemon.core import moments, names, panes
from msemon.core.coverage import TOGETHER
from msemon.core.digest import Digests
from msemon.core.entries import REMEMBERED, WAITING
from msemon.core.index import Hits, Index, Rows
from msemon.core.join import Join, Joined, Side
from msemon.core.panes import Block
from msemon.core.shape import Shape, Window
from msemon.core.task import NEVER, Outcome, Task
from msemon.core.view import SeriesKey
from msemon.events import Key, Reason
from support.events import SECOND, Event, decoded, labelled, paired, predicted
from support.windows import covered, merged

START = 1_700_000_000 * SECOND
DAY = 86_400 * SECOND
WINDOWS = (Window("1m", SECOND, 60), Window("1h", 60 * SECOND, 60))
HOUR = 3600 * SECOND
SHAPE = Shape(WINDOWS, True, ("country",), ((0,),), DAY, 600 * SECOND)


class Fed:
    """A task of two topics and the offsets it stands at."""

    def __init__(self, shape: Shape = SHAPE) -> None:
        self.task = Task(0, ["p", "l"], shape, b"key")
        self._offsets = {"p": 0, "l": 0}

    def __call__(self, topic: str, *events: Event) -> Outcome:
        first = self._offsets[topic]
        self._offsets[topic] += len(events)
        return self.task.apply(topic, decoded(events, first), self._offsets[topic])

    def sid(self, key: SeriesKey) -> int:
        return self.task.series.keys.index(key)

    def pairs(self, key: SeriesKey, ring: int = 1) -> float:
        now = self.task.now(0)[self.task.series.total_of]
        return float(merged(self.task.windows, ring, self.task.oldest(ring, now))[moments.N, self.sid(key)])


def at(seconds: float, error: float = 1.0, country: str = "NL", model: str = "m") -> Event:
    return paired(START + round(seconds * SECOND), error, 0.0, (model, "", country))


def test_an_empty_batch_moves_only_the_offset():
    fed = Fed()
    outcome = fed.task.apply("p", decoded([]), 17)
    assert fed.task.offsets == {"p": 17}
    assert (outcome.pairs, outcome.rejections, len(outcome.sids)) == (0, [], 0)
    assert fed.task.clocks == {"p": NEVER, "l": NEVER}


def test_clocks_follow_the_log_over_all_kinds_of_a_batch():
    fed = Fed()
    key: Key = ("m", "", "NL")
    fed("l", labelled(START + 100 * SECOND, "far"))
    # the row between moves the clock beyond what the label of row 2 may be answered at
    batch = [predicted(START, "a", 1.0, key), paired(START + 2 * DAY, 1.0, 0.0, key), labelled(START, "a")]
    assert fed("p", *batch).matched == 0
    assert Fed()("p", batch[0], batch[2], batch[1]).matched == 1
    assert fed.task.clocks == {"p": START + 2 * DAY, "l": START + 100 * SECOND}


def test_a_prediction_and_its_label_make_a_pair_with_its_delay():
    fed = Fed()
    fed("p", predicted(START, "a", 3.0, ("m", "", "NL")))
    outcome = fed("l", labelled(START + 5 * SECOND, "a", 1.0))
    assert outcome.matched == outcome.pairs == 1
    assert outcome.delays_us.tolist() == [5 * SECOND]
    assert outcome.sums[:3, 0].tolist() == [1.0, 1.0, 4.0]
    assert fed.task.stream_times()[fed.sid(SeriesKey("m", ""))] == START + 5 * SECOND


def test_a_pair_older_than_every_window_is_in_the_totals_and_rejected_as_too_late():
    fed = Fed()
    fed("p", at(0), at(2 * 3600))
    outcome = fed("p", at(2 * 3600), at(10, error=5.0))
    assert outcome.rejections == [(1, Reason.TOO_LATE)]
    assert outcome.sums[0].tolist() == [2.0, 2.0]
    assert fed.task.lifetime.sums(1)[:, 0].tolist() == [4.0, 4.0, 28.0]
    assert fed.pairs(SeriesKey("m", "")) == 2


def test_labels_of_one_record_have_places_of_their_own_so_that_the_first_stands():
    """Where they share one, which of them answers hangs on where the index happens to have put them."""
    for turned in (False, True):
        fed = Fed()
        array = decoded([labelled(START, "a", 1.0), labelled(START, "a", 2.0, ("m", None)), labelled(START, "b")])
        array.labels.offsets[:] = 7
        fed.task.apply("l", array, 8)
        store = fed.task.join.labels
        assert sorted(store.order[store.live()]) == [7 << 20, (7 << 20) + 1, (7 << 20) + 2]
        if turned:  # as though the index had them the other way round
            first, second = (np.flatnonzero(store.value == value)[0] for value in (1.0, 2.0))
            for column in (store.value, store.order, store.ref):
                column[[first, second]] = column[[second, first]]
        outcome = fed("p", predicted(START, "a", 5.0, ("m", "", "NL")))
        assert outcome.matched == 1
        assert outcome.sums[2].tolist() == [16.0, 16.0], "the error is to the label that came first"


def test_a_label_of_another_shape_is_told_with_its_row_and_still_answers_others():
    fed = Fed()
    fed("p", predicted(START, "a", (1.0, 2.0), ("m", "", "")), predicted(START, "a", 1.0, ("n", "", "")))
    outcome = fed("l", labelled(START, "b", 0.0), labelled(START, "a", 0.0))
    assert outcome.rejections == [(1, Reason.SHAPE_MISMATCH)]
    assert outcome.matched == 1
    outcome = fed("l", labelled(START + 1, "a", (0.0, 0.0), ("m", None)))
    assert (outcome.matched, outcome.sums[2, 0]) == (1, 2.5)


def test_segments_and_other_add_up_to_the_total_however_small_the_limits():
    rng = np.random.default_rng(5)
    shape = replace(
        SHAPE, segment_keys=("a", "b"), dimensions=((0,), (1, 0)), series_limit=5, models_limit=3, total_series_limit=9
    )
    fed = Fed(shape)
    times = np.sort(rng.integers(0, 4 * 3600, 1500)).tolist()
    for begin in range(0, len(times), 30):
        events = [
            replace(
                at(time, error=float(rng.normal())),
                key=(f"m{rng.integers(5)}", str(rng.integers(2)), f"s{rng.integers(8)}", f"t{rng.integers(3)}"),
                weight=float(rng.choice([0.0, 0.5, 2.0])),
            )
            for time in times[begin : begin + 30]
        ]
        outcome = fed("p", *events)
        task = fed.task
        for values in (outcome.sums, *(m[:7] for m in parts_of_windows(task))):
            sids = outcome.sids if values is outcome.sums else np.arange(values.shape[1])
            assert_adds_up(task, sids, values)
        totals = [sid for sid, key in enumerate(task.series.keys) if key and not key.dimension]
        assert len(totals) <= 4
        assert all(task.series.segments(sid) <= 5 for sid in totals)
    names = [key for key in fed.task.series.keys if key]
    assert any(key.model == "__other__" for key in names)
    assert any(key.model != "__other__" and key.segment == "__other__" for key in names)


def parts_of_windows(task: Task) -> list[np.ndarray]:
    """Per ring n, Σw, Σw·q, Σw·|e| of each sid."""
    now = task.now(task.record_clock)[task.series.total_of]
    of_rings = [merged(task.windows, ring, task.oldest(ring, now)) for ring in range(len(task.shape.windows))]
    return [np.stack([m[moments.N], m[moments.W], m[moments.W] * m[moments.MEAN_Q]]) for m in of_rings]


def assert_adds_up(task: Task, sids: np.ndarray, values: np.ndarray) -> None:
    """For each model and dimension the columns of the segments add up to the model's."""
    keys = task.series.keys
    wanted = {sid: values[:, i] for i, sid in enumerate(sids.tolist()) if keys[sid] and not keys[sid].dimension}
    found: dict[tuple[int, str], np.ndarray] = {}
    for i, sid in enumerate(sids.tolist()):
        if (key := keys[sid]) is not None and key.dimension:
            place = int(task.series.total_of[sid]), key.dimension
            found[place] = found.get(place, 0.0) + values[:, i]
    for (total, _), parts in found.items():
        assert parts == pytest.approx(wanted[total], rel=1e-12, abs=1e-300)
    busy = [sid for sid, column in wanted.items() if column[0]]
    assert {(sid, name) for sid in busy for name in ("a", "b,a")} <= set(found)


def test_a_series_without_a_pair_in_the_longest_window_ends_and_a_new_one_gets_its_place_with_its_own_numbers():
    fed = Fed(replace(SHAPE, series_limit=1))
    fed("p", at(0, country="NL"), at(1, country="DE"))
    assert {key.segment for key in fed.task.series.keys if key} == {"", "NL", "__other__"}
    for minute in range(70):
        fed("p", at(60 * minute, country="NL" if minute < 10 else "BE"))
    assert SeriesKey("m", "", "country", "NL") in fed.task.series.keys, "its last pair is still in the hour"
    old = fed.sid(SeriesKey("m", "", "country", "NL"))
    fed("p", at(60 * 71, country="DE"))
    assert SeriesKey("m", "", "country", "NL") not in fed.task.series.keys
    assert fed.task.series.keys[old] == SeriesKey("m", "", "country", "DE")
    assert fed.pairs(SeriesKey("m", "", "country", "DE")) == 1
    fed("p", at(60 * 71 + 1, country="DE"), at(60 * 71 + 2, country="NL"))
    assert fed.pairs(SeriesKey("m", "", "country", "DE")) == 2
    assert fed.pairs(SeriesKey("m", "", "country", "__other__")) == 59 + 1, "BE of minutes 11 to 69, and the new NL"


def test_what_a_batch_did_is_told_of_series_that_still_live():
    fed = Fed()
    fed("p", at(0))
    fed("p", predicted(START, "slow", 1.0, ("late", "", "FR")), at(2 * 3600))
    # two hours on, a label for a model no pair of which is in any window, in the batch that begins a new minute
    fed("l", labelled(START, "slow", 0.0), labelled(START + SECOND, "x"))
    outcome = fed("p", at(3 * 3600), at(3 * 3600 - 7200, country="old"))
    keys = [fed.task.series.keys[sid] for sid in outcome.sids.tolist()]
    assert None not in keys
    assert SeriesKey("m", "", "country", "old") in keys


def test_a_model_that_has_ended_comes_back_with_its_lifetime_and_its_place_in_time():
    fed = Fed()
    fed("p", at(0, error=2.0), at(100, error=3.0))
    fed("p", *(at(t, model="n") for t in (3600, 7200)))
    fed("p", at(3 * 3600, model="n"))
    assert SeriesKey("m", "") not in fed.task.series.keys
    assert fed.task.past_lifetimes()["m", ""].tolist() == [2.0, 2.0, 13.0]
    fed("p", replace(at(50, error=1.0), record_time=START + 4 * HOUR))
    sid = fed.sid(SeriesKey("m", ""))
    assert fed.task.lifetime.sums(sid + 1)[:, sid].tolist() == [3.0, 3.0, 14.0]
    assert fed.task.stream_times()[sid] == START + 100 * SECOND
    assert fed.task.now(START + 5 * HOUR)[sid] == START + 5 * HOUR, "a straggler does not take it back"
    assert ("m", "") not in fed.task.past_lifetimes()


def test_a_model_with_predictions_alone_ends_when_events_have_gone_on_without_it():
    fed = Fed()
    fed("p", predicted(START, "a", 1.0, ("gone", "", "NL")))
    for minute in range(1, 130):
        fed("p", at(60 * minute))
    assert [key.model for key in fed.task.series.keys if key and not key.dimension] == ["m"]


def test_panes_that_no_window_shows_go_at_the_pace_of_the_shortest_window():
    fed = Fed(replace(SHAPE, windows=(Window("1m", SECOND, 60), Window("30d", DAY // 2, 60))))
    for second in range(0, 900, 2):
        fed("p", at(second), at(second))
        assert len(fed.task.windows.rings[0]) <= 61 * 1.3
        assert len(fed.task.coverage.rings[0]) <= 61 * 1.3
    assert fed.pairs(SeriesKey("m", ""), 0) == 2 * 31


def test_a_model_that_lags_behind_does_not_keep_the_panes_of_others():
    """By a day here, and with its own hour still whole."""
    fed = Fed(replace(SHAPE, drift=False))
    late, good = SeriesKey("late", ""), SeriesKey("m", "")
    for second in range(0, 6 * 3600, 60):
        behind = replace(at(second - 86_400, model="late"), record_time=START + second * SECOND)
        fed("p", at(second), behind)
    fed("p", at(second + 1))
    rings = fed.task.windows.rings
    assert max(map(len, (*rings, *fed.task.coverage.rings))) <= 3 * 61
    assert (fed.pairs(good), fed.pairs(late)) == (62, 61)
    assert sum(block.used for block in rings[1].values()) <= 2 * 2 * 3 * 61, "a total and a segment each"


def test_very_many_panes_are_looked_through_now_and_then(monkeypatch: pytest.MonkeyPatch):
    """As a model's that lags by a month: at every turn they would cost a replay more than its events."""
    looked: list[int] = []
    plain = panes.shed

    def counted(ring: dict[int, Block], *others: Any) -> None:
        looked.append(len(ring))
        plain(ring, *others)

    monkeypatch.setattr("msemon.core.task.shed", counted)
    fed = Fed(replace(SHAPE, drift=False))
    fed("p", _late(0), at(0))
    sid, ring = np.array([fed.sid(SeriesKey("late", ""))]), fed.task.coverage.rings[0]
    first = START // SECOND // TOGETHER
    ring.update({first - n: Block.of(sid, np.zeros((2 * TOGETHER, 1))) for n in range(10, 5_010)})
    for minute in range(1, 101):
        fed("p", _late(60 * minute), at(60 * minute))
    assert len(ring) >= 5_000
    assert 2 * 5_000 <= sum(looked) <= 100 * 1_000, "all of them now and then, and not 5,000 a turn"


def _late(seconds: float) -> Event:
    return replace(at(seconds - 30 * 86_400, model="late"), record_time=START + round(seconds * SECOND))


@pytest.mark.parametrize("others", [True, False])
def test_a_new_model_keeps_its_predictions_until_the_first_labels_come(others: bool):
    """Its windows stand at its predictions, and then half an hour before them, whether others have gone on or not."""
    fed = Fed(replace(SHAPE, observed=False, drift=False))
    begun = {"old": 0, "new": 1200} if others else {"new": 1200}
    for second in range(0, 3600, 10):
        fed("p", *(_predicted(second, model) for model, begin in begun.items() if second >= begin))
        fed("l", *(_answer(second, model, 1800) for model, begin in begun.items() if second >= begin + 1800))
    sid = fed.sid(SeriesKey("new", ""))
    now = fed.task.now(START + 3590 * SECOND)
    for ring, seen in ((0, 7), (1, 60)):
        oldest, newest = fed.task.oldest(ring, now), now // WINDOWS[ring].pane_us
        predictions, labelled_ones = covered(fed.task.coverage, ring, oldest, newest)[:, sid].tolist()
        assert labelled_ones == seen
        assert seen <= predictions <= seen + 6, "some in the newest pane are still to be answered"


def _predicted(second: int, model: str) -> Event:
    time = START + second * SECOND
    return replace(predicted(time, f"{model}{second}", 1.0, (model, "", "NL")), record_time=time)


def _answer(second: int, model: str, delay: int) -> Event:
    time = START + second * SECOND
    return replace(labelled(time, f"{model}{second - delay}", 1.0), record_time=time)


def test_predictions_far_ahead_of_the_windows_are_counted_in_few_blocks():
    """As where labels take a month and a pair's time is its prediction's: each block is a piece of every checkpoint."""
    fed = Fed(replace(SHAPE, observed=False))
    begin, ahead = START // SECOND, 3_000
    fed("p", at(0))
    fed("p", *(predicted(START + n * SECOND, str(n), 1.0, ("m", "", "NL")) for n in range(ahead)))
    assert len(fed.task.coverage.rings[0]) <= ahead / 32 + 2
    for first, last, count in ((100, 199, 100), (1, 1, 1), (ahead - 10, ahead + 90, 10)):
        seen = covered(fed.task.coverage, 0, np.array([begin + first]), np.array([begin + last]))
        assert seen[:, 0].tolist() == [count, 0]


def test_names_no_longer_in_use_are_collected_and_those_in_use_still_join():
    fed = Fed(replace(SHAPE, series_limit=5))
    fed("p", at(0, country="first"))
    fed("p", predicted(START, "kept", 7.0, ("kept", "3", "NL")))
    for batch in range(40):
        begin = batch * 60
        fed("p", *(at(begin + n / 50, country=f"c{batch}-{n}", model="n") for n in range(500)))
        fed("l", labelled(START + (begin + 10) * SECOND, f"l{batch}", 0.0, (f"none{batch}", None)))
    assert len(fed.task.names.combos) < 6000, "of 20,000 that came"
    assert fed("l", labelled(START + 2400 * SECOND, "kept", 0.0)).sums[2].tolist() == [49.0, 49.0]
    keys = {key for key in fed.task.series.keys if key}
    assert SeriesKey("kept", "3", "country", "NL") in keys


def test_names_are_collected_within_a_turn_too_where_very_many_come(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(names, "_SPARE_WHEN_BUSY", 500)
    fed = Fed(replace(SHAPE, series_limit=5))
    for batch in range(20):  # all in the same second, as from a backlog
        fed("p", *(at(0, country=f"c{batch}-{n}") for n in range(100)))
        assert len(fed.task.names.combos) <= 600


def test_a_stream_matched_within_a_minute_keeps_its_memory_whatever_the_timeout():
    fed, size, held = Fed(), 1_500, []
    for batch in range(100):
        now = START + 50 * batch * SECOND
        ids = [f"{batch}-{n}" for n in range(size)]
        fed("p", *(predicted(now, i, 1.0, ("m", "", "NL")) for i in ids))
        outcome = fed("l", *(labelled(now + 30 * SECOND, i) for i in ids))
        assert (outcome.matched, outcome.expired_predictions, outcome.expired_labels) == (size, 0, 0)
        assert len(fed.task.join) <= 2 * size * (600 // 50 + 6), "about `memory` of both sides"
        held.append(fed.task.join.predictions.nbytes + fed.task.join.labels.nbytes)
    assert held[-1] == held[30], "nothing has grown since the first third"
    assert fed.task.join.predictions.waiting == 0


def test_eviction_takes_the_oldest_remembered_first_then_the_oldest_waiting():
    fed = Fed()
    key: Key = ("m", "", "NL")
    fed("p", *(predicted(START + n, f"waits {n}", 1.0, key) for n in range(4)))
    fed("p", *(predicted(START + 10 + n, f"matched {n}", 1.0, key) for n in range(3)))
    fed("l", *(labelled(START + 20 + n, f"matched {n}") for n in range(3)), labelled(START + 5, "nobody"))
    join = fed.task.join
    assert (len(join.predictions), len(join.matched), len(join.labels)) == (4, 3, 4)
    assert fed.task.evict(3, REMEMBERED) == 3
    assert (join.matched.remembered, join.labels.remembered) == (0, 3), "the predictions are older than the labels"
    assert fed.task.evict(4, REMEMBERED) == 3
    assert fed.task.evict(1, WAITING) == 1
    assert join.predictions.time[join.predictions.live()].tolist() == [START + n for n in (1, 2, 3)]
    assert fed("l", labelled(START + 30, "waits 0"), labelled(START + 30, "waits 1")).matched == 1
    assert (fed.task.evict(100, REMEMBERED), fed.task.evict(100, WAITING)) == (2, 4)
    assert len(join) == 0


def test_a_number_given_to_another_series_brings_nothing_of_the_old_one_even_where_its_panes_are_still_kept():
    fed = Fed()
    fed("p", at(0, model="over"), at(5, model="over"))
    old = [fed.sid(SeriesKey("over", "")), fed.sid(SeriesKey("over", "", "country", "NL"))]
    for hour in (1, 2, 3):  # a model three hours behind its records keeps the panes
        fed("p", replace(at(3600 * (hour - 3), model="behind"), record_time=START + hour * HOUR))
    assert SeriesKey("over", "") not in fed.task.series.keys
    fed("p", replace(at(10, model="new"), record_time=START + 3 * HOUR))
    new = [fed.sid(SeriesKey("new", "")), fed.sid(SeriesKey("new", "", "country", "NL"))]
    assert sorted(new) == sorted(old)
    assert [fed.pairs(SeriesKey("new", "", *part)) for part in ((), ("country", "NL"))] == [1, 1]


def test_an_id_that_stands_for_everything_costs_no_more_than_its_crowd(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("msemon.core.task.CROWD", 100)
    fed, lookups = Fed(replace(SHAPE, models_limit=1)), []
    plain = Index.lookup

    def counted(index: Index, *wanted: Any) -> Hits:
        hits = plain(index, *wanted)
        lookups.append(len(hits.rows))
        return hits

    monkeypatch.setattr(Index, "lookup", counted)
    monkeypatch.setattr("msemon.core.join._HITS", 5_000)
    dropped = 0
    for batch in range(10):
        events = [predicted(START, "unknown", 1.0, ("m", f"{batch}-{n}", "NL")) for n in range(30)]
        dropped += fed("p", *events, predicted(START, f"own {batch}", 1.0, ("m", "", "NL"))).dropped
    taken = 300 - dropped
    assert 100 <= taken <= 130, "and no more than a batch beyond"
    assert len(fed.task.join.predictions) == taken + 10
    outcome = fed("l", *(labelled(START, "unknown") for _ in range(50)), labelled(START, "own 9"))
    assert (outcome.matched, outcome.duplicate_labels, outcome.dropped) == (taken + 1, 49, 0)
    targets = [("m", f"none {n}") for n in range(500)]
    assert fed("l", *(labelled(START, "unknown", target=target) for target in targets)).dropped == 401
    assert max(lookups) <= 5_000
    assert sum(lookups) <= 500_000, "and not once more with each label"
    assert fed("p", predicted(START, "unknown", 1.0, ("m", "0-0", "NL"))).duplicate_predictions == 1


@pytest.mark.parametrize("topic", ["p", "l"])
def test_a_flood_of_a_full_id_is_not_held_against_its_entries_event_by_event(
    topic: str, monkeypatch: pytest.MonkeyPatch
):
    """A batch of 60,000 such events took longer than the watchdog waits; others of the batch are taken all the same."""
    monkeypatch.setattr("msemon.core.task.CROWD", 100)
    monkeypatch.setattr("msemon.core.join._HITS", 5_000)
    fed, held = Fed(replace(SHAPE, models_limit=1)), []
    plain = Index._digests

    def counted(index: Index, places: Rows) -> Digests:
        held.append(len(places))
        return plain(index, places)

    def event(ident: str, version: int) -> Event:
        model = "m", str(version)
        return predicted(START, ident, 1.0, (*model, "NL")) if topic == "p" else labelled(START, ident, target=model)

    fed(topic, *(event("unknown", n) for n in range(150)))
    monkeypatch.setattr(Index, "_digests", counted)
    outcome = fed(topic, *(event("unknown", n) for n in range(3_000)), event("own", 0))
    repeats = outcome.duplicate_predictions + outcome.duplicate_labels
    assert outcome.dropped + repeats == 3_000
    assert sum(held) <= 100_000, "and not 3,000 times 100"
    assert len(fed.task.join) <= 200 + 1
    store = fed.task.join.predictions if topic == "p" else fed.task.join.labels
    assert store.digest[store.live()][:, 0].tolist().count(fed.task._digest([b"own"])[0, 0]) == 1


def test_a_batch_whose_events_all_have_one_id_is_handled_at_once(monkeypatch: pytest.MonkeyPatch):
    rounds: list[int] = []
    plain = Join._take_labels

    def counted(join: Join, side: Side, rows: Rows, result: Joined, *hits: Rows) -> None:
        rounds.append(len(rows))
        plain(join, side, rows, result, *hits)

    monkeypatch.setattr(Join, "_take_labels", counted)
    outcome = Fed()("l", *(labelled(START + 300 * n * SECOND, "same", float(n % 2)) for n in range(6)))
    assert rounds == [1, 1], "0, 300 and 600 s are one label and its repeats, and so are the rest"
    assert (outcome.duplicate_labels, outcome.conflicting_labels) == (4, 2)
