"""F6: replicas join and leave again and again under load."""

from __future__ import annotations

import pytest

from support.group import SESSION_S, Group, group
from support.histories import PARTITIONS
from support.traffic import Traffic

pytestmark = pytest.mark.timeout(240)  # several replicas start one after the other, and groups take their time


def one_left(replicas: Group) -> bool:
    return sorted(map(len, replicas.owned())) == [PARTITIONS] and replicas.shared_out()


def together(replicas: Group) -> None:
    """Of every topic the same partitions are read by the same replica. A partition is told of once its end is known."""

    def same() -> bool:
        scrapes = [member.scrape() for member in replicas.members()]
        parts = [
            [
                {dict(labels)["partition"] for labels in scrape.all("msemon_consumer_lag", topic=topic)}
                for scrape in scrapes
            ]
            for topic in replicas.traffic.topics
        ]
        return parts[0] == parts[1]

    replicas.until(same, 30, "the topics' partitions to be together")


def test_f06_sums_over_replicas_that_come_and_go(kafka, tmp_path):
    """Partitions of both topics move together and their state with them: sums over the replicas equal the oracle, and
    nobody exports another's partition for longer than the lease allows."""
    with Traffic(kafka) as traffic, group(traffic, tmp_path) as replicas:
        replicas.start("a")
        with replicas.watched():
            replicas.until(replicas.shared_out, 60, "a to read everything")
            for newcomer, leaver in (("b", "a"), ("c", "b"), ("d", "c")):
                replicas.start(newcomer)
                replicas.until(
                    lambda: replicas.shared_out() and all(replicas.owned()), 60, f"{newcomer} to have its share"
                )
                together(replicas)
                assert replicas.leave(leaver) == 0
                replicas.until(lambda: one_left(replicas), 60, f"{newcomer} to read everything")
            replicas.start("e")
            replicas.until(lambda: replicas.shared_out() and all(replicas.owned()), 60, "e to have its share")
            traffic.settle()
            replicas.agree()
        together(replicas)
        assert {name for _, name, parts in replicas.seen if parts} == {"a", "b", "c", "d", "e"}
        assert replicas.longest_overlap_s() <= SESSION_S
        for log in replicas.logs:
            assert "different partitions of different topics" not in log.read_text()
            assert "stored state refused" not in log.read_text()
