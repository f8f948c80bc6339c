"""What is read from kafka-python's inside because it has no public way to it; each with a fallback where one exists.

The pin in `pyproject.toml` and the source's contract test watch over these.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from kafka.errors import KafkaError, NoError, UnknownTopicOrPartitionError, for_code
from kafka.net.compat import KafkaNetClient
from kafka.protocol.metadata import MetadataRequest
from kafka.structs import MemberState

from msemon.settings import Settings
from msemon.sources.kafka_access import Access
from msemon.sources.login import Login

# ruff: noqa: SLF001

_AGAIN_S = 0.05


class Clients:
    """Stands in for the class of kafka-python's network client and remembers the one made.

    Where the consumer's constructor fails it leaves its network thread running for ever and gives nobody a handle.
    """

    def __init__(self, settings: Settings, *, create_topics: bool = False) -> None:
        self.made: Any = None
        self.access: Access | None = None
        self._settings = settings
        self._create_topics = create_topics

    def __call__(self, **options: Any) -> Any:
        self.made = KafkaNetClient(**options)
        # kafka-python does not pass this option on, and would create the topics it is asked to wait for.
        self.made.cluster.config["allow_auto_create_topics"] = self._create_topics
        self.access = Access(self.made._manager, Login(self._settings))
        return self.made

    def close(self) -> None:
        """End what a failed constructor has left."""
        if self.made is not None:
            self.made.close()


def joined(consumer: Any, timeout_s: float) -> bool:
    """Drive a rejoin of the group that is due or under way for a while; False where it is still not complete.

    kafka-python's own `poll()` does so too, but where its time is up before the group has answered, it may forget the
    answer: then the member is out of the group, without heartbeats, and never comes back. That is so where the rejoin
    was due to changed metadata alone (`rejoin_needed` keeps it due), and where the answer comes between two polls,
    which makes it join once more (`_again` keeps the answer).
    """
    coordinator = consumer._coordinator
    if not (coordinator.need_rejoin() or coordinator.rejoining):
        return True
    coordinator.request_rejoin()
    answer = coordinator._join_task
    if coordinator.rejoining and answer is not None and answer.is_done and answer.succeeded():
        coordinator._join_task = _again(consumer._manager, answer)
        timeout_s = max(timeout_s, 20 * _AGAIN_S)
    coordinator.poll(timeout_ms=round(timeout_s * 1000))
    return not (coordinator.need_rejoin() or coordinator.rejoining)


def _again(manager: Any, answer: Any) -> Any:
    """The answer as one that comes a little later: kafka-python only takes what it has waited for."""

    async def wait() -> Any:
        await manager._net.sleep(_AGAIN_S)
        return await answer

    return manager.call_soon(wait)


def refresh_topics(consumer: Any, topics: Iterable[str], timeout_s: float) -> None:
    """Wait until the client knows the partitions of the topics it has subscribed to; gives up in silence.

    Else, elected leader, it may assign none to anybody, and let the group rebalance again right after. The first answer
    may be one to an earlier question, about no topic at all.
    """
    manager, cluster = consumer._manager, consumer._manager.cluster
    deadline_s = time.monotonic() + timeout_s

    async def ask(left_s: float) -> Any:
        return await manager.wait_for(cluster.request_update(), max(1, round(left_s * 1000)))

    while (left_s := deadline_s - time.monotonic()) > 0:
        if all(cluster.partitions_for_topic(topic) for topic in topics):
            return
        with contextlib.suppress(KafkaError):
            manager.run(ask, left_s)


def last_heartbeat_s(consumer: Any) -> float:
    """When the last heartbeat was sent, on `time.monotonic`'s clock, if it is answered; -inf where not, or not known.

    Sent and not answered: a process that was stopped may find an answer that is older than its absence.
    """
    heartbeat = getattr(getattr(consumer, "_coordinator", None), "heartbeat", None)
    sent = float(getattr(heartbeat, "last_send", -math.inf))  # read first: the network thread may set both meanwhile
    return sent if float(getattr(heartbeat, "last_receive", -math.inf)) >= sent else -math.inf


def generation(consumer: Any) -> tuple[int, str] | None:
    """The group's generation that this member belongs to, and the member's id; None where not known."""
    found = getattr(getattr(consumer, "_coordinator", None), "_generation", None)
    number, member = getattr(found, "generation_id", None), getattr(found, "member_id", None)
    return (number, member) if isinstance(number, int) and isinstance(member, str) else None


def network_alive(consumer: Any) -> bool:
    """Whether the client's network thread still runs; True where there is none, or it can't be known.

    An error in it (no file descriptors, no memory) ends it, and it is never started again. Some calls then raise that
    error for ever; were it one of Kafka's own, it would look like a cluster that does not answer.
    """
    thread = getattr(getattr(getattr(consumer, "_client", None), "_net", None), "_io_thread", None)
    return thread is None or thread.is_alive()


def fenced(consumer: Any) -> bool:
    """Whether the group has told this static member that another one has its id.

    kafka-python then stops its heartbeats without a word and goes on fetching: nothing else stops them in a stable
    member. Where it can't be known the next commit is refused, which says the same later.
    """
    coordinator = getattr(consumer, "_coordinator", None)
    beats = getattr(coordinator, "_heartbeat_enabled", True)
    state, rejoining = getattr(coordinator, "state", None), getattr(coordinator, "rejoining", True)
    return state == MemberState.STABLE and not beats and not rejoining


def positions(consumer: Any) -> dict[Any, int]:
    """The next offset of every assigned partition that has one.

    kafka-python's own `position()` may wait, and walks through all partitions for each.
    """
    states: Mapping[Any, Any] = consumer._subscription.assignment
    return {where: state.position.offset for where, state in list(states.items()) if state.position is not None}


def topic_partitions(consumer: Any, topics: Iterable[str], timeout_s: float) -> dict[str, int | None]:
    """Partitions of each topic, asked of the cluster now; None where it does not exist. Raises KafkaError.

    kafka-python's own `partitions_for_topic` answers from its cache, or else asks for all topics without a bound.
    """
    counts: dict[str, int | None] = {}
    for topic in _described(consumer, topics, timeout_s):
        error = for_code(topic.error_code)
        if error is NoError:
            counts[topic.name] = len(topic.partitions)
        elif error is UnknownTopicOrPartitionError:
            counts[topic.name] = None
        else:
            raise error(f"topic {topic.name}")
    return counts


def topic_ids(consumer: Any, topics: Iterable[str], timeout_s: float) -> dict[str, str]:
    """The cluster's id of each topic that exists and has one, asked of it now. Raises KafkaError."""
    described = [topic for topic in _described(consumer, topics, timeout_s) if for_code(topic.error_code) is NoError]
    return {topic.name: text for topic in described if (text := _id(topic.topic_id))}


def known_topic_ids(consumer: Any, topics: Iterable[str]) -> dict[str, str]:
    """The same as the client last heard it, without asking; nothing where that can't be known."""
    known = getattr(getattr(getattr(consumer, "_manager", None), "cluster", None), "topic_id", lambda _: None)
    return {topic: text for topic in topics if (text := _id(known(topic)))}


def _id(found: Any) -> str:
    return found.hex if found is not None and found.int else ""  # brokers before 2.8 have none, or zeros


def _described(consumer: Any, topics: Iterable[str], timeout_s: float) -> list[Any]:
    manager = consumer._manager
    request = MetadataRequest(
        topics=[MetadataRequest.MetadataRequestTopic(name=topic) for topic in topics],
        allow_auto_topic_creation=False,
        include_cluster_authorized_operations=False,
        include_topic_authorized_operations=False,
    )

    async def ask() -> Any:
        return await manager.wait_for(manager.send(request), max(1, round(timeout_s * 1000)))

    return list(manager.run(ask).topics)
