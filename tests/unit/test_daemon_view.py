"""What the daemon shows while it goes on: batches do not wait for a view, and none shows what has become another's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from msemon.core.held import Held
from msemon.core.view import Choose, View
from msemon.daemon import Daemon
from msemon.export.wire import Request, Response
from msemon.settings import load
from support.events import SECOND, Event, decoded, paired
from support.owners import FakeSource
from support.waiting import wait_until

START = 1_700_000_000 * SECOND


class Slow:
    """Makes each view only once it is let; `begun` counts them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.let = threading.Semaphore(0)
        make = Held.view

        def slowly(held: Held, choose: Choose | None = None) -> View:
            self.begun += 1
            assert self.let.acquire(timeout=30)
            return make(held, choose)

        patch.setattr(Held, "view", slowly)

    def until(self, begun: int) -> None:
        wait_until(lambda: self.begun == begun, 20, f"view {begun} to be begun", every_s=0.005)


@pytest.fixture
def daemon() -> Daemon:
    """Has partitions 0 and 1, with a pair of another model in each, and the group's lease."""
    made = Daemon(load({}, environ={}), install_signals=False, make_source=lambda _: FakeSource())
    made._joined = True
    for partition in (0, 1):
        made._process.start(partition)
        apply(made, partition, paired(START, 1.0, 0.0, (f"m{partition}", "")))
    return made


def apply(daemon: Daemon, partition: int, *events: Event) -> None:
    with daemon._lock:
        daemon._process.apply(partition, "predictions", decoded(events), len(events), START)


def drop(daemon: Daemon, partition: int) -> None:
    with daemon._lock:
        daemon._process.drop(partition)


@pytest.fixture
def scraped(daemon: Daemon) -> Iterator[Callable[[], Future[Response]]]:
    answer = daemon.server._main._answer
    with ThreadPoolExecutor(4) as pool:
        yield lambda: pool.submit(answer, Request("GET", "/metrics", {}, {}))


def shown(response: Response) -> set[str]:
    """The models with lifetime totals, which only an owner shows."""
    assert response.status == 200
    lines = response.body.decode().splitlines()
    return {line.split('"')[1] for line in lines if line.startswith("msemon_lifetime_pairs{")}


def test_batches_go_on_while_a_view_is_made_and_it_shows_the_moment_it_was_asked_at(daemon, scraped, monkeypatch):
    slow = Slow(monkeypatch)
    first = scraped()
    slow.until(1)
    apply(daemon, 0, paired(START + SECOND, 2.0, 0.0, ("m0", "")), paired(START, 1.0, 0.0, ("new", "")))
    slow.let.release()
    before = first.result(20)
    assert shown(before) == {"m0", "m1"}
    assert b'msemon_lifetime_squared_error{model="m0",version=""} 1.0\n' in before.body
    slow.let.release()
    after = scraped().result(20)
    assert shown(after) == {"m0", "m1", "new"}
    assert b'msemon_lifetime_squared_error{model="m0",version=""} 5.0\n' in after.body


def test_a_view_during_which_a_partition_goes_is_shown_to_nobody(daemon, scraped, monkeypatch):
    slow = Slow(monkeypatch)
    first = scraped()
    slow.until(1)
    drop(daemon, 1)
    slow.let.release(2)
    assert shown(first.result(20)) == {"m0"}
    assert slow.begun == 2


def test_a_view_during_which_the_lease_ends_is_shown_to_nobody(daemon, scraped, monkeypatch):
    slow = Slow(monkeypatch)
    first = scraped()
    slow.until(1)
    daemon._source.heard_s -= 1e6
    slow.let.release(2)
    response = first.result(20)
    assert shown(response) == set()
    assert b'msemon_pairs_total{model="m0",version=""} 1.0\n' in response.body, "the process's own counters stay"


def test_an_answer_that_waited_for_its_turn_is_looked_at_again_before_it_is_given(daemon, scraped, monkeypatch):
    """Two share a view; it is void for both where the partition goes before they have it."""
    slow = Slow(monkeypatch)
    first = scraped()
    slow.until(1)
    others = [scraped() for _ in range(2)]
    slow.let.release()
    assert shown(first.result(20)) == {"m0", "m1"}
    slow.until(2)
    drop(daemon, 0)
    slow.let.release(3)
    assert [shown(other.result(20)) for other in others] == [{"m1"}, {"m1"}]


def test_nothing_stays_held_once_a_view_is_made_or_has_failed(daemon, scraped, monkeypatch):
    assert shown(scraped().result(20)) == {"m0", "m1"}
    with monkeypatch.context() as broken:
        broken.setattr(Held, "view", lambda _: 1 / 0)
        assert scraped().result(20).status == 500
    blocks = list(daemon._process.tasks[0].windows.blocks())
    arrays = [block.data for block in blocks]
    apply(daemon, 0, paired(START, 2.0, 0.0, ("m0", "")))
    assert blocks
    assert all(block.data is data for block, data in zip(blocks, arrays, strict=True)), "written to in place"
