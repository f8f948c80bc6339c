"""Fixtures for tests that need a broker; a `conftest.py` imports what it uses.

Each is a bootstrap string. The brokers live for the session, so tests name their topics and groups with `unique`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from msemon.demo.broker import EmbeddedBroker
from support.brokers import Broker, apache_kafka, running, why_no_kafka, why_no_tansu
from support.report import not_run


@pytest.fixture(scope="session")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Apache Kafka, one node in a process of ours: for tests that reach for its disk. The one that `kafka` is."""
    if os.environ.get("MSEMON_TEST_BOOTSTRAP"):
        not_run("needs a broker of its own: unset MSEMON_TEST_BOOTSTRAP")
    if reason := why_no_kafka():
        not_run(reason)
    with running(apache_kafka(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """Apache Kafka, one node, or the cluster that `MSEMON_TEST_BOOTSTRAP` names."""
    cluster = os.environ.get("MSEMON_TEST_BOOTSTRAP")
    if cluster:
        return cluster
    broker: Broker = request.getfixturevalue("own_kafka")
    return broker.bootstrap


@pytest.fixture(scope="session")
def tansu() -> Iterator[str]:
    """The demo's embedded broker."""
    if reason := why_no_tansu():
        not_run(reason)
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


@pytest.fixture(params=["kafka", "tansu"])
def broker(request: pytest.FixtureRequest) -> str:
    """Each broker in turn: for tests of what all of them promise."""
    bootstrap: str = request.getfixturevalue(request.param)
    return bootstrap
