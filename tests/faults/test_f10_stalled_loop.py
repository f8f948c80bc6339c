"""F10: the loop stands still beyond max.poll.interval."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from support.group import Group, group
from support.histories import PARTITIONS
from support.inside import Stalling, inside
from support.running import CLIENT
from support.traffic import Traffic
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(240)  # several replicas start one after the other, and groups take their time

POLL_MS = 3_000 if CLIENT == "kafka-python" else 6_000  # librdkafka takes none below the session timeout


def impatient(traffic: Traffic) -> dict[str, Any]:
    given = traffic.settings()
    given["kafka.client_options"] = given["kafka.client_options"] | {"max_poll_interval_ms": POLL_MS}
    return given


def test_f10_a_loop_that_stands_still(kafka, tmp_path, monkeypatch):
    """The member leaves while its heart still beats, liveness fails, and when the loop goes on nothing of what it has
    is written or shown: it begins again from what the others have left."""
    with Traffic(kafka) as traffic, inside(monkeypatch) as make:
        replicas = Group(traffic, tmp_path)
        a = replicas.all["a"] = make(impatient(traffic), stalled_s=2.0)
        b = replicas.all["b"] = make(impatient(traffic))
        replicas.until(lambda: replicas.shared_out() and all(replicas.owned()), 60, "both to have a share")
        replicas.until(lambda: len(a.store.written) >= 6, 30, "checkpoints")
        stalling = Stalling(a.daemon._decoder)
        monkeypatch.setattr(a.daemon, "_decoder", stalling)
        replicas.until(stalling.inside.is_set, 30, "a to stand still")
        mine = a.ownership.owned
        wait_until(lambda: not a.daemon.healthy(), 30, "its liveness to fail")
        del replicas.all["a"]
        replicas.until(replicas.shared_out, 60, "b to read everything")
        wait_until(lambda: not a.status()["lease"], 30, "a's lease to end")
        assert not a.scrape().all("msemon_lifetime_pairs")
        # one may have been handed to the writer just before; the loop, which would hear of its end, stands still
        wait_until(lambda: len(a.store.written) == len(a.store.attempts), 10, "a's last write to end")
        attempts, written_at_drop = len(a.store.attempts), []
        drop = a.ownership.drop

        def noted(partitions, *, lost):
            written_at_drop.append((frozenset(partitions), lost, len(a.store.attempts)))
            drop(partitions, lost=lost)

        monkeypatch.setattr(a.ownership, "drop", noted)
        stalling.go_on.set()
        wait_until(lambda: written_at_drop, 30, "a to hear of its loss")
        assert written_at_drop[0] == (mine, True, attempts), "all is lost, and nothing was written before"
        wait_until(a.daemon.healthy, 30, "it to be alive again")
        replicas.all["a"] = a
        replicas.until(lambda: replicas.shared_out() and all(replicas.owned()), 60, "both to have a share again")
        assert b.code is None
        traffic.settle()
        replicas.agree()


def test_f10_a_process_that_stands_still_for_longer_than_both(kafka, tmp_path):
    """Frozen beyond the session timeout and max.poll.interval it comes back into the group, and all is exact."""
    with Traffic(kafka) as traffic, group(traffic, tmp_path) as replicas:
        more = {"kafka__client_options": impatient(traffic)["kafka.client_options"]}
        frozen = replicas.start("frozen", **more)
        replicas.start("other", **more)
        replicas.until(lambda: replicas.shared_out() and all(replicas.owned()), 60, "both to have a share")
        replicas.until(lambda: frozen.scrape().sum("msemon_lifetime_pairs") > 50, 30, "some pairs")
        frozen.signal(signal.SIGSTOP)
        del replicas.all["frozen"]
        replicas.until(replicas.shared_out, 60, "the other to read everything")
        frozen.signal(signal.SIGCONT)
        frozen.until(lambda: any(line["lost"] for line in frozen.said("partitions gone")), "it to hear of it", 30)
        replicas.all["frozen"] = frozen
        replicas.until(lambda: replicas.shared_out() and all(replicas.owned()), 60, "both to have a share again")
        assert sum(map(len, replicas.owned())) == PARTITIONS
        traffic.settle()
        replicas.agree()
