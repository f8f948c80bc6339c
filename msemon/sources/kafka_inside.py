"""What is read from kafka-python's inside because it has no public way to it; each with a fallback where one exists.

The pin in `pyproject.toml` and the source's contract test watch over these.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from kafka.errors import KafkaError, NoError, UnknownTopicOrPartitionError, for_code
from kafka.net.compat import KafkaNetClient
from kafka.protocol.metadata import MetadataRequest
from kafka.structs import MemberState

# ruff: noqa: SLF001

_AGAIN_S = 0.05


class Clients:
    """Stands in for the class of kafka-python's network client and remembers the one made.

    Where the consumer's constructor fails it leaves its network thread running for ever and gives nobody a handle.
    """

    def __init__(self, *, create_topics: bool = False) -> None:
        self.made: Any = None
        self._create_topics = create_topics

    def __call__(self, **options: Any) -> Any:
        self.made = KafkaNetClient(**options)
        # kafka-python does not pass this option on, and would create the topics it is asked to wait for.
        self.made.cluster.config["allow_auto_create_topics"] = self._create_topics
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


def refresh_topics(consumer: Any, timeout_s: float) -> None:
    """Wait until the client knows the partitions of the topics it has subscribed to; gives up in silence.

    Else, elected leader, it may assign none to anybody, and let the group rebalance again right after.
    """
    manager = consumer._manager

    async def ask() -> Any:
        return await manager.wait_for(manager.cluster.request_update(), round(timeout_s * 1000))

    with contextlib.suppress(KafkaError):
        manager.run(ask)


def last_heartbeat_s(consumer: Any) -> float:
    """When a heartbeat was last answered, on `time.monotonic`'s clock; -inf for never or not known."""
    heartbeat = getattr(getattr(consumer, "_coordinator", None), "heartbeat", None)
    return float(getattr(heartbeat, "last_receive", -math.inf))


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
    for topic in _metadata(consumer, topics, timeout_s).topics:
        error = for_code(topic.error_code)
        if error is NoError:
            counts[topic.name] = len(topic.partitions)
        elif error is UnknownTopicOrPartitionError:
            counts[topic.name] = None
        else:
            raise error(f"topic {topic.name}")
    return counts


def learn_topics(consumer: Any, topics: Collection[str], timeout_s: float) -> bool:
    """Make the client itself know the topics it has just subscribed to; False where that took too long.

    Its first look at the cluster asks for no topic at all. Where that is answered after the subscription, it passes
    for the answer to it: the client joins, as the group's leader gives nobody anything, and was seen to leave it so for
    more than a minute. So whatever is on its way is awaited, and what the cluster says now put in its place.
    """
    cluster = consumer._cluster
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        if not cluster.metadata_refresh_in_progress:
            _metadata(consumer, topics, left, cluster.update_metadata)
            if all(cluster.partitions_for_topic(topic) for topic in topics):
                return True
        time.sleep(0.01)
    return False


def _metadata(
    consumer: Any, topics: Iterable[str], timeout_s: float, take: Callable[[Any], None] | None = None
) -> Any:
    """What the cluster says of these topics; `take` is given it on the client's own thread."""
    manager = consumer._manager
    names = [MetadataRequest.MetadataRequestTopic(name=topic) for topic in topics]
    request = MetadataRequest(
        topics=names,
        allow_auto_topic_creation=False,
        include_cluster_authorized_operations=False,
        include_topic_authorized_operations=False,
    )

    async def ask() -> Any:
        answer = await manager.wait_for(manager.send(request), max(1, round(timeout_s * 1000)))
        if take is not None:
            take(answer)
        return answer

    return manager.run(ask)
