"""F9: a process that stands still for longer than the session timeout, and goes on as if nothing had happened."""

from __future__ import annotations

import signal
import socket

import pytest
from kafka import KafkaConsumer, TopicPartition

from support.group import group
from support.histories import PARTITIONS
from support.running import Scrape
from support.traffic import Traffic

pytestmark = pytest.mark.timeout(240)  # several replicas start one after the other, and groups take their time


def asked(port: int) -> socket.socket:
    """A scrape on its way: a frozen process's kernel takes it, and it is the first thing that is answered."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30.0)
    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return connection


def answered(connection: socket.socket) -> Scrape:
    with connection, connection.makefile("rb") as file:
        head, _, body = file.read().partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    return Scrape(body.decode())


def committed(traffic: Traffic) -> dict[TopicPartition, int]:
    consumer = KafkaConsumer(bootstrap_servers=traffic.bootstrap, group_id=traffic.group, enable_auto_commit=False)
    try:
        places = [TopicPartition(topic, p) for topic in traffic.topics for p in range(PARTITIONS)]
        return {place: consumer.committed(place) or 0 for place in places}
    finally:
        consumer.close()


def test_f09_a_zombie(kafka, tmp_path):
    """Its series are gone before its first scrape, its commit is refused, it writes over nothing, and the sums over
    the replicas are exact: also of those who restore what both have left."""
    with Traffic(kafka) as traffic, group(traffic, tmp_path) as replicas:
        zombie, other = replicas.start("zombie"), replicas.start("other")
        replicas.until(lambda: replicas.shared_out() and all(replicas.owned()), 60, "both to have a share")
        replicas.until(lambda: zombie.scrape().sum("msemon_lifetime_pairs") > 50, 30, "some pairs")
        zombie.signal(signal.SIGSTOP)
        del replicas.all["zombie"]
        replicas.until(replicas.shared_out, 60, "the other to read everything")
        wanted = len(traffic.labels)
        replicas.until(lambda: other.scrape().sum("msemon_lifetime_pairs") > wanted, 30, "it to go on")
        before = committed(traffic)
        scrapes = [asked(zombie.port) for _ in range(3)]
        zombie.signal(signal.SIGCONT)
        for scrape in map(answered, scrapes):
            assert not scrape.all("msemon_lifetime_pairs")
            assert not scrape.all("msemon_window_pairs")
            assert scrape.all("msemon_pairs_total"), "the process's own counters stay"
        zombie.until(lambda: any(line["lost"] for line in zombie.said("partitions gone")), "it to hear of it", 30)
        after = committed(traffic)
        assert all(after[place] >= before[place] for place in before), "no commit of the zombie's"
        replicas.all["zombie"] = zombie
        replicas.until(lambda: replicas.shared_out() and all(replicas.owned()), 60, "both to have a share again")
        traffic.settle()
        replicas.agree()
        # What is in the store, by either's hand, is right as well.
        for name in ("other", "zombie"):
            replicas.all.pop(name)
        zombie.process.kill()
        other.process.kill()
        replicas.start("heir")
        replicas.until(replicas.shared_out, 60, "the heir to read everything")
        traffic.settle()
        replicas.agree()
        for log in replicas.logs:
            assert "stored state refused" not in log.read_text()
