"""F7: a rebalance during a checkpoint. What happens without a broker stands in `tests/unit/test_ownership.py`."""

from __future__ import annotations

import pytest

from support.group import Group
from support.histories import PARTITIONS
from support.inside import Stalling, inside
from support.traffic import Traffic

pytestmark = pytest.mark.timeout(240)  # several replicas start one after the other, and groups take their time


def test_f07_a_rebalance_during_a_checkpoint(kafka, tmp_path, monkeypatch):
    """State is kept until the rebalance is complete; what was being written then neither counts nor harms."""
    with Traffic(kafka) as traffic, inside(monkeypatch) as make:
        replicas = Group(traffic, tmp_path)
        a = replicas.all["a"] = make(traffic.settings())
        replicas.until(replicas.shared_out, 60, "a to read everything")
        replicas.until(lambda: len(a.store.written) >= 2 * PARTITIONS, 30, "a checkpoint of everything")
        a.store.gate.clear()
        begun = len(a.store.attempts)
        replicas.until(lambda: len(a.store.attempts) > begun, 30, "another to begin")
        held = a.store.attempts[-1]
        b = replicas.all["b"] = make(traffic.settings())
        replicas.until(lambda: b.ready and len(b.ownership.owned) == 2, 60, "b to read its share")
        assert not a.ended
        replicas.until(lambda: len(a.ownership.owned) == 2, 30, "a to hear of it")
        assert held == a.store.attempts[-1], "it is still being written"
        # b's checkpoints come before what a had begun to write
        done = len(b.store.written)
        replicas.until(lambda: len(b.store.written) >= done + 4, 30, "b's checkpoints")
        a.store.gate.set()
        replicas.until(lambda: len(a.store.written) >= begun + 3, 30, "a to go on with what it has left")
        moved = b.ownership.owned
        assert set(a.store.written[begun + 1 :]) <= a.ownership.owned | {held}
        # The next owner finds what both have written, and takes the furthest.
        del replicas.all["b"]
        b.stop()
        replicas.until(lambda: a.ready and len(a.ownership.owned) == PARTITIONS, 60, "a to have everything again")
        assert moved
        traffic.settle()
        replicas.agree()


def test_f07_a_commit_during_a_rebalance_is_refused_and_nothing_else(kafka, tmp_path, monkeypatch):
    """It fails without an exception, the state stays and is shown, and later commits come through."""
    with Traffic(kafka) as traffic, inside(monkeypatch) as make:
        replicas = Group(traffic, tmp_path)
        a, b = make(traffic.settings()), make(traffic.settings())
        replicas.all |= {"a": a, "b": b}
        replicas.until(lambda: replicas.shared_out() and all(replicas.owned()), 60, "both to have a share")
        replicas.until(lambda: a.scrape().sum("msemon_lifetime_pairs") > 0, 30, "some pairs")
        mine, answers = a.ownership.owned, []
        commit = a.ownership._source.commit

        def told(*arguments, **more):
            answers.append((commit(*arguments, **more), a.ownership.owned))
            return answers[-1][0]

        monkeypatch.setattr(a.ownership._source, "commit", told)
        # The group waits for b, which does not come: so long the rebalance goes on.
        stalling = Stalling(b.daemon._decoder)
        monkeypatch.setattr(b.daemon, "_decoder", stalling)
        replicas.until(stalling.inside.is_set, 30, "b to stand still")
        replicas.all["c"] = make(traffic.settings())
        replicas.until(lambda: any(not taken for taken, _ in answers), 30, "a commit to be refused")
        assert {owned for taken, owned in answers if not taken} == {mine}
        assert a.scrape().all("msemon_lifetime_pairs")
        stalling.go_on.set()
        replicas.until(replicas.shared_out, 60, "all three to read their share")
        replicas.until(lambda: answers[-1][0], 30, "a commit to be taken")
        traffic.settle()
        replicas.agree()
