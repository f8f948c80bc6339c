"""F8: a rebalance during a restore. What happens without a broker stands in `tests/unit/test_ownership.py`."""

from __future__ import annotations

from typing import Any

import pytest

from support.group import Group
from support.histories import PARTITIONS
from support.inside import inside
from support.traffic import Traffic

pytestmark = pytest.mark.timeout(240)  # several replicas start one after the other, and groups take their time


def named(traffic: Traffic, name: str) -> dict[str, Any]:
    """Settings of a member by whose name the group hands out partitions: the first in the alphabet gets the first."""
    given = traffic.settings()
    given["kafka.client_options"] = given["kafka.client_options"] | {"client_id": name}
    return given


def test_f08_a_rebalance_during_a_restore(kafka, tmp_path, monkeypatch):
    """What is lost while it is restored is abandoned: nothing partial is exported, and who gets it restores it all."""
    with Traffic(kafka) as traffic, inside(monkeypatch) as make:
        replicas = Group(traffic, tmp_path)
        a = replicas.all["a"] = make(named(traffic, "3-a"))
        replicas.until(replicas.shared_out, 60, "a to read everything")
        replicas.until(lambda: len(a.store.written) >= 2 * PARTITIONS, 30, "a checkpoint of everything")
        b = make(named(traffic, "2-b"))
        b.store.slices = 1_000_000_000  # its restores do not end
        replicas.until(lambda: len(b.ownership.owned) == 2, 60, "b to get its share")
        replicas.until(lambda: any(b.store.restoring.values()), 30, "b to restore")
        first = b.ownership.owned
        assert not b.ready
        assert not b.scrape().all("msemon_lifetime_pairs")
        c = replicas.all["c"] = make(named(traffic, "1-c"))
        replicas.until(lambda: len(c.ownership.owned) > 0 and c.ready, 60, "c to read its share")
        replicas.until(lambda: not b.ownership.owned & first, 30, "b to lose what it had")
        assert not any(b.store.restoring.get(p) for p in first), "the restore is given up"
        assert b.ownership.owned, "and another one begun"
        assert not b.scrape().all("msemon_lifetime_pairs")
        assert not b.scrape().all("msemon_window_pairs")
        assert not b.store.attempts, "nor does it write anything"
        b.store.slices = 1
        replicas.all["b"] = b
        replicas.until(replicas.shared_out, 60, "all three to read their share")
        traffic.settle()
        replicas.agree()
