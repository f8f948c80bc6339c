"""F33: rights on a topic or on the group are revoked and given back; a password is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern
from kafka.admin import ResourceType as Resource

from support.brokers import Broker, admin, why_no_kafka
from support.doors import with_door
from support.lives import Monitor
from support.report import not_run
from support.topics import Record, create_topics, produce, unique

USER, PASSWORD = "monitor", "right"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, str]]:
    """A broker that knows a user without any rights, and where that user may come in; tests come in by another door."""
    if reason := why_no_kafka():
        not_run(reason)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    broker, door = with_door(tmp_path_factory.mktemp("guarded"), "SASL_PLAINTEXT", {
        "listener.name.users.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.users.plain.sasl.jaas.config": f'{login} user_{USER}="{PASSWORD}";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    })  # fmt: skip
    broker.start()
    yield broker, door
    broker.stop()


def rights(monitor: Monitor) -> dict[str, list[Any]]:
    """What a monitor's user needs, by resource."""

    def allow(kind: Any, name: str, *operations: Any) -> list[Any]:
        pattern = ResourcePattern(kind, name, ACLResourcePatternType.LITERAL)
        return [ACL(f"User:{USER}", "*", each, ACLPermissionType.ALLOW, pattern) for each in operations]

    topics = [allow(Resource.TOPIC, each, ACLOperation.READ, ACLOperation.DESCRIBE) for each in monitor.topics]
    group = allow(Resource.GROUP, monitor.settings["kafka.group_id"], ACLOperation.READ, ACLOperation.DESCRIBE)
    return {"predictions": topics[0], "labels": topics[1], "group": group}


def give(monitor: Monitor, *names: str) -> None:
    with admin(monitor.bootstrap) as client:
        client.create_acls([acl for name in names for acl in rights(monitor)[name]])


def take(monitor: Monitor, *names: str) -> None:
    filters = [
        ACLFilter(acl.principal, acl.host, acl.operation, acl.permission_type, acl.resource_pattern)
        for name in names
        for acl in rights(monitor)[name]
    ]
    with admin(monitor.bootstrap) as client:
        client.delete_acls(filters)


@contextmanager
def living(monitor: Monitor, door: str, password: str = PASSWORD, ready: bool = True) -> Iterator[Any]:
    login: dict[str, Any] = {
        "kafka__security_protocol": "SASL_PLAINTEXT", "kafka__sasl_over_plaintext": True,
        "kafka__sasl_mechanism": "PLAIN",
        "kafka__sasl_username": USER, "kafka__sasl_password": password,
    }  # fmt: skip
    with monitor.run(ready=ready, kafka__bootstrap_servers=door, **login) as running:
        yield running


@pytest.mark.parametrize("what", ["predictions", "labels", "group"])
def test_f33_rights_that_are_taken_and_given_back(guarded, tmp_path, what):
    """The process stays up and says which right it lacks; given back, it goes on by itself with nothing lost."""
    broker, door = guarded
    monitor = Monitor(broker.bootstrap, tmp_path)
    give(monitor, "predictions", "labels", "group")
    with living(monitor, door) as running:
        monitor.send(*monitor.events(100, "before"))
        monitor.await_exact(running)
        take(monitor, what)
        monitor.send(*monitor.events(100, "meanwhile"))
        running.until(lambda: "authorization" in running.log.read_text().lower(), "what is missing in the log", 60)
        running.until(
            lambda: running.scrape().number("msemon_kafka_errors_total", kind="authorization") > 0, "its count"
        )
        assert running.process.poll() is None
        assert running.healthy
        give(monitor, what)
        monitor.send(*monitor.events(100, "after"))
        monitor.await_exact(running)


def test_f33_rights_that_are_missing_at_the_start_are_waited_for(guarded, tmp_path):
    """Healthy and not ready, with the reason in the log; then it reads."""
    broker, door = guarded
    monitor = Monitor(broker.bootstrap, tmp_path)
    with living(monitor, door, ready=False) as running:
        running.until(lambda: "authorization" in running.log.read_text().lower(), "what is missing in the log", 60)
        assert running.healthy
        assert not running.ready
        give(monitor, "predictions", "labels", "group")
        running.await_ready()
        monitor.send(*monitor.events(100, "then"))
        monitor.await_exact(running)


def test_f33_a_wrong_password_is_said_and_tried_again(guarded, tmp_path):
    """Healthy and not ready, with the reason in the log and no password in it, more and more seldom."""
    broker, door = guarded
    monitor = Monitor(broker.bootstrap, tmp_path)
    give(monitor, "predictions", "labels", "group")
    with living(monitor, door, password="wrong-one", ready=False) as running:
        running.until(lambda: len(running.said("not let in")) >= 2, "two attempts", 60)
        assert all("Invalid username or password" in line["error"] for line in running.said("not let in"))
        assert running.healthy
        assert not running.ready
        assert "wrong-one" not in running.log.read_text()
        waits = [line["retry_seconds"] for line in running.said("not let in")]
        assert waits[1] > waits[0]


def listed() -> dict[str, list[str]]:
    """The rights of docs/security.md that msemon can't do without, by the names of resources there."""
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    table = text.split("## Rights in Kafka")[1].split("Further rights")[0]
    rows = re.findall(r"^\| (topic|group)[^`]*`([a-z_.]+)` \| ([^|]+) \|", table, re.MULTILINE)
    return {name: re.findall("`([A-Z_]+)`", operations) for _, name, operations in rows}


def test_f33_the_rights_that_the_docs_list_are_enough(guarded, tmp_path):
    """With the state and the dead letters in topics: read, kept, restored and sent, and not one refusal."""
    broker, door = guarded
    state, letters = unique("state"), unique("letters")
    monitor = Monitor(broker.bootstrap, tmp_path, state__store="kafka", state__topic=state,
                      kafka__dead_letter_topic=letters)  # fmt: skip
    create_topics(broker.bootstrap, {state: 1}, {"cleanup.policy": "compact"})
    create_topics(broker.bootstrap, {letters: 1})
    names = {"kafka.topics": monitor.topics, "kafka.group_id": [monitor.settings["kafka.group_id"]],
             "state.topic": [state], "kafka.dead_letter_topic": [letters]}  # fmt: skip
    rows = listed()
    assert rows.keys() == names.keys()
    patterns = [
        (ResourcePattern(Resource.GROUP if setting.endswith("group_id") else Resource.TOPIC, name,
                         ACLResourcePatternType.LITERAL), operation)
        for setting, found in names.items() for name in found for operation in rows[setting]
    ]  # fmt: skip
    with admin(broker.bootstrap) as client:
        client.create_acls([
            ACL(f"User:{USER}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern)
            for pattern, operation in patterns
        ])  # fmt: skip
    with living(monitor, door) as running:
        monitor.send(*monitor.events(100, "first"))
        monitor.await_exact(running)
        monitor.await_kept(running)
    with living(monitor, door) as running:
        monitor.await_exact(running)
        produce(broker.bootstrap, monitor.topics[0], [Record(b"no event")])
        running.until(lambda: monitor.ends(letters)[0] >= 1, "a dead letter", 30, every_s=0.5)
        assert running.scrape().number("msemon_kafka_errors_total", kind="authorization") == 0
        assert running.said("state restored")
