"""Two brokers of Apache Kafka and a controller that stays: for faults in which a partition's leader changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from support.brokers import NODE, Broker, admin, free_ports, kafka_node, new_cluster_id, running
from support.waiting import wait_until

OFFSETS = "__consumer_offsets"
CONTROLLER = 100
REPLICAS = 2


@dataclass
class Cluster:
    """The controller, and the brokers by their ids."""

    controller: Broker
    brokers: dict[int, Broker]

    @property
    def bootstrap(self) -> str:
        """Both brokers' addresses, as a user gives them."""
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    def topics(self) -> list[dict[str, Any]]:
        """What the cluster says of all its topics, the inner ones too."""
        with admin(self.bootstrap) as client:
            found: list[dict[str, Any]] = client.describe_topics()
            return found

    def whole(self) -> bool:
        """Whether every replica of every partition is in sync: only then may the next broker go."""
        try:
            partitions = [each for topic in self.topics() for each in topic["partitions"]]
        except KafkaError:
            return False
        return bool(partitions) and all(
            len(each["isr_nodes"]) == len(each["replica_nodes"]) == REPLICAS and each["leader_id"] in self.brokers
            for each in partitions
        )

    def coordinator(self, group: str) -> int:
        """The broker that leads the partition in which the group's offsets are kept; -1 while there is none, or nobody
        tells: a broker that has just died may be the one that is asked."""
        try:
            return self._leader(place_of(group))
        except KafkaError:
            return -1

    def move_coordinator(self, group: str) -> None:
        """Let the other broker lead that partition, as a reassignment of partitions does; nothing is ended."""
        place, old = place_of(group), self.coordinator(group)
        (new,) = self.brokers.keys() - {old}
        with admin(self.bootstrap) as client:
            results = client.alter_partition_reassignments({place: [new, old]})
            assert results == {place: None}, results
            wait_until(lambda: not client.list_partition_reassignments(), 60, "the new order of replicas", 0.2)
            client.elect_leaders(0, {OFFSETS: [place.partition]})

    def _leader(self, place: TopicPartition) -> int:
        (topic,) = (each for each in self.topics() if each["name"] == place.topic)
        (leader,) = (each["leader_id"] for each in topic["partitions"] if each["partition_index"] == place.partition)
        return int(leader)


def place_of(group: str) -> TopicPartition:
    """Where Kafka keeps a group's offsets: Java's hash of its name, without the sign."""
    value = 0
    for each in group.encode("utf-16-be")[1::2]:  # of plain names only
        value = (31 * value + each) & 0xFFFFFFFF
    return TopicPartition(OFFSETS, (value & 0x7FFFFFFF) % int(NODE["offsets.topic.num.partitions"]))


def committed(bootstrap: str, group: str, topics: list[str], partitions: int) -> int:
    """The sum of the group's committed offsets; -1 while nobody tells: a broker that has just died may be asked."""
    try:
        with closing(KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)) as consumer:
            places = [TopicPartition(topic, p) for topic in topics for p in range(partitions)]
            return sum(consumer.committed(place, timeout_ms=30_000) or 0 for place in places)
    except KafkaError:
        return -1


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """Both brokers up, with everything on two replicas. One in sync is enough to write, or no broker could go."""
    (port, *ports), cluster_id = free_ports(1 + REPLICAS), new_cluster_id()
    shared = {
        "controller.quorum.voters": f"{CONTROLLER}@127.0.0.1:{port}",
        "default.replication.factor": str(REPLICAS),
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": str(REPLICAS),
        # Noticed soon when one is gone, but not on a machine that is merely busy.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
    }
    given = {CONTROLLER: {"process.roles": "controller", "listeners": f"CONTROLLER://127.0.0.1:{port}"}}
    for number, at in enumerate(ports, 1):
        given[number] = {"process.roles": "broker", "listeners": f"PLAINTEXT://127.0.0.1:{at}"}
    nodes = {}
    for number, own in given.items():
        place = directory / f"node-{number}"
        place.mkdir(parents=True)
        at = port if number == CONTROLLER else ports[number - 1]
        nodes[number] = kafka_node(place, shared | own | {"node.id": str(number)}, at, cluster_id)
    controller = nodes.pop(CONTROLLER)
    controller.controller = True
    with ExitStack() as stack:
        stack.enter_context(running(controller))
        for broker in nodes.values():
            stack.enter_context(running(broker))
        yield Cluster(controller, nodes)
