"""F11: members with static ids: two with one id, and one that comes back in time."""

from __future__ import annotations

import pytest

from support.group import group
from support.histories import PARTITIONS
from support.traffic import Traffic
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(240)  # several replicas start one after the other, and groups take their time


def test_f11_two_members_with_one_static_id(kafka, tmp_path):
    """The one that was there first is fenced: it shows nothing more, says why in one line and exits non-zero."""
    with Traffic(kafka) as traffic, group(traffic, tmp_path, kafka__group_instance_id="pod-1") as replicas:
        first = replicas.start("first")
        replicas.until(replicas.shared_out, 60, "the first to read everything")
        replicas.until(lambda: first.scrape().sum("msemon_lifetime_pairs") > 50, 30, "some pairs")
        del replicas.all["first"]
        replicas.start("second")
        replicas.until(lambda: first.process.poll() is not None, 60, "the first to end")
        assert first.wait() == 1
        (line,) = first.said("can't go on")
        assert "group_instance_id" in line["error"] or "Fenced" in line["error"]
        ours = [each for each in first.lines() if each.get("logger", "").startswith("msemon")]
        assert [each["event"] for each in ours if each["level"] in {"error", "critical"}] == ["can't go on"]
        gone = first.lines().index(first.said("partitions gone")[-1])
        assert first.lines()[gone]["lost"], "its partitions are another's"
        replicas.until(replicas.shared_out, 60, "the second to read everything")
        traffic.settle()
        replicas.agree()


def test_f11_a_static_member_comes_back_in_time(kafka, tmp_path):
    """Within the session timeout it gets its own partitions again, and the others notice nothing."""
    options = {"session_timeout_ms": 45_000, "heartbeat_interval_ms": 500}
    with Traffic(kafka) as traffic, group(traffic, tmp_path, kafka__client_options=options) as replicas:
        stays = replicas.start("stays", kafka__group_instance_id="pod-1")
        replicas.start("returns", kafka__group_instance_id="pod-2")
        replicas.until(lambda: replicas.shared_out() and all(replicas.owned()), 90, "both to have a share")
        before = dict(zip(replicas.all, replicas.owned(), strict=True))
        rebalances = stays.scrape().value("msemon_rebalances_total")
        assert replicas.leave("returns") == 0
        traffic.portion()
        replicas.start("returns", kafka__group_instance_id="pod-2")
        replicas.until(replicas.shared_out, 40, "it to be back")
        assert dict(zip(replicas.all, replicas.owned(), strict=True)) == before
        assert sum(map(len, before.values())) == PARTITIONS
        traffic.settle()
        replicas.agree()
        wait_until(lambda: stays.scrape().value("msemon_consumer_lag_sum") == 0, 30, "nothing to be left")
        assert stays.scrape().value("msemon_rebalances_total") == rebalances
