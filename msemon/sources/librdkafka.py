"""The source on librdkafka: the fast client, which fetches, checks and decompresses on threads of its own.

Everything here runs on the daemon's thread, the client's callbacks too: it calls them within `consume`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from kafka.errors import KafkaError as KafkaPythonError

from msemon.settings import Settings
from msemon.settings.values import Start
from msemon.sources import kafka_access, unreadable
from msemon.sources import librdkafka_config as config
from msemon.sources import librdkafka_inside as inside
from msemon.sources import librdkafka_messages as messages
from msemon.sources.base import ErrorKind, Gap, Polled, Skipped, TopicPartition, Trouble, Truncated, Unreachable
from msemon.sources.certificates import Certificates
from msemon.sources.group import UNEVEN_S, Group, require_equal
from msemon.sources.kafka_config import CONNECT_S
from msemon.sources.librdkafka_client import EARLIEST, LATEST, Client, fatal, refusal, trouble
from msemon.sources.librdkafka_fetching import Cursor, Fetching
from msemon.sources.oauth import NoToken

# ruff: noqa: SLF001 (librdkafka's own errors have public names that begin with an underscore)

log = structlog.get_logger(__name__)

ASK_S = 10.0
"""How long the cluster may take to answer a question about offsets or partitions."""

ANSWER_S = 0.02
"""How often the answer to a commit is looked for: the client does not return for it."""

IDS_S = 5.0
"""How often the topics' ids are asked for: the client knows them and does not tell."""

STUCK_S = 8.0
"""How long a partition with more to come may stand still, while the client says that it could not read some batches to
their end, before it is looked at: a batch that a fetch has cut off is no such one."""

_OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_UNREADABLE = {
    KafkaError._BAD_MSG,
    KafkaError._BAD_COMPRESSION,
    KafkaError._NOT_IMPLEMENTED,
    KafkaError._UNDERFLOW,
    KafkaError.INVALID_MSG,
    KafkaError.MSG_SIZE_TOO_LARGE,
}


class LibrdkafkaSource:
    """A `Source` on librdkafka. Raises ValueError where `client_options` can't be used."""

    def __init__(
        self,
        settings: Settings,
        connect_s: float = CONNECT_S,
        ask_s: float = ASK_S,
        uneven_s: float = UNEVEN_S,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._topics = tuple(settings.kafka.topics)
        self._most = config.most_records(settings)
        self.session_timeout_s: float = config.consumer_config(settings)["session.timeout.ms"] / 1000
        self._connect_s = connect_s
        self._ask_s = ask_s
        self._uneven_s = uneven_s
        self._wall_s = wall_s
        self._client: Client | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._group = Group(self._topics, self._settings.kafka.group_id, self._uneven_s)
        self._fetching = Fetching()
        self._heard_s = self._polled_s = -math.inf
        self._question: inside.Question | None = None
        self._ask_at_s = 0.0
        self._topic_ids: dict[str, str] = {}  # as last heard
        self._lags: dict[TopicPartition, int] = {}
        self._partial = 0
        self._ahead: list[Any] = []  # messages of the next poll, that came with the answer to a commit

    @property
    def _connected(self) -> Client:
        assert self._client is not None
        return self._client

    def connect(self) -> None:
        """See `Source`."""
        self.close(self._ask_s)
        if why := Certificates(self._settings).problem():
            raise Unreachable(why, ErrorKind.AUTHENTICATION)
        try:
            self._client = Client(self._settings, self._ask_s)
            require_equal(_counts(self._client.described(self._topics, self._connect_s)))
        except BaseException as problem:
            self.close(self._ask_s)
            if isinstance(problem, KafkaException):
                raise refusal(problem, "connect to the cluster") from problem
            if isinstance(problem, NoToken):
                raise Unreachable(str(problem), ErrorKind.AUTHENTICATION) from problem
            raise

    def partition_counts(self) -> dict[str, int | None]:
        """See `Source`."""
        return _counts(self._connected.described(self._topics))

    def topic_ids(self) -> dict[str, str]:
        """See `Source`."""
        return _ids(self._connected.described(self._topics))

    def subscribe(self) -> None:
        """See `Source`."""
        self._group.rebalancing = True
        self._fetching.subscribe(self._connected.consumer, self._topics)

    def poll(self, timeout_s: float) -> Polled:
        """See `Source`."""
        polled = Polled()
        began_s = time.monotonic()
        consumer, group, fetching = self._connected.consumer, self._group, self._fetching
        flowed = fetching.flowing()
        if not group.rebalancing:
            fetching.move(consumer, group.owned if group.unequal is None else ())
        before = fetching.flowing()
        if self._ahead:  # it came before the partitions were moved
            before = {where: cursor for where, cursor in before.items() if where in flowed}
        brought, self._ahead = self._ahead or self._consume(self._most, timeout_s), []
        came = messages.sort(brought)
        if group.apply(fetching.notes, polled):
            # The group's answer was not there when the last poll began; when it came since, nobody knows.
            self._heard_s = max(self._heard_s, self._polled_s)
        self._polled_s = began_s
        polled.rebalancing = group.rebalancing
        self._compare_ids(polled)
        ours = {where: cursor for where, cursor in before.items() if cursor is self._ours(where)}
        self._take(came, ours, polled)
        for complaint in came.complaints:
            self._face(complaint, ours, polled)
        polled.errors += self._connected.refusals()
        if group.due(time.monotonic()):
            self._check_partitions(polled)
        polled.unequal = group.unequal
        self._lags = self._measured()
        self._look_for_stuck(polled)
        return polled

    def start_offsets(self, partitions: Collection[int], start: Start) -> dict[TopicPartition, int]:
        """See `Source`."""
        wanted = [TopicPartition(topic, p) for p in sorted(partitions) for topic in self._topics]
        found = self._connected.offsets(wanted, EARLIEST if start.policy == "earliest" else LATEST)
        time_us = start.timestamp_us(round(self._wall_s() * 1e6))
        if time_us is not None:
            found |= self._connected.offsets_at(wanted, max(0, time_us // 1000))
        return found

    def committed(self, partitions: Collection[int]) -> dict[TopicPartition, int]:
        """See `Source`."""
        wanted = [TopicPartition(topic, p) for p in sorted(partitions) for topic in self._topics]
        return {where: offset for where, (offset, _) in self._connected.committed(wanted).items()}

    def committed_note(self, partition: int) -> str:
        """See `Source`."""
        where = TopicPartition(self._topics[0], partition)
        return self._connected.committed([where]).get(where, (0, ""))[1]

    def seek(self, where: TopicPartition, offset: int) -> None:
        """See `Source`."""
        if cursor := self._ours(where):
            cursor.seek(offset)

    def pause(self, where: Iterable[TopicPartition]) -> None:
        """See `Source`."""
        for cursor in filter(None, map(self._ours, where)):
            cursor.wanted = False

    def resume(self, where: Iterable[TopicPartition]) -> None:
        """See `Source`."""
        for cursor in filter(None, map(self._ours, where)):
            cursor.wanted = True

    def lag(self) -> dict[TopicPartition, int]:
        """See `Source`."""
        return self._lags

    def commit(self, offsets: Mapping[TopicPartition, int], timeout_s: float, note: str = "") -> bool:
        """See `Source`."""
        if self._group.rebalancing or not offsets:
            return False
        client, deadline_s = self._connected, time.monotonic() + timeout_s
        client.commit(offsets, note)
        # The answer stands behind what was fetched before: that is for the next poll.
        while client.committing and (left_s := deadline_s - time.monotonic()) > 0:
            room = self._most - len(self._ahead)
            if room <= 0:
                return True  # a refusal is told with a later poll
            self._ahead += self._consume(room, min(left_s, ANSWER_S))
        reason = "no answer in time" if client.committing else client.refused
        if reason is not None:
            log.warning("offsets not committed", reason=reason)
        return reason is None

    def last_heard_s(self) -> float:
        """See `Source`."""
        client = self._client
        told = () if client is None else (client.statistics.heartbeat_s, client.committed_s)
        return max(self._heard_s, *told, -math.inf)

    def alive(self) -> bool:
        """See `Source`. What librdkafka can't get over it tells as a fatal error."""
        return True

    def outdated(self) -> bool:
        """See `Source`. librdkafka reads certificates but once."""
        return self._client is not None and self._client.outdated()

    def close(self, timeout_s: float) -> None:
        """See `Source`."""
        client, self._client = self._client, None
        self._begin_anew()
        if client is not None:
            client.close(timeout_s)

    # What a poll brought.

    def _consume(self, most: int, timeout_s: float) -> list[Any]:
        try:
            found: list[Any] = self._connected.consumer.consume(most, timeout_s)
        except KafkaException as problem:
            raise refusal(problem, "poll") from problem
        return found

    def _ours(self, where: TopicPartition) -> Cursor | None:
        return self._fetching.cursors.get(where) if where.partition in self._group.owned else None

    def _take(self, came: messages.Sorted, ours: Mapping[TopicPartition, Cursor], polled: Polled) -> None:
        for where in came.records.keys() | came.ends.keys():
            cursor = ours.get(where)
            if cursor is None or where.topic in polled.remade:
                continue
            rows = came.records.get(where, [])
            if rows and rows[0].offset() < cursor.position:  # of before a seek
                rows = [row for row in rows if row.offset() >= cursor.position]
            read = max(rows[-1].offset() + 1 if rows else 0, came.ends.get(where, 0), cursor.position)
            if rows or read > cursor.position:
                cursor.position = read
                polled.batches.append(messages.batch(where, rows, read))

    def _face(self, complaint: messages.Complaint, ours: Mapping[TopicPartition, Cursor], polled: Polled) -> None:
        where, _, error = complaint
        if fatal(error):
            raise refusal(KafkaException(error), "poll")
        cursor = None if where is None else ours.get(where)
        if where is None or cursor is None:
            if where is None or where in self._fetching.cursors:
                polled.errors.append(trouble(error))
            return
        if error.code() in _OUT_OF_RANGE:
            cursor.flowing = False  # the client has stopped there
            self._out_of_range(where, cursor, complaint.offset, polled)
        elif error.code() in _UNREADABLE:
            cursor.flowing = False
            self._step_over(where, cursor, error.str(), polled)
        else:
            polled.errors.append(trouble(error))
            self._ask_at_s = 0.0  # the topic may be another one

    def _out_of_range(self, where: TopicPartition, cursor: Cursor, told: int | None, polled: Polled) -> None:
        """The log has no such offset: go on at its start where that is above, at its end where that is below.

        `told` is the offset that was tried, or, below it, the one where the log differs from what was read;
        None where the client does not know.
        """
        client, position = self._connected, cursor.position
        try:
            self._learn_ids(client.described(self._topics), polled)
            start, end = (client.offsets([where], at)[where] for at in (EARLIEST, LATEST))
        except Unreachable as problem:
            # nothing is lost: the position stands, and the next poll asks again
            polled.errors.append(Trouble(problem.kind, str(problem)))
            return
        if where.topic in polled.remade:
            return
        if told is not None and start <= told < min(end, position):
            end = told
        if position < start:
            polled.gaps.append(Gap(where, start - position))
            cursor.position = start
        elif told is None or told == position or position > end:  # it may have grown past where it was cut
            cursor.position = min(position, end)
            polled.truncated.append(Truncated(where, position, cursor.position))

    def _step_over(self, where: TopicPartition, cursor: Cursor, why: str | None, polled: Polled) -> None:
        """Go on after a batch that can't be read.

        One offset on where nobody knows how far it reaches; without a reason (`why`), only where there is such a batch.
        """
        try:
            skipped = unreadable.extent(self._settings, where, cursor.position, self._ask_s)
        except KafkaPythonError as problem:
            # nothing is lost: the position stands, and the client says so again
            polled.errors.append(kafka_access.trouble(problem))
            return
        if skipped is None and why is not None:
            skipped = Skipped(where, cursor.position, 1, why)
        if skipped is not None:
            cursor.seek(skipped.offset + skipped.records)
            polled.skipped.append(skipped)

    def _look_for_stuck(self, polled: Polled) -> None:
        """A batch whose records can't be taken apart librdkafka fetches again for ever; only its statistics tell."""
        partial = self._connected.statistics.partial
        if partial == self._partial:
            return
        self._partial = partial
        now_s = time.monotonic()
        for where, cursor in self._fetching.flowing().items():
            if cursor.stood != cursor.position:
                cursor.stood, cursor.stood_s = cursor.position, now_s
            elif now_s - cursor.stood_s >= STUCK_S and self._lags.get(where):
                cursor.stood = -1
                self._step_over(where, cursor, None, polled)

    def _compare_ids(self, polled: Polled) -> None:
        """Has a topic another id than it had? Asked now and then, without waiting for the answer."""
        now_s = time.monotonic()
        if self._question is None and now_s >= self._ask_at_s:
            self._question = self._connected.ask(self._topics)
            self._ask_at_s = now_s + IDS_S
            self._connected.renew_login()
        if self._question is not None and self._question.done:
            question, self._question = self._question, None
            try:
                self._learn_ids(question.answer(), polled)
            except (KafkaException, TimeoutError):
                return  # and asked again

    def _learn_ids(self, described: Mapping[str, inside.Described | None], polled: Polled) -> None:
        now = _ids(described)
        polled.remade |= {topic for topic, name in now.items() if self._topic_ids.get(topic, name) != name}
        self._topic_ids |= now

    def _check_partitions(self, polled: Polled) -> None:
        """After an assignment: are the topics' partitions still equal in number, and here in pairs?"""
        try:
            text = self._group.counted(self.partition_counts(), time.monotonic())
        except Unreachable as problem:
            polled.errors.append(Trouble(problem.kind, str(problem)))
            return
        if text is not None:
            polled.errors.append(Trouble(ErrorKind.OTHER, text))

    def _measured(self) -> dict[TopicPartition, int]:
        lags: dict[TopicPartition, int] = {}
        for where, cursor in self._fetching.cursors.items():
            if where.partition in self._group.owned:
                end = self._connected.consumer.get_watermark_offsets(cursor.client, cached=True)[1]
                if end >= 0:
                    lags[where] = max(0, end - cursor.position)
        return lags


def _counts(described: Mapping[str, inside.Described | None]) -> dict[str, int | None]:
    return {topic: found and found.partitions for topic, found in described.items()}


def _ids(described: Mapping[str, inside.Described | None]) -> dict[str, str]:
    return {topic: found.name for topic, found in described.items() if found and found.name}
