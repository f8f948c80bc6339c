"""A broker whose address changes: the same node with the same log, listening somewhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.brokers import Broker, apache_kafka, free_ports


@contextmanager
def own_broker(directory: Path) -> Iterator[Broker]:
    """Apache Kafka that a test may kill and start again: it may come back once its old self counts as dead."""
    directory.mkdir()
    broker = apache_kafka(directory, broker_session_timeout_ms="2000", broker_heartbeat_interval_ms="500")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def move(broker: Broker) -> None:
    """Stop it and start it again on another port, under which alone it is known from then on."""
    properties = Path(broker.command[-1])
    broker.stop()
    host, old = broker.bootstrap.split(":")
    (new,) = free_ports(1)
    properties.write_text(properties.read_text().replace(f"PLAINTEXT://{host}:{old}", f"PLAINTEXT://{host}:{new}"))
    broker.bootstrap = f"{host}:{new}"
    broker.start()
