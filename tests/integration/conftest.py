"""The brokers, for every integration test."""

from support.broker_fixtures import broker, kafka, tansu

__all__ = ["broker", "kafka", "tansu"]
