"""The source on kafka-python, the default client.

The client runs its network on a thread of its own; everything here is called on the daemon's, except `_Listener`, which
the client calls on its network thread: that only notes, and sets new partitions aside before anything is fetched.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, errors
from kafka import TopicPartition as KafkaTopicPartition

from msemon.settings import Settings
from msemon.settings.values import Start
from msemon.sources import kafka_inside, kafka_records
from msemon.sources.base import (
    ErrorKind,
    Fatal,
    Gap,
    Polled,
    Skipped,
    TopicPartition,
    Trouble,
    Truncated,
    Unreachable,
)
from msemon.sources.certificates import Certificates
from msemon.sources.group import UNEVEN_S, Group, Note, missed_one, require_equal
from msemon.sources.kafka_access import Access, kind_of, trouble
from msemon.sources.kafka_config import CONNECT_S, client_config, consumer_config, producer_config
from msemon.sources.record_format import Row, batch_of

__all__ = ["KafkaPythonSource", "client_config", "consumer_config", "producer_config"]

log = structlog.get_logger(__name__)

ASK_S = 10.0
"""How long the cluster may take to answer a question about offsets or partitions."""

JOIN_S = 1.0
"""How long a poll may take, whatever it is given, while the group rebalances and nothing could be read anyway."""

LEARN_S = 2.0
"""How long to wait for the client to know the topics before it joins the group."""

_FATAL = (
    errors.FencedInstanceIdError,
    errors.FencedMemberEpochError,
    errors.InconsistentGroupProtocolError,
    errors.InvalidGroupIdError,
    errors.InvalidSessionTimeoutError,
    errors.KafkaConfigurationError,
    errors.UnsupportedSaslMechanismError,
    errors.UnsupportedVersionError,
)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what rebalances do. Runs on the client's network thread, where a blocking call raises."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._held: frozenset[KafkaTopicPartition] = frozenset()
        self._generation: tuple[int, str] | None = None  # of the last assignment
        self.notes: deque[Note] = deque()

    def on_partitions_revoked(self, revoked: Iterable[KafkaTopicPartition]) -> None:
        """The rebalance begins; the client keeps positions and pauses of what comes back to it."""
        self.notes.append(Note("revoked", frozenset(revoked)))

    def on_partitions_assigned(self, assigned: Iterable[KafkaTopicPartition]) -> None:
        now = frozenset(assigned)
        before, self._generation = self._generation, kafka_inside.generation(self._consumer)
        if self._held and missed_one(before, self._generation):
            self.on_partitions_lost(self._held)
        for where in now - self._held:
            # Paused before the first fetch. Without a position the client would take the group's committed one, or
            # raise from every poll; 0 is never read from, since the daemon seeks before it resumes.
            self._consumer.seek(where, 0)
            self._consumer.pause(where)
        self._held = now
        self.notes.append(Note("assigned", now))

    def on_partitions_lost(self, lost: Iterable[KafkaTopicPartition]) -> None:
        """Not `revoked`, to which kafka-python would delegate."""
        self._held -= frozenset(lost)
        self.notes.append(Note("lost", frozenset(lost)))


class KafkaPythonSource:
    """A `Source` on kafka-python. Raises ValueError where `client_options` can't be used."""

    def __init__(
        self,
        settings: Settings,
        connect_s: float = CONNECT_S,
        ask_s: float = ASK_S,
        uneven_s: float = UNEVEN_S,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._topics = tuple(settings.kafka.topics)
        self._settings = settings
        self._name = settings.kafka.group_id
        self._config = consumer_config(settings, connect_s)
        self.session_timeout_s: float = self._config.get("session_timeout_ms", 45_000) / 1000
        self._ask_s = ask_s
        self._uneven_s = uneven_s
        self._wall_s = wall_s
        self._consumer: Any = None
        self._access: Access | None = None
        self._troubles: list[Trouble] = []  # of commits, told with the next poll
        self._listener: _Listener | None = None
        self._unpacking: kafka_records.Unpacking | None = None
        self._group = Group(self._topics, self._name, uneven_s)
        self._wanted: set[KafkaTopicPartition] = set()  # not paused by the daemon
        self._heard_s = -math.inf
        self._polled_s = -math.inf  # when the last poll began
        self._topic_ids: dict[str, str] = {}  # as last heard

    def connect(self) -> None:
        """See `Source`."""
        self.close(self._ask_s)
        if why := Certificates(self._settings).problem():
            raise Unreachable(why, ErrorKind.AUTHENTICATION)
        clients = kafka_inside.Clients(self._settings)
        try:
            consumer = KafkaConsumer(**self._config, kafka_client=clients)
        except Exception as problem:
            clients.close()
            raise _refusal(problem, "connect to the cluster") from problem
        self._consumer, self._access = consumer, clients.access
        self.session_timeout_s = consumer.config["session_timeout_ms"] / 1000  # old brokers have another default
        self._unpacking = kafka_records.install(consumer)
        try:
            require_equal(self.partition_counts())
        except BaseException:
            self.close(self._ask_s)
            raise

    def partition_counts(self) -> dict[str, int | None]:
        """See `Source`."""
        try:
            found = kafka_inside.topic_partitions(self._consumer, self._topics, self._ask_s)
        except Exception as problem:
            raise _refusal(problem, "ask for the topics' partitions") from problem
        return {topic: found.get(topic) for topic in self._topics}

    def topic_ids(self) -> dict[str, str]:
        """See `Source`."""
        try:
            return kafka_inside.topic_ids(self._consumer, self._topics, self._ask_s)
        except Exception as problem:
            raise _refusal(problem, "ask for the topics' ids") from problem

    def subscribe(self) -> None:
        """See `Source`."""
        self._listener = _Listener(self._consumer)
        self._group.rebalancing = True
        self._consumer.subscribe(topics=list(self._topics), listener=self._listener)
        kafka_inside.refresh_topics(self._consumer, self._topics, LEARN_S)

    def poll(self, timeout_s: float) -> Polled:
        """See `Source`."""
        polled = Polled()
        began_s = time.monotonic()
        deadline_s = began_s + timeout_s
        records = self._fetch(timeout_s, polled)
        polled.errors += self._troubles
        self._troubles = []
        if self._access is not None:
            polled.errors += self._access.refusals()
        self._heard_s = self.last_heard_s()
        self._apply_notes(polled)
        self._polled_s = began_s
        polled.rebalancing = self._group.rebalancing
        self._compare_ids(polled)
        positions = kafka_inside.positions(self._consumer) if records else {}
        for where, rows in records.items():
            if where.partition in self._group.owned and where.topic not in polled.remade:
                polled.batches.append(batch_of(where.topic, where.partition, rows, positions.get(where, 0)))
        if kafka_inside.fenced(self._consumer):
            raise Fatal(f"another member of the group {self._name} has the same group_instance_id")
        if self._group.due(time.monotonic()):
            self._check_partitions(polled)
        polled.unequal = self._group.unequal
        if polled.errors and not polled.batches:
            time.sleep(max(0.0, deadline_s - time.monotonic()))  # the client raises at once; do not spin
        return polled

    def start_offsets(self, partitions: Collection[int], start: Start) -> dict[TopicPartition, int]:
        """See `Source`."""
        wanted = [KafkaTopicPartition(topic, p) for p in sorted(partitions) for topic in self._topics]
        time_us = start.timestamp_us(round(self._wall_s() * 1e6))
        try:
            if start.policy == "earliest":
                found = self._consumer.beginning_offsets(wanted, timeout_ms=self._ask_ms)
            else:
                found = self._consumer.end_offsets(wanted, timeout_ms=self._ask_ms)
            if time_us is not None:
                found |= self._offsets_at(wanted, max(0, time_us // 1000))
        except Exception as problem:
            raise _refusal(problem, "ask where to begin") from problem
        return {TopicPartition(*where): int(offset) for where, offset in found.items()}

    def committed(self, partitions: Collection[int]) -> dict[TopicPartition, int]:
        """See `Source`."""
        wanted = [KafkaTopicPartition(topic, p) for p in sorted(partitions) for topic in self._topics]
        try:
            found = {where: self._consumer.committed(where, timeout_ms=self._ask_ms) for where in wanted}
        except Exception as problem:
            raise _refusal(problem, "ask what was committed") from problem
        return {TopicPartition(*where): int(offset) for where, offset in found.items() if offset is not None}

    def committed_note(self, partition: int) -> str:
        """See `Source`."""
        where = KafkaTopicPartition(self._topics[0], partition)
        try:
            found = self._consumer.committed(where, metadata=True, timeout_ms=self._ask_ms)
        except Exception as problem:
            raise _refusal(problem, "ask what was committed") from problem
        return "" if found is None else str(found.metadata or "")

    def seek(self, where: TopicPartition, offset: int) -> None:
        """See `Source`."""
        for known in self._known([where]):
            self._consumer.seek(known, offset)

    def pause(self, where: Iterable[TopicPartition]) -> None:
        """See `Source`."""
        known = self._known(where)
        self._wanted.difference_update(known)
        self._consumer.pause(*known)

    def resume(self, where: Iterable[TopicPartition]) -> None:
        """See `Source`."""
        known = self._known(where)
        self._wanted.update(known)
        if self._group.unequal is None:
            self._consumer.resume(*known)

    def lag(self) -> dict[TopicPartition, int]:
        """See `Source`."""
        lags: dict[TopicPartition, int] = {}
        for where, position in kafka_inside.positions(self._consumer).items():
            end = self._consumer.highwater(where) if where.partition in self._group.owned else None
            if end is not None:
                lags[TopicPartition(*where)] = max(0, end - position)
        return lags

    def commit(self, offsets: Mapping[TopicPartition, int], timeout_s: float, note: str = "") -> bool:
        """See `Source`."""
        if self._group.rebalancing or not offsets:
            return False
        told = {KafkaTopicPartition(*where): OffsetAndMetadata(offset, note, -1) for where, offset in offsets.items()}
        asked_s = time.monotonic()
        try:
            self._consumer.commit(told, timeout_ms=max(1, round(timeout_s * 1000)))  # without it, it tries for ever
        except _FATAL as problem:
            raise _refusal(problem, "commit") from problem
        except errors.KafkaError as problem:
            log.warning("offsets not committed", reason=str(problem))
            self._troubles.append(trouble(problem))
            return False
        self._heard_s = max(self._heard_s, asked_s)  # the answer may have come long before it was read
        return True

    def last_heard_s(self) -> float:
        """See `Source`."""
        return max(self._heard_s, kafka_inside.last_heartbeat_s(self._consumer))

    def alive(self) -> bool:
        """See `Source`."""
        return kafka_inside.network_alive(self._consumer)

    def outdated(self) -> bool:
        """See `Source`. Each connection reads the files anew."""
        return False

    def close(self, timeout_s: float) -> None:
        """See `Source`."""
        consumer, self._consumer = self._consumer, None
        self._access = None
        self._listener = self._unpacking = None
        self._group = Group(self._topics, self._name, self._uneven_s)
        self._wanted = set()
        self._topic_ids = {}
        if consumer is None:
            return
        try:
            consumer.close(autocommit=False, timeout_ms=max(1, round(timeout_s * 1000)))
        except Exception as problem:  # noqa: BLE001 (it is the end anyway)
            log.warning("the client did not close cleanly", reason=str(problem))

    @property
    def _ask_ms(self) -> int:
        return round(self._ask_s * 1000)

    def _known(self, where: Iterable[TopicPartition]) -> list[KafkaTopicPartition]:
        """Those that are ours and the client's: it raises for others."""
        held = self._consumer.assignment()
        return [KafkaTopicPartition(*each) for each in where if each.partition in self._group.owned and each in held]

    def _fetch(self, timeout_s: float, polled: Polled) -> dict[KafkaTopicPartition, list[Row]]:
        """Records as the client has them; what went wrong on the way is in `polled`."""
        unpacking = self._unpacking
        assert unpacking is not None
        unpacking.begin()
        records: dict[KafkaTopicPartition, list[Row]] = {}
        try:
            if kafka_inside.joined(self._consumer, max(timeout_s, JOIN_S)):
                records = self._consumer.poll(timeout_ms=round(timeout_s * 1000))
        except _FATAL as problem:
            raise _refusal(problem, "poll") from problem
        except errors.OffsetOutOfRangeError as problem:
            for where, position in problem.args[0].items():
                self._out_of_range(where, position, polled)
        except errors.LogTruncationError as problem:
            for where, divergent in problem.divergent_offsets.items():
                self._cut_back(where, None if divergent is None else divergent.offset, polled)
        except errors.KafkaError as problem:
            if not self._step_over_stuck(polled):
                polled.errors.append(trouble(problem))
        except Exception as problem:
            raise _refusal(problem, "poll") from problem
        polled.skipped += unpacking.skipped
        return records

    def _compare_ids(self, polled: Polled) -> None:
        """Has a topic another id than it had? The client hears of it with the metadata, within a fetch that fails."""
        now = kafka_inside.known_topic_ids(self._consumer, self._topics)
        polled.remade = frozenset(topic for topic, name in now.items() if self._topic_ids.get(topic, name) != name)
        self._topic_ids |= now

    def _apply_notes(self, polled: Polled) -> None:
        """Turn what the listener has noted into what the daemon has to know."""
        assert self._listener is not None
        if self._group.apply(self._listener.notes, polled):
            # The group's answer was not there when the last poll began; when it came since, nobody knows.
            self._heard_s = max(self._heard_s, self._polled_s)
        ours = {where for where in self._group.assigned if where.partition in self._group.owned}
        self._wanted = {where for where in self._wanted & ours if where.partition not in polled.lost}
        if polled.assigned is not None:
            held = self._consumer.assignment()  # of which some may be lost again: the client raises for those
            self._consumer.pause(*((set(self._group.assigned) - self._wanted) & held))

    def _check_partitions(self, polled: Polled) -> None:
        """After an assignment: are the topics' partitions still equal in number, and here in pairs?"""
        before = self._group.unequal
        try:
            text = self._group.counted(self.partition_counts(), time.monotonic())
        except Unreachable as problem:
            polled.errors.append(Trouble(problem.kind, str(problem)))
            return
        if self._group.unequal is not None:
            self._consumer.pause(*self._group.assigned)
        elif before is not None:
            self._consumer.resume(*self._wanted)
        if text is not None:
            polled.errors.append(Trouble(ErrorKind.OTHER, text))

    def _offsets_at(self, wanted: Collection[KafkaTopicPartition], time_ms: int) -> dict[KafkaTopicPartition, int]:
        """First offsets of that time or later, where there are any: a timestamp of -1 says that there is none, too."""
        asked = dict.fromkeys(wanted, time_ms)  # a fresh one: the client changes it
        found = self._consumer.offsets_for_times(asked, timeout_ms=self._ask_ms)
        return {where: at.offset for where, at in found.items() if at is not None and at.timestamp >= 0}

    def _out_of_range(self, where: KafkaTopicPartition, position: int, polled: Polled) -> None:
        """The log has no such offset: go on at its start where that is above, at its end where that is below."""
        try:
            start = self._consumer.beginning_offsets([where], timeout_ms=self._ask_ms)[where]
            end = self._consumer.end_offsets([where], timeout_ms=self._ask_ms)[where]
        except errors.KafkaError as problem:
            polled.errors.append(trouble(problem))  # nothing is lost: the position stands, and the next poll asks again
            return
        if where not in self._consumer.assignment():
            return
        if position < start:
            self._consumer.seek(where, start)
            polled.gaps.append(Gap(TopicPartition(*where), start - position))
        elif position > end:
            self._cut_back(where, end, polled)

    def _cut_back(self, where: KafkaTopicPartition, end: int | None, polled: Polled) -> None:
        """The log ends, or differs, from `end` on. Not known: only said; if it ends too, that will show."""
        position = kafka_inside.positions(self._consumer).get(where)
        if position is None or (end is not None and position <= end):
            return  # found out of a position that has been left since
        if end is not None:
            self._consumer.seek(where, end)
        polled.truncated.append(Truncated(TopicPartition(*where), position, position if end is None else end))

    def _step_over_stuck(self, polled: Polled) -> bool:
        """Get past bytes that hold no complete batch, one offset at a time. True if there were any."""
        assert self._unpacking is not None
        for where, offset in self._unpacking.stuck:
            self.seek(where, offset + 1)
            polled.skipped.append(Skipped(where, offset, 1, "no complete batch"))
        return bool(self._unpacking.stuck)


def _refusal(problem: Exception, task: str) -> Exception:
    """The exception that tells the daemon what to do about it."""
    text = f"could not {task}: {problem}"
    if isinstance(problem, _FATAL) or not isinstance(problem, errors.KafkaError | OSError):
        return Fatal(text)
    return Unreachable(text, kind_of(problem))
