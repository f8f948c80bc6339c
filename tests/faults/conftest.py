"""The brokers, for faults that need one."""

import pytest

from support.broker_fixtures import broker, kafka, own_kafka, tansu

__all__ = ["broker", "kafka", "own_kafka", "tansu"]


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python leaves the socket of a connection that was refused to the garbage collector.
    config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")
