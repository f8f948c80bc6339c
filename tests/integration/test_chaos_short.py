"""The soak of `make soak` in short: replicas that are killed, frozen and stopped must still count everything once."""

from __future__ import annotations

import os

import pytest

from support.brokers import why_no_kafka
from support.chaos import Plan, run
from support.report import not_run


@pytest.mark.timeout(300)
def test_replicas_that_are_killed_frozen_and_stopped_count_every_pair_exactly_once(tmp_path):
    """60,000 events while six or so faults hit two replicas on the kafka store, all of them killed at the end: counts
    over the replicas are those of the log exactly, sums to 1e-12, in lifetime totals, windows and segments.
    """
    if os.environ.get("MSEMON_TEST_BOOTSTRAP"):
        not_run("needs a broker of its own: unset MSEMON_TEST_BOOTSTRAP")
    if reason := why_no_kafka():
        not_run(reason)
    plan = Plan(events=60_000, rate=3_000, minutes=1.0, every_s=1.0, seed=20, broker_restart=False)
    result = run(plan, tmp_path)
    print(result.table())
    assert result.rows
    assert not result.wrong
    assert sum(result.made.values()) >= plan.events
    assert sum(result.faults.values()) >= 4
