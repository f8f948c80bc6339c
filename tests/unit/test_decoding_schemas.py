"""Who writes ids at random into a topic costs a bounded number of questions, and hides no schema of honest records."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import pytest

from msemon.decoding.schemas import AT_ONCE, MOST_ASKED, MOST_UNKNOWN, Schema
from msemon.events import Batch, Decoded, Kind, Reason
from support.decoding import WALL_US, batch
from support.formats import SCHEMAS, avro, in_avro

NAMES = ("id", "model", "version", "ts", "prediction", "label", "weight", "segments")
LABEL = in_avro(dict.fromkeys(NAMES) | {"id": "a", "label": 2.0})[5:]
EVENT = SCHEMAS[7]


class Registry:
    """Answers one question each time it is told to; knows some ids."""

    def __init__(self, known: set[int], away: bool = False) -> None:
        self.ids = known
        self.away = away
        self.asked: list[int | str] = []
        self._wanted: list[int | str] = []
        self._answers: dict[int | str, Schema | Reason] = {}

    def known(self, ident: int | str) -> Schema | Reason | None:
        return self._answers.get(ident)

    def find(self, ident: int | str) -> Schema | Reason | None:
        if ident not in self._answers and ident not in self._wanted:
            self._wanted.append(ident)
        return self._answers.get(ident)

    def answer(self) -> None:
        if self._wanted and not self.away:
            ident = self._wanted.pop(0)
            self.asked.append(ident)
            self._answers[ident] = EVENT if ident in self.ids else Reason.UNKNOWN_SCHEMA

    @property
    def awaited(self) -> int:
        return len(self._wanted)


def framed(ident: int, body: bytes = LABEL) -> bytes:
    return b"\x00" + ident.to_bytes(4, "big") + body


def counts(done: Decoded) -> dict[Kind, int]:
    return {kind: count for kind, count in done.kinds.items() if count}


def made_up(count: int, seed: int = 7) -> list[int]:
    return random.Random(seed).sample(range(1_000_000, 2**31), count)


def decoded(registry: Registry, events: Batch, made: Any = None, most: int = 100_000) -> Decoded:
    """With an answer after each try."""
    made = made or avro(registry)
    for _ in range(most):
        done = made.decode(events, WALL_US)
        if done is not None:
            assert isinstance(done, Decoded)
            return done
        registry.answer()
    raise AssertionError(f"still waits after {most} answers")


def test_a_flood_of_ids_costs_few_questions_and_honest_records_all_count() -> None:
    """A new schema of three records in a hundred thousand, in their midst, is asked for before what is made up."""
    registry = Registry({9})
    values = [framed(ident) for ident in made_up(99_997)]
    for place in (10, 50_000, 99_000):
        values.insert(place, framed(9))
    done = decoded(registry, batch(values), most=100)
    assert done.labels.rows.tolist() == [10, 50_000, 99_000]
    assert set(done.rejections) == {(row, Reason.UNKNOWN_SCHEMA) for row in range(100_000)} - {
        (row, Reason.UNKNOWN_SCHEMA) for row in (10, 50_000, 99_000)
    }
    assert registry.asked[0] == 9
    assert len(registry.asked) <= MOST_UNKNOWN + AT_ONCE


def test_what_is_known_is_read_however_much_is_not() -> None:
    registry = Registry({9})
    made = avro(registry)
    decoded(registry, batch([framed(9)]), made)
    done = decoded(registry, batch([*(framed(ident) for ident in made_up(5_000) for _ in range(2)), framed(9)]), made)
    assert done.labels.rows.tolist() == [10_000]
    assert counts(done) == {Kind.REJECTED: 10_000, Kind.LABEL: 1}


def test_ids_that_are_known_to_be_unknown_are_no_reason_to_ask_for_fewer() -> None:
    """Else whoever repeats a few would keep every new schema from being asked for."""
    registry = Registry(set(range(100, 130)))
    made = avro(registry)
    flood = made_up(2 * MOST_UNKNOWN)
    for ident in flood:
        decoded(registry, batch([framed(ident)]), made)
    done = decoded(registry, batch([framed(i) for i in [*flood * 3, *range(100, 130)]]), made)
    assert done.kinds[Kind.LABEL] == 30


def test_a_topic_of_many_schemas_is_read_whole() -> None:
    registry = Registry(set(range(MOST_ASKED)))
    done = decoded(registry, batch([framed(ident) for ident in range(MOST_ASKED)]))
    assert counts(done) == {Kind.LABEL: MOST_ASKED}


def test_ids_of_other_topics_are_asked_for_up_to_a_bound() -> None:
    registry = Registry(set(range(3 * MOST_ASKED)))
    done = decoded(registry, batch([framed(ident) for ident in range(3 * MOST_ASKED)]))
    assert counts(done) == {Kind.LABEL: MOST_ASKED, Kind.REJECTED: 2 * MOST_ASKED}
    assert len(registry.asked) == MOST_ASKED


def test_while_the_registry_is_away_all_wait_and_few_are_asked_for() -> None:
    registry = Registry({9}, away=True)
    made = avro(registry)
    floods = [dataclasses.replace(batch([framed(i) for i in made_up(1_000, p)]), partition=p) for p in range(3)]
    for _, events in itertools.product(range(50), floods):
        assert made.decode(events, WALL_US) is None
        registry.answer()
    assert registry.awaited == 3 * AT_ONCE
    registry.away = False
    for events in floods:
        assert counts(decoded(registry, events, made)) == {Kind.REJECTED: 1_000}


def test_a_batch_that_waits_is_not_looked_through_again() -> None:
    """Thousands of records, ten times a second, in every partition."""
    looked: list[int] = []

    def origin(row: int) -> tuple[None, tuple[()]]:
        looked.append(row)
        return None, ()

    events = dataclasses.replace(batch([framed(9)] * 1_000), origin=origin)
    registry = Registry({9}, away=True)
    made = avro(registry)
    for _ in range(10):
        assert made.decode(events, WALL_US) is None
    assert len(looked) == 1_000
    registry.away = False
    assert decoded(registry, events, made).kinds[Kind.LABEL] == 1_000


@pytest.mark.parametrize("longer", [False, True])
def test_what_is_fetched_again_from_the_same_offset_may_be_more_or_less(longer: bool) -> None:
    """A partition that left and came back while a batch of it waited: what that asked for is not all there is."""
    registry = Registry({9, 10}, away=True)
    made = avro(registry)
    two = [[framed(9)], [framed(9), framed(10)]]
    assert made.decode(batch(two[not longer]), WALL_US) is None
    registry.away = False
    registry.answer()
    assert decoded(registry, batch(two[longer]), made).kinds[Kind.LABEL] == 1 + longer
